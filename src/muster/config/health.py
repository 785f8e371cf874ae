"""Settings of health: what a process says before it serves, and the canary."""

from __future__ import annotations

import dataclasses

from muster.config.checks import at_least, one_of
from muster.config.setting import setting

__all__ = ["HealthSettings"]


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
