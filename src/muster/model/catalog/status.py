"""How a model stands, for ``/health``, ``muster ls`` and the log."""

from __future__ import annotations

import enum

import msgspec

from muster.model.catalog.group import GroupKey, Member

__all__ = ["ModelState", "ModelStatus"]


class ModelState(enum.StrEnum):
    """Where a model is on its way to being served."""

    SEEN = "seen"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    LOADING = "loading"
    SERVING = "serving"
    RETRYING = "retrying"
    REFUSED = "refused"

    @property
    def meaning(self) -> str:
        """What it says, in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    ModelState.SEEN: "Its card has been read; nothing has been fetched yet.",
    ModelState.FETCHING: "Its files are being fetched: so many of all are settled.",
    ModelState.VERIFYING: "The last bytes are here and are compared with the card's digests.",
    ModelState.LOADING: "All files are here; tokenizer and template are being loaded.",
    ModelState.SERVING: "Requests for it are answered.",
    ModelState.RETRYING: "The last attempt failed, for the reason given; another one follows.",
    ModelState.REFUSED: "It is not served, for the reason given, and waiting will not change that.",
}


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One card of one group: what became of it, and why.

    ``code`` and ``message`` say why it is refused or being retried; while it is tried again they
    keep the last failure. ``retry_at`` is on the clock the catalog was given. ``group`` and
    ``mdcsum`` are missing for a record that could not be read, ``model`` too if its name could not.
    """

    model: str
    state: ModelState
    code: str = ""
    message: str = ""
    group: GroupKey | None = None
    mdcsum: str | None = None
    identity: str = ""
    keys: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    instance_ids: tuple[int, ...] = ()
    files_done: int = 0
    files_total: int = 0
    attempt: int = 0
    retry_at: float | None = None

    @property
    def is_served(self) -> bool:
        """Whether requests for it are answered."""
        return self.state is ModelState.SERVING
