"""One template per model that can be tuned: the model's own, with `{% generation %}` round what is learned.

The end-of-turn token stands inside the markers, or the model would never learn to stop. An assistant message with
`weight: 0` is read and not learned. The markers are transformers' own extension of Jinja, so these templates are for
training only: engines use the model's original, which renders the same text (tests/training/test_examples.py).
"""

from __future__ import annotations

from pathlib import Path


def training_template(model_id: str) -> str:
    """The template's text; KeyError for a model that nobody has written one for."""
    path = Path(__file__).with_name(f"{model_id}.jinja")
    if model_id not in tunable_models():
        raise KeyError(f"there is no training template for {model_id}")
    return path.read_text()


def tunable_models() -> frozenset[str]:
    """The models with a template."""
    return frozenset(path.stem for path in Path(__file__).parent.glob("*.jinja"))
