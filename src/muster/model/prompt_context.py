"""What a model's chat template is given besides the conversation."""

from __future__ import annotations

import enum

__all__ = ["PromptContext"]


class PromptContext(enum.StrEnum):
    """One kind of addition to the prompt."""

    OAI_CHAT = "oai_chat"
    LLAMA3_DATE_TIME = "llama3_date_time"
