from __future__ import annotations

import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.routes import RouteTable
from muster.http.exchange import Exchange


async def one(exchange: Exchange) -> None: ...


async def other(exchange: Exchange) -> None: ...


@pytest.fixture
def routes() -> RouteTable:
    table = RouteTable()
    table.add("GET", "/v1/models", one)
    table.add("GET", "/v1/models/*", other)
    table.add("POST", "/v1/chat", one)
    return table


def test_exact_paths_win_and_a_star_matches_anything_below(routes: RouteTable) -> None:
    assert routes.find("GET", "/v1/models") is one
    assert routes.find("HEAD", "/v1/models") is one
    assert routes.find("GET", "/v1/models/org/name") is other


@pytest.mark.parametrize("path", ["/", "/v1/models/", "/v1/model", "/v1/chat/", "/V1/chat"])
def test_other_paths_are_404(routes: RouteTable, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        routes.find("GET", path)
    assert (caught.value.status, caught.value.slug) == (404, "route_not_found")
    assert path in caught.value.message


def test_other_methods_are_405_and_told_which_are_allowed(routes: RouteTable) -> None:
    with pytest.raises(ApiError) as caught:
        routes.find("DELETE", "/v1/models")
    assert caught.value.status == 405
    assert caught.value.headers["allow"] == "GET, HEAD"
    with pytest.raises(ApiError) as caught:
        routes.find("GET", "/v1/chat")
    assert caught.value.headers["allow"] == "POST"
