"""The inputs and outputs of a model that takes tensors, as its card carries them."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from muster.model.strictjson.compound import (
    Field,
    ListOf,
    MapOf,
    Maybe,
    Record,
    Tagged,
    if_empty,
    if_none,
)
from muster.model.strictjson.node import Json, Node
from muster.model.strictjson.shape import BOOL, F64, I64, TEXT, U8, U64, Choice, Shape

__all__ = [
    "TENSOR_MODEL_CONFIG",
    "DataType",
    "ParameterKind",
    "TensorMetadata",
    "TensorModelConfig",
    "TensorParameter",
]


class DataType(enum.StrEnum):
    """What a tensor's elements are."""

    BOOL = "Bool"
    UINT8 = "Uint8"
    UINT16 = "Uint16"
    UINT32 = "Uint32"
    UINT64 = "Uint64"
    INT8 = "Int8"
    INT16 = "Int16"
    INT32 = "Int32"
    INT64 = "Int64"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"
    FLOAT32 = "Float32"
    FLOAT64 = "Float64"
    BYTES = "Bytes"


class ParameterKind(enum.StrEnum):
    """The type of a parameter's value."""

    BOOL = "bool"
    INT64 = "int64"
    STRING = "string"
    DOUBLE = "double"
    UINT64 = "uint64"


class TensorParameter(msgspec.Struct, frozen=True):
    """A value with its type. JSON: ``{"int64": 1}``."""

    kind: ParameterKind
    value: bool | int | str | float


class TensorMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output; ``-1`` in its shape is any length. ``parameters`` has no order."""

    name: str
    data_type: DataType
    shape: tuple[int, ...]
    parameters: dict[str, TensorParameter] = {}


class TensorModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A model's inputs and outputs. ``triton_model_config`` is a protocol buffer's bytes."""

    name: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    triton_model_config: bytes | None = None


class _Parameter:
    def __init__(self, kind: ParameterKind, inner: Shape[Any]) -> None:  # one of five types
        self._kind = kind
        self._inner = inner

    def read(self, node: Node, at: str) -> TensorParameter:
        return TensorParameter(self._kind, self._inner.read(node, at))

    def write(self, value: TensorParameter) -> Json:
        return value.value


class _Bytes:
    """Bytes as an array of numbers."""

    def read(self, node: Node, at: str) -> bytes:
        return bytes(ListOf(U8).read(node, at))

    def write(self, value: bytes) -> Json:
        return list(value)


_PARAMETER: Tagged[TensorParameter] = Tagged(
    {
        ParameterKind.BOOL: _Parameter(ParameterKind.BOOL, BOOL),
        ParameterKind.INT64: _Parameter(ParameterKind.INT64, I64),
        ParameterKind.STRING: _Parameter(ParameterKind.STRING, TEXT),
        ParameterKind.DOUBLE: _Parameter(ParameterKind.DOUBLE, F64),
        ParameterKind.UINT64: _Parameter(ParameterKind.UINT64, U64),
    },
    lambda parameter: parameter.kind,
)
_TENSOR_METADATA = Record(
    "struct TensorMetadata",
    TensorMetadata,
    Field("name", TEXT),
    Field("data_type", Choice(DataType)),
    Field("shape", ListOf(I64)),
    Field("parameters", MapOf(_PARAMETER), {}, omit=if_empty),
    closed=True,
)

TENSOR_MODEL_CONFIG = Record(
    "struct TensorModelConfig",
    TensorModelConfig,
    Field("name", TEXT),
    Field("inputs", ListOf(_TENSOR_METADATA)),
    Field("outputs", ListOf(_TENSOR_METADATA)),
    Field("triton_model_config", Maybe(_Bytes()), None, omit=if_none),
    closed=True,
)
