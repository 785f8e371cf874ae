"""Reasoning that stays in the text, with the marker that the prompt has taken put back."""

from __future__ import annotations

from muster.llm.tool_calls.events import Content, Event

__all__ = ["PrefixedContentParser"]


class PrefixedContentParser:
    """MiniMax's "append think": the client tells reasoning from text itself.

    Args:
        marker: What the text shall begin with. Put in front of a reply that does not begin with it;
            an empty reply stays empty.
    """

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._held = ""
        self._begun = False

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; held while it may be the marker."""
        if self._begun:
            return [Content(text)] if text else []
        self._held += text
        start = self._held.lstrip()
        if self._marker.startswith(start) and start != self._marker:
            return []
        return self._begin(start)

    def finish(self) -> list[Event]:
        """The reply is over."""
        if self._begun or not self._held:
            return []
        return self._begin(self._held.lstrip())

    def _begin(self, start: str) -> list[Event]:
        self._begun = True
        prefix = "" if start.startswith(self._marker) else self._marker
        return [Content(prefix + self._held)]
