"""How long requests for embeddings take: Dynamo's name and buckets."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from muster.metrics import Histogram

__all__ = ["embedding_latency"]

_BUCKETS = (0, .002, .0041, .0084, .017, .035, .07, .14, .29, .59, 1.2, 2.4, 4.9, 10)  # fmt: skip


def embedding_latency(registry: CollectorRegistry, *, prefix: str = "dynamo_frontend") -> Histogram:
    """The histogram, by model, of requests that were answered."""
    return Histogram(
        f"{prefix}_embedding_latency_seconds",
        "From the arrival of a request for embeddings to its answer.",
        ["model"],
        buckets=_BUCKETS,
        registry=registry,
    )
