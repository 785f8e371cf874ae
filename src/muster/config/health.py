"""Settings of health: what a process says before it serves, and the canary."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from muster.config.checks import at_least, one_of
from muster.config.setting import setting

__all__ = ["HealthSettings"]


def _payload(text: str) -> dict[str, Any] | None:
    """Read a JSON object, or the file that has it; an empty text is none."""
    if not text.strip():
        return None
    try:
        source = Path(text[1:]).read_bytes() if text.startswith("@") else text
        return msgspec.json.decode(source, type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not a JSON object: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """What a process says of itself before it serves, and the canary."""

    starting: str = setting(
        "notready",
        env="DYN_SYSTEM_STARTING_HEALTH_STATUS",
        help="Status of a process that serves no endpoint: ready or notready.",
        parse=lambda text: text.strip().lower() or "notready",
        check=one_of("ready", "notready"),
    )
    canary: bool = setting(
        False,
        env="DYN_HEALTH_CHECK_ENABLED",
        help="Whether endpoints with a health check payload are probed while idle.",
    )
    canary_wait_s: float = setting(
        10.0,
        env="DYN_CANARY_WAIT_TIME",
        help="How long an endpoint is idle before it is probed, and the pause between probes.",
        unit="s",
        check=at_least(0.01),
    )
    canary_timeout_s: float = setting(
        3.0,
        env="DYN_HEALTH_CHECK_REQUEST_TIMEOUT",
        help="Limit on the first item of a probe's answer.",
        unit="s",
        check=at_least(0.01),
    )
    payload: dict[str, Any] | None = setting(
        None,
        env="DYN_HEALTH_CHECK_PAYLOAD",
        help="Request a worker's canary asks: a JSON object, or @ and the file it is in. By default "
        "one token.",
        parse=_payload,
    )
