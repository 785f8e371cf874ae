import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.names import slugify


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Qwen/Qwen3-0.6B", "qwen_qwen3-0_6b"),
        ("Acme/Tiny Model", "acme_tiny_model"),
        ("/abs/path/Model", "abs_path_model"),
        ("__x", "x"),
        ("_X__y", "x__y"),
        ("-lead", "-lead"),
        ("a  b", "a__b"),
        ("Ünïcode Model", "n_code_model"),
        ("模型", ""),
        ("", ""),
        (".", ""),
        ("ẞ", ""),
        ("a/b", "a_b"),
        ("a_b", "a_b"),
        ("a.b", "a_b"),
        ("_base", "base"),
    ],
)
def test_slug(name: str, slug: str) -> None:
    assert slugify(name) == slug


@given(st.text())
def test_a_slug_is_safe_and_is_its_own_slug(name: str) -> None:
    slug = slugify(name)
    assert re.fullmatch(r"([a-z0-9-][a-z0-9_-]*)?", slug)
    assert slugify(slug) == slug
