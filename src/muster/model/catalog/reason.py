"""Why something is not served: the catalog's own reason codes. Errors' codes are reasons too."""

from __future__ import annotations

import enum

__all__ = ["Reason"]


class Reason(enum.StrEnum):
    """A reason that is no error of ours: stable words for logs, metrics and programs."""

    INCOMPATIBLE = "incompatible"
    MINORITY = "minority"
    NOT_PINNED = "not_pinned"
    NO_INSTANCE = "no_instance"
    INTERNAL = "internal"
    CODE_FILE = "code_file"
    LIMIT = "limit"
    NAME_TAKEN = "name_taken"

    @property
    def meaning(self) -> str:
        """What it says, in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Reason.INCOMPATIBLE: "Another card was seen first at this endpoint and serves it, or is to.",
    Reason.MINORITY: "More replicas carry another card, and the majority's serves.",
    Reason.NOT_PINNED: "The model is pinned to another card.",
    Reason.NO_INSTANCE: "The card's instance is not in the registry (yet), so nobody could answer.",
    Reason.INTERNAL: "A mistake of ours; the log has its trace.",
    Reason.CODE_FILE: "An extra file is code, which is fetched only if that is allowed.",
    Reason.LIMIT: "An extra file is one too many, or too much, for a card.",
    Reason.NAME_TAKEN: "An extra file has the name of another file of the card.",
}
