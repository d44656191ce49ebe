"""`python -m local.demo`: bring the cloud up, tell the story, leave the cloud up with a key to go on with."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console

from local import cli
from local.api import Api
from local.commands.signin_link import create_link
from local.demo import batch_scene, clock_scene, finetune_scene, money_scenes, request_scenes
from local.demo.auditor import Auditor
from local.demo.cast import CHAT, HUMAN_EVAL, Demo
from local.demo.story import Facts, Say, Story
from local.paths import StatePaths
from local.ports import Ports
from local.sign_in import sign_in_words
from local.stack import Stack
from local.stack_process import observe
from studio.errors import StudioError

Scenes = tuple[tuple[str, Callable[[Demo, Say], Facts]], ...]

REQUESTS: Scenes = (
    ("Catalog: reviewed YAML is in the tables, by Dagster", request_scenes.catalog),
    ("Engines: real vLLM, warm, with proof", request_scenes.engines),
    ("A customer and a key", request_scenes.customer_and_key),
    ("Chat through the official OpenAI SDK", request_scenes.chat),
    ("Stream, on the fast tier", request_scenes.stream),
    ("A stream that its client abandons", request_scenes.abandoned_stream),
    ("Embedding", request_scenes.embedding),
    ("A customer in another currency", request_scenes.second_currency),
    ("Every token is in PostgreSQL exactly once", money_scenes.events_are_exact),
)
JOBS: Scenes = (
    ("A batch: HumanEval's prompts, and the worker is killed", batch_scene.play),
    ("A fine-tune: trained, served, better than its base", finetune_scene.play),
    ("Opening hours: an evening and the next morning", clock_scene.play),
    ("All events together are what all engines counted", money_scenes.events_are_exact),
)
MONEY: Scenes = (
    ("Usage is sealed, counted, rated, reconciled", money_scenes.usage_is_rated),
    ("Two invoices are drafted, and recomputed from raw events", money_scenes.invoices_are_drafted),
    ("The invoices are reviewed, approved by another person, numbered, rendered", money_scenes.invoices_are_final),
)


def main() -> int:
    """Exit code 0, or 1 after one sentence that says what was not as promised."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description="The main job, told as a story.")
    parser.add_argument("--short", action="store_true", help="without batch, fine-tune and opening hours")
    parser.add_argument(
        "--batch-prompts", type=int, default=HUMAN_EVAL, help=f"how many of HumanEval's {HUMAN_EVAL} the batch asks"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.batch_prompts <= HUMAN_EVAL:
        parser.error(f"HumanEval has {HUMAN_EVAL} prompts: {arguments.batch_prompts} cannot be asked")
    scenes = REQUESTS + MONEY if arguments.short else REQUESTS + JOBS + MONEY
    console = Console()
    started = time.monotonic()
    cli.up(detach=True, wait_for_all=True, port_offset=None)
    paths = StatePaths.from_environment()
    state = observe(paths)
    stack = Stack.from_environment(Ports(state.port_offset) if state else None)
    auditor = Auditor(stack.database_url("auditor"))
    demo = Demo(Api.from_environment(), auditor, paths.root / "demo", arguments.batch_prompts)
    story = Story(console, len(scenes))
    try:
        for title, play in scenes:
            story.scene(title, partial(play, demo))
    except StudioError as error:
        Console(stderr=True, soft_wrap=True).print(f"✗ {error}", markup=False, highlight=False, style="red")
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. The cloud is still up; `make down` stops it.")
        return 130
    console.print(story.summary())
    console.print(f"All of it in {time.monotonic() - started:.0f} s. The cloud stays up; `make down` stops it.\n")
    slugs = [customer.slug for customer in demo.customers]
    sign_in = sign_in_words(stack.gateway_url, lambda: create_link(demo.api, slugs, ops=True)["url"])
    invoices = ", ".join(str(demo.invoice_path(customer)) for customer in demo.customers)
    console.print(
        f"console  {stack.gateway_url}\n"
        f"sign in  {sign_in}\n"
        f"Dagster  {stack.dagster_url}\n"
        f"invoices {invoices}\n"
        f"key      {demo.euro.key}\n\n"
        f"Go on:   curl {stack.gateway_url}/v1/chat/completions -H 'Authorization: Bearer {demo.euro.key}' \\\n"
        f"           -H 'Content-Type: application/json' \\\n"
        f'           -d \'{{"model": "{CHAT}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
