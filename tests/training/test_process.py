"""What the trainer's process is given."""

from __future__ import annotations

from pydantic import SecretStr

from studio.settings import Settings
from training.process import trainer_environment

AROUND = {
    "PATH": "/bin",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "0",
    "STUDIO_DATABASE_PASSWORD": "secret",
    "DAGSTER_PG_PASSWORD": "secret",
    "PGPASSWORD": "secret",
    "HF_TOKEN": "secret",
    "AWS_SECRET_ACCESS_KEY": "ambient",
}


def test_it_inherits_how_to_run_and_no_secret() -> None:
    keys = Settings(s3_access_key=SecretStr("key"), s3_secret_key=SecretStr("its secret"))
    given = trainer_environment(keys, AROUND)
    inherited = {"PATH", "LC_ALL", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    assert {name: given[name] for name in inherited} == {name: AROUND[name] for name in inherited}
    assert given["STUDIO_S3_SECRET_KEY"] == "its secret"
    assert not {"secret", "ambient"} & set(given.values())


def test_without_a_key_of_ours_it_reaches_the_store_as_the_machine_does() -> None:
    given = trainer_environment(Settings(s3_access_key=None, s3_secret_key=None), AROUND)
    assert given["AWS_SECRET_ACCESS_KEY"] == "ambient"
    assert "secret" not in given.values()
