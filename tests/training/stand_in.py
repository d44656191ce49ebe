"""Stands in for the trainer where a test is about the run beside it: `python -m tests.training.stand_in ACT JOB`.

It writes the same kinds of events to the same place and trains nothing.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from pathlib import Path

from studio.s3 import s3_client
from studio.training_usage import TOKENS_TO_TRAIN
from training.progress import Prefix, ProgressLog
from training.spec import REFUSED, TrainerJob

TOKENS = 10_000
REFUSAL = "No example has anything to learn within 1024 tokens."


def main(act: str, path: Path) -> int:
    """One performance."""
    job = TrainerJob.from_json(path.read_text())
    names = ("STUDIO_S3_ENDPOINT_URL", "STUDIO_S3_ACCESS_KEY", "STUDIO_S3_SECRET_KEY")
    progress = ProgressLog(Prefix(s3_client(*map(os.environ.get, names)), job.bucket, job.prefix), job.first_seq)
    match act:
        case "refuses":
            progress.message(REFUSAL, "error", {"param": "validation_file"})
            time.sleep(3)  # long enough for the run to have copied the event before the end
            return REFUSED
        case "dies after one step":
            if job.reported_step < 1:
                progress.metrics("Step 1/2: training loss=nan", {"step": 1, "total_steps": 2, "train_loss": math.nan})
            return 1
        case "counts and dies" | "counts and hangs":
            if job.reported_step < 1:
                progress.message(f"The training reads {TOKENS:,} tokens", data={TOKENS_TO_TRAIN: TOKENS})
            if act == "counts and dies":
                data = {"step": 1, "total_steps": 2, "train_loss": 1.0, "trained_tokens": TOKENS // 2}
                progress.metrics("Step 1/2: training loss=1.000", data)
                return 1
            time.sleep(600)
            return 0
        case _:
            left = Path(tempfile.mkdtemp())
            progress.message(str(left))
            time.sleep(600)
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
