"""Judges objects of KEDA and Kyverno by the models of their packages, made strict: a JSON list in, findings out.

Runs in the tools' environment (build/kubernetes). The models take unknown fields by themselves, so every model that can
be reached from the kind is told to forbid them first.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ValidationError

KINDS = {"ScaledObject": "cloudcoil.models.keda.v1alpha1", "ClusterPolicy": "cloudcoil.models.kyverno.v1"}


def forbid_unknown(model: type[BaseModel], seen: set[type]) -> None:
    """Make a model and all that it holds strict, from the inside out."""
    if model in seen:
        return
    seen.add(model)
    model.model_config["extra"] = "forbid"
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                forbid_unknown(part, seen)
    model.model_rebuild(force=True)  # inner ones first: an outer one holds a copy of theirs


def parts(annotation: Any) -> list[Any]:
    """An annotation and everything inside its brackets."""
    return [annotation, *(inner for one in getattr(annotation, "__args__", ()) for inner in parts(one))]


def main() -> None:
    """What is wrong with each object; nothing where it is right."""
    documents = json.load(sys.stdin)
    # Only what is asked for: reading a package's models takes seconds.
    models = {kind: getattr(import_module(KINDS[kind]), kind) for kind in {one["kind"] for one in documents}}
    for model in models.values():
        forbid_unknown(model, set())
    findings = []
    for document in documents:
        try:
            models[document["kind"]].model_validate(document)
            findings.append("")
        except ValidationError as error:
            findings.append(str(error))
    json.dump(findings, sys.stdout)


if __name__ == "__main__":
    main()
