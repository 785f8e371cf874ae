"""What a model can be asked for, what it wants to be given, and what its worker does."""

from __future__ import annotations

import enum

from muster.errors import CardError
from muster.model.strictjson.shape import TextAs
from muster.model.white_space import trim

__all__ = ["MODEL_TYPE", "ModelInput", "ModelType", "WorkerType"]

_HIGHEST = 2**16 - 1


class ModelType(enum.IntFlag, boundary=enum.KEEP):
    """The surfaces a model is served at; combine with ``|``.

    Text form: names in this order, joined by ``|`` with spaces; bits without a name as hexadecimal.
    """

    Chat = 1
    Completions = 2
    Embedding = 4
    TensorBased = 8
    Prefill = 16
    Images = 32
    Audios = 64
    Videos = 128
    Realtime = 256
    Classify = 512
    Pooling = 1024
    Rerank = 2048

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its surfaces, in their order."""
        return tuple(flag.name for flag in ModelType if flag in self and flag.name is not None)

    def __str__(self) -> str:
        unnamed = self.value & ~sum(flag.value for flag in ModelType)
        return " | ".join((*self.names, *([f"{unnamed:#x}"] if unnamed else [])))

    @classmethod
    def parse(cls, text: str) -> ModelType:
        """Read the text form. Any order, with or without spaces; no text is no surface.

        Raises:
            CardError: For a name that is unknown, and for nothing between two ``|``.
        """
        flags = cls(0)
        if not trim(text):
            return flags
        for part in text.split("|"):
            flags |= cls._flag(trim(part))
        return flags

    @classmethod
    def _flag(cls, name: str) -> ModelType:
        if not name:
            raise CardError("encountered empty flag")
        if name.startswith("0x"):
            return cls(_hexadecimal(name[2:]))
        flag = cls.__members__.get(name)
        if flag is None:
            raise CardError(
                f"unrecognized named flag `{name[:80]}`, expected {', '.join(cls.__members__)}"
            )
        return flag


def _hexadecimal(text: str) -> int:
    digits = text.removeprefix("+")
    if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits):
        value = int(digits, 16)
        if value <= _HIGHEST:
            return value
    raise CardError(f"invalid hex flag `{text[:80]}`")


class ModelInput(enum.StrEnum):
    """What the worker takes."""

    Text = "Text"
    Tokens = "Tokens"
    Tensor = "Tensor"


class WorkerType(enum.StrEnum):
    """Which part of the work the worker does."""

    Prefill = "prefill"
    Decode = "decode"
    Encode = "encode"
    Aggregated = "aggregated"


MODEL_TYPE = TextAs("a string value of `|` separated flags", ModelType.parse)
"""How a model type is written: its text form."""
