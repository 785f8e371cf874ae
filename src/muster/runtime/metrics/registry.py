"""Making a level's own metrics, with names and labels checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from muster.errors import InvalidArgument
from muster.runtime.metrics.families import Claim
from muster.runtime.metrics.labels import WORKER_ID, check_label_names, check_labels
from muster.runtime.metrics.sources import MetricsSources

__all__ = ["PREFIX", "MetricsRegistry"]

M = TypeVar("M", bound=MetricWrapperBase)

PREFIX = "dynamo_component_"
"""What every metric made at a level starts with."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class MetricsRegistry(MetricsSources):
    """The metrics made at one level. Everything may be called from any thread."""

    def counter(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        constant_labels: Iterable[Sequence[str]] = (),
    ) -> Counter:
        """A counter of this level.

        Args:
            name: Its name without ``dynamo_component_``, which is put before it; ``_total`` may be
                left out.
            documentation: One sentence.
            labels: Names of labels whose values are given by ``labels()`` of the result.
            constant_labels: Pairs of name and value.

        Raises:
            InvalidArgument: The name, or that of a label, is bad; a label is set automatically, or
                there twice.
            ConfigError: It collides with another metric; the message names both places. Or the
                level is closed.
        """

        def make(full: str, names: Sequence[str]) -> Counter:
            return Counter(full, documentation, names, registry=None)

        return self._make("counter", name, labels, constant_labels, make)

    def gauge(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        constant_labels: Iterable[Sequence[str]] = (),
    ) -> Gauge:
        """A gauge of this level; arguments and errors are those of ``counter``."""

        def make(full: str, names: Sequence[str]) -> Gauge:
            return Gauge(full, documentation, names, registry=None)

        return self._make("gauge", name, labels, constant_labels, make)

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS,
        constant_labels: Iterable[Sequence[str]] = (),
    ) -> Histogram:
        """A histogram of this level; see ``counter``.

        Args:
            name: As for ``counter``.
            documentation: As for ``counter``.
            labels: As for ``counter``.
            buckets: Upper bounds, ascending; infinity may be left out.
            constant_labels: As for ``counter``.

        Raises:
            InvalidArgument: As for ``counter``; or there are no buckets, or they do not ascend.
            ConfigError: As for ``counter``.
        """
        if not buckets or [*buckets] != sorted(set(buckets)):
            raise InvalidArgument(
                f"the buckets {[*buckets]} of {name!r} at {self.place} are not ascending"
            )

        def make(full: str, names: Sequence[str]) -> Histogram:
            return Histogram(full, documentation, names, registry=None, buckets=buckets)

        return self._make("histogram", name, labels, constant_labels, make)

    def _make(
        self,
        kind: str,
        name: str,
        labels: Sequence[str],
        constant_labels: Iterable[Sequence[str]],
        make: Callable[[str, Sequence[str]], M],
    ) -> M:
        where = f"the {kind} {name!r} at {self.place}"
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"{name!r} is no name for a metric, for {where}",
                hint="use a-z, A-Z, 0-9, _ and :, with no digit first",
            )
        if isinstance(labels, str):
            raise InvalidArgument(f"labels are a list of names, not {labels!r}, for {where}")
        full = PREFIX + name.removeprefix(PREFIX)
        if kind == "counter":
            full = full.removesuffix("_total")
        constant = check_labels(constant_labels, where=where)
        names = tuple(labels)
        check_label_names((*names, *(key for key, _ in constant)), where=where)
        place = (pair for pair in self.automatic_labels if pair[0] != WORKER_ID)
        claim = Claim(
            name=full,
            kind=kind,
            place=self.place,
            label_names=frozenset({*names, *dict(constant)}),
            labels=frozenset((*place, *constant)),
        )
        metric = make(full, names)
        self._enter(metric, constant, claim)
        return metric
