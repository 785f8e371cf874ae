from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.model.publish.lora_id import lora_name_to_id


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", 1979294118),
        ("a", 1500095571),
        ("my-lora", 868637996),
        ("acme/adapter", 519560579),
        ("Ünï", 146751128),
        ("x" * 500, 1984334338),
    ],
)
def test_an_adapters_number_is_that_of_dynamo(name: str, number: int) -> None:
    assert lora_name_to_id(name) == number


@given(st.text())
def test_an_adapters_number_is_positive_and_fits_31_bits(name: str) -> None:
    assert 0 < lora_name_to_id(name) < 2**31
