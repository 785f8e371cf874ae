"""Endpoint ids in all their spellings (section 1.2 of the runtime's reference)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.names import EndpointId

WORD = st.text("abz09-_ÄÖ模", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("NS", "C", "E")),
        ("dyn://", ("NS", "C", "E")),
        (" /./ ", ("NS", "C", "E")),
        ("backend", ("NS", "backend", "E")),
        ("dyn://backend", ("NS", "backend", "E")),
        ("ns.backend", ("ns", "backend", "E")),
        ("ns/backend/", ("ns", "backend", "E")),
        ("ns.backend.generate", ("ns", "backend", "generate")),
        ("ns/backend/generate", ("ns", "backend", "generate")),
        ("dyn://ns/backend.generate", ("ns", "backend", "generate")),
        ("..ns..backend//generate..", ("ns", "backend", "generate")),
        ("a.b.c.d/e", ("a", "b", "c_d_e")),
        ("  dyn://a.b.c", ("dyn:", "a", "b_c")),  # the prefix counts at the very beginning only
        ("a. b .c", ("a", " b ", "c")),
    ],
)
def test_c5_a_lenient_id_reads_every_spelling(text: str, parts: tuple[str, str, str]) -> None:
    assert EndpointId.lenient(text) == EndpointId(*parts)


@given(st.text())
def test_every_text_is_a_lenient_id_without_separators_or_empty_parts(text: str) -> None:
    found = EndpointId.lenient(text)
    for part in (found.namespace, found.component, found.name):
        assert part
        assert not {"/", "."} & {*part}


@given(WORD, WORD, WORD)
def test_every_text_form_of_an_id_reads_back(namespace: str, component: str, name: str) -> None:
    endpoint = EndpointId(namespace, component, name)
    assert str(endpoint) == f"{namespace}/{component}/{name}"
    assert endpoint.url == f"dyn://{namespace}.{component}.{name}"
    assert EndpointId.lenient(str(endpoint)) == endpoint
    assert EndpointId.lenient(endpoint.url) == endpoint
    assert EndpointId.parse(endpoint.url) == endpoint
    assert EndpointId.parse(endpoint.url.removeprefix("dyn://")) == endpoint


@given(st.text())
def test_what_the_strict_reader_takes_the_lenient_one_reads_the_same(text: str) -> None:
    try:
        strict = EndpointId.parse(text)
    except InvalidArgument:
        return
    if not any(part != part.strip(" ") for part in (strict.namespace, strict.name)):
        assert EndpointId.lenient(text) == strict
