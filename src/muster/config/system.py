"""Settings of a worker's status server."""

from __future__ import annotations

import dataclasses

from muster.config.checks import is_port
from muster.config.setting import setting

__all__ = ["SystemSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SystemSettings:
    """The status server of a worker."""

    host: str = setting(
        "0.0.0.0",  # noqa: S104 - Dynamo's default; a frontend on another machine must reach it
        env="DYN_SYSTEM_HOST",
        help="Address the status server listens on.",
    )
    port: int | None = setting(
        None,
        env="DYN_SYSTEM_PORT",
        help="Port of the status server; 0 lets the system pick, -1 turns it off.",
        unit="port",
        check=is_port,
    )
    advertise_host: str | None = setting(
        None,
        env="MUSTER_ADVERTISE_HOST",
        help="Host put into addresses others use; by default what the status server is bound to.",
    )
