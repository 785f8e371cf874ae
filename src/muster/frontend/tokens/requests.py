"""Bodies of ``/tokenize`` and ``/detokenize``, and their replies: vLLM's shapes."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.openai.requests import U32, Message

__all__ = ["DetokenizeReply", "DetokenizeRequest", "TokenizeReply", "TokenizeRequest"]


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /tokenize``: a ``prompt``, or ``messages`` and what a template takes with them.

    Attributes:
        model: May be left out where one model is served.
        add_special_tokens: Whether the tokens that begin a text are added; ``None`` means vLLM's
            defaults: yes to a prompt, no to a chat, whose template writes them.
    """

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    documents: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeReply(msgspec.Struct, frozen=True, kw_only=True):
    """``max_model_len`` is 0 if it is not known; ``token_strs`` are spellings in the vocabulary."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /detokenize``."""

    tokens: list[U32]
    model: str | None = None


class DetokenizeReply(msgspec.Struct, frozen=True, kw_only=True):
    """The text, special tokens included."""

    prompt: str
