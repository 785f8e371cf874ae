"""Where a reply ends: stop strings, stop ids, end of sequence, and the token limit.

The frontend decides this itself, whatever the engine does after it: an engine that goes on is
cancelled by the caller. The result is the same however the tokens are cut into items, with one
exception: for an item whose ``text`` the engine supplies, the text counts as of the item's last
token.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from muster.errors import InvalidArgument
from muster.llm.detokenizer import Detokenizer
from muster.llm.protocol import FinishReason, StopConditions
from muster.llm.stop_strings import StopAutomaton, StopStringScanner

__all__ = ["Step", "StopChecker", "StopRules"]


class StopRules(msgspec.Struct, frozen=True, kw_only=True):
    """A request's stop conditions, ready for use; shared by all of its streams.

    Attributes:
        strings: The automaton of the stop strings, ``None`` if there are none.
        hidden_ids: Ids that end the reply and have no text in it.
        visible_ids: Ids that end the reply and whose text belongs to it.
        min_tokens: So many tokens come first: no stop string or id among them ends the reply.
        max_tokens: The reply has no more tokens than this; at least 1.
        keep_stop_string: Whether the stop string found belongs to the reply.
    """

    strings: StopAutomaton | None = None
    hidden_ids: frozenset[int] = frozenset()
    visible_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    max_tokens: int = sys.maxsize
    keep_stop_string: bool = False

    @classmethod
    def of(
        cls,
        conditions: StopConditions,
        *,
        eos_token_ids: Sequence[int] = (),
        include_stop_str_in_output: bool = False,
    ) -> StopRules:
        """The rules of a request.

        As in Dynamo 1.6.1, the client's ``stop_token_ids`` do not show, whatever
        ``include_stop_str_in_output`` says, and an id that is both hidden and visible is hidden.
        ``ignore_eos`` drops the end-of-sequence ids, not what the client asked for.

        Raises:
            InvalidArgument: For stop strings outside the limits (see ``StopAutomaton.of``), or a
                ``max_tokens`` below 1.
        """
        hidden = set(conditions.stop_token_ids or ())
        if not conditions.ignore_eos:
            hidden |= {*eos_token_ids, *(conditions.stop_token_ids_hidden or ())}
        visible = set(conditions.stop_token_ids_visible or ())
        maximum = conditions.max_tokens
        if maximum is not None and maximum < 1:
            raise InvalidArgument(f"Max tokens must be greater than 0, got {maximum}")
        return cls(
            strings=StopAutomaton.of(tuple(conditions.stop)) if conditions.stop else None,
            hidden_ids=frozenset(hidden),
            visible_ids=frozenset(visible - hidden),
            min_tokens=conditions.min_tokens or 0,
            max_tokens=sys.maxsize if maximum is None else maximum,
            keep_stop_string=include_stop_str_in_output,
        )


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one item adds to the reply.

    Attributes:
        text: Text to show now; may be empty.
        finish_reason: Why the reply ends here, or ``None`` if it goes on.
        tokens: How many of the item's tokens belong to the reply, the one that ends it included.
        stop: The stop string or id that ended it, if one did.
    """

    text: str
    finish_reason: FinishReason | None = None
    tokens: int = 0
    stop: str | int | None = None


