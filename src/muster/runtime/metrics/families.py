"""Families of metrics from many places: who may have which, and how they come out as one page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from muster.errors import ConfigError
from muster.log import facts
from muster.runtime.metrics.labels import Labels

__all__ = ["Claim", "FamilyIndex", "Part", "Warnings", "merge"]

logger = logging.getLogger(__name__)

_SUFFIXES = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
_WITH_CREATED = frozenset({"counter", "summary", "histogram"})


def _names(name: str, kind: str) -> list[str]:
    """Every name that a family's lines may have, its own first."""
    return [name, *(name + suffix for suffix in _SUFFIXES.get(kind, ()))]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One place's use of a family.

    Attributes:
        name: The family's name: a counter's without ``_total``.
        kind: ``counter``, ``gauge``, ``histogram``.
        place: Where it is used, in words.
        label_names: Names of its labels, without automatic ones.
        labels: Those whose values the place fixes: automatic and constant ones.
        exclusive: Whether no other place may have the family at all.
    """

    name: str
    kind: str
    place: str
    label_names: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    exclusive: bool = False


class FamilyIndex:
    """The families in use in one process. The caller sees to it that one thread at a time is in."""

    def __init__(self) -> None:
        self._claims: dict[str, list[Claim]] = {}

    def claim(self, claim: Claim) -> None:
        """Enter a use.

        Raises:
            ConfigError: It does not go with another one: another type or other label names under
                the same name, the same labels twice, or lines of the same name from two families.
                The message names both places. Nothing is entered.
        """
        names = _names(claim.name, claim.kind)
        for name in names:
            for other in self._claims.get(name, ()):
                reason = _clash(claim, other)
                if reason:
                    raise ConfigError(
                        f"the {claim.kind} {claim.name!r} at {claim.place} collides with the "
                        f"{other.kind} {other.name!r} at {other.place}: {reason}",
                        hint="choose another name for one of them",
                    )
        for name in names:
            self._claims.setdefault(name, []).append(claim)

    def release(self, claim: Claim) -> None:
        """Take a use out; a no-op if it is not in."""
        for name in _names(claim.name, claim.kind):
            claims = self._claims.get(name, [])
            if claim in claims:
                claims.remove(claim)
                if not claims:
                    del self._claims[name]

    def __len__(self) -> int:
        return len(self._claims)


def _clash(claim: Claim, other: Claim) -> str:
    if claim.name != other.name:
        return "both have lines of the same name"
    if claim.exclusive or other.exclusive:
        return "that family belongs to one place only"
    if claim.kind != other.kind:
        return "they are of different types"
    if claim.label_names != other.label_names:
        ours, theirs = (sorted(each.label_names) for each in (claim, other))
        return f"their labels differ ({', '.join(ours)}; {', '.join(theirs)})"
    return "they have the same labels" if claim.labels == other.labels else ""


class Warnings:
    """Logs each thing that is wrong with a page once, not at every scrape."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def warn(self, text: str, about: str, **more: object) -> None:
        """Log ``text`` unless it was said ``about`` this before."""
        if (text, about) not in self._said:
            self._said.add((text, about))
            logger.warning(text, extra=facts(about=about, **more))

    def clear(self, about: str) -> None:
        """Be ready to warn ``about`` this again."""
        self._said = {said for said in self._said if said[1] != about}


@dataclass(frozen=True)
class Part:
    """A family as one place has it, and the labels to add; one the samples have already stays."""

    family: Metric
    labels: Labels
    place: str

    def samples(self) -> Iterator[Sample]:
        """Its samples with the labels added, without the times at which they were created."""
        created = self.family.name + "_created"
        drop = self.family.type in _WITH_CREATED
        added = dict(self.labels)
        for sample in self.family.samples:
            if not (drop and sample.name == created):
                yield sample._replace(labels={**added, **sample.labels})


def merge(parts: Iterable[Part], warnings: Warnings) -> list[Metric]:
    """One family per name, sorted by name; families without samples are left out.

    A page with two types for a name, or with a series twice, is refused as a whole by some readers.
    So of parts that do not go together the first one counts, and a warning names the other.
    """
    families: dict[str, tuple[Metric, set[object]]] = {}
    owners: dict[str, str] = {}
    for part in parts:
        family = part.family
        known = families.get(family.name)
        if known is None:
            names = _names(family.name, family.type)
            if any(name in owners for name in names):
                warnings.warn("metric left out: its name is taken", family.name, place=part.place)
                continue
            owners.update(dict.fromkeys(names, part.place))
            known = Metric(family.name, family.documentation, family.type, family.unit), set()
            families[family.name] = known
        merged, seen = known
        if family.type != merged.type:
            warnings.warn("metric left out: of another type", family.name, place=part.place)
            continue
        for sample in part.samples():
            series = (sample.name, frozenset(sample.labels.items()))
            if series in seen:
                warnings.warn("series left out: it is there", family.name, place=part.place)
            else:
                seen.add(series)
                merged.samples.append(sample)
    return sorted(
        (family for family, _ in families.values() if family.samples),
        key=lambda family: family.name,
    )
