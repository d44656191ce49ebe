"""What may not come near an engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.adapters import BASE, INFINITY, MILLION, MODULE, NAN, SHAPES, config, lora, weights
from training.adapter_check import AdapterRefused, CheckedAdapter, check_adapter


def check(config_text: bytes, body: bytes) -> CheckedAdapter:
    return check_adapter(config_text, body, base_id=BASE, base_shapes=SHAPES, most_rank=8)


def refusal(config_text: bytes, body: bytes) -> str:
    with pytest.raises(AdapterRefused) as refused:
        check(config_text, body)
    return refused.value.message


def test_a_good_adapter_passes() -> None:
    assert check(config(), weights(lora())) == CheckedAdapter(rank=4, modules=1)


@pytest.mark.parametrize("value", [NAN, NAN | 0x8000, INFINITY, INFINITY | 0x8000])
def test_one_value_that_is_not_finite_is_enough(value: int) -> None:
    assert "NaN or infinite" in refusal(config(), weights(lora(), last=value))


def test_a_training_that_diverged_is_refused() -> None:
    assert "above 1000" in refusal(config(), weights(lora(), last=MILLION))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (lora(shape=(32, 47)), "has the shape (4, 47); tiny needs (4, 48)"),
        (lora(shape=(31, 48)), "has the shape (31, 4)"),
        (lora(rank=5), "has the shape (5, 48)"),
        (lora(module="model.layers.7.self_attn.q_proj"), "no linear module"),
        (lora(module="model.layers.0.nosuch"), "no linear module"),
        (lora(module="model.embed_tokens", shape=(100, 48)), "no linear module"),
        (dict(list(lora().items())[:1]), "only one half"),
        ({}, "no tensor"),
        ({"../../etc/passwd": (4, 48)}, "no linear module"),
    ],
)
def test_every_tensor_belongs_to_the_base(tensors: dict[str, tuple[int, int]], words: str) -> None:
    assert words in refusal(config(), weights(tensors))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_model_name_or_path": "/models/other"}, "is for '/models/other', not for 'tiny'"),
        ({"peft_type": "LOHA"}, "does not describe a LoRA"),
        ({"r": 16}, "rank is 16"),
        ({"r": True}, "rank is True"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {MODULE: 2}}, "rank_pattern"),
        ({"bias": "all"}, "biases"),
        ({"lora_alpha": 1e30}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
    ],
)
def test_the_configuration_is_plain_lora_on_this_base(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(config(**changes), weights(lora()))


def test_other_numbers_than_the_engines_are_refused() -> None:
    assert "is F16" in refusal(config(), weights(lora(), dtype="F16"))


def test_damaged_files_are_refused() -> None:
    good = weights(lora())
    assert "bytes; its header says" in refusal(config(), good[:-1])
    assert "bytes; its header says" in refusal(config(), good + b"\0")
    assert "header" in refusal(config(), good[:100])
    assert "header" in refusal(config(), b"")
    assert "header" in refusal(config(), b"\x80\x04\x95pickle of a stranger" * 10)
    assert "not JSON" in refusal(b"{", good)
