"""What stands between a request and its model's workers: busy thresholds, and the waiting rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from muster.config.guard import GuardSettings
from muster.errors import ConfigError, MusterError, Overloaded
from muster.frontend.engine_stream import ResponseStream
from muster.frontend.guard.busy import Capacity, Loads, Thresholds
from muster.frontend.guard.waiting import WaitingRooms
from muster.frontend.journey import Journey
from muster.frontend.served_model import Generate
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Context

__all__ = ["Admission"]

_NOBODY: frozenset[int] = frozenset()


def _nothing() -> Mapping[int, Capacity]:
    return {}


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

    def around(
        self,
        model: str,
        generate: Generate,
        capacities: Callable[[], Mapping[int, Capacity]],
        thresholds: Thresholds | None = None,
    ) -> Generate:
        """``generate``, behind the model's thresholds and its line.

        A model whose instances are all busy raises ``Overloaded``, as one whose instances are all
        full does; where there is a line, the request waits in it.

        Args:
            model: Its name; all of one name share thresholds, loads and line.
            generate: Sends a request to a worker.
            capacities: Gives the model's instances, and what each can hold, now.
            thresholds: Its card's, in the place of the settings'; what ``set`` has changed stays.
        """
        gate = self._gate(model)
        gate.capacities = capacities
        gate.begin_with(self._common if thresholds is None else thresholds)
        return self.rooms.around(model, gate.around(generate))

    def busy(self, model: str) -> Callable[[], frozenset[int]]:
        """Gives the instances of ``model`` that are busy now; none while there are no thresholds."""
        return self._gate(model).busy

    def _gate(self, model: str) -> _Gate:
        gate = self._gates.get(model)
        if gate is None:
            gate = self._gates[model] = _Gate(model, self._common)
        return gate

    def thresholds(self, model: str) -> Thresholds:
        """What ``model`` is busy beyond; nothing for one that is not known."""
        gate = self._gates.get(model)
        return Thresholds() if gate is None else gate.thresholds

    def set(self, model: str, changes: Mapping[str, Any]) -> Thresholds | None:
        """Change a model's thresholds, and return them all; ``None`` if it is not known.

        Args:
            model: Its name.
            changes: New values by the names of ``Thresholds``; ``None`` for no threshold. Those
                that are left out stay.
        """
        gate = self._gates.get(model)
        if gate is None:
            return None
        gate.change(changes)
        return gate.thresholds

    def all(self) -> dict[str, Thresholds]:
        """The thresholds of every model that has any."""
        return {
            name: gate.thresholds for name, gate in self._gates.items() if not gate.thresholds.unset
        }


class _Gate:
    """One model's thresholds and loads. Loads are only measured while there are thresholds."""

    __slots__ = ("_active", "_base", "_changes", "_loads", "_model", "capacities", "thresholds")

    def __init__(self, model: str, thresholds: Thresholds) -> None:
        self._model = model
        self._loads = Loads()
        self._changes: dict[str, Any] = {}
        self.capacities: Callable[[], Mapping[int, Capacity]] = _nothing
        self.begin_with(thresholds)

    def begin_with(self, thresholds: Thresholds) -> None:
        self._base = thresholds
        self.change({})

    def change(self, changes: Mapping[str, Any]) -> None:
        self._changes |= changes
        self.thresholds = msgspec.structs.replace(self._base, **self._changes)
        self._active = not self.thresholds.unset

    def busy(self) -> frozenset[int]:
        if not self._active:
            return _NOBODY
        # Whoever asks has a request that nobody has yet: that must not stand in its own way.
        return self.thresholds.busy(self._loads, self.capacities(), share=False)

    def around(self, generate: Generate) -> Generate:
        async def gated(
            request: EngineRequest, *, context: Context
        ) -> ResponseStream[EngineOutput]:
            if not self._active:
                return await generate(request, context=context)
            capacities = self.capacities()
            # without instances nobody is busy: whoever routes says that there are none
            if capacities and len(self.thresholds.busy(self._loads, capacities)) == len(capacities):
                raise Overloaded(f"The workers of `{self._model}` are busy, please retry later")
            size = len(request.token_ids)
            self._loads.add(None, prefill=size, held=size)
            try:
                stream = await generate(request, context=context)
            except BaseException:
                self._loads.add(None, prefill=-size, held=-size)
                raise
            return _Measured(stream, self._loads, size)

        return gated


class _Measured:
    """A response stream whose tokens are part of its instance's load until it ends."""

    __slots__ = ("_held", "_loads", "_place", "_prefill", "_stream")

    def __init__(self, stream: ResponseStream[EngineOutput], loads: Loads, size: int) -> None:
        self._stream = stream
        self._loads = loads
        self._prefill = self._held = size
        self._place: int | None = None
        self._follow()

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
        else:
            self._count(outputs)
        return outputs

    async def read(self, take: Callable[[Sequence[EngineOutput]], bool]) -> bool:
        def counted(outputs: Sequence[EngineOutput]) -> bool:
            self._count(outputs)
            return take(outputs)

        try:
            more = await self._stream.read(counted)
        except MusterError:
            self._release()
            raise
        if not more:
            self._release()
        return more

    def _count(self, outputs: Sequence[EngineOutput]) -> None:
        self._follow()
        tokens = sum([len(output.token_ids) for output in outputs])
        self._loads.add(self._place, prefill=-self._prefill, held=tokens)
        self._prefill = 0
        self._held += tokens

    def kill(self) -> None:
        self._stream.kill()
        self._release()

    def _follow(self) -> None:
        """Count it where it is now: another instance may have taken it over."""
        place = self._stream.journey.instance_id
        if place != self._place:
            self._loads.add(self._place, prefill=-self._prefill, held=-self._held)
            self._loads.add(place, prefill=self._prefill, held=self._held)
            self._place = place

    def _release(self) -> None:
        self._loads.add(self._place, prefill=-self._prefill, held=-self._held)
        self._prefill = self._held = 0
