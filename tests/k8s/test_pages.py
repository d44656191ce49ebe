"""What the operator's pages name is there: files, commands, targets of make, modules, values, tests, sections."""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from local.cli import app
from studio.settings import REPOSITORY
from tests.k8s.rendering import CHARTS

PAGES = [REPOSITORY / "docs" / f"{name}.md" for name in ("installation", "kubernetes", "runbook")]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def code(page: Path) -> list[str]:
    """Every line of code of a page, whether it stands in a block or in a sentence; lines that go on are one."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return lines + [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", rest)]


@cache
def anchors(page: Path) -> set[str]:
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_its_files_modules_and_targets_of_make_exist(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    missing = set()
    for line in code(page):
        for path in re.findall(r"(?<![\w/.])(?:k8s|catalog|studio|training|tests|serving|docs)/[\w./-]*[\w/]", line):
            if path.startswith(("catalog/sites/", "k8s/compose/secrets/")) or re.search(
                r"^studio/(backup|[a-z]+@)", path
            ):
                continue  # the reader's own file
            if not (REPOSITORY / path).exists() and "registry" not in line:
                missing.add(path)
        for module in re.findall(r"python3? -m ((?:k8s|serving|local|training)[\w.]*)", line):
            place = REPOSITORY.joinpath(*module.split("."))
            if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file():
                missing.add(module)
        for target in re.findall(r"^make ([a-z][\w-]*)", line):
            if not re.search(rf"^{target}:", makefile, re.MULTILINE):
                missing.add(f"make {target}")
    assert missing == set()


@pages
def test_its_links_lead_to_sections_that_there_are(page: Path) -> None:
    broken = set()
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.add(target)
    assert broken == set()


@pages
def test_its_studio_commands_are_commands(page: Path) -> None:
    wrong = set()
    for line in code(page):
        for called in re.findall(r"(?:^|[ /])studio ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)(.*)", line):
            if "bin/studio" not in line and not line.startswith("studio "):
                continue
            command: Any = typer.main.get_command(app)
            for word in called[0].split():
                if hasattr(command, "commands") and word in command.commands:
                    command = command.commands[word]
                elif hasattr(command, "commands"):
                    wrong.add(line)
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            if set(re.findall(r"(?<=\s)--[a-z][a-z-]*", called[1].split("|")[0].split(">")[0])) - options - {"--help"}:
                wrong.add(line)
    assert wrong == set()


@pages
def test_values_that_its_helm_commands_set_are_values(page: Path) -> None:
    unknown = set()
    for line in code(page):
        chart = re.search(r"helm upgrade --install \S+ k8s/charts/(\w+)", line)
        if chart is None:
            continue
        words = shlex.split(line, comments=True)
        for name, value in pairwise(words):
            for one in value.split(",") if name == "--set" else ():
                below: Any = yaml.safe_load((CHARTS / chart[1] / "values.yaml").read_text())
                for part in one.partition("=")[0].split("."):
                    below = below.get(part) if isinstance(below, dict) else None
                if below is None:
                    unknown.add(one)
    assert unknown == set()


def test_every_test_that_a_page_names_is_a_test() -> None:
    guide = REPOSITORY / "docs" / "finance-guide.md"
    named = {name for page in (*PAGES, guide) for name in re.findall(r"`(test_\w+)`", page.read_text())}
    there = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named) > 30
    assert named - there == set()


def test_the_runbook_of_two_nodes_pins_what_it_installs() -> None:
    page = PAGES[0].read_text()
    assert re.search(r"^kubernetesVersion: v1\.\d+\.\d+$", page, re.MULTILINE)
    assert re.search(r"pause:\d+\.\d+\.\d+", page)
    assert len(set(re.findall(r"release-v(\d+\.\d+\.\d+)", page))) == 1  # of Calico
    assert "$VERSION" not in page
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        assert all(document["kind"] for document in yaml.safe_load_all(block))
