"""What models' workers can hold, as gauges by Dynamo's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.frontend.model_table import ModelTable

__all__ = ["LimitMetrics"]

_GAUGES = (
    ("kv_cache_block_size", "kv_block_size", "Tokens of a block of the KV cache; 0 for none."),
    ("total_kv_blocks", "kv_blocks", "Blocks of a worker's KV cache."),
    ("max_num_seqs", "num_seqs", "Most sequences of a worker at a time."),
    ("max_num_batched_tokens", "batched_tokens", "Most tokens that a worker computes in a step."),
    ("migration_limit", "migrations", "How often a request may move before its first token."),
)
"""Name, attribute of ``ModelLimits`` and help."""


class LimitMetrics(Collector):
    """A collector for a registry; a model whose card does not say something has no sample of it.

    Of a name with several cards, the one that came last counts.

    Args:
        table: The models.
        prefix: Beginning of every name, without the underscore after it.
    """

    def __init__(self, table: ModelTable, *, prefix: str = "dynamo_frontend") -> None:
        self._table = table
        self._prefix = prefix

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present values."""
        models = self._table.models()
        for name, attribute, text in _GAUGES:
            family = GaugeMetricFamily(f"{self._prefix}_model_{name}", text, labels=["model"])
            for model in models:
                value = getattr(model.limits, attribute)
                if value is not None:
                    family.add_metric([model.name], value)
            yield family
