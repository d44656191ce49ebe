"""Official rules: EN 16931 and XRechnung by schematron, run by Saxon in a worker process that is replaced now and then.

The answer is a list of findings, never a bare yes: a worker that dies, a rule set that is missing or judges nothing,
is an error.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from billing.documents.rule_sets import ROOTS, RuleSet
from studio.errors import StudioError
from studio.settings import REPOSITORY

MOST_PER_WORKER = 400  # 300 documents grew a worker from 134 to 221 MB
_TIMEOUT_SECONDS = 120.0  # compiling takes 2 s on a quiet machine


class NotJudged(StudioError):
    """The rules could not be run over a document, which is therefore not valid."""

    default_code = "document_not_judged"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. `flag`: fatal and error make a document invalid, warning and information do not."""

    rule: str
    flag: str
    where: str
    words: str

    @property
    def is_fatal(self) -> bool:
        """Whether the document may not be published with it."""
        return self.flag not in ("warning", "information", "info")


class Schematron:
    """Runs rule sets over documents. One caller at a time."""

    def __init__(self, most_per_worker: int = MOST_PER_WORKER) -> None:
        self._most_per_worker = most_per_worker
        self._process: subprocess.Popen[str] | None = None
        self._judged = 0

    def judge(self, rules: RuleSet, xml: bytes) -> list[Finding]:
        """What a rule set finds in a document; RulesMissing, or NotJudged when it could not be run."""
        path = rules.path()
        if self._judged >= self._most_per_worker:
            self.close()
        process = self._process or self._start()
        request = json.dumps({"rules": str(path), "roots": ROOTS[rules.syntax], "xml": xml.decode()})
        # A worker that hangs is killed, whereupon the read below ends.
        watchdog = threading.Timer(_TIMEOUT_SECONDS, process.kill)
        watchdog.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            self.close()
            raise NotJudged(f"The process that runs {rules.name} ended; the document was not judged.")
        self._judged += 1
        answer = json.loads(line)
        if "error" in answer:
            raise NotJudged(f"{rules.name} could not be run: {answer['error']}")
        return [Finding(**finding) for finding in answer["findings"]]

    def close(self) -> None:
        """End the worker; the next document starts another."""
        process, self._process, self._judged = self._process, None, 0
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # it died with a request in its pipe
                    continue
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "billing.documents.schematron_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=REPOSITORY,
        )
        return self._process


@contextmanager
def schematron() -> Iterator[Schematron]:
    """One worker for a run over many documents."""
    judge = Schematron()
    try:
        yield judge
    finally:
        judge.close()
