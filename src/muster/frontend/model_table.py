"""Which models there are: those being served, by name and alias, and those that are not, and why.

The catalog adds and removes entries; the API looks them up. Everything happens on the event loop's
thread, and a look-up is one dictionary access.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from muster.discovery.records import Instance
from muster.errors import ConflictError
from muster.frontend.api_error import model_not_found, model_not_served
from muster.frontend.report import FleetReport, RegistryReport
from muster.frontend.served_model import ServedModel

__all__ = ["ModelStatus", "ModelTable", "RegistryState"]


class RegistryState(Protocol):
    """Says whether there may be models that nobody here knows of."""

    def trouble(self) -> str:
        """Why there may be; empty if there is no such reason."""
        ...

    def report(self) -> RegistryReport | None:
        """The same in fields."""
        ...


class _InReach:
    def trouble(self) -> str:
        return ""

    def report(self) -> RegistryReport | None:
        return None


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model that somebody registered, and how far serving it has come.

    Attributes:
        model: Its name.
        state: One word: ``ready``, or what it is instead (``fetching``, ``failed``, ...).
        reason: Stable code for why it is not served; empty when it is.
        message: For people; empty when there is nothing to say.
        mdcsum: Its card's digest; empty when the card could not be read. One name may have several
            cards, of which one is served and the others are refused.
    """

    model: str
    state: str
    reason: str = ""
    message: str = ""
    mdcsum: str = ""


def _none() -> Sequence[ModelStatus]:
    return ()


def _no_instances() -> Sequence[Instance]:
    return ()


def _no_report() -> FleetReport:
    return FleetReport(status="")


class ModelTable:
    """The models of one frontend.

    Args:
        unserved: Gives the registered models that are not served at present.
        instances: Gives all instances in sight, for ``/health``.
        registry: How current that is; always, if left out.
        report: Gives everything known of every model and replica.
    """

    def __init__(
        self,
        *,
        unserved: Callable[[], Sequence[ModelStatus]] = _none,
        instances: Callable[[], Sequence[Instance]] = _no_instances,
        registry: RegistryState | None = None,
        report: Callable[[], FleetReport] = _no_report,
    ) -> None:
        self.registry: RegistryState = registry if registry is not None else _InReach()
        self.report = report
        self._unserved = unserved
        self._instances = instances
        self._models: dict[str, ServedModel] = {}
        self._names: dict[str, ServedModel] = {}

    def add(self, model: ServedModel) -> None:
        """Serve ``model``, in place of the one of the same name if there is one.

        An alias that another model has as its name or alias is left to that one while it is there.

        Raises:
            ConflictError: As ``check``.
        """
        self.check(model.name)
        self._models[model.name] = model
        self._name_all()

    def check(self, name: str) -> None:
        """Refuse a name that means another model.

        Raises:
            ConflictError: If the name is another model's alias.
        """
        holder = self._names.get(name)
        if holder is not None and holder.name != name:
            raise ConflictError(
                f"{name!r} is an alias of the model {holder.name!r}",
                hint="give one of them another name",
            )

    def remove(self, name: str) -> None:
        """Stop serving the model of this name; nothing happens if there is none."""
        if self._models.pop(name, None) is not None:
            self._name_all()

    def _name_all(self) -> None:
        """Names come before aliases; of two models with one alias the older has it."""
        self._names = {model.name: model for model in self._models.values()}
        for model in self._models.values():
            for alias in model.aliases:
                self._names.setdefault(alias, model)

    def get(self, name: str, session: str = "") -> ServedModel:
        """The model of this name or alias; for a request of ``session``, if it is not empty.

        Raises:
            ApiError: 404 if nobody knows it, 503 if it is registered but not served.
        """
        model = self._names.get(name)
        if model is not None:
            return model if model.pick is None else model.pick(session)
        for status in self._unserved():
            if status.model == name:
                raise model_not_served(name, status.state, status.reason, status.message)
        raise model_not_found(name, list(self._names))

    def find(self, name: str) -> ServedModel | None:
        """The model of this name or alias, or ``None``."""
        return self._names.get(name)

    def models(self) -> Sequence[ServedModel]:
        """All served models, oldest first."""
        return list(self._models.values())

    def names(self) -> Sequence[tuple[str, ServedModel]]:
        """All names and aliases, and the models they mean."""
        return list(self._names.items())

    def statuses(self) -> Sequence[ModelStatus]:
        """The served models, then the registered ones that are not served."""
        ready = [
            ModelStatus(model=model.name, state="ready", mdcsum=model.mdc_sum or "")
            for model in self._models.values()
        ]
        return [*ready, *self.unserved()]

    def unserved(self) -> Sequence[ModelStatus]:
        """Registered models that are not served, among them other cards of a served one's name."""
        return [status for status in self._unserved() if not self._serves(status)]

    def _serves(self, status: ModelStatus) -> bool:
        served = self._models.get(status.model)
        return served is not None and status.mdcsum == (served.mdc_sum or "")

    def instances(self) -> Sequence[Instance]:
        """All instances in sight."""
        return self._instances()
