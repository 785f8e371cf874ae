"""What the log line of a request for embeddings says beyond what all say."""

from __future__ import annotations

from muster.frontend.journey import Journey

__all__ = ["EmbeddingDetails"]


class EmbeddingDetails:
    """Gives the facts; see ``Exchange.details``.

    Args:
        model: The model's name.

    Attributes:
        input_tokens: Tokens of all inputs; 0 while they are not known.
        journey: Where the request went, once it has been sent.
    """

    __slots__ = ("_model", "input_tokens", "journey")

    def __init__(self, model: str) -> None:
        self._model = model
        self.input_tokens = 0
        self.journey: Journey | None = None

    def __call__(self) -> dict[str, object]:
        """The model, and what is known of tokens and instances."""
        found: dict[str, object] = {"model": self._model}
        if self.input_tokens:
            found["input_tokens"] = self.input_tokens
        journey = self.journey
        if journey is not None:
            instance = journey.instance_id
            found["instance"] = "" if instance is None else f"{instance:x}"
            found["attempts"] = journey.attempts
        return found
