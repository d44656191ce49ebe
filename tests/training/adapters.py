"""Adapters made by hand: the bytes of the two files, good by default, with any one thing wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from training.adapter_check import Shape

BASE = "tiny"
MODULE = "model.layers.0.self_attn.q_proj"
SHAPES: Mapping[str, Shape] = {f"{MODULE}.weight": (32, 48), "model.embed_tokens.weight": (100, 48)}
ONE, NAN, INFINITY, MILLION = 0x3F80, 0x7FC0, 0x7F80, 0x4974  # bfloat16


def config(**changes: Any) -> bytes:
    """adapter_config.json"""
    good = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 4, "lora_alpha": 8, "bias": "none"}
    return json.dumps(good | changes).encode()


def lora(module: str = MODULE, rank: int = 4, shape: Shape = SHAPES[f"{MODULE}.weight"]) -> dict[str, Shape]:
    """The two tensors of one module."""
    stem = f"base_model.model.{module}"
    return {f"{stem}.lora_A.weight": (rank, shape[1]), f"{stem}.lora_B.weight": (shape[0], rank)}


def weights(tensors: Mapping[str, Shape], *, fill: int = ONE, dtype: str = "BF16", last: int | None = None) -> bytes:
    """adapter_model.safetensors, every value `fill` but the last of each tensor, which is `last`."""
    header, body = {}, b""
    for key, shape in tensors.items():
        count = shape[0] * shape[1]
        values = [fill] * (count - 1) + [fill if last is None else last]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + 2 * count]}
        body += struct.pack(f"<{count}H", *values)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
