"""What a reply says beyond OpenAI's fields, for clients that ask for it.

Dynamo's ``nvext`` (``annotations``, ``extra_fields``) and vLLM's ``return_token_ids``. Most requests
ask for nothing: then there is no ``Additions``. Where there is one, each finished event or reply is
read again, and what is to be added is added; so nothing else needs to know of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from muster.frontend.choice import Choice
from muster.frontend.openai.nvext import Nvext
from muster.frontend.openai.requests import CompletionRequest, GenerationRequest
from muster.frontend.prompt_run import PromptRun

__all__ = ["Additions", "Writer", "WriterWithAdditions", "additions_of"]

_DATA = b"data: "
_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Additions:
    """What one request wants to know.

    Args:
        nvext: What it asks for there.
        runs: Its prompts, with choices that keep their token ids.
        request_id: The request as its engine knows it.
        formatted_prompt: The prompt as text, if the template made one.
        return_token_ids: Whether it wants the ids of all tokens as vLLM gives them.
        prompt_ids_in_choices: Whether those of the prompt go with each choice; else they go once.
        arrived: When it came, in seconds of the monotonic clock.
    """

    __slots__ = (
        "_arrived",
        "_extra",
        "_first",
        "_formatted_prompt",
        "_names",
        "_prompt_ids_in_choices",
        "_request_id",
        "_return_token_ids",
        "_runs",
        "_sent",
    )

    def __init__(
        self,
        nvext: Nvext | None,
        runs: Sequence[PromptRun],
        *,
        request_id: str,
        formatted_prompt: str | None,
        return_token_ids: bool,
        prompt_ids_in_choices: bool,
        arrived: float,
    ) -> None:
        self._names = frozenset((nvext.annotations if nvext is not None else None) or ())
        self._extra = frozenset((nvext.extra_fields if nvext is not None else None) or ())
        self._runs = runs
        self._request_id = request_id
        self._formatted_prompt = formatted_prompt
        self._return_token_ids = return_token_ids
        self._prompt_ids_in_choices = prompt_ids_in_choices
        self._arrived = arrived
        self._sent: float | None = None
        self._first: float | None = None

    def sent(self) -> None:
        """Engines have the request."""
        self._sent = time.monotonic()

    def came(self) -> None:
        """Output has come."""
        if self._first is None:
            self._first = time.monotonic()

    def opening(self) -> bytes:
        """The events a stream begins with: Dynamo's annotations, their JSON text in a comment."""
        events = []
        if "request_id" in self._names:
            events.append(_annotation("request_id", self._request_id))
        if "formatted_prompt" in self._names and self._formatted_prompt is not None:
            events.append(_annotation("formatted_prompt", self._formatted_prompt))
        if "token_ids" in self._names:
            for run in self._runs:
                ids = _encode(run.request.token_ids).decode()
                events.append(_annotation("token_ids", ids))
        return b"".join(events)

    def whole(self, body: bytes) -> bytes:
        """A whole reply with what is to be added."""
        if not (self._extra or self._return_token_ids):
            return body
        reply: dict[str, Any] = _decode(body)
        if self._return_token_ids:
            choices = [choice for run in self._runs for choice in run.choices]
            for shown, choice in zip(reply["choices"], choices, strict=True):
                shown["token_ids"] = choice.token_ids
                if self._prompt_ids_in_choices:
                    shown["prompt_token_ids"] = self._prompt_of(choice.index)
            if not self._prompt_ids_in_choices:
                reply["prompt_token_ids"] = self._prompt_of(0)
        first = self._runs[0].choices[0]
        nvext = self._nvext(first, first.token_ids or [], ended=True)
        return _encode(reply | ({"nvext": nvext} if nvext else {}))

    def event(self, choice: Choice, events: bytes, shown: int) -> bytes:
        """Events of one choice with what is to be added: ids to the last, the rest at the end.

        Args:
            choice: The choice.
            events: One event or several.
            shown: How many of its tokens earlier events had.
        """
        if not (self._extra or self._return_token_ids):
            return events
        *others, last = events.removesuffix(b"\n\n").split(b"\n\n")
        chunk: dict[str, Any] = _decode(last.removeprefix(_DATA))
        new = (choice.token_ids or [])[shown:]
        if self._return_token_ids and chunk["choices"]:
            chunk["choices"][0]["token_ids"] = new
            if not shown and self._prompt_ids_in_choices:
                chunk["choices"][0]["prompt_token_ids"] = self._prompt_of(choice.index)
            elif not shown:
                chunk["prompt_token_ids"] = self._prompt_of(choice.index)
        nvext = self._nvext(choice, new, ended=choice.finish_reason is not None)
        if nvext:
            chunk["nvext"] = nvext
        return b"".join([each + b"\n\n" for each in [*others, _DATA + _encode(chunk)]])

    def _run_of(self, index: int) -> PromptRun:
        return self._runs[index // len(self._runs[0].choices)]

    def _prompt_of(self, index: int) -> list[int]:
        return self._run_of(index).request.token_ids

    def _nvext(self, choice: Choice, new: Sequence[int], *, ended: bool) -> dict[str, Any]:
        """The object beside a reply's or chunk's choices; most of it belongs to the end."""
        extra = self._extra
        found: dict[str, Any] = {}
        journey = self._run_of(choice.index).journey
        if "worker_id" in extra and journey is not None and journey.instance_id is not None:
            instance = journey.instance_id
            found["worker_id"] = {"prefill_worker_id": instance, "decode_worker_id": instance}
        if "completion_token_ids" in extra:
            found["completion_token_ids"] = new
        if not ended:
            return found
        if "timing" in extra:
            found["timing"] = self._timing()
        if "stop_reason" in extra and choice.stop_reason is not None:
            found["stop_reason"] = choice.stop_reason
        if "prompt_token_ids" in extra:
            found["prompt_token_ids"] = self._prompt_of(choice.index)
        return found

    def _timing(self) -> dict[str, float]:
        """Dynamo's names for the parts of the time until now; in milliseconds."""
        now = time.monotonic()
        first = now if self._first is None else self._first
        sent = first if self._sent is None else self._sent
        return {
            "request_received_ms": round((time.time() - (now - self._arrived)) * 1000),
            "prefill_wait_time_ms": (sent - self._arrived) * 1000,
            "prefill_time_ms": (first - sent) * 1000,
            "ttft_ms": (first - self._arrived) * 1000,
            "total_time_ms": (now - self._arrived) * 1000,
        }


def additions_of(
    request: GenerationRequest,
    runs: Sequence[PromptRun],
    *,
    request_id: str,
    formatted_prompt: str | None,
    arrived: float,
) -> Additions | None:
    """What ``request`` asks for; ``None`` if nothing, which is usual. See ``Additions``."""
    nvext = request.nvext
    asked = nvext is not None and (nvext.annotations or nvext.extra_fields)
    if not asked and not request.return_token_ids:
        return None
    return Additions(
        nvext,
        runs,
        request_id=request_id,
        formatted_prompt=formatted_prompt,
        return_token_ids=bool(request.return_token_ids),
        prompt_ids_in_choices=isinstance(request, CompletionRequest),
        arrived=arrived,
    )


class Writer(Protocol):
    """Turns what is new in choices into events."""

    def events(self, changed: Sequence[Choice]) -> bytes:
        """Events for choices that have new output, joined."""
        ...

    def unasked(self) -> bytes:
        """The events of a request no engine is asked for."""
        ...

    def ending(self) -> bytes:
        """What follows the last choice's end."""
        ...


class WriterWithAdditions:
    """A writer whose events have what is to be added.

    Args:
        writer: Writes the events.
        additions: What is added.
    """

    __slots__ = ("_additions", "_opening", "_shown", "_writer")

    def __init__(self, writer: Writer, additions: Additions) -> None:
        self._writer = writer
        self._additions = additions
        self._opening = additions.opening()
        self._shown: dict[int, int] = {}

    def events(self, changed: Sequence[Choice]) -> bytes:
        """Events for choices that have new output, joined."""
        self._additions.came()
        opening, self._opening = self._opening, b""
        return opening + b"".join([self._event(choice) for choice in changed])

    def unasked(self) -> bytes:
        """The events of a request no engine is asked for."""
        return self._opening + self._writer.unasked()

    def ending(self) -> bytes:
        """What follows the last choice's end."""
        return self._writer.ending()

    def _event(self, choice: Choice) -> bytes:
        events = self._writer.events([choice])
        if not events:
            return b""
        shown = self._shown.get(choice.index, 0)
        self._shown[choice.index] = len(choice.token_ids or ())
        return self._additions.event(choice, events, shown)


def _annotation(name: str, value: str) -> bytes:
    return b"event: %b\n: %b\n\n" % (name.encode(), _encode(value))
