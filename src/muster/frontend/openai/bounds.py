"""The bounds of single values of requests, as Dynamo has them: what is checked, and documented."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["BIAS", "CHAT", "COMPLETION", "MAX_CHOICES", "MAX_STOPS", "Bounds"]

MAX_STOPS = 32
"""How many texts may end an answer."""
MAX_CHOICES = 128
"""How many answers may be asked for."""


class Bounds(NamedTuple):
    """What a number may be: from ``low`` to ``high``, both among them unless it is ``above`` low."""

    low: float
    high: float = math.inf
    above: bool = False

    def admits(self, value: float) -> bool:
        """Whether a value is within them; NaN never is."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high


BIAS = Bounds(-100, 100)
"""Of each number of ``logit_bias``."""

_COMMON = {
    "temperature": Bounds(0, 2),
    "top_p": Bounds(0, 1),
    "min_p": Bounds(0, 1),
    "presence_penalty": Bounds(-2, 2),
    "frequency_penalty": Bounds(-2, 2),
    "repetition_penalty": Bounds(0, 2, above=True),
    "top_k": Bounds(-1),
    "n": Bounds(1, MAX_CHOICES),
}
CHAT = _COMMON | {
    "max_tokens": Bounds(1),
    "max_completion_tokens": Bounds(1),
    "top_logprobs": Bounds(0, 20),
}
"""By field of a chat."""
COMPLETION = _COMMON | {
    "max_tokens": Bounds(0),
    "logprobs": Bounds(0, 5),
    "best_of": Bounds(1, MAX_CHOICES),
}
"""By field of a completion; ``max_tokens`` is 0 only where the prompt is echoed."""
