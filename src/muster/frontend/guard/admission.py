"""What stands between a request and its model's workers: busy thresholds, and the waiting rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muster.config.guard import GuardSettings
from muster.errors import ConfigError, MusterError, Overloaded
from muster.frontend.engine_stream import ResponseStream
from muster.frontend.guard.busy import Capacity, Load, Thresholds
from muster.frontend.guard.waiting import WaitingRooms
from muster.frontend.journey import Journey
from muster.frontend.served_model import Generate
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Context

__all__ = ["Admission"]


class Admission:
    """Lets requests through to the models' workers.

    Args:
        settings: The thresholds of all models, and the limits of waiting rooms.

    Attributes:
        rooms: Where requests wait; a collector of metrics.

    Raises:
        ConfigError: A threshold is out of range.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self.rooms = WaitingRooms(settings.queue_limit, settings.queue_timeout_s)
        self._common = Thresholds(
            active_decode_blocks_threshold=settings.active_decode_blocks,
            active_prefill_tokens_threshold=settings.active_prefill_tokens,
            active_prefill_tokens_threshold_frac=settings.active_prefill_tokens_frac,
        )
        if self._common.complaint():
            raise ConfigError(self._common.complaint())
        self._gates: dict[str, _Gate] = {}

    def around(self, model: str, generate: Generate, capacity: Callable[[], Capacity]) -> Generate:
        """``generate``, behind the model's thresholds and its line.

        A busy model raises ``Overloaded``, as one whose instances are all full does; where there is
        a line, the request waits in it.

        Args:
            model: Its name; all of one name share thresholds, load and line.
            generate: Sends a request to a worker.
            capacity: Gives what the workers can hold, now.
        """
        gate = self._gates.get(model)
        if gate is None:
            gate = self._gates[model] = _Gate(model, self._common)
        gate.capacity = capacity
        return self.rooms.around(model, gate.around(generate))

    def thresholds(self, model: str) -> Thresholds:
        """What ``model`` is busy beyond; nothing for one that is not known."""
        gate = self._gates.get(model)
        return Thresholds() if gate is None else gate.thresholds

    def set(self, model: str, thresholds: Thresholds) -> Thresholds | None:
        """Change a model's thresholds, and return them all; ``None`` if it is not known."""
        gate = self._gates.get(model)
        if gate is None:
            return None
        gate.use(gate.thresholds.changed(thresholds))
        return gate.thresholds

    def all(self) -> dict[str, Thresholds]:
        """The thresholds of every model that has any."""
        return {
            name: gate.thresholds for name, gate in self._gates.items() if not gate.thresholds.unset
        }


class _Gate:
    """One model's thresholds and load. The load is only measured while there are thresholds."""

    __slots__ = ("_active", "_load", "_model", "capacity", "thresholds")

    def __init__(self, model: str, thresholds: Thresholds) -> None:
        self._model = model
        self._load = Load()
        self.capacity: Callable[[], Capacity] = Capacity
        self.use(thresholds)

    def use(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._active = not thresholds.unset

    def around(self, generate: Generate) -> Generate:
        async def gated(
            request: EngineRequest, *, context: Context
        ) -> ResponseStream[EngineOutput]:
            if not self._active:
                return await generate(request, context=context)
            if self.thresholds.exceeded(self._load, self.capacity()):
                raise Overloaded(f"The workers of `{self._model}` are busy, please retry later")
            size = len(request.token_ids)
            self._load.prefill_tokens += size
            self._load.held_tokens += size
            try:
                stream = await generate(request, context=context)
            except BaseException:
                self._load.prefill_tokens -= size
                self._load.held_tokens -= size
                raise
            return _Measured(stream, self._load, size)

        return gated


class _Measured:
    """A response stream whose tokens are part of its model's load until it ends."""

    __slots__ = ("_held", "_load", "_prefill", "_stream")

    def __init__(self, stream: ResponseStream[EngineOutput], load: Load, size: int) -> None:
        self._stream = stream
        self._load = load
        self._prefill = self._held = size

    @property
    def journey(self) -> Journey:
        return self._stream.journey

    async def batch(self) -> Sequence[EngineOutput]:
        try:
            outputs = await self._stream.batch()
        except MusterError:
            self._release()
            raise
        if not outputs:
            self._release()
            return outputs
        load = self._load
        load.prefill_tokens -= self._prefill
        self._prefill = 0
        tokens = sum([len(output.token_ids) for output in outputs])
        self._held += tokens
        load.held_tokens += tokens
        return outputs

    def kill(self) -> None:
        self._stream.kill()
        self._release()

    def _release(self) -> None:
        self._load.prefill_tokens -= self._prefill
        self._load.held_tokens -= self._held
        self._prefill = self._held = 0
