"""What ``muster verify`` takes for a card, and for a server."""

from __future__ import annotations

import json

import pytest

from muster.cli.verify_fetch import read_card
from muster.cli.verify_server import host_of, is_base
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard

CARD = ModelDeploymentCard(display_name="tiny", slug="tiny").to_json_str()


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        json.dumps({"card_json": json.loads(CARD), "instance_id": 1}),
        json.dumps({"card": json.loads(CARD), "mdcsum": "0"}),
    ],
    ids=["bare", "record", "muster card --json"],
)
def test_a_card_is_found_wherever_it_is_wrapped(text: str) -> None:
    assert read_card(text).display_name == "tiny"
    assert read_card(text.encode()).display_name == "tiny"


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"null", b"1", b'"card"', b'{"card_json": 3}', b'{"card": {}}', b"[" * 99999]
)  # fmt: skip
def test_anything_else_is_an_error(text: bytes) -> None:
    with pytest.raises(CardError):
        read_card(text)


@pytest.mark.parametrize(
    ("url", "host", "base"),
    [
        ("http://worker:9090", "worker", True),
        ("https://worker/", "worker", True),
        ("http://[::1]:9090/", "::1", True),
        ("http://worker/v1/metadata/x", "worker", False),
        ("http://worker/?card", "worker", False),
        ("http://", None, True),
        ("http://worker:port/", None, True),
        ("http://[::1", None, False),
        ("ftp://worker/", None, True),
    ],
)
def test_what_a_url_names(url: str, host: str | None, base: bool) -> None:
    assert host_of(url) == host
    assert is_base(url) == base
