"""Whether an adapter may come near an engine. Pure: bytes and the base's shapes in, a verdict out; no torch.

vLLM takes adapters of wrong shape or another base without a word, and one NaN makes it answer "" to everybody, billed,
until it is restarted (measured). So nothing is loaded that has not passed here: two files, LoRA of a plain kind, this
base, its modules and shapes, rank within the engine's, finite weights of a sane size.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InvalidRequest
from studio.objects import Bucket, ObjectStore
from studio.weights import Manifest, WeightsFile

Shape = tuple[int, ...]

_MOST_HEADER_BYTES = 16 * 1024 * 1024
_LARGEST_WEIGHT_BITS = 0x447A  # 1000.0 in bfloat16; trained adapters stay below 1
_MOST_ALPHA_PER_RANK = 16
_INFINITY_BITS = 0x7F80  # bfloat16: everything from here on is infinite or not a number
_KEY = re.compile(r"base_model\.model\.(?P<module>model\.layers\.\d+\..+)\.lora_(?P<part>[AB])\.weight")
# What else peft can do changes the result in ways that engines ignore or refuse.
_MUST_BE_OFF = (
    *("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform"),
    *("megatron_config", "trainable_token_indices", "target_parameters", "lora_bias"),
)


class AdapterRefused(InvalidRequest):
    """Not to be served."""

    default_code = "adapter_invalid"


@dataclass(frozen=True, slots=True)
class CheckedAdapter:
    """What passed."""

    rank: int
    modules: int


def check_adapter(
    config: bytes, weights: bytes, *, base_id: str, base_shapes: Mapping[str, Shape], most_rank: int
) -> CheckedAdapter:
    """AdapterRefused with the first reason. `base_shapes`: the base's tensors by name, as in its safetensors."""
    rank = _check_config(config, base_id, most_rank)
    tensors = _read_header(weights)
    parts: dict[str, set[str]] = {}
    for key, (dtype, shape, _) in tensors.items():
        match = _KEY.fullmatch(key)
        base = base_shapes.get(f"{match['module']}.weight") if match else None
        if match is None or base is None or len(base) != 2:
            raise AdapterRefused(f"The tensor {key!r} belongs to no linear module of {base_id}.")
        expected = (rank, base[1]) if match["part"] == "A" else (base[0], rank)
        if shape != expected:
            raise AdapterRefused(f"The tensor {key!r} has the shape {shape}; {base_id} needs {expected}.")
        if dtype != "BF16":
            raise AdapterRefused(f"The tensor {key!r} is {dtype}; adapters are published in BF16.")
        parts.setdefault(match["module"], set()).add(match["part"])
    if not parts:
        raise AdapterRefused("The adapter has no tensor.")
    if halves := [module for module, found in parts.items() if found != {"A", "B"}]:
        raise AdapterRefused(f"The adapter has only one half of {halves[0]!r}.")
    _check_values(tensors, memoryview(weights))
    return CheckedAdapter(rank, len(parts))


def tensor_shapes(folder: Path) -> dict[str, Shape]:
    """The tensors of a model's folder, by name: read from the headers, without the weights."""
    shapes: dict[str, Shape] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            shapes |= _shapes(source.read(length))
    return shapes


def stored_tensor_shapes(store: ObjectStore, manifest: Manifest) -> dict[str, Shape]:
    """The same of a model in the object store: a few kilobytes of each file are read."""
    shapes: dict[str, Shape] = {}
    for file in manifest.files:
        if file.path.endswith(".safetensors") and "/" not in file.path:
            (length,) = struct.unpack("<Q", _part(store, manifest, file, 0, 8))
            shapes |= _shapes(_part(store, manifest, file, 8, length))
    return shapes


def _part(store: ObjectStore, manifest: Manifest, file: WeightsFile, start: int, length: int) -> bytes:
    found = store.client.get_object(
        Bucket=store.name(Bucket.MODELZOO), Key=manifest.object_key(file), Range=f"bytes={start}-{start + length - 1}"
    )
    return found["Body"].read()


def _shapes(header: bytes) -> dict[str, Shape]:
    return {name: tuple(entry["shape"]) for name, entry in json.loads(header).items() if name != "__metadata__"}


def _check_config(text: bytes, base_id: str, most_rank: int) -> int:
    try:
        config: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise AdapterRefused("adapter_config.json is not JSON.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterRefused("adapter_config.json does not describe a LoRA adapter.")
    if config.get("base_model_name_or_path") != base_id:
        raise AdapterRefused(f"The adapter is for {config.get('base_model_name_or_path')!r}, not for {base_id!r}.")
    if used := [name for name in _MUST_BE_OFF if config.get(name)]:
        raise AdapterRefused(f"The adapter uses `{used[0]}`, which is not served.")
    if config.get("bias", "none") != "none":
        raise AdapterRefused("The adapter trains biases, which are not served.")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= most_rank:
        raise AdapterRefused(f"The adapter's rank is {rank!r}; 1 to {most_rank} are served.")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or not 0 < alpha <= _MOST_ALPHA_PER_RANK * rank:
        raise AdapterRefused(f"The adapter scales by lora_alpha={alpha!r}; 0 to {_MOST_ALPHA_PER_RANK} x rank is sane.")
    return rank


def _read_header(weights: bytes) -> dict[str, tuple[str, Shape, slice]]:
    """Type, shape and place of each tensor. The places must cover the file, without a gap."""
    try:
        (length,) = struct.unpack_from("<Q", weights)
        if length > min(_MOST_HEADER_BYTES, len(weights) - 8):
            raise AdapterRefused("adapter_model.safetensors is cut off within its header.")
        header = json.loads(weights[8 : 8 + length])
        header.pop("__metadata__", None)
        tensors = {
            key: (str(entry["dtype"]), tuple(map(int, entry["shape"])), slice(*map(int, entry["data_offsets"])))
            for key, entry in header.items()
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterRefused("adapter_model.safetensors has no readable header.") from error
    end = 0
    for place in sorted((place for _, _, place in tensors.values()), key=lambda place: place.start):
        if place.start != end or place.stop < end:
            raise AdapterRefused("The tensors of adapter_model.safetensors overlap or leave gaps.")
        end = place.stop
    start = 8 + length
    if start + end != len(weights):
        raise AdapterRefused(f"adapter_model.safetensors has {len(weights)} bytes; its header says {start + end}.")
    return {
        key: (dtype, shape, slice(start + place.start, start + place.stop))
        for key, (dtype, shape, place) in tensors.items()
    }


def _check_values(tensors: Mapping[str, tuple[str, Shape, slice]], weights: memoryview) -> None:
    for key, (_, shape, place) in tensors.items():
        if place.stop - place.start != 2 * shape[0] * shape[1]:
            raise AdapterRefused(f"The tensor {key!r} has not the size of its shape.")
        largest = max(_magnitudes(bytes(weights[place])), default=0)
        if largest >= _INFINITY_BITS:
            raise AdapterRefused(f"The tensor {key!r} holds NaN or infinite values.")
        if largest > _LARGEST_WEIGHT_BITS:
            raise AdapterRefused(f"The tensor {key!r} holds values above 1000: training has diverged.")


def _magnitudes(values: bytes) -> Iterator[int]:
    """Without its sign, a bfloat16 orders like the integer of the same bits. There are only 65,536 of them."""
    return (bits & 0x7FFF for bits in set(memoryview(values).cast("H")))
