"""The counts of one model's requests: integers and histograms, added to without locks or look-ups."""

from __future__ import annotations

from muster.metrics import HistogramChild

__all__ = ["ModelCounts"]


class ModelCounts:
    """The counts of one model."""

    __slots__ = (
        "active",
        "cached",
        "cancelled",
        "duration",
        "finished",
        "inflight",
        "input",
        "itl",
        "output",
        "output_tokens",
        "queued",
        "rejected",
        "started",
        "ttft",
    )

    def __init__(self, children: dict[str, HistogramChild]) -> None:
        self.ttft = children["time_to_first_token_seconds"]
        self.itl = children["inter_token_latency_seconds"]
        self.duration = children["request_duration_seconds"]
        self.input = children["input_sequence_tokens"]
        self.output = children["output_sequence_tokens"]
        self.cached = children["cached_tokens"]
        self.active = 0
        self.queued = 0
        self.inflight = 0
        self.output_tokens = 0
        self.cancelled = 0
        self.started: dict[tuple[str, str], int] = {}
        self.finished: dict[tuple[str, str, str, str], int] = {}
        self.rejected: dict[str, int] = {}
