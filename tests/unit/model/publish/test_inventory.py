"""What a model's directory holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.identity import FileRole, IdentityFile, compute_identity, files_of
from muster.model.publish.harvest import LeftOutFile, LeftOutReason
from muster.model.publish.inventory import check_links, take_inventory
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def load(directory: Path, **more: Path) -> ModelDeploymentCard:
    return ModelDeploymentCard.load(directory, "acme/tiny", **more)


def test_the_other_files_are_added_hashed_and_what_stays_is_listed(model: Path) -> None:
    (model / "LICENSE").write_text("free")
    (model / "weights.safetensors").write_text("w")
    (model / "big").write_text("too much")
    found = take_inventory(load(model), model, max_extra_bytes=4)
    extras = {Path(file.path or "").name: file for file in found.card.extra_files}
    assert extras["LICENSE"].size == 4
    assert extras["LICENSE"].checksum_matches(model / "LICENSE")
    assert "big" not in extras
    assert LeftOutFile("big", LeftOutReason.TOO_LARGE) in found.left_out
    assert LeftOutFile("weights.safetensors", LeftOutReason.WEIGHTS) in found.left_out
    assert all(left.reason is not LeftOutReason.TYPED for left in found.left_out)


def test_the_identity_is_of_all_files_that_travel(model: Path) -> None:
    (model / "LICENSE").write_text("free")
    found = take_inventory(load(model), model)
    assert found.identity == compute_identity(files_of(found.card))
    roles = {file.role for file in files_of(found.card)}
    assert {FileRole.MODEL_INFO, FileRole.TOKENIZER, FileRole.EXTRA} <= roles
    (model / "LICENSE").write_text("not free")
    assert take_inventory(load(model), model).identity != found.identity


def test_the_identity_does_not_know_where_the_model_lies(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(model)
    here, there = (take_inventory(load(each), each) for each in (model, tmp_path / "elsewhere"))
    assert here.identity == there.identity
    assert here.card != there.card


def test_a_typed_slot_that_is_a_link_outside_is_refused_saying_what_to_do(
    model: Path, tmp_path: Path
) -> None:
    (model / "config.json").rename(tmp_path / "config.json")
    (model / "config.json").symlink_to("../config.json")
    with pytest.raises(CardError, match=r"config\.json is a link to .*, outside") as caught:
        check_links(load(model), model)
    assert "put the file itself there" in caught.value.hint


def test_a_custom_template_may_be_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "real.jinja").write_text("{{ messages }}")
    (tmp_path / "mine.jinja").symlink_to("real.jinja")
    check_links(load(model, custom_template_path=tmp_path / "mine.jinja"), model)


def test_the_identity_has_real_names_also_of_files_at_urls() -> None:
    card = ModelDeploymentCard.from_json_str(
        '{"display_name": "m", "slug": "m", "kv_cache_block_size": 0, "migration_limit": 0,'
        ' "model_type": "", "model_input": "Text", "extra_files": ['
        '{"path": "http://h/a%20b%25.json", "checksum": "blake3:' + "0" * 64 + '"},'
        '{"path": "/m/a b%.json", "checksum": "blake3:' + "0" * 64 + '"}]}'
    )
    first, second = files_of(card)
    assert first == second == IdentityFile(FileRole.EXTRA, "a b%.json", first.digest)
