"""``/busy_threshold``: thresholds as they are, and changing them; Dynamo's bodies and statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Count, Thresholds
from muster.http.exchange import Exchange

__all__ = ["BusyRoutes"]


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    active_decode_blocks_threshold: float | msgspec.UnsetType | None = msgspec.UNSET
    active_prefill_tokens_threshold: Count | msgspec.UnsetType | None = msgspec.UNSET
    active_prefill_tokens_threshold_frac: float | msgspec.UnsetType | None = msgspec.UNSET


class _Reply(msgspec.Struct, frozen=True):
    model: str
    active_decode_blocks_threshold: float | None
    active_prefill_tokens_threshold: int | None
    active_prefill_tokens_threshold_frac: float | None


_decoder = msgspec.json.Decoder(_Request)

Tell = Callable[[str, Thresholds], Awaitable[None]]


class BusyRoutes:
    """Handlers of the route.

    Args:
        admission: Where the thresholds are.
        tell: Tells other processes of this frontend what a model's thresholds are now.
    """

    def __init__(self, admission: Admission, *, tell: Tell | None = None) -> None:
        self._admission = admission
        self._tell = tell

    async def list(self, exchange: Exchange) -> None:
        """``GET``: the thresholds of every model that has any."""
        every = [_reply(name, each) for name, each in sorted(self._admission.all().items())]
        exchange.respond(200, msgspec.json.encode({"thresholds": every}))

    async def change(self, exchange: Exchange) -> None:
        """``POST``: set those that are given, and answer with all; ``null`` unsets one.

        With Dynamo 1.6.1, ``null`` changes nothing, so that a threshold once set stays.

        400 for JSON that is none and a value out of range, 404 for a model nobody has discovered,
        422 for a field of a wrong type; all as ``{"error": TEXT}``.
        """
        try:
            request = _decoder.decode(exchange.body)
        except msgspec.ValidationError as error:
            _fail(
                exchange, 422, f"Failed to deserialize the JSON body into the target type: {error}"
            )
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _fail(exchange, 400, f"Failed to parse the request body as JSON: {error}")
            return
        model = request.model
        names = Thresholds.__struct_fields__
        asked = {name: getattr(request, name) for name in names}
        asked = {name: value for name, value in asked.items() if value is not msgspec.UNSET}
        complaint = Thresholds(**asked).complaint()
        if complaint:
            _fail(exchange, 400, complaint)
            return
        result = self._admission.set(model, asked) if asked else self._admission.thresholds(model)
        if result is None:
            text = f"Model '{model}' not found. Thresholds can only be set for discovered models."
            _fail(exchange, 404, text)
            return
        if asked and self._tell is not None:
            await self._tell(model, result)
        exchange.respond(200, msgspec.json.encode(_reply(model, result)))


def _reply(model: str, thresholds: Thresholds) -> _Reply:
    return _Reply(
        model,
        thresholds.active_decode_blocks_threshold,
        thresholds.active_prefill_tokens_threshold,
        thresholds.active_prefill_tokens_threshold_frac,
    )


def _fail(exchange: Exchange, status: int, text: str) -> None:
    exchange.respond(status, msgspec.json.encode({"error": text}))
