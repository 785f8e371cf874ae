"""Settings of a worker's status server."""

from __future__ import annotations

import dataclasses
from typing import Any

from muster.config.checks import MIB, at_least, is_port
from muster.config.setting import setting

__all__ = ["SystemSettings"]


def _is_path(value: Any) -> str | None:
    """Check that a text is the path of a URL, without a query."""
    good = value.startswith("/") and value.isascii() and value.isprintable()
    return None if good and not set(value) & set(" ?#") else "must be the path of a URL, as /health"


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
    health_path: str = setting(
        "/health", env="DYN_SYSTEM_HEALTH_PATH", help="Path of the readiness page.", check=_is_path
    )
    live_path: str = setting(
        "/live", env="DYN_SYSTEM_LIVE_PATH", help="Path of the liveness page.", check=_is_path
    )
    callback_timeout_s: float = setting(
        600.0,
        env="MUSTER_SYSTEM_CALLBACK_TIMEOUT_SECS",
        help="Limit on a callback of /engine and on loading or unloading a LoRA.",
        unit="s",
        check=at_least(0.01),
    )
    callback_limit: int = setting(
        64,
        env="MUSTER_SYSTEM_CALLBACK_LIMIT",
        help="Callbacks of /engine running at a time; beyond it refused. The same for LoRAs.",
        check=at_least(1),
    )
    body_limit_bytes: int = setting(
        2 * MIB,
        env="MUSTER_SYSTEM_BODY_LIMIT",
        help="Largest body the status server reads.",
        unit="bytes",
        check=at_least(1),
    )
    body_timeout_s: float = setting(
        30.0,
        env="MUSTER_SYSTEM_BODY_TIMEOUT_SECS",
        help="Limit on the arrival of a body at the status server.",
        unit="s",
        check=at_least(0.01),
    )
    lora_enabled: bool = setting(
        False, env="DYN_LORA_ENABLED", help="Whether /v1/loras lists, loads and unloads LoRAs."
    )
    enabled: str | None = setting(
        None,
        env="DYN_SYSTEM_ENABLED",
        help="Deprecated and without effect: the port alone turns the status server on.",
    )
    use_endpoint_health_status: str | None = setting(
        None,
        env="DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS",
        help="Deprecated and without effect: every endpoint served counts.",
    )

    def deprecations(self) -> tuple[str, ...]:
        """One line for each setting given that has no effect any more."""
        found = []
        if self.enabled is not None:
            found.append(
                "DYN_SYSTEM_ENABLED is deprecated and has no effect: "
                "DYN_SYSTEM_PORT turns the status server on (0 or more) or off (-1)"
            )
        if self.use_endpoint_health_status is not None:
            found.append(
                "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS is deprecated and has no effect: "
                "the process is ready when every endpoint it serves is"
            )
        return tuple(found)
