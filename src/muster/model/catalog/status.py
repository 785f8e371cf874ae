"""How a model stands, for ``/health``, ``muster ls`` and the log."""

from __future__ import annotations

import enum

import msgspec

from muster.model.catalog.group import GroupKey

__all__ = ["ModelState", "ModelStatus"]


class ModelState(enum.StrEnum):
    """Where a model is on its way to being served."""

    SEEN = "seen"
    FETCHING = "fetching"
    LOADING = "loading"
    SERVING = "serving"
    RETRYING = "retrying"
    REFUSED = "refused"


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
    keys: tuple[str, ...] = ()
    instance_ids: tuple[int, ...] = ()
    files_done: int = 0
    files_total: int = 0
    attempt: int = 0
    retry_at: float | None = None

    @property
    def is_served(self) -> bool:
        """Whether requests for it are answered."""
        return self.state is ModelState.SERVING
