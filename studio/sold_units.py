"""What a price can be of: the units that usage is counted in, and which of them a model's task has."""

from __future__ import annotations

from typing import Literal, get_args

Unit = Literal["prompt", "cached_prompt", "completion", "embedding"]
TrainingUnit = Literal["training"]  # tokens that a fine-tune reads, over all its epochs
StorageUnit = Literal["storage"]  # kilobyte-days: `studio/storage_usage.py`
GpuUnit = Literal["gpu_hour"]  # millionths of an hour: `studio/gpu_usage.py`
ReusedUnit = Literal["reused"]  # tokens of answers that a cache of the gateway gave; nothing of a batch is reused
BatchUnit = Literal["batch_prompt", "batch_cached_prompt", "batch_completion", "batch_embedding"]
SoldUnit = Unit | BatchUnit | ReusedUnit | TrainingUnit | StorageUnit | GpuUnit
ALL_UNITS: tuple[Unit, ...] = get_args(Unit)
BATCH_UNITS: dict[Unit, BatchUnit] = dict(zip(ALL_UNITS, get_args(BatchUnit), strict=True))
UNITS_BY_TASK: dict[str, tuple[Unit, ...]] = {
    "chat": ("prompt", "cached_prompt", "completion"),
    "completion": ("prompt", "cached_prompt", "completion"),
    "embedding": ("embedding",),
}

# What its engine is told where a variant can be fine-tuned.
TAKES_ADAPTERS = "--enable-lora"

NO_MODELS_GPU_HOURS = (
    "GPU hours are of no model: its replicas are shared by all tenants, who would pay for idle hours that nobody"
    " ordered. They are sold as cards that are reserved for one tenant, of the model `gpu`: `gpu_hour` in"
    " price_lists.yaml"
)
