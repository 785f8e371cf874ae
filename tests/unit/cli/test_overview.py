from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from muster.cli.overview import arrange, from_report, read_health
from muster.cli.overview_rows import FrontendRow, ModelStanding
from muster.discovery.records import Instance, ModelRecord, Transport
from muster.frontend.report import (
    ExclusionReport,
    FleetReport,
    ModelReport,
    RegistryReport,
    ReplicaReport,
)
from muster.model.card import ModelDeploymentCard
from muster.testing.tiny_model import write_tiny_model

NONE = FrontendRow(url="http://x", status="unreachable")


@pytest.fixture
def card(tmp_path: Path) -> ModelDeploymentCard:
    return ModelDeploymentCard.load(write_tiny_model(tmp_path), "tiny")


def record(card: ModelDeploymentCard, number: int, component: str = "backend") -> dict[str, bytes]:
    found = ModelRecord(
        namespace="ns",
        component=component,
        endpoint="generate",
        instance_id=number,
        card_json=msgspec.Raw(card.to_json_str().encode()),
    )
    return {found.key: found.to_json()}


def instance(number: int, component: str = "backend") -> dict[str, bytes]:
    found = Instance(
        namespace="ns",
        component=component,
        endpoint="generate",
        instance_id=number,
        transport=Transport("tcp", "127.0.0.1:5/ff/ns/x/generate"),
    )
    return {found.key: found.to_json()}


def says(*models: ModelStanding) -> FrontendRow:
    return FrontendRow(url="http://x", status="healthy", models=models)


def other(card: ModelDeploymentCard) -> ModelDeploymentCard:
    return msgspec.structs.replace(card, source_path="/models/other")


def test_a_row_says_what_the_record_says(card: ModelDeploymentCard) -> None:
    (row,) = arrange(record(card, 0xAB), {}, NONE).models
    assert (row.model, row.endpoint, row.instance) == ("tiny", "ns/backend/generate", "ab")
    assert (row.mdcsum, row.context_length) == (card.mdcsum(), 2048)
    assert (row.files, row.differs, row.state) == ("path", False, "")


def test_files_are_where_their_addresses_say(card: ModelDeploymentCard) -> None:
    away = card.replace_files(lambda file: file.with_url(f"http://w/{file.basename()}"))
    assert arrange(record(away, 1), {}, NONE).models[0].files == "http"
    assert away.tokenizer is not None
    tokenizer = away.tokenizer.file.checksum
    mixed = away.replace_files(
        lambda file: file.with_url("hf://a/b/t.json") if file.checksum == tokenizer else file
    )
    assert arrange(record(mixed, 1), {}, NONE).models[0].files == "hf+http"


def test_each_card_of_a_name_stands_as_the_frontend_says(card: ModelDeploymentCard) -> None:
    frontend = says(
        ModelStanding(model="tiny", state="ready", mdcsum=card.mdcsum()),
        ModelStanding(
            model="tiny", state="refused", reason="r", message="m", mdcsum=other(card).mdcsum()
        ),
    )
    found = arrange(record(card, 1) | record(other(card), 2), {}, frontend).models
    assert [(row.instance, row.state, row.reason, row.message) for row in found] == [
        ("1", "ready", "", ""),
        ("2", "refused", "r", "m"),
    ]
    assert all(row.differs for row in found)


def test_cards_of_other_endpoints_do_not_differ(card: ModelDeploymentCard) -> None:
    found = arrange(record(card, 1) | record(other(card), 2, "other"), {}, NONE).models
    assert not any(row.differs for row in found)


def test_a_frontend_that_does_not_tell_cards_is_believed_by_name(
    card: ModelDeploymentCard,
) -> None:
    frontend = says(ModelStanding(model="tiny", state="fetching"))
    assert arrange(record(card, 1), {}, frontend).models[0].state == "fetching"
    assert arrange(record(card, 1), {}, says()).models[0].state == "unknown"


def test_records_that_cannot_be_read_are_rows_with_a_reason(card: ModelDeploymentCard) -> None:
    (key, value), *_ = record(card, 1).items()
    broken = json.loads(value)
    broken["card_json"]["migration_limit"] = "many"
    found = arrange({"k": b"{", key: json.dumps(broken).encode()}, {"i": b"[]"}, NONE)
    nameless, named = found.models
    assert (nameless.key, nameless.model) == ("k", "")
    assert nameless.error
    assert (named.model, named.instance) == ("tiny", "1")
    assert "migration_limit" in named.error
    assert found.instances[0].error


def test_instances_know_whether_they_have_a_model(card: ModelDeploymentCard) -> None:
    found = arrange(record(card, 1), instance(1) | instance(1, "other") | instance(2), NONE)
    assert [(row.endpoint, row.instance, row.has_model) for row in found.instances] == [
        ("ns/backend/generate", "1", True),
        ("ns/backend/generate", "2", False),
        ("ns/other/generate", "1", False),
    ]
    assert found.instances[0].address == "127.0.0.1:5"


def test_a_model_says_how_its_instance_is_reached(card: ModelDeploymentCard) -> None:
    found = arrange(record(card, 1) | record(card, 2), instance(1), NONE).models
    assert [(row.transport, row.address) for row in found] == [("tcp", "127.0.0.1:5"), ("", "")]


def test_a_frontend_s_report_stands_in_for_a_registry_that_cannot_be_read() -> None:
    replicas = (
        ReplicaReport(
            key="ns/c/e/1", instance="1", address="10.0.0.1:5", transport="tcp", mdcsum="a",
            state="serving",
        ),
        ReplicaReport(key="ns/c/e/2", instance="2", mdcsum="b", state="refused", code="incompatible"),
    )  # fmt: skip
    left_out = ExclusionReport(instance="1", transport="tcp", address="10.0.0.1:5", reason="full")
    model = ModelReport(
        model="m", state="serving", endpoint="ns/c/e", replicas=replicas, excluded=(left_out,)
    )
    frontend = says(
        ModelStanding(model="m", state="ready", mdcsum="a"),
        ModelStanding(model="m", state="refused", reason="incompatible", mdcsum="b"),
    )
    found = from_report(
        FleetReport(status="degraded", models=(model,)), frontend, registry_error="gone"
    )
    assert found.registry_error == "gone"
    assert [(row.instance, row.transport, row.state) for row in found.models] == [
        ("1", "tcp", "ready"),
        ("2", "", "refused"),
    ]
    (excluded,) = found.frontend.excluded
    assert (excluded.model, excluded.endpoint, excluded.reason) == ("m", "ns/c/e", "full")


def test_a_health_page_of_either_kind_is_read() -> None:
    ours = read_health("u", b'{"status":"degraded","models":[{"model":"m","state":"refused"}]}')
    assert ours.answers
    assert ours.models == (ModelStanding(model="m", state="refused"),)
    stale = read_health(
        "u", b'{"status":"degraded","registry":{"stale_since":"2026-01-01T00:00:00Z","reason":"x"}}'
    )
    assert stale.registry == RegistryReport(stale_since="2026-01-01T00:00:00Z", reason="x")
    dynamo = read_health("u", b'{"status":"healthy","endpoints":[],"instances":[]}')
    assert (dynamo.status, dynamo.models, dynamo.url) == ("healthy", (), "u")


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"<html>", b'{"detail":"Not Found"}', b'{"status":1}', b"\xff"]
)
def test_any_other_page_is_no_frontend(body: bytes) -> None:
    found = read_health("u", body)
    assert not found.answers
    assert "its /health is not a frontend's" in found.message
