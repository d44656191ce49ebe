"""A chat that an engine streams, told as the events of the Responses API.

Each item is told from `added` to `done` before the next begins; ids are the same in the events and in the last object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from uuid import UUID

import orjson

from serving.responses import answer
from serving.responses.answer import Ending, Response
from serving.responses.items import Item, output_id
from studio import clock
from studio.errors import StudioError


class ResponsesDialect:
    """One answer. `response` is its object as far as it is known."""

    def __init__(self, response_id: UUID, response: Response) -> None:
        self.response = response
        self._id = response_id
        self._number = 0  # of the next event
        self._open: _Part | None = None
        self._usage: dict[str, Any] | None = None
        self._ending = Ending()
        self._last_events: bytes | None = None

    def read(self, content: dict[str, Any]) -> None:
        """An answer that did not stream."""
        choice = content["choices"][0]
        self.response["output"] = answer.output_of(choice, self._id)
        answer.end(self.response, Ending.of(choice), content["usage"], _now())

    def conclude(self) -> None:
        """The engine has said everything. From now on `response` is as its caller will see it."""
        if self._last_events is None:
            is_cut = self._ending.reason == "length"
            events = b""
            if self._open is None and not self.response["output"]:
                events += self._begin(_Text(self, output_id("message", self._id, 0)))
            self._last_events = events + self._close("incomplete" if is_cut else "completed")
            answer.end(self.response, self._ending, self._usage, _now())

    # what the relay calls

    def whole(self, content: dict[str, Any]) -> bytes:
        """`read` has seen it."""
        return orjson.dumps(self.response)

    def event(self, content: dict[str, Any]) -> bytes:
        if usage := content.get("usage"):
            self._usage = usage
        told = b"" if self._number else self._opening()
        for choice in content["choices"]:
            delta = choice["delta"]
            if reasoning := answer.reasoning_in(delta):
                told += self._reasoning(reasoning)
            if text := delta.get("content"):
                told += self._text(text, answer.logprobs_in(choice))
            for call in delta.get("tool_calls") or ():
                told += self._call(call)
            if choice.get("finish_reason"):
                self._ending = Ending.of(choice)
        return told

    def end(self) -> bytes:
        self.conclude()
        assert self._last_events is not None  # since it is concluded
        return self._last_events + self.tell(f"response.{self.response['status']}", response=self.response)

    def failure(self, error: StudioError) -> bytes:
        self.fail(error)
        return self.tell("response.failed", response=self.response)

    # what parts and others call

    def fail(self, error: StudioError) -> None:
        """It broke off."""
        if self._open is not None:
            self.response["output"].append(self._open.item("incomplete"))
            self._open = None
        answer.fail(self.response, error, self._usage)

    def tell(self, type: str, **fields: Any) -> bytes:
        """One event."""
        event = orjson.dumps({"type": type, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), event)

    @property
    def index(self) -> int:
        """Of the item that is open."""
        return len(self.response["output"])

    def _opening(self) -> bytes:
        self.response["status"] = "in_progress"
        return self.tell("response.created", response=self.response) + self.tell(
            "response.in_progress", response=self.response
        )

    def _reasoning(self, text: str) -> bytes:
        told = b""
        if not isinstance(self._open, _Reasoning):
            told = self._close("completed")
            told += self._begin(_Reasoning(self, output_id("reasoning", self._id, self.index)))
        assert self._open is not None
        return told + self._open.add(text, [])

    def _text(self, text: str, logprobs: list[dict[str, Any]]) -> bytes:
        told = b""
        if not isinstance(self._open, _Text):
            told = self._close("completed")
            told += self._begin(_Text(self, output_id("message", self._id, self.index)))
        assert self._open is not None
        return told + self._open.add(text, logprobs)

    def _call(self, call: dict[str, Any]) -> bytes:
        told = b""
        function = call["function"]
        if not isinstance(self._open, _Call) or self._open.call_index != call["index"]:
            told = self._close("completed")
            id = output_id("function_call", self._id, self.index)
            told += self._begin(_Call(self, id, call["index"], call["id"], function["name"]))
        assert self._open is not None
        arguments = function.get("arguments")
        return told + self._open.add(arguments, []) if arguments else told

    def _begin(self, part: _Part) -> bytes:
        self._open = part
        return part.begin()

    def _close(self, status: str) -> bytes:
        if self._open is None:
            return b""
        told = self._open.finish(status)
        self.response["output"].append(self._open.item(status))
        self._open = None
        return told


class _Part(ABC):
    """An item of the output while it is being told."""

    def __init__(self, dialect: ResponsesDialect, id: str) -> None:
        self._tell = dialect.tell
        self._at = {"item_id": id, "output_index": dialect.index}
        self._id = id
        self._pieces: list[str] = []

    @property
    def _so_far(self) -> str:
        return "".join(self._pieces)

    @abstractmethod
    def item(self, status: str) -> Item:
        """As the response shows it."""

    @abstractmethod
    def begin(self) -> bytes:
        """The events before the first piece."""

    @abstractmethod
    def add(self, piece: str, logprobs: list[dict[str, Any]]) -> bytes:
        """The event of one piece."""

    @abstractmethod
    def finish(self, status: str) -> bytes:
        """The events after the last one."""

    def _added(self, item: Item) -> bytes:
        return self._tell("response.output_item.added", output_index=self._at["output_index"], item=item)

    def _done(self, status: str) -> bytes:
        return self._tell("response.output_item.done", output_index=self._at["output_index"], item=self.item(status))


class _Text(_Part):
    def __init__(self, dialect: ResponsesDialect, id: str) -> None:
        super().__init__(dialect, id)
        self._at["content_index"] = 0
        self._logprobs: list[dict[str, Any]] = []

    def item(self, status: str) -> Item:
        return answer.message_item(self._id, self._so_far, self._logprobs, status)

    def begin(self) -> bytes:
        return self._added({**self.item("in_progress"), "content": []}) + self._tell(
            "response.content_part.added", **self._at, part=answer.text_part("", [])
        )

    def add(self, piece: str, logprobs: list[dict[str, Any]]) -> bytes:
        self._pieces.append(piece)
        self._logprobs += logprobs
        return self._tell("response.output_text.delta", **self._at, delta=piece, logprobs=logprobs)

    def finish(self, status: str) -> bytes:
        text = self._so_far
        return (
            self._tell("response.output_text.done", **self._at, text=text, logprobs=self._logprobs)
            + self._tell("response.content_part.done", **self._at, part=answer.text_part(text, self._logprobs))
            + self._done(status)
        )


class _Reasoning(_Part):
    def __init__(self, dialect: ResponsesDialect, id: str) -> None:
        super().__init__(dialect, id)
        self._at["content_index"] = 0

    def item(self, status: str) -> Item:
        return answer.reasoning_item(self._id, self._so_far, status)

    def begin(self) -> bytes:
        return self._added({**self.item("in_progress"), "content": []}) + self._tell(
            "response.content_part.added", **self._at, part=answer.reasoning_part("")
        )

    def add(self, piece: str, logprobs: list[dict[str, Any]]) -> bytes:
        self._pieces.append(piece)
        return self._tell("response.reasoning_text.delta", **self._at, delta=piece)

    def finish(self, status: str) -> bytes:
        text = self._so_far
        return (
            self._tell("response.reasoning_text.done", **self._at, text=text)
            + self._tell("response.content_part.done", **self._at, part=answer.reasoning_part(text))
            + self._done(status)
        )


class _Call(_Part):
    def __init__(self, dialect: ResponsesDialect, id: str, call_index: int, call_id: str, name: str) -> None:
        super().__init__(dialect, id)
        self.call_index = call_index  # the engine's number of the call
        self._call_id = call_id
        self._name = name

    def item(self, status: str) -> Item:
        return answer.call_item(self._id, self._call_id, self._name, self._so_far, status)

    def begin(self) -> bytes:
        return self._added(self.item("in_progress"))

    def add(self, piece: str, logprobs: list[dict[str, Any]]) -> bytes:
        self._pieces.append(piece)
        return self._tell("response.function_call_arguments.delta", **self._at, delta=piece)

    def finish(self, status: str) -> bytes:
        done = self._tell("response.function_call_arguments.done", **self._at, name=self._name, arguments=self._so_far)
        return done + self._done(status)


def _now() -> int:
    return int(clock.now().timestamp())
