"""Training templates say what the model's own template says, and mark what is learned."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import training.chat_templates
from studio.settings import REPOSITORY, Settings
from tests.training.conftest import BASE

pytestmark = pytest.mark.engine


def test_the_training_template_renders_the_same_text_as_the_models_own() -> None:
    script = Path(__file__).with_name("template_texts.py")
    template = Path(training.chat_templates.__file__).with_name(f"{BASE}.jinja")
    argv = [Settings().engine_python, script, REPOSITORY / "build" / "models" / BASE, template]
    texts = json.loads(subprocess.run(list(map(str, argv)), check=True, capture_output=True).stdout)
    assert texts["training"] == texts["own"]
    answer = " {} <|im_end|>"
    assert texts["learned"] == [answer, answer, answer, answer], "with the end of its turn, without weight 0"
