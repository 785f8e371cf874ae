"""What is served is what was registered; which files are, and which are not."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.errors import CardError
from muster.model.publish.drift import Drift
from muster.model.publish.harvest import LeftOutFile, LeftOutReason
from muster.model.publish.publisher import Publisher
from muster.testing.loops import run
from muster.testing.publishing import locations, publishing_worker

OFTEN = MetadataSettings(drift_interval_s=0.05)


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"[")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("{}")
    other.rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" " * 100_000)


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [edit, replace, truncate, grow, delete])
def test_a_file_changed_on_disk_is_served_as_registered_and_shown_as_drift(
    model: Path, caplog: pytest.LogCaptureFixture, change: object
) -> None:
    assert callable(change)
    config = model / "config.json"
    before = config.read_bytes()

    async def scenario() -> None:
        async with publishing_worker(metadata=OFTEN) as at:
            card = (await at.register(model)).card
            publisher = Publisher.of(at.runtime)
            assert publisher.drift() == ()
            change(config)
            while not at.runtime.metadata.drifted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert at.runtime.metadata.drifted == {config}
            now = Digest.of(config.read_bytes()) if config.exists() else None
            assert publisher.drift() == (Drift(config, Digest.of(before), now),)
            assert await at.all_served(card)
            replace(config)  # so that the next write is to a file of its own
            config.write_bytes(before)
            while at.runtime.metadata.drifted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert publisher.drift() == ()
            assert await at.all_served(card)

    run(scenario())
    warned = [r for r in caplog.records if "has changed on disk" in r.getMessage()]
    assert warned
    facts = warned[0].__dict__["facts"]
    assert facts["file_name"] == config
    assert facts["registered"] == Digest.of(before)


def test_a_restart_of_the_world_under_a_worker_changes_nothing_it_serves(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker(metadata=OFTEN) as at:
            card = (await at.register(model)).card
            model.rename(model.parent / "gone")
            while len(at.runtime.metadata.drifted) < len(locations(card)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await at.all_served(card)

    run(scenario())


def test_an_extra_file_over_the_limit_is_left_out_with_a_warning(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model / "optimizer.ckpt").write_bytes(b"x" * 1001)
    (model / "empty.txt").touch()

    async def scenario() -> None:
        limit = MetadataSettings(max_extra_bytes=1000)
        async with publishing_worker(metadata=limit) as at:
            published = await at.register(model)
            names = {place.rpartition("/")[2] for place in locations(published.card)}
            assert "optimizer.ckpt" not in names
            assert {"empty.txt", "config.json", "tokenizer.json"} <= names
            left = LeftOutFile("optimizer.ckpt", LeftOutReason.TOO_LARGE)
            assert left in published.left_out
            assert await at.all_served(published.card)

    run(scenario())
    (warning,) = [r for r in caplog.records if "stays out of the card" in r.getMessage()]
    assert warning.levelno == logging.WARNING
    assert warning.__dict__["facts"]["file_name"] == "optimizer.ckpt"


def test_an_extra_file_that_is_a_link_outside_is_left_out_with_a_warning(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (model / "notes.txt").symlink_to("../secret.txt")
    (model / "more.txt").symlink_to("config.json")

    async def scenario() -> None:
        async with publishing_worker() as at:
            published = await at.register(model)
            names = {place.rpartition("/")[2] for place in locations(published.card)}
            assert "notes.txt" not in names
            assert "more.txt" in names
            assert LeftOutFile("notes.txt", LeftOutReason.LINK_OUTSIDE) in published.left_out
            digest = Digest.of(b"secret")
            status, _ = await at.get(f"{at.runtime.status_url}/v1/blobs/{digest.hex}")
            assert status == 404

    run(scenario())
    assert "leads out of the model's directory" in caplog.text


def test_a_typed_file_that_is_a_link_outside_is_refused_and_nothing_is_left(
    model: Path, tmp_path: Path
) -> None:
    (model / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (model / "tokenizer.json").symlink_to("../tokenizer.json")

    async def scenario() -> None:
        async with publishing_worker() as at:
            with pytest.raises(CardError, match="outside the model's directory") as caught:
                await at.register(model)
            assert "Without self-hosting" in caught.value.hint
            assert at.runtime.metadata.is_empty()
            assert await at.cards() == {}
            card = (await at.register(model, self_host_metadata=False)).card
            assert str(model / "tokenizer.json") in locations(card)

    run(scenario())


def test_a_model_reached_through_a_link_is_served(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(model)
    (model / "same.txt").symlink_to("config.json")

    async def scenario() -> None:
        async with publishing_worker() as at:
            published = await at.register(tmp_path / "mount")
            assert any(place.endswith("/same.txt") for place in locations(published.card))
            assert await at.all_served(published.card)

    run(scenario())


def test_names_that_differ_in_case_alone_both_travel(model: Path) -> None:
    (model / "NOTES.txt").write_text("loud")
    (model / "notes.txt").write_text("quiet")
    if (model / "NOTES.txt").read_text() == "quiet":
        pytest.skip("the file system does not tell them apart")

    async def scenario() -> None:
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            urls = {place.rpartition("/")[2]: place for place in locations(card)}
            assert (await at.get(urls["NOTES.txt"]))[1] == b"loud"
            assert (await at.get(urls["notes.txt"]))[1] == b"quiet"

    run(scenario())


def test_a_name_that_is_not_utf8_is_left_out_or_refused_with_a_reason(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = os.fsencode(model) + b"/x\xff.txt"
    template = os.fsencode(tmp_path) + b"/t\xff.jinja"
    try:
        for path in (odd, template):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("the file system refuses such names")

    async def scenario() -> None:
        async with publishing_worker() as at:
            published = await at.register(model)
            assert LeftOutFile("x\udcff.txt", LeftOutReason.NOT_UTF8) in published.left_out
            assert await at.all_served(published.card)
            other = at.runtime.endpoint("ns.comp.other")
            with pytest.raises(CardError, match="has no name that a card can hold"):
                await at.register(model, endpoint=other, custom_template_path=os.fsdecode(template))
            assert len(await at.cards()) == 1

    run(scenario())
    assert "its name is not UTF-8" in caplog.text
    assert r"x\xff.txt" in str([r.__dict__.get("facts") for r in caplog.records]).replace(
        "\\\\", "\\"
    )


def test_copies_are_kept_where_the_setting_says_and_have_no_names(
    model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "copies"
    place.mkdir()

    async def scenario() -> None:
        settings = MetadataSettings(snapshot_directory=place)
        async with publishing_worker(metadata=settings) as at:
            card = (await at.register(model)).card
            assert [*place.iterdir()] == []
            held = [
                target
                for link in Path("/proc/self/fd").iterdir()
                if (target := os.path.realpath(link)).startswith(str(place))
            ]
            assert len(held) == len(locations(card))
            assert await at.all_served(card)

    run(scenario())
