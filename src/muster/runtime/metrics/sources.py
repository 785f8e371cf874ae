"""What one level of the hierarchy shows: its collectors, and the labels to add to each."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from muster.errors import ConfigError
from muster.runtime.metrics.callbacks import TextCollector, TypedCallback, families_of_typed
from muster.runtime.metrics.families import Claim, FamilyIndex, Part, Warnings
from muster.runtime.metrics.labels import Labels, check_label_names, check_labels

__all__ = ["MetricsSources", "SharedState"]


class SharedState:
    """What all levels of one process share."""

    def __init__(self, connection_id: int | Callable[[], int]) -> None:
        self.lock = threading.RLock()
        self.index = FamilyIndex()
        self.warnings = Warnings()
        self._connection_id = connection_id

    @property
    def connection_id(self) -> int:
        """The process's u64 in the registry."""
        given = self._connection_id
        return given if isinstance(given, int) else given()


@dataclass(frozen=True, eq=False)
class _Source:
    """A collector, and what is to be added to its samples."""

    collector: Collector
    labels: Labels = ()
    automatic: bool = True
    claim: Claim | None = None


class MetricsSources(Collector):
    """The collectors of one level. Everything may be called from any thread.

    Attributes:
        registry: For metrics that were not made for a level: what ``prometheus_client`` makes with
            ``registry=level.registry`` keeps its name, and has the level's labels added. These are
            not checked for collisions; of two that collide the first one is shown.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self.registry = CollectorRegistry()
        self._sources: list[_Source] = [_Source(self.registry)]
        self._reserved: list[Claim] = []
        self._typed: list[TypedCallback] = []
        self._closed = False

    @property
    @abstractmethod
    def place(self) -> str:
        """The level in words."""

    @property
    @abstractmethod
    def automatic_labels(self) -> Labels:
        """Labels that say where a metric was made."""

    @property
    @abstractmethod
    def constant_labels(self) -> Labels:
        """Further labels of this level's metrics; of two of one name the last one counts."""

    def _enter(self, metric: Collector, labels: Labels, claim: Claim) -> None:
        """Show ``metric``, if ``claim`` goes with all others."""
        with self._shared.lock:
            self._check_open()
            self._shared.index.claim(claim)
            self._sources.append(_Source(metric, labels, claim=claim))

    def unregister(self, metric: Collector) -> None:
        """Take a metric out of the page, and free its name; a no-op if it is not there."""
        with self._shared.lock:
            for source in [each for each in self._sources if each.collector is metric]:
                self._sources.remove(source)
                if source.claim is not None:
                    self._shared.index.release(source.claim)

    # -- metrics of others -------------------------------------------------------------------

    def attach(
        self,
        collector: Collector,
        *,
        labels: Iterable[Sequence[str]] = (),
        label_names: Iterable[str] = (),
        automatic: bool = True,
    ) -> None:
        """Show what ``collector`` has, under its own names; ``unregister`` undoes it.

        Args:
            collector: Asked at every scrape. While it fails it is left out, and the log says so.
            labels: Pairs of name and value to add.
            label_names: Names of labels its samples have by themselves.
            automatic: Whether to add the level's automatic labels.

        Raises:
            InvalidArgument: A label's name is bad, set automatically, or there twice.
            ConfigError: The level is closed.
        """
        where = f"{type(collector).__name__} at {self.place}"
        pairs = check_labels(labels, where=where)
        check_label_names((*label_names, *(key for key, _ in pairs)), where=where)
        source = _Source(collector, pairs, automatic)
        with self._shared.lock:
            self._check_open()
            self._sources.append(source)

    def reserve(self, name: str, kind: str) -> None:
        """Keep a family of that full name (a counter's without ``_total``) for attached collectors.

        Nobody can make a metric that goes by it, at any level, until this level is closed.

        Raises:
            ConfigError: Somebody has it; the message names both places.
        """
        claim = Claim(name=name, kind=kind, place=self.place, exclusive=True)
        with self._shared.lock:
            self._check_open()
            self._shared.index.claim(claim)
            self._reserved.append(claim)

    def register_prometheus_expfmt_callback(self, callback: Callable[[], str]) -> None:
        """Add to the page what ``callback`` returns, in the Prometheus text format.

        As in Dynamo, families keep their names and get no automatic labels. A callback that raises,
        or returns something else, is left out while it does so, and the log says why.
        """
        self.attach(TextCollector(callback), automatic=False)

    def register_prometheus_typed_callback(self, callback: TypedCallback) -> None:
        """Add to ``typed_families`` what ``callback`` returns: for exporters, not for the page."""
        with self._shared.lock:
            self._check_open()
            self._typed.append(callback)

    # -- giving out --------------------------------------------------------------------------

    def own_parts(self) -> Iterator[Part]:
        """The families of this level, with the labels to add to each."""
        place, constant = self.place, self.constant_labels
        automatic = self.automatic_labels
        with self._shared.lock:
            sources = [*self._sources]
        for source in sources:
            labels = (*constant, *source.labels, *(automatic if source.automatic else ()))
            for family in self._guarded(source.collector.collect, source.collector):
                yield Part(family, labels, place)

    def own_typed(self) -> list[Metric]:
        """The families that this level's typed callbacks return."""
        with self._shared.lock:
            callbacks = [*self._typed]
        return [
            family
            for callback in callbacks
            for family in self._guarded(partial(_call_typed, callback), callback)
        ]

    def _guarded(self, collect: Callable[[], Iterable[Metric]], what: object) -> list[Metric]:
        """What ``collect`` gives; nothing, and a line in the log, if it fails."""
        about = f"{type(what).__name__} {id(what):x} at {self.place}"
        try:
            found = [*collect()]
        except Exception as error:  # noqa: BLE001 - one bad source must not take the page along
            self._shared.warnings.warn("metrics left out: they cannot be read", about, error=error)
            return []
        self._shared.warnings.clear(about)
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError(
                f"the metrics of {self.place} are closed", hint="ask its parent for a new one"
            )

    def _clear(self) -> None:
        """Give up everything."""
        self._closed = True
        for claim in (*self._reserved, *(source.claim for source in self._sources)):
            if claim is not None:
                self._shared.index.release(claim)
        self._reserved.clear()
        self._sources.clear()
        self._typed.clear()


def _call_typed(callback: TypedCallback) -> list[Metric]:
    return families_of_typed(callback())
