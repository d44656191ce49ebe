"""What a batch file would use, counted before anything of it runs: prompts by the model's own tokenizer.

What a tokenizer cannot count again (images, tools) is taken at its upper bound. The arithmetic is `billing/quoting.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

from billing.quoting import LineBound
from serving.batches.lines import Line, read_lines, read_request
from serving.batches.validation import validate
from serving.cross_check.sample import prompts_of, why_skipped
from serving.engines import Engines
from serving.fleet.view import Fleet
from serving.routing import Target
from serving.tokens import counting
from serving.tokens.wire import Call, Endpoint
from studio.errors import InvalidRequest

QUOTED_LINES_MOST = 2_000
QUOTED_BYTES_MOST = 16 * 1024 * 1024
AT_ONCE = 16  # questions to the tokenizer


def read_file(
    body: bytes, endpoint: Endpoint, fleet: Fleet, tenant_id: UUID, models: Collection[str] | None
) -> tuple[Target, list[Line]]:
    """Whom the file asks, and its lines. InvalidRequest for the first thing that would fail the batch."""
    lines = list(read_lines([body]))
    if len(lines) > QUOTED_LINES_MOST:
        raise InvalidRequest(
            f"The file has {len(lines):,} lines; a quote is given for {QUOTED_LINES_MOST:,} at most. Split it.",
            param="input_file_id",
        )
    judged = validate(lines, endpoint, fleet, tenant_id, models)
    if isinstance(judged, tuple):
        first = judged[0]
        where = f"Line {first.line}: " if first.line is not None else ""
        raise InvalidRequest(f"{where}{first.message}", code=first.code, param=first.param)
    return judged.target, lines


async def bounds(
    engines: Engines, fleet: Fleet, target: Target, endpoint: Endpoint, lines: Collection[Line]
) -> list[LineBound]:
    """What each line uses at most. StudioError when no engine can count."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def bound(line: Line) -> LineBound:
        async with turns:
            return await _bound(engines, fleet, target, read_request(line.text, endpoint).call, len(line.text))

    return await asyncio.gather(*map(bound, lines))


async def _bound(engines: Engines, fleet: Fleet, target: Target, call: Call, size_bytes: int) -> LineBound:
    context = target.variant.context_tokens
    is_counted = why_skipped(call, size_bytes) is None
    if is_counted:
        prompt, asked = prompts_of(call)
        for one in asked:
            prompt += await counting.count(engines, fleet, target, one)
    else:
        prompt = call.most_prompt_tokens(size_bytes, context)
    most = call.most_tokens(target.variant.max_output_tokens or context)
    completion = 0 if most is None else min(most, context) * call.choices
    return LineBound(prompt, completion, is_counted)