class StopChecker:
    """Decodes one stream and ends it where its rules say.

    Args:
        rules: The request's rules.
        detokenizer: A fresh one, for this stream alone.
    """

    __slots__ = (
        "_count",
        "_detokenizer",
        "_finished",
        "_rules",
        "_scanner",
        "_stop_ids",
    )

    def __init__(self, rules: StopRules, detokenizer: Detokenizer) -> None:
        self._rules = rules
        self._detokenizer = detokenizer
        self._scanner = StopStringScanner(rules.strings) if rules.strings is not None else None
        self._stop_ids = rules.hidden_ids | rules.visible_ids
        self._count = 0
        self._finished = False

    @property
    def tokens(self) -> int:
        """How many tokens the reply has so far."""
        return self._count

    @property
    def finished(self) -> bool:
        """Whether the reply has ended."""
        return self._finished

    def push(self, token_ids: Sequence[int], text: str | None = None) -> Step:
        """Take an engine's item.

        Args:
            token_ids: Its tokens, possibly none.
            text: Its text if the engine sent one; used as it is instead of decoding the tokens,
                unless the reply ends before the item does.

        Returns:
            What to show. After a step with a ``finish_reason`` the stream is over: all later items
            yield empty steps.
        """
        count = self._count + len(token_ids)
        if (
            count < self._rules.max_tokens
            and not self._finished
            and self._stop_ids.isdisjoint(token_ids)
        ):
            if self._scanner is not None:
                return self._search(self._scanner, token_ids, text)
            self._count = count
            return Step(
                self._detokenizer.push(token_ids) if text is None else text, None, len(token_ids)
            )
        if self._finished:
            return Step("")
        return self._push_text(token_ids, text) if text is not None else self._push_ids(token_ids)

    def flush(self) -> Step:
        """End the stream because the engine did; return what was held back until now.

        Returns:
            A step of no tokens. It has a ``finish_reason`` only if the text held back turns out to
            complete a stop string; else the engine's own reason holds.
        """
        if self._finished:
            return Step("")
        self._finished = True
        text = self._detokenizer.flush()
        if self._scanner is None:
            return Step(text)
        shown, stop = self._scanner.push(text, active=self._count > self._rules.min_tokens)
        if stop is not None:
            return Step(shown + self._kept(stop), "stop", 0, stop)
        return Step(shown + self._scanner.flush())

    def _end(self, text: str, reason: FinishReason, stop_id: int | None) -> Step:
        """The last step: ``text`` and what was held back."""
        rest = self.flush()
        return Step(
            text + rest.text,
            rest.finish_reason or reason,
            1,
            stop_id if rest.stop is None else rest.stop,
        )

    def _search(
        self, scanner: StopStringScanner, token_ids: Sequence[int], text: str | None
    ) -> Step:
        """An item that only a stop string can end."""
        minimum = self._rules.min_tokens
        if text is not None:
            self._count += len(token_ids)
            shown, stop = scanner.push(text, active=self._count > minimum)
            return self._searched(shown, stop, len(token_ids))
        out = []
        for used, token_id in enumerate(token_ids, 1):
            self._count += 1
            shown, stop = scanner.push(
                self._detokenizer.push((token_id,)), active=self._count > minimum
            )
            out.append(shown)
            if stop is not None:
                return self._searched("".join(out), stop, used)
        return Step("".join(out), None, len(token_ids))

    def _searched(self, text: str, stop: str | None, tokens: int) -> Step:
        if stop is None:
            return Step(text, None, tokens)
        self._finished = True
        return Step(text + self._kept(stop), "stop", tokens, stop)

    def _push_ids(self, token_ids: Sequence[int]) -> Step:
        shown: list[str] = []
        start = self._plain_length(token_ids)
        if start:
            # A whole reply often comes as one item: only its last token needs a closer look.
            self._count += start
            shown.append(self._detokenizer.push(token_ids[:start]))
        for used, token_id in enumerate(token_ids[start:], start + 1):
            step = self._push_one(token_id)
            shown.append(step.text)
            if step.finish_reason is not None:
                return Step("".join(shown), step.finish_reason, used, step.stop)
        return Step("".join(shown), None, len(token_ids))

    def _plain_length(self, token_ids: Sequence[int]) -> int:
        """How many of the first tokens cannot end the reply, as far as is seen at a glance."""
        if self._scanner is not None or not self._stop_ids.isdisjoint(token_ids):
            return 0
        return max(0, min(len(token_ids), self._rules.max_tokens - self._count - 1))

    def _push_one(self, token_id: int) -> Step:
        rules = self._rules
        self._count += 1
        active = self._count > rules.min_tokens
        if active and token_id in rules.hidden_ids:
            return self._end("", "stop", token_id)
        return self._scan(
            self._detokenizer.push((token_id,)),
            active=active,
            stop_id=token_id if active and token_id in rules.visible_ids else None,
        )

    def _scan(self, text: str, *, active: bool, stop_id: int | None) -> Step:
        """Search the text that one token, or an engine's item, added; then see if it was the last."""
        if self._scanner is not None:
            text, stop = self._scanner.push(text, active=active)
            if stop is not None:
                return self._searched(text, stop, 1)
        if stop_id is not None:
            return self._end(text, "stop", stop_id)
        if self._count >= self._rules.max_tokens:
            return self._end(text, "length", None)
        return Step(text, None, 1)

    def _push_text(self, token_ids: Sequence[int], text: str) -> Step:
        end = self._find_end(token_ids)
        if end is not None and end < len(token_ids) - 1:
            # Which part of the text is whose is not known: decode what stays ourselves.
            return self._push_ids(token_ids)
        self._count += len(token_ids)
        active = self._count > self._rules.min_tokens
        last = token_ids[-1] if end is not None and active else None
        stop_id = last if last in self._stop_ids else None
        step = self._scan(text, active=active, stop_id=stop_id)
        return Step(step.text, step.finish_reason, len(token_ids), step.stop)

    def _find_end(self, token_ids: Sequence[int]) -> int | None:
        """The index of the token that ends the reply by its id or its number, if one does."""
        for index, token_id in enumerate(token_ids):
            count = self._count + index + 1
            if count >= self._rules.max_tokens:
                return index
            if count > self._rules.min_tokens and token_id in self._stop_ids:
                return index
        return None

    def _kept(self, stop: str) -> str:
        return stop if self._rules.keep_stop_string else ""
