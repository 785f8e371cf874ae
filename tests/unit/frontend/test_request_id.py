from __future__ import annotations

import uuid

import pytest

from muster.frontend.request_id import engine_id, new_id
from muster.testing.exchanges import unanswered_exchange


def test_new_ids_are_random_version_4_uuids() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


def test_the_clients_id_is_answered() -> None:
    assert unanswered_exchange(x_request_id="job 17/b").request_id == "job 17/b"


@pytest.mark.parametrize("given", ["", "x" * 257, "tab\there"])
def test_an_unusable_id_is_replaced(given: str) -> None:
    assert unanswered_exchange(x_request_id=given).request_id != given


def test_engines_get_the_same_id_if_it_is_ours_or_a_uuid() -> None:
    ours = unanswered_exchange()
    assert engine_id(ours) == ours.request_id
    given = str(uuid.uuid4())
    assert engine_id(unanswered_exchange(x_request_id=given)) == given
    assert (
        engine_id(unanswered_exchange(x_dynamo_request_id=given.upper(), x_request_id="a")) == given
    )


def test_engines_get_a_uuid_when_the_client_gave_something_else() -> None:
    given = engine_id(unanswered_exchange(x_request_id="job 17"))
    assert str(uuid.UUID(given)) == given
