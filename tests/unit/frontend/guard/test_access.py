"""Which route asks for which key, and where a key is looked for."""

from __future__ import annotations

import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.guard.access import Access, Rules, identify, is_admin_path, presented_key
from muster.frontend.guard.cors import Cors
from muster.frontend.guard.keys import key_line, new_key, parse_keys


@pytest.mark.parametrize(
    ("path", "access"),
    [
        ("/health", Access.OPEN),
        ("/live", Access.OPEN),
        ("/metrics", Access.OPEN),
        ("/v1/chat/completions", Access.KEY),
        ("/v1/models", Access.KEY),
        ("/healthz", Access.KEY),
        ("/", Access.KEY),
        ("/busy_threshold", Access.ADMIN),
        ("/v1/muster/models", Access.ADMIN),
        ("/v1/muster/live", Access.ADMIN),
        ("/dashboard", Access.OPEN),
        ("/dashboard/", Access.OPEN),
        ("/dashboard/page.css", Access.OPEN),
        ("/dashboards", Access.KEY),
    ],
)
def test_what_a_path_asks_for(path: str, access: Access) -> None:
    assert Rules(metrics_key=False, admin_key=True).of(path) is access
    open_rules = Rules(metrics_key=True, admin_key=False)
    if path == "/metrics":
        assert open_rules.of(path) is Access.ADMIN
    if access is Access.ADMIN:
        assert is_admin_path(path)
        assert open_rules.of(path) is Access.OPEN


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, ""),
        ({b"authorization": b"Bearer mk-1"}, "mk-1"),
        ({b"authorization": b"bearer  mk-1 "}, "mk-1"),
        ({b"authorization": b"Basic mk-1"}, ""),
        ({b"authorization": b"Bearer"}, ""),
        ({b"x-api-key": b"mk-2"}, "mk-2"),
        ({b"authorization": b"Bearer mk-1", b"x-api-key": b"mk-2"}, "mk-1"),
        ({b"authorization": b"Basic x", b"x-api-key": b"mk-2"}, "mk-2"),
    ],
)
def test_where_a_key_is_looked_for(headers: dict[bytes, bytes], key: str) -> None:
    assert presented_key(headers) == key


def test_who_asks_is_known_by_the_key() -> None:
    plain, admin = new_key(), new_key()
    text = f"{key_line('alice', plain)}\n{key_line('ops', admin)} admin\n"
    ring = parse_keys(text, source="keys")

    def ask(key: str, access: Access) -> str | int:
        try:
            holder = identify(ring, access, {b"x-api-key": key.encode()})
        except ApiError as error:
            return error.status
        return "" if holder is None else holder.name

    assert ask("", Access.OPEN) == ""
    assert ask("", Access.KEY) == 401
    assert ask("mk-wrong", Access.KEY) == 401
    assert ask(plain, Access.KEY) == "alice"
    assert ask(plain, Access.ADMIN) == 403
    assert ask(admin, Access.ADMIN) == "ops"
    assert ask(admin, Access.KEY) == "ops"


def test_a_listed_origin_may_and_another_may_not() -> None:
    cors = Cors(["https://chat.example/"])
    asked = {
        b"origin": b"https://chat.example",
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": b"Authorization, Content-Type",
    }
    assert Cors.is_preflight("OPTIONS", asked)
    assert not Cors.is_preflight("POST", asked)
    answer = cors.preflight(asked)
    assert answer["access-control-allow-origin"] == "https://chat.example"
    assert answer["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in answer["access-control-allow-methods"]
    assert answer["vary"] == "origin"
    assert cors.headers("https://evil.example") == {"vary": "origin"}
    assert cors.preflight(asked | {b"origin": b"null"}) == {"vary": "origin"}
    assert Cors(["*"]).headers("https://any.example")["access-control-allow-origin"] == "*"


def test_a_preflights_header_list_is_not_echoed_blindly() -> None:
    asked = {b"origin": b"https://a", b"access-control-request-headers": b"x\r\nset-cookie: y"}
    assert "access-control-allow-headers" not in Cors(["https://a"]).preflight(asked)
