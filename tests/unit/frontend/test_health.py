from __future__ import annotations

import json
from typing import Any

import pytest

from muster.discovery.records import Instance, Transport
from muster.frontend.health import HealthRoutes, HealthState
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.http.exchange import Exchange
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel

FAILED = ModelStatus(model="bad", state="failed", reason="no_source", message="404 from 10.0.0.1")


class Sink:
    def __init__(self) -> None:
        self.data = b""
        self.congested = False

    def send(self, data: bytes) -> None:
        self.data += data

    async def drained(self) -> None:
        return

    async def send_file(self, *_: object) -> None:
        raise AssertionError("no file is sent")


def ask(table: ModelTable, path: str = "health", *, draining: bool = False) -> tuple[int, Any]:
    state = HealthState()
    state.draining = draining
    sink = Sink()
    exchange = Exchange(sink, method="GET", target=b"/", headers={}, body=b"")
    run(getattr(HealthRoutes(table, state), path)(exchange))
    head, _, body = sink.data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_nothing_registered_is_healthy() -> None:
    assert ask(ModelTable()) == (
        200,
        {"status": "healthy", "endpoints": [], "instances": [], "models": []},
    )


def test_a_model_that_is_not_served_degrades_and_says_why(model: ScriptedModel) -> None:
    table = ModelTable(unserved=lambda: [FAILED])
    table.add(model.served)
    status, body = ask(table)
    assert (status, body["status"]) == (200, "degraded")
    assert body["message"] == "bad is failed (no_source) 404 from 10.0.0.1"
    assert [(entry["model"], entry["state"]) for entry in body["models"]] == [
        ("tiny", "ready"),
        ("bad", "failed"),
    ]


def test_it_is_unavailable_when_no_registered_model_is_served() -> None:
    status, body = ask(ModelTable(unserved=lambda: [FAILED]))
    assert (status, body["status"]) == (503, "unavailable")


def test_instances_are_shown_as_the_peer_shows_them() -> None:
    def instance(number: int) -> Instance:
        return Instance(
            namespace="dynamo",
            component="backend",
            endpoint="generate",
            instance_id=number,
            transport=Transport("tcp", "127.0.0.1:1/a/dynamo/backend/generate"),
        )

    _, body = ask(ModelTable(instances=lambda: [instance(2), instance(1)]))
    assert body["endpoints"] == ["dyn://dynamo.backend.generate"]
    assert [entry["instance_id"] for entry in body["instances"]] == [1, 2]
    assert body["instances"][0]["transport"] == {"tcp": "127.0.0.1:1/a/dynamo/backend/generate"}


@pytest.mark.parametrize("path", ["health", "live"])
def test_a_draining_frontend_is_not_ready(path: str) -> None:
    status, body = ask(ModelTable(), path, draining=True)
    assert (status, body["stage"]) == (503, "draining")


def test_live_says_so() -> None:
    assert ask(ModelTable(), "live") == (200, {"status": "live", "message": "Service is live"})
