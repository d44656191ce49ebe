"""Checkpoints in the object store: only the newest complete one counts.

    checkpoints/000008/<file>       what transformers' Trainer saved at step 8
    checkpoints/manifest.json       step, files and environment of the newest; written last

So a kill while saving leaves the one before in force. Optimizer and random states are pickles: they are ours, never a
tenant's, and loaded only with the manifest's SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from training.progress import Prefix, StoredFile

_FOLDER = "checkpoints/"
_MANIFEST = f"{_FOLDER}manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Of one fine-tune. `environment` says what a resumed training must have in common to end in the same bits."""

    prefix: Prefix
    environment: Mapping[str, str | int]

    def publish(self, folder: Path, step: int) -> None:
        """Upload a saved checkpoint, then make it the newest, then forget the one before."""
        before = self._manifest()
        files = [StoredFile.of(path) for path in sorted(folder.iterdir()) if path.name != "README.md"]
        for file in files:
            self.prefix.upload(folder / file.name, _name(step, file.name))
        manifest = {"step": step, "environment": dict(self.environment), "files": [asdict(file) for file in files]}
        self.prefix.put(_MANIFEST, json.dumps(manifest, indent=1).encode())
        if before is not None and before["step"] != step:
            for file in before["files"]:
                self.prefix.delete(_name(before["step"], file["name"]))

    def fetch_newest(self, folder: Path) -> tuple[int, Path] | None:
        """Step and local folder of the newest checkpoint, verified; None when none can be resumed here."""
        manifest = self._manifest()
        if manifest is None or manifest["environment"] != dict(self.environment):
            return None
        step = manifest["step"]
        target = folder / f"checkpoint-{step}"
        target.mkdir(parents=True)
        for file in (StoredFile(**document) for document in manifest["files"]):
            path = target / Path(file.name).name
            self.prefix.download(_name(step, file.name), path)
            if StoredFile.of(path) != file:
                return None
        return step, target

    @staticmethod
    def forget(prefix: Prefix) -> None:
        """Delete all of them: nobody resumes a job that has ended."""
        prefix.delete_folder(_FOLDER)

    def _manifest(self) -> dict | None:  # type: ignore[type-arg]  # JSON
        text = self.prefix.get(_MANIFEST)
        return None if text is None else json.loads(text)


def _name(step: int, file: str) -> str:
    return f"{_FOLDER}{step:06d}/{file}"
