"""What cards say in our own key: one identity for the same files, and where they can be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.extension import CardExtension
from muster.model.identity import compute_identity, files_of
from muster.model.publish.publication import Publication
from muster.testing.loops import run
from muster.testing.publishing import publishing_worker


def published(model: Path | str, *, port: int | None = 0, **more: Any) -> Publication:
    """Register with a worker of its own."""
    metadata = more.pop("metadata", None)

    async def scenario() -> Publication:
        async with publishing_worker(port=port, metadata=metadata) as at:
            return await at.register(model, **more)

    return run(scenario())


def identity_of(publication: Publication) -> Digest:
    said = CardExtension.read(publication.card.muster).identity
    assert said is not None
    assert said == publication.identity
    return said


def test_hosting_does_not_change_the_identity(model: Path) -> None:
    (model / "extra.txt").write_text("extra")
    hosted = published(model)
    by_path = published(model, self_host_metadata=False)
    without_server = published(model, port=None)
    assert len({identity_of(each) for each in (hosted, by_path, without_server)}) == 1
    assert by_path.card.extra_files == ()
    assert hosted.card.mdcsum() != by_path.card.mdcsum()  # which is why there is an identity


def test_the_mount_path_does_not_change_the_identity(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "deeper" / "mount"
    shutil.copytree(model, copy)
    here, there = published(model), published(copy)
    assert identity_of(here) == identity_of(there)
    assert here.card.mdcsum() != there.card.mdcsum()


def test_a_hub_model_by_name_and_its_directory_have_one_identity(
    model: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--Acme--Tiny"
    snapshot = repository / "snapshots" / "abc"
    for directory in (repository / "blobs", repository / "refs", snapshot):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    for number, path in enumerate(sorted(model.iterdir())):
        (repository / "blobs" / f"{number:040x}").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    hub = MetadataSettings(hub_cache=tmp_path / "hub")
    by_name = published("Acme/Tiny", metadata=hub, ignore_weights=True)
    by_name_unhosted = published(
        "Acme/Tiny", metadata=hub, ignore_weights=True, self_host_metadata=False
    )
    assert len({identity_of(each) for each in (by_name, by_name_unhosted, published(model))}) == 1


def test_a_lora_has_the_identity_of_its_base(model: Path) -> None:
    lora = published("adapter", name=None, lora_name="My/LoRA", base_model_path=model)
    assert identity_of(lora) == identity_of(published(model))


def test_an_awkward_name_does_not_change_the_identity_with_the_transport(model: Path) -> None:
    (model / "per cent%20é.txt").write_text("x")
    hosted, by_path = published(model), published(model, self_host_metadata=False)
    assert identity_of(hosted) == identity_of(by_path)


@pytest.mark.parametrize("name", ["config.json", "LICENSE"])
def test_other_content_changes_the_identity(model: Path, name: str) -> None:
    (model / "LICENSE").write_text("free")
    before = identity_of(published(model))
    path = model / name
    path.write_text(path.read_text() + " ")
    assert identity_of(published(model)) != before


def test_a_hosted_card_says_enough_to_check_its_identity(model: Path) -> None:
    (model / "extra %.txt").write_text("extra")
    card = ModelDeploymentCard.from_json_str(published(model).card.to_json_str())
    assert CardExtension.read(card.muster).identity == compute_identity(files_of(card))


def test_a_hosted_card_says_where_blobs_and_status_are_and_another_does_not(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            said = CardExtension.read(card.muster)
            assert said.status == at.runtime.status_url
            assert said.blobs == f"{at.runtime.status_url}/v1/blobs/"
            for file, _ in card.iter_metadata_files():
                status, body = await at.get(said.blobs + file.checksum.hex)
                assert status == 200
                assert Digest.of(body) == file.checksum

    run(scenario())
    said = CardExtension.read(published(model, self_host_metadata=False).card.muster)
    assert (said.blobs, said.status) == (None, None)


def test_our_key_changes_neither_the_digest_nor_anything_else(model: Path) -> None:
    card = published(model).card
    plain = json.loads(card.to_json_str())
    assert plain.pop("muster")
    read = ModelDeploymentCard.from_json_str(json.dumps(plain))
    assert read.mdcsum() == card.mdcsum()
    assert read.to_json_str() == json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def test_a_model_without_files_has_no_identity() -> None:
    bare = published("nowhere", name="acme/bare", skip_model_assets=True)
    assert bare.identity is None
    assert bare.card.muster == {}
