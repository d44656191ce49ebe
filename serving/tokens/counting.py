"""A model's own tokenizer, asked how many tokens something is. Callers who ask themselves are `tokenizer.py`."""

from __future__ import annotations

from typing import Any

import orjson

from serving.engines import Engines
from serving.fleet.view import Fleet, Replica
from serving.routing import Target
from serving.tokens.usage import counted

_PATH = "/tokenize"


async def count(engines: Engines, fleet: Fleet, target: Target, asked: dict[str, Any]) -> int:
    """The tokens of `asked`, an engine's tokenize request without its model.

    StudioError when no engine answers, ValueError, KeyError or TypeError when one answers something else.
    """

    def body_for(replica: Replica) -> bytes:
        return orjson.dumps(asked | {"model": target.engine_name(replica)})

    answer = await engines.ask(fleet, target, _PATH, body_for, stream=False)
    try:
        if answer.status != 200:
            raise ValueError(f"the tokenizer answers {answer.status}")
        return counted(orjson.loads(answer.first))
    finally:
        answer.close()
