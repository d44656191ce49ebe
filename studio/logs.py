"""Structured logs: an event name and fields, once per change of state. Never a prompt, a completion or a key."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure(format: Literal["console", "json"] = "console", level: str = "INFO") -> None:
    """Route structlog to stderr, one line per event."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
