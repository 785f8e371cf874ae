"""What becomes of a request's fields that nothing here reads: refused by name, or ignored and counted.

A field is refused if leaving it out would change what the client gets: it asked for sound, or for
an answer in a form nobody enforces. A value that asks for what happens anyway is let through. What
only informs (``user``, ``metadata``) or may speed things up (``prediction``) is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.frontend.api_error import ApiError
from muster.frontend.openai.requests import decode

__all__ = ["IgnoredParameters", "Parameters"]

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "modalities": (["text"], []),
    "web_search_options": (),
    "functions": ([],),
    "function_call": ("none",),
    "verbosity": ("medium",),
    "response_format": ({"type": "text"},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_whitespace_pattern": (),
    "guided_decoding_backend": (),
    "structured_outputs": (),
    "chat_template": (),
    "enable_thinking": (),
    "add_special_tokens": (False,),
    "truncate_prompt_tokens": (),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "logits_processors": ([],),
    "spaces_between_special_tokens": (True,),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
    "kv_transfer_params": ({},),
    "vllm_xargs": ({},),
    "repetition_detection": (),
    "echo": (False,),
    "suffix": ("",),
    "prompt_embeds": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "prompt_logprobs": (),
    "best_of": (1,),
}
"""Fields that are refused where nothing reads them, and the values of each that ask for nothing.
``null`` always does."""

_HINTS = {
    "functions": "use `tools`",
    "function_call": "use `tool_choice`",
    "guided_json": "use `response_format`",
    "structured_outputs": "use `response_format`",
    "enable_thinking": "use `chat_template_kwargs`",
}

_WITHOUT_EFFECT = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "request_id",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
)
"""Fields of OpenAI's reference that are ignored; each is counted by its own name."""

UNKNOWN = "unknown"
"""Label under which all other names are counted: clients choose no labels."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()


class Parameters:
    """Looks at the names of the fields of one API's requests.

    Args:
        read: Names that the API reads.
        endpoint: Its name in metrics.
        strict: Refuse names that nobody knows.
        ignored: Where ignored fields are counted.
    """

    __slots__ = ("_endpoint", "_ignored", "_read", "_strict")

    def __init__(
        self, read: Collection[str], endpoint: str, *, strict: bool, ignored: IgnoredParameters
    ) -> None:
        self._read = frozenset(read)
        self._endpoint = endpoint
        self._strict = strict
        self._ignored = ignored

    def check(self, body: bytes) -> None:
        """Look at a body that is known to be a JSON object.

        Raises:
            ApiError: 400; ``param`` is the first field at fault.
        """
        fields = decode(_fields, body)
        rest = fields.keys() - self._read
        if rest:
            self._judge({name: fields[name] for name in fields if name in rest})

    def _judge(self, rest: dict[str, msgspec.Raw]) -> None:
        unknown = []
        for name, raw in rest.items():
            if name in _UNSUPPORTED:
                _refuse_unless_idle(name, decode(_value, bytes(raw)))
            elif name in _WITHOUT_EFFECT:
                self._ignored.counts[self._endpoint, name] += 1
            else:
                unknown.append(name)
        if unknown and self._strict:
            names = ", ".join(f"`{name}`" for name in unknown)
            raise ApiError(
                400,
                f"Unsupported parameter(s): {names}",
                param=unknown[0],
                slug="unknown_parameter",
            )
        if unknown:
            self._ignored.counts[self._endpoint, UNKNOWN] += len(unknown)


def _refuse_unless_idle(name: str, value: Any) -> None:
    if value is None or any(
        value == idle and type(value) is type(idle) for idle in _UNSUPPORTED[name]
    ):
        return
    hint = _HINTS.get(name)
    raise ApiError(
        400,
        f"`{name}` is not supported here" + (f"; {hint}" if hint else ""),
        param=name,
        slug="unsupported_parameter",
    )


class IgnoredParameters(Collector):
    """Counts of ignored fields.

    Attributes:
        counts: By endpoint and field; names that nobody knows are all ``unknown``.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The present counts."""
        family = CounterMetricFamily(
            "muster_ignored_parameters",
            "Fields of requests that had no effect.",
            labels=["endpoint", "parameter"],
        )
        for key, count in self.counts.items():
            family.add_metric(key, count)
        yield family
