"""What happens to requests for metadata files, counted."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from muster.runtime.metadata.registry import MetadataArtifactRegistry

__all__ = ["MetadataCounts"]


class MetadataCounts:
    """Counts of one server.

    Args:
        registry: Whose files may have drifted.
    """

    def __init__(self, registry: MetadataArtifactRegistry) -> None:
        self._outcomes = Counter(
            "muster_metadata_requests",
            "Requests for metadata files by outcome.",
            ["outcome"],
            registry=None,
        )
        self._by_outcome: dict[str, Counter] = {}
        self._bytes = Counter(
            "muster_metadata_bytes", "Bytes of metadata files sent.", registry=None
        )
        self._drifted = Gauge(
            "muster_metadata_drifted_files",
            "Served files whose source has other bytes by now.",
            registry=None,
        )
        self._drifted.set_function(lambda: len(registry.drifted))

    def request(self, outcome: str) -> None:
        """A request ended like this."""
        counter = self._by_outcome.get(outcome)
        if counter is None:
            counter = self._by_outcome[outcome] = self._outcomes.labels(outcome)
        counter.inc()

    def sent(self, count: int) -> None:
        """So many bytes of files were sent."""
        self._bytes.inc(count)

    def register(self, metrics: CollectorRegistry) -> None:
        """Show the counts in ``metrics``."""
        for metric in (self._outcomes, self._bytes, self._drifted):
            metrics.register(metric)

    def unregister(self, metrics: CollectorRegistry) -> None:
        """Show them no longer; a no-op if they are not shown."""
        for metric in (self._outcomes, self._bytes, self._drifted):
            try:
                metrics.unregister(metric)
            except KeyError:
                return
