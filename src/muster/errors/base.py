"""The root of every error, and what all of them have."""

from __future__ import annotations

from typing import Any

from muster.errors.error_class import ErrorClass

__all__ = ["DynamoException", "MusterError"]


class MusterError(Exception):
    """Root of all errors Muster raises.

    Args:
        message: What is wrong, and where. Other objects are turned into text, as those who raise
            one exception with another inside expect.
        hint: What to do about it; empty when there is nothing useful to say.
    """

    code = "error"
    error_class = ErrorClass.INTERNAL
    """What kind of failure it is, in the words that travel between processes."""
    reason = ""
    """The cause, as a key of the wire's catalogue (``request.not_found``); empty if made here."""
    failure: Any = None
    """The ``muster.wire.errors.WireError`` it stands for; ``None`` if made here."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message = str(message)
        super().__init__(self.message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles whatever arguments a subclass takes."""
        return _restore, (type(self), self.args, self.__dict__)

    def diagnostics(self) -> str:
        """The message and, on a second line, the hint if there is one."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


def _restore(kind: type[MusterError], args: tuple[Any, ...], state: dict[str, Any]) -> MusterError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


DynamoException = MusterError
