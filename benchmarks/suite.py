"""What the scripts of the suite share: their options, and rounds as they are filled."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from quiet import Others
from summary import Target, print_report, report

__all__ = ["Suite", "arguments", "end_when_told"]

T = TypeVar("T")


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options every script has; a script adds its own.

    ``--short`` is one round with the shortest loads, unless ``--rounds`` says how many.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with models/")
    parser.add_argument("--rounds", type=int, help="5 by default, 1 with --short")
    parser.add_argument("--short", action="store_true", help="short loads, one round")
    return parser


def end_when_told() -> None:
    """Whoever ends the script ends what it started too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Suite:
    """One run of one script: its options, and the figures of every round of every system.

    Args:
        name: Of the report.
        parser: What ``arguments`` gave, with the script's own options.
    """

    def __init__(self, name: str, parser: argparse.ArgumentParser) -> None:
        end_when_told()
        self.name = name
        self.options = parser.parse_args()
        self.short: bool = self.options.short
        self.count: int = self.options.rounds or (1 if self.short else 5)
        self.peer: Path = self.options.peer.absolute()  # its Python is a link: not resolved
        self.model: Path = (self.options.shared / "models" / "deepseek").resolve()
        self.left_out: dict[str, str] = {}
        self._rounds: dict[str, list[dict[str, float]]] = {}
        self._backwards = False

    def numbers(self, systems: Iterable[str]) -> Iterable[int]:
        """The rounds, one after the other; each begins without figures for every system.

        What others kept busy meanwhile, in cores, is a figure of each round.
        """
        names = list(systems)
        for number in range(self.count):
            self._backwards = number % 2 == 1
            for name in names:
                self._rounds.setdefault(name, []).append({})
            others = Others()
            yield number
            for name in names:
                self._rounds[name][-1]["others_cores"] = others.cores()

    def in_turn(self, running: Iterable[T]) -> list[T]:
        """In the order of this round: every other one goes backwards, so that none is always first."""
        found = list(running)
        return found[::-1] if self._backwards else found

    def add(self, system: str, figures: Mapping[str, float], label: str = "") -> None:
        """Figures of the round that runs; ``label`` goes before their names."""
        named = {f"{label}_{key}" if label else key: value for key, value in figures.items()}
        rows = self._rounds[system]
        rows[-1] |= named
        shown = ", ".join(f"{key} {value:.4g}" for key, value in named.items())
        print(f"round {len(rows)} {system}: {shown}", file=sys.stderr, flush=True)

    def finish(
        self,
        targets: Iterable[Target] = (),
        *,
        ratios_to: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Print the report."""
        made = report(
            self.name,
            self._rounds,
            ratios_to=ratios_to or {"muster": "peer"},
            left_out=self.left_out,
            targets=list(targets),
            about={"short": self.short, **(about or {})},
        )
        print_report(made)
