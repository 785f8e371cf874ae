"""Whether a chat is to be thought about, in all the words templates and parsers have for it. Pure."""

from __future__ import annotations

from typing import Any

from muster.frontend.openai.requests import ChatRequest

__all__ = ["is_thinking_off", "template_kwargs"]

_NONE: dict[str, Any] = {}


def template_kwargs(request: ChatRequest) -> dict[str, Any]:
    """The request's own values for its template; ``chat_template_kwargs`` win over ``..._args``.

    Templates ask for ``enable_thinking``, ``thinking`` or ``thinking_mode``: who sets one of them, or
    a ``reasoning_effort``, sets all, as in Dynamo 1.6.1. What is set by its own name stays.
    """
    given, older = request.chat_template_kwargs, request.chat_template_args
    effort = request.reasoning_effort
    if not given and not older and effort is None:
        return _NONE
    found = {**(older or {}), **(given or {})}
    switch = _switch(found)
    if switch is None and effort is not None:
        switch = effort != "none"
    if switch is not None:
        words = {
            "enable_thinking": switch,
            "thinking": switch,
            "thinking_mode": "enabled" if switch else "disabled",
        }
        found = words | found
    return found


def is_thinking_off(kwargs: dict[str, Any]) -> bool:
    """Whether these values for a template switch thinking off."""
    return _switch(kwargs) is False


def _switch(kwargs: dict[str, Any]) -> bool | None:
    for name in ("enable_thinking", "thinking"):
        value = kwargs.get(name)
        if isinstance(value, bool):
            return value
    mode = kwargs.get("thinking_mode")
    return mode == "enabled" if mode in ("enabled", "disabled") else None
