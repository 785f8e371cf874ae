"""Finding stop strings in text that arrives in pieces.

An Aho-Corasick automaton over all stop strings: one step a character, however many strings there
are, and its depth is exactly how much text must be held back because a stop string may have begun.
While none has, whole pieces are skipped by plain searches for the strings' first characters.

The match is the one that is complete first; of several complete at the same character, the longest.
So the result does not depend on how the text was cut into pieces.
"""

from __future__ import annotations

import functools
from collections import deque

from muster.errors import InvalidArgument

__all__ = ["MAX_STOP_CHARACTERS", "MAX_STOP_STRINGS", "StopAutomaton", "StopStringScanner"]

MAX_STOP_STRINGS = 32
"""Dynamo 1.6.1's limit."""

MAX_STOP_CHARACTERS = 65536
"""All stop strings of a request together; bounds the automaton's memory to a few MB."""

_CACHED_CHARACTERS = 256


class StopAutomaton:
    """Immutable; may be shared by any number of scanners. State 0 means: no stop string has begun.

    Args:
        strings: The stop strings, none empty.

    Attributes:
        first_characters: What a stop string can begin with.
        matched: Per state, the longest stop string that ends there, or ``None``.
        held: Per state, how many of the last characters may be the beginning of a stop string.
    """

    __slots__ = ("_fall_back", "_next", "first_characters", "held", "matched")

    def __init__(self, strings: tuple[str, ...]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fall_back = [0]
        self.matched: list[str | None] = [None]
        self.held = [0]
        for string in strings:
            self._add(string)
        self._link()
        self.first_characters = frozenset(self._next[0])

    @staticmethod
    def of(strings: tuple[str, ...]) -> StopAutomaton:
        """The automaton for ``strings``; short ones are remembered, as clients repeat themselves.

        Raises:
            InvalidArgument: For more than 32 strings, an empty one, or too many characters.
        """
        if len(strings) > MAX_STOP_STRINGS:
            raise InvalidArgument(
                f"Maximum of {MAX_STOP_STRINGS} stop sequences allowed, got {len(strings)}"
            )
        if "" in strings:
            raise InvalidArgument("Stop sequence cannot be empty")
        characters = sum(map(len, strings))
        if characters > MAX_STOP_CHARACTERS:
            raise InvalidArgument(
                f"the stop sequences have {characters} characters, "
                f"at most {MAX_STOP_CHARACTERS} are allowed"
            )
        return _remembered(strings) if characters <= _CACHED_CHARACTERS else StopAutomaton(strings)

    def _add(self, string: str) -> None:
        state = 0
        for depth, character in enumerate(string, 1):
            following = self._next[state].get(character)
            if following is None:
                following = len(self._next)
                self._next[state][character] = following
                self._next.append({})
                self._fall_back.append(0)
                self.matched.append(None)
                self.held.append(depth)
            state = following
        self.matched[state] = string

    def _link(self) -> None:
        """Set the fall-backs, breadth first, and what follows from them."""
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            shorter = self._fall_back[state]
            if self.matched[state] is None:
                self.matched[state] = self.matched[shorter]
            for character, following in self._next[state].items():
                self._fall_back[following] = self.step(shorter, character)
                queue.append(following)
            if not self._next[state]:
                # nothing longer begins like this: only what the fall-back holds can go on
                self.held[state] = self.held[shorter]

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while True:
            following = self._next[state].get(character)
            if following is not None:
                return following
            if not state:
                return 0
            state = self._fall_back[state]

    def find_start(self, text: str, position: int) -> int:
        """Where from ``position`` on a stop string could begin; the text's length if nowhere."""
        nearest = len(text)
        for character in self.first_characters:
            found = text.find(character, position, nearest)
            if found >= 0:
                nearest = found
        return nearest


@functools.lru_cache(maxsize=256)
def _remembered(strings: tuple[str, ...]) -> StopAutomaton:
    return StopAutomaton(strings)


class StopStringScanner:
    """One stream's search. Not to be shared between streams."""

    __slots__ = ("_automaton", "_held", "_state")

    def __init__(self, automaton: StopAutomaton) -> None:
        self._automaton = automaton
        self._held = ""
        self._state = 0

    def push(self, text: str, *, active: bool = True) -> tuple[str, str | None]:
        """Take more text.

        Args:
            text: What comes next.
            active: Whether a stop string that ends in this text counts.

        Returns:
            The text that can be shown now, and the stop string found if there is one: then the
            shown text ends before it, what follows it is dropped, and the search is over.
        """
        automaton = self._automaton
        if not self._state:
            if automaton.first_characters.isdisjoint(text):
                return text, None
            position, whole = automaton.find_start(text, 0), text
        else:
            position = len(self._held)
            whole = self._held + text
        state = self._state
        while position < len(whole):
            state = automaton.step(state, whole[position])
            position += 1
            matched = automaton.matched[state]
            if matched is not None and active:
                self._held = ""
                self._state = 0
                return whole[: position - len(matched)], matched
            if not state:
                position = automaton.find_start(whole, position)
        self._state = state
        shown = len(whole) - automaton.held[state]
        self._held = whole[shown:]
        return whole[:shown], None

    def flush(self) -> str:
        """Return what is held back: the stream ended and it is no stop string after all."""
        text, self._held, self._state = self._held, "", 0
        return text
