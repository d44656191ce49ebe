"""A run of one fine-tune as a process of its own, to be killed: `python -m tests.training.one_run JOB DECLARED`."""

from __future__ import annotations

import os
import sys
from uuid import UUID

from studio.catalog.declaration import DeclaredTraining
from studio.db.sessions import engine_for
from studio.objects import ObjectStore
from studio.settings import Settings
from training.cluster import ClusterTrainers
from training.job_manifest import StoreAccess
from training.run import Workshop, run_fine_tune

if __name__ == "__main__":
    job_id, declared = UUID(sys.argv[1]), DeclaredTraining.model_validate_json(sys.argv[2])
    settings = Settings()
    store = ObjectStore.from_settings(settings)
    access = StoreAccess(settings.s3_endpoint_url, settings.s3_bucket_prefix)
    trainers = ClusterTrainers(store, access, declared, "metax-tech.com/gpu", look_seconds=0.2)
    run_fine_tune(Workshop(engine_for(os.environ["WORKER_URL"]), store, trainers), job_id)
