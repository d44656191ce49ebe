"""How a vLLM process is called. Pure: what the catalog says of a variant in, arguments and environment out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a variant's engine is. Two equal specs are the same engine; a changed one is replaced."""

    variant_id: str
    model_id: str  # the name that the engine serves the weights under
    weights_id: str
    task: str
    context_tokens: int
    max_num_seqs: int
    flags: tuple[str, ...]
    env: Mapping[str, str] = field(hash=False)

    def arguments(self, python: Path, weights: Path, port: int) -> tuple[str, ...]:
        """The command line. The catalog's flags come last, so that they win."""
        return (
            *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--model", str(weights), "--served-model-name", self.model_id),
            *("--max-model-len", str(self.context_tokens), "--max-num-seqs", str(self.max_num_seqs)),
            *("--scheduling-policy", "priority"),  # fast before base before batch, by the gateway's `priority`
            "--enable-prompt-tokens-details",  # cached tokens are priced apart
            # Images come as data (`serving/images`); an engine never fetches what a caller names. The list may not be
            # empty, so it holds a name that nobody can own.
            *("--allowed-media-domains", "images-come-as-data.invalid"),
            "--disable-uvicorn-access-log",  # we ask /metrics every second
            *self.flags,
        )

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What the engine sees: nothing of ours, no network, every core."""
        return {
            **{name: value for name, value in inherited.items() if not name.startswith("STUDIO_")},
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            # Engines share the cores with everything else here, so none is bound or reserved.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "OMP_NUM_THREADS": str(os.cpu_count() or 1),
            **self.env,
        }

    def warm_up_request(self) -> tuple[str, dict[str, object]]:
        """Path and body of the smallest real request."""
        if self.task == "embedding":
            return "/v1/embeddings", {"model": self.model_id, "input": "warm"}
        if self.task == "completion":
            return "/v1/completions", {"model": self.model_id, "prompt": "warm", "max_tokens": 1}
        messages = [{"role": "user", "content": "warm"}]
        return "/v1/chat/completions", {"model": self.model_id, "messages": messages, "max_tokens": 1}
