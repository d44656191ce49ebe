"""`/v1/comparisons`: models that answer under aliases, the vote that uncovers them, and the tally of all votes."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serving import routing
from serving.comparisons import store
from serving.comparisons.blind import LETTERS, Alias
from serving.keys import require_model
from serving.routes.caller import InferenceCaller, Parts
from serving.routes.stores import TenantDatabase
from serving.texts import STORABLE
from serving.tokens.wire import CHAT
from studio import ids
from studio.db.comparisons import Comparison
from studio.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/v1/comparisons", tags=["comparisons"])

Verdict = Literal["A", "B", "C", "D", "tie", "none"]
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=STORABLE)]


class ComparisonCreate(BaseModel):
    """What is to be compared."""

    model_config = ConfigDict(extra="forbid")

    models: Annotated[list[ModelName], Field(min_length=2, max_length=4)]


class Vote(BaseModel):
    """The better answer's letter, `tie`, or `none` when all were bad."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict


class ComparisonObject(BaseModel):
    """`aliases` go into `model` of chat completions. The models behind them, in the same order, are known after the
    vote."""

    id: str
    object: Literal["comparison"]
    created_at: int
    expires_at: int
    aliases: list[str]
    models: list[str] | None
    verdict: Verdict | None


class PairObject(BaseModel):
    """Two models that were compared. `wins` are in the order of `models`."""

    models: list[str]
    wins: list[int]
    ties: int
    neither: int
    votes: int


class TallyObject(BaseModel):
    """Every vote of the tenant."""

    object: Literal["comparison.tally"]
    pairs: list[PairObject]


@router.post("")
def create_comparison(
    body: ComparisonCreate, caller: InferenceCaller, parts: Parts, database: TenantDatabase
) -> ComparisonObject:
    """Draw by lot which model is A, which is B. Nothing runs and nothing is charged before the first request."""
    if len(set(body.models)) < len(body.models):
        raise InvalidRequest("A model cannot be compared with itself.", param="models")
    for name in body.models:
        require_model(caller, name)
        task = routing.target_named(parts.view.fleet, name, caller.tenant_id).variant.task
        if task not in CHAT.tasks:
            raise InvalidRequest(f"The model `{name}` is for {task}; only chat can be compared.", param="models")
    return _wire(store.create(database, caller, body.models))


@router.get("/tally")
def read_tally(caller: InferenceCaller, database: TenantDatabase) -> TallyObject:
    """Who wins against whom."""
    return TallyObject(
        object="comparison.tally",
        pairs=[
            PairObject(
                models=list(pair.models),
                wins=list(pair.wins),
                ties=pair.ties,
                neither=pair.neither,
                votes=sum(pair.wins) + pair.ties + pair.neither,
            )
            for pair in store.tally(database, caller.tenant_id)
        ],
    )


@router.get("/{comparison_id}")
def retrieve_comparison(comparison_id: str, caller: InferenceCaller, database: TenantDatabase) -> ComparisonObject:
    """One comparison of the tenant."""
    return _wire(store.find(database, caller.tenant_id, _id(comparison_id)))


@router.post("/{comparison_id}/vote")
def vote(comparison_id: str, body: Vote, caller: InferenceCaller, database: TenantDatabase) -> ComparisonObject:
    """Say which answer was better, once, and learn which models they were. Only the verdict is kept."""
    one = store.find(database, caller.tenant_id, _id(comparison_id))
    if body.verdict in LETTERS[len(one.models) :]:
        raise InvalidRequest(
            f"This comparison has {len(one.models)} models; there is no {body.verdict}.", param="verdict"
        )
    return _wire(store.vote(database, caller, one.id, body.verdict))


def _id(comparison_id: str) -> UUID:
    try:
        return ids.from_wire(ids.COMPARISON, comparison_id)
    except ValueError as error:
        raise NotFound(f"No such comparison: {comparison_id}", param="id") from error


def _wire(one: Comparison) -> ComparisonObject:
    return ComparisonObject(
        id=ids.to_wire(ids.COMPARISON, one.id),
        object="comparison",
        created_at=int(one.created_at.timestamp()),
        expires_at=int(one.expires_at.timestamp()),
        aliases=[Alias(one.id, letter).text for letter in LETTERS[: len(one.models)]],
        models=one.models if one.verdict is not None else None,
        verdict=one.verdict,
    )
