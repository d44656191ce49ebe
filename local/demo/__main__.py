"""`python -m local.demo`: bring the cloud up, tell the story, leave the cloud up with a key to go on with."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from local import cli
from local.api import Api
from local.demo.auditor import Auditor
from local.demo.scenes import Demo
from local.demo.story import Story
from local.paths import StatePaths
from local.ports import Ports
from local.stack import Stack
from local.stack_process import observe
from studio.errors import StudioError


def main() -> int:
    """Exit code 0, or 1 after one sentence that says what was not as promised."""
    console = Console()
    started = time.monotonic()
    cli.up(detach=True, wait_for_all=True, port_offset=None)
    paths = StatePaths.from_environment()
    state = observe(paths)
    stack = Stack.from_environment(Ports(state.port_offset) if state else None)
    demo = Demo(Api.from_environment(), Auditor(stack.database_url("auditor")), paths.root / "demo")
    scenes = (
        ("Catalog: reviewed YAML is in the tables, by Dagster", demo.catalog),
        ("Engines: real vLLM, warm, with proof", demo.engines),
        ("A customer and a key", demo.tenant_and_key),
        ("Chat through the official OpenAI SDK", demo.chat),
        ("Stream, on the fast tier", demo.stream),
        ("A stream that its client abandons", demo.abandoned_stream),
        ("Embedding", demo.embedding),
        ("Every token is in PostgreSQL exactly once", demo.events_are_exact),
        ("Usage is sealed, counted, rated, reconciled", demo.usage_is_rated),
        ("The invoice is drafted, and recomputed from raw events", demo.invoice_is_drafted),
        ("The invoice is approved, numbered, rendered", demo.invoice_is_final),
    )
    story = Story(console, len(scenes))
    try:
        for title, play in scenes:
            story.scene(title, play)
    except StudioError as error:
        Console(stderr=True, soft_wrap=True).print(f"✗ {error}", markup=False, highlight=False, style="red")
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. The cloud is still up; `make down` stops it.")
        return 130
    console.print(story.summary())
    console.print(f"All of it in {time.monotonic() - started:.0f} s. The cloud stays up; `make down` stops it.\n")
    console.print(
        f"gateway  {stack.gateway_url}  (first page; API under /v1)\n"
        f"Dagster  {stack.dagster_url}\n"
        f"invoice  {demo.out}/{demo.invoice['number']}.pdf\n"
        f"key      {demo.key}\n\n"
        f"Go on:   curl {stack.gateway_url}/v1/chat/completions -H 'Authorization: Bearer {demo.key}' \\\n"
        f"           -H 'Content-Type: application/json' \\\n"
        f'           -d \'{{"model": "smollm2-135m-instruct", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
