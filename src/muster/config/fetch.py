"""Limits and trust when a model's files are fetched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import at_least, paths, words
from muster.config.setting import setting

__all__ = ["FetchSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """Limits on fetching a model's files."""

    connect_timeout_s: float = setting(
        10.0,
        env="MUSTER_FETCH_CONNECT_SECS",
        help="Limit on connecting to a source.",
        unit="s",
        check=at_least(0.01),
    )
    idle_timeout_s: float = setting(
        30.0,
        env="MUSTER_FETCH_IDLE_SECS",
        help="Limit on silence while a file arrives.",
        unit="s",
        check=at_least(0.01),
    )
    card_timeout_s: float = setting(
        300.0,
        env="MUSTER_FETCH_CARD_SECS",
        help="Limit on fetching all files of a card.",
        unit="s",
        check=at_least(0.01),
    )
    parallel: int = setting(
        8,
        env="MUSTER_FETCH_PARALLEL",
        help="Files of one card fetched at a time.",
        check=at_least(1),
    )
    max_file_bytes: int = setting(
        1 << 30,
        env="MUSTER_FETCH_MAX_BYTES",
        help="Largest metadata file accepted.",
        unit="bytes",
        check=at_least(1),
    )
    max_card_bytes: int = setting(
        4 << 30,
        env="MUSTER_FETCH_MAX_CARD_BYTES",
        help="Most bytes accepted for all files of a card.",
        unit="bytes",
        check=at_least(1),
    )
    max_files: int = setting(
        256,
        env="MUSTER_FETCH_MAX_FILES",
        help="Most files accepted of a card; further extra files are left out.",
        check=at_least(1),
    )
    min_rate: int = setting(
        1024,
        env="MUSTER_FETCH_MIN_RATE",
        help="A source that gives less over ten seconds is left for another; 0 turns this off.",
        unit="bytes/s",
        check=at_least(0),
    )
    hedge_s: float = setting(
        3.0,
        env="MUSTER_FETCH_HEDGE_SECS",
        help="How long a source may lag before a second one is asked beside it; 0 turns this off.",
        unit="s",
        check=at_least(0),
    )
    allow: tuple[str, ...] = setting(
        (),
        env="MUSTER_FETCH_ALLOW",
        help="Hosts and networks, separated by commas, that files may be fetched from besides the "
        "instance that published the card: names, addresses, 10.0.0.0/8, or any.",
        parse=words,
    )
    roots: tuple[Path, ...] = setting(
        (),
        env="MUSTER_FETCH_ROOTS",
        help="Directories, separated as in PATH, under which a card's local paths are believed, "
        "besides --model-path and the hub's cache.",
        parse=paths,
    )
    hub_url: str | None = setting(
        None,
        env="MUSTER_FETCH_HUB",
        help="Model hub to ask when nobody else has a file, such as https://huggingface.co. "
        "None by default: nothing leaves the fleet.",
    )
    allow_code: bool = setting(
        False,
        env="MUSTER_FETCH_ALLOW_CODE",
        help="Whether files of code (*.py) that a card names are fetched.",
    )
    use_proxy: bool = setting(
        False,
        env="MUSTER_FETCH_USE_PROXY",
        help="Whether HTTP_PROXY and its kin apply to fetching.",
    )
    retry_max_s: float = setting(
        30.0,
        env="MUSTER_FETCH_RETRY_MAX_SECS",
        help="Longest pause between attempts at a card; they start at 1 s and double.",
        unit="s",
        check=at_least(0.05),
    )
