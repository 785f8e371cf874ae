from __future__ import annotations

import dataclasses

import pytest

from muster.errors import ConflictError
from muster.frontend.api_error import ApiError
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.served_model import ServedModel
from muster.testing.scripted import ScriptedModel


def named(model: ScriptedModel, name: str, *aliases: str) -> ServedModel:
    return dataclasses.replace(model.served, name=name, aliases=aliases)


def test_a_model_is_found_by_name_and_alias_until_it_is_removed(model: ScriptedModel) -> None:
    table = ModelTable()
    one = named(model, "one", "first", "uno")
    table.add(one)
    assert table.get("one") is table.get("uno") is one
    assert [name for name, _ in table.names()] == ["one", "first", "uno"]
    table.remove("one")
    table.remove("one")
    assert table.names() == []
    assert table.find("uno") is None


def test_adding_again_replaces(model: ScriptedModel) -> None:
    table = ModelTable()
    table.add(named(model, "one", "old"))
    table.add(named(model, "one", "new"))
    assert [name for name, _ in table.names()] == ["one", "new"]


def test_a_name_belongs_to_whoever_had_it_first(model: ScriptedModel) -> None:
    table = ModelTable()
    table.add(named(model, "one", "both"))
    table.add(named(model, "two", "both", "one"))
    assert table.get("both").name == table.get("one").name == "one"
    with pytest.raises(ConflictError, match="'both' is an alias of the model 'one'"):
        table.add(named(model, "both"))
    table.remove("two")
    assert table.get("both").name == "one"


def test_unknown_unserved_and_empty_are_told_apart(model: ScriptedModel) -> None:
    waiting = ModelStatus(model="slow", state="fetching", reason="", message="3 of 5 files")
    table = ModelTable(unserved=lambda: [waiting])
    with pytest.raises(ApiError, match="no model is being served") as caught:
        table.get("x")
    assert caught.value.status == 404
    with pytest.raises(ApiError, match="fetching: 3 of 5 files") as caught:
        table.get("slow")
    assert (caught.value.status, caught.value.slug) == (503, "model_not_ready")
    table.add(named(model, "one"))
    with pytest.raises(ApiError, match="available: `one`"):
        table.get("x")


def test_a_long_list_of_models_is_cut_in_messages(model: ScriptedModel) -> None:
    table = ModelTable()
    for number in range(12):
        table.add(named(model, f"m{number}"))
    with pytest.raises(ApiError, match="`m9` and 2 more"):
        table.get("x")


def test_statuses_are_the_served_then_the_others(model: ScriptedModel) -> None:
    failed = ModelStatus(model="bad", state="failed", reason="digest_mismatch")
    stale = ModelStatus(model="one", state="fetching")
    table = ModelTable(unserved=lambda: [failed, stale])
    table.add(named(model, "one"))
    assert table.statuses() == [ModelStatus(model="one", state="ready"), failed]


def test_another_card_of_a_served_name_is_listed_beside_it(model: ScriptedModel) -> None:
    other = ModelStatus(model="one", state="refused", reason="conflict", mdcsum="b" * 64)
    unreadable = ModelStatus(model="one", state="refused", reason="card")
    same = ModelStatus(model="one", state="fetching", mdcsum="a" * 64)
    table = ModelTable(unserved=lambda: [other, unreadable, same])
    table.add(dataclasses.replace(model.served, name="one", mdc_sum="a" * 64))
    served = ModelStatus(model="one", state="ready", mdcsum="a" * 64)
    assert table.statuses() == [served, other, unreadable]
    assert table.get("one").name == "one"
