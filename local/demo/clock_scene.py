"""The scene of opening hours: an evening and the next morning of the chat model, told in two minutes.

The clock of opening hours is moved, real time is not. On one machine the site's own override keeps the model open
around the clock; for the length of the scene an override above it hands the word back to the calendar.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import openai

from local.demo.cast import CHAT, ENGINE_SECONDS, QUESTION, Demo
from local.demo.story import Facts, Say, SceneFailed, expect, wait_until
from studio import clock

# A Tuesday and Wednesday before this was written: should a killed demo leave its override behind, that covers no moment
# which is still to come.
EVENING = datetime(2026, 11, 3, 18, 0, tzinfo=clock.BERLIN)
PREWARM = datetime(2026, 11, 4, 7, 30, tzinfo=clock.BERLIN)
MORNING = datetime(2026, 11, 4, 8, 0, tzinfo=clock.BERLIN)
FLEET_SECONDS = 60.0  # a tick of the fleet sensor, and the drain


def play(demo: Demo, say: Say) -> Facts:
    """18:00 the model closes, 07:30 a new replica is warmed, 08:00 it is open again."""
    try:
        _set_clock(demo, EVENING - timedelta(minutes=1))
        with _calendar_speaks(demo):
            wait_until(
                lambda: bool(_live(demo, "ready")), "the chat model was not ready before the scene", ENGINE_SECONDS
            )
            (evening,) = _live(demo, "ready")

            pieces = _closed_under_an_answer(demo, say)
            wait_until(lambda: not _live(demo), "the replica did not stop at 18:00", FLEET_SECONDS)
            refusal = _refused(demo)

            _set_clock(demo, PREWARM)
            say("07:30, a new replica is started before the opening")
            wait_until(lambda: bool(_live(demo, "ready")), "no replica was prewarmed at 07:30", ENGINE_SECONDS)
            (morning,) = _live(demo, "ready")
            expect(morning != evening, "the replica of the morning is the one of the evening")
            proofs = {variant: times for variant, *times in demo.auditor.warmups()}
            reason = _desired(demo)["reason"]
            expect("prewarming" in reason, f"the replica was started for another reason: {reason}")

            _set_clock(demo, MORNING)
            wait_until(lambda: _is_open(demo), "the model did not open at 08:00", FLEET_SECONDS)
            answer = _ask(demo)
            demo.euro.requests += 1
    finally:
        demo.api.delete("/admin/v1/clock")
    weights, start, first_token = proofs[CHAT]
    return {
        "18:00": f"desired 0; a stream went on while the replica drained ({pieces} more pieces), then it stopped",
        "a call at 18:00": refusal,
        "07:30": f"{reason}: weights {weights} s, start {start} s, first token {first_token} s",
        "08:00": f"open, and the same call is answered: {answer}",
    }


def _closed_under_an_answer(demo: Demo, say: Say) -> int:
    """18:00 comes while an answer is written: how many more pieces of it came from the draining replica."""
    has_begun, is_draining = Event(), Event()

    def listen() -> int:
        late = 0
        with demo.euro.client.chat.completions.create(
            model=CHAT,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=1800,
            stream=True,
            extra_body={"ignore_eos": True},
        ) as stream:
            for _ in stream:
                has_begun.set()
                late += is_draining.is_set()
                if late == 10:
                    break
        return late

    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(listen)
        wait_until(has_begun.is_set, "the answer did not begin", 60, every=0.05)
        _set_clock(demo, EVENING)
        say("18:00, the model closes: its replica drains")
        wait_until(
            lambda: bool(_live(demo, "draining")), "the replica did not drain at 18:00", FLEET_SECONDS, every=0.2
        )
        is_draining.set()
        pieces = listening.result()
    demo.euro.requests += 1
    expect(pieces == 10, "the answer broke off when the replica was told to stop")
    return pieces


@contextmanager
def _calendar_speaks(demo: Demo) -> Iterator[None]:
    override = demo.api.post(
        "/admin/v1/fleet/overrides",
        {
            "model": CHAT,
            "replicas": "calendar",
            "ends_at": (MORNING + timedelta(hours=4)).isoformat(),
            "reason": "the demo's evening and morning",
        },
    )
    try:
        yield
    finally:
        demo.api.delete(f"/admin/v1/fleet/overrides/{override['id']}")


def _set_clock(demo: Demo, instant: datetime) -> None:
    demo.api.put("/admin/v1/clock", {"now": instant.isoformat()})


def _live(demo: Demo, *states: str) -> list[str]:
    """The chat model's replicas that run, or those in some states."""
    replicas = demo.api.get("/admin/v1/fleet")["replicas"]
    wanted = states or ("starting", "ready", "draining")
    return [replica["id"] for replica in replicas if replica["model"] == CHAT and replica["state"] in wanted]


def _desired(demo: Demo) -> dict[str, Any]:
    rows: list[dict[str, Any]] = demo.api.get("/admin/v1/fleet")["desired"]
    return next(row for row in rows if row["model"] == CHAT)


def _is_open(demo: Demo) -> bool:
    model = demo.api.get(f"/v1/models/{CHAT}")
    return bool(model["state"] == "warm" and model["opens_at"] is None)


def _ask(demo: Demo) -> str:
    answer = demo.euro.client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": QUESTION}], max_tokens=24, temperature=0
    )
    return " ".join((answer.choices[0].message.content or "").split())


def _refused(demo: Demo) -> str:
    """The sentence with which a closed model says when it opens."""
    try:
        _ask(demo)
    except openai.InternalServerError as error:
        message = str(error.body["message"]) if isinstance(error.body, dict) else str(error)
        expect(error.status_code == 503 and error.code == "model_asleep", f"the refusal is another one: {message}")
        expect("opens Wednesday 2026-11-04 08:00 Europe/Berlin" in message, f"no opening in: {message}")
        expect(int(error.response.headers["retry-after"]) <= 120, "Retry-After is longer than SDKs wait")
        return message
    raise SceneFailed("a closed model answered")
