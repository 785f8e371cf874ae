"""How a worker serves its model's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import MIB, at_least
from muster.config.setting import setting

__all__ = ["MetadataSettings", "self_host_switch"]


def self_host_switch(text: str) -> bool:
    """Read ``DYN_SELF_HOST_METADATA`` as Dynamo 1.6.1 does: anything but a clear no is a yes.

    ``0 false no off`` in any case and with spaces around mean no; everything else, also an empty
    text or a word nobody knows, means yes.
    """
    return text.strip().lower() not in {"0", "false", "no", "off"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """How a worker serves its model's files."""

    self_host: bool = setting(
        True,
        env="DYN_SELF_HOST_METADATA",
        parse=self_host_switch,
        help="Whether a worker serves its model's metadata files itself.",
    )
    hub_cache: Path | None = setting(
        None,
        env="HF_HUB_CACHE",
        help="Cache in which a model given by its hub name is looked for.",
    )
    hf_home: Path | None = setting(
        None,
        env="HF_HOME",
        help="Hugging Face's directory; its hub directory is the cache if HF_HUB_CACHE is unset.",
    )
    max_extra_bytes: int = setting(
        64 * MIB,
        env="MUSTER_METADATA_MAX_EXTRA_BYTES",
        help="Largest file that travels without a slot of its own; larger ones are left out.",
        unit="bytes",
        check=at_least(0),
    )
    snapshot_directory: Path | None = setting(
        None,
        env="MUSTER_SNAPSHOT_DIR",
        help="Where a worker keeps its private copies of the files it serves; by default the "
        "temporary directory. They have no names there and go with the process.",
    )
    drift_interval_s: float = setting(
        10.0,
        env="MUSTER_DRIFT_CHECK_SECS",
        help="Interval at which a worker looks whether the files it registered have changed.",
        unit="s",
        check=at_least(0.05),
    )
    transfers: int = setting(
        128,
        env="MUSTER_METADATA_TRANSFERS",
        help="Files a worker sends at a time; beyond it answers 503 with Retry-After.",
        check=at_least(1),
    )
    token: str | None = setting(
        None,
        env="MUSTER_METADATA_TOKEN",
        help="Secret a worker asks for before it sends a file, and a frontend sends to workers.",
    )
