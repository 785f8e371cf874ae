"""How one card among several of a group is chosen. Values and pure decisions."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence

import msgspec

from muster.errors import ConfigError
from muster.model.catalog.cohort import Cohort

__all__ = ["CohortPolicy", "PolicyRule", "choose_cohort"]

_PIN = re.compile(r"(.+)=(?:blake3:)?([0-9a-f]{8,64})", re.DOTALL)


class PolicyRule(enum.StrEnum):
    """Which cohort serves when nobody has pinned one."""

    FIRST = "first"
    MAJORITY = "majority"


class CohortPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rule, and by model name the digests (mdcsum or identity, or how they begin) it is pinned to."""

    rule: PolicyRule = PolicyRule.FIRST
    pins: dict[str, tuple[str, ...]] = {}

    @classmethod
    def parse(cls, rule: str, pins: Iterable[str]) -> CohortPolicy:
        """Read the settings: a rule's name, and ``NAME=DIGEST`` texts.

        Raises:
            ConfigError: One of them makes no sense.
        """
        found: dict[str, tuple[str, ...]] = {}
        for text in pins:
            match = _PIN.fullmatch(text)
            if match is None:
                raise ConfigError(
                    f"{text!r} pins no model to a card",
                    hint="NAME=DIGEST, with at least 8 digits of an mdcsum or identity as "
                    "`muster ls` shows them",
                )
            found[match[1]] = (*found.get(match[1], ()), match[2])
        try:
            return cls(rule=PolicyRule(rule), pins=found)
        except ValueError as error:
            raise ConfigError(
                f"{rule!r} is no cohort policy", hint=f"use one of {', '.join(PolicyRule)}"
            ) from error

    def is_pinned(self, model: str) -> bool:
        """Whether only certain cards may serve ``model``."""
        return model in self.pins

    def may_serve(self, model: str, cohort: Cohort) -> bool:
        """Whether ``cohort`` is one of those."""
        pins = self.pins.get(model)
        return pins is None or any(
            name.startswith(pin) for pin in pins for name in cohort.digests()
        )


def choose_cohort(
    cohorts: Sequence[Cohort], active: Cohort | None, rule: PolicyRule
) -> Cohort | None:
    """Who should serve: ``active``, or who is to take its place once it is built.

    Args:
        cohorts: Those that may serve, oldest first.
        active: Who serves or is being built now; ``None``, or not among them, if that is over.
        rule: ``first``: the active one for as long as it lives, then the oldest. ``majority``: the
            one with most members; of equals the active one, then the oldest.
    """
    if not cohorts:
        return None
    incumbent = active if active is not None and active in cohorts else None
    if rule is PolicyRule.FIRST:
        return incumbent or cohorts[0]
    most = max(len(cohort.members) for cohort in cohorts)
    if incumbent is not None and len(incumbent.members) == most:
        return incumbent
    return next(cohort for cohort in cohorts if len(cohort.members) == most)
