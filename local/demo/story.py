"""How a story is told: numbered scenes with progress, what each saw, and one clear sentence when one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from studio.errors import StudioError

Facts = Mapping[str, object]
Say = Callable[[str], None]


class SceneFailed(StudioError):
    """The cloud did not do what the story promises."""


@dataclass
class Story:
    """The scenes told so far."""

    console: Console
    scenes: int
    told: list[tuple[str, float, Facts]] = field(default_factory=list)

    def scene(self, title: str, play: Callable[[Say], Facts]) -> None:
        """Play one scene; SceneFailed names it when a promise is broken."""
        number = len(self.told) + 1
        heading = f"[{number}/{self.scenes}] {title}"
        started = time.monotonic()
        with self.console.status(heading) as status:
            try:
                facts = play(lambda text: status.update(f"{heading}: {text}"))
            except StudioError as error:
                raise SceneFailed(f"{heading}: {error}") from error
        seconds = time.monotonic() - started
        self.console.print(f"[bold green]✓[/] {heading} [dim]({seconds:.1f} s)[/]", highlight=False)
        for name, value in facts.items():
            self.console.print(f"      {name}: {value}", highlight=False, markup=False, soft_wrap=True)
        self.told.append((title, seconds, facts))

    def summary(self) -> Table:
        """All scenes with their times."""
        table = Table("#", "scene", "seconds", title="What happened", title_justify="left")
        for number, (title, seconds, _) in enumerate(self.told, start=1):
            table.add_row(str(number), title, f"{seconds:.1f}")
        return table


def expect(truth: object, sentence: str) -> None:
    """The story's assertion; a broken promise ends the demo with this sentence."""
    if not truth:
        raise SceneFailed(sentence)


def wait_until(check: Callable[[], bool], sentence: str, seconds: float, every: float = 0.5) -> None:
    """Ask again until true; SceneFailed with the sentence when the time is over."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SceneFailed(f"{sentence} (waited {seconds:.0f} s)")
        time.sleep(every)


def shortened(text: str | None) -> str:
    """An answer as one line of at most 100 characters."""
    line = " ".join((text or "").split())
    return line if len(line) <= 100 else f"{line[:97]}..."
