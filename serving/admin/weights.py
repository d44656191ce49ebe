"""Pushing weights: the caller uploads straight to the object store, the gateway only lends the right to."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from serving.admin.access import OPERATE, Caller, Transaction
from serving.routes.stores import Objects
from studio.db.catalog import Model, ModelVariant
from studio.errors import ModelNotFound
from studio.objects import Bucket
from studio.tenants import audit
from studio.weights import Manifest, WeightsFile, publish, require_safe_paths

router = APIRouter()

UPLOAD_SECONDS = 3600


class FileBody(BaseModel):
    """One file of the manifest."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1)
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class FilesBody(BaseModel):
    """What the caller is about to push, or has pushed."""

    model_config = ConfigDict(extra="forbid")

    files: list[FileBody] = Field(min_length=1)


class Upload(BaseModel):
    """Where one file goes. Absent from the answer: files that the object store has already."""

    path: str
    url: str


class UploadPlan(BaseModel):
    """The uploads that are still needed before publishing."""

    digest: str
    uploads: list[Upload]


class Published(BaseModel):
    """Weights that engines may now use."""

    weights: str
    digest: str
    size_bytes: int


@router.post("/models/{model:path}/weights/uploads", dependencies=[OPERATE])
def post_uploads(model: str, body: FilesBody, session: Transaction, store: Objects) -> UploadPlan:
    """Ask where to upload. Running it again after an interruption lists only what is missing."""
    manifest = _manifest(session, model, body)
    missing = [
        file for file in manifest.files if store.size(Bucket.MODELZOO, manifest.object_key(file)) != file.size_bytes
    ]
    return UploadPlan(
        digest=manifest.digest,
        uploads=[
            Upload(path=file.path, url=store.presigned_put(Bucket.MODELZOO, manifest.object_key(file), UPLOAD_SECONDS))
            for file in missing
        ],
    )


@router.post("/models/{model:path}/weights/publish")
def post_publish(model: str, body: FilesBody, caller: Caller, session: Transaction, store: Objects) -> Published:
    """Make the uploaded files the weights of the model, and of every variant that names the same weights."""
    manifest = _manifest(session, model, body)
    publish(store, manifest)
    audit(session, caller.actor, "weights.publish", manifest.weights_id, None, {"digest": manifest.digest})
    return Published(weights=manifest.weights_id, digest=manifest.digest, size_bytes=manifest.size_bytes)


def _manifest(session: Transaction, model: str, body: FilesBody) -> Manifest:
    """The files under the catalog's own name and licence for the model's weights."""
    named = session.execute(
        select(ModelVariant.weights_id, Model.licence).join(Model).where(ModelVariant.id == model)
    ).one_or_none()
    if named is None:
        raise ModelNotFound(model)
    files = tuple(WeightsFile(**file.model_dump()) for file in body.files)
    manifest = Manifest(named.weights_id, named.licence, files)
    require_safe_paths(manifest)
    return manifest
