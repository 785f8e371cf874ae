"""Cards rewritten to be fetched from a worker, or from a hub."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.publish.self_host import point_at_hub, self_hosted
from muster.model.slot import Slot, SlotKind
from muster.names import EndpointId
from muster.runtime.metadata.registry import MetadataKey
from muster.runtime.metadata.route import parse_path

ENDPOINT = EndpointId("ns", "comp", "ep")
BASE = "http://10.0.0.1:9090"


def file(path: str, content: bytes = b"{}") -> CheckedFile:
    return CheckedFile(path=path, checksum=Digest.of(content), size=len(content))


def card(*extra: CheckedFile, **changes: object) -> ModelDeploymentCard:
    made = ModelDeploymentCard(
        display_name="Org/Model",
        slug="org_model",
        source_path="Org/Model",
        model_info=Slot(SlotKind.HF_CONFIG_JSON, file("/m/config.json")),
        tokenizer=Slot(SlotKind.HF_TOKENIZER_JSON, file("/m/tokenizer.json", b"t")),
        extra_files=extra,
    )
    return msgspec.structs.replace(made, **changes)


def locations(made: ModelDeploymentCard) -> list[str]:
    return [each.location for each, _ in made.iter_metadata_files()]


def test_w4_every_local_file_gets_a_url_and_an_entry() -> None:
    hosted = self_hosted(card(file("/m/LICENSE", b"l")), base_url=BASE, endpoint=ENDPOINT)
    prefix = f"{BASE}/v1/metadata/ns/comp/ep/org_model/_base"
    assert sorted(locations(hosted.card)) == [
        f"{prefix}/LICENSE",
        f"{prefix}/config.json",
        f"{prefix}/tokenizer.json",
    ]
    key = MetadataKey("ns", "comp", "ep", "org_model", "_base", "tokenizer.json")
    assert hosted.entries[key] == file("/m/tokenizer.json", b"t")
    assert len(hosted.entries) == 3


def test_w4_digests_sizes_and_everything_else_stay() -> None:
    before = card()
    after = self_hosted(before, base_url=BASE, endpoint=ENDPOINT).card
    assert after.mdcsum() == before.mdcsum()
    for (old, _), (new, _) in zip(
        before.iter_metadata_files(), after.iter_metadata_files(), strict=True
    ):
        assert (old.checksum, old.size) == (new.checksum, new.size)


def test_w4_a_file_that_is_a_url_already_stays_and_is_not_served() -> None:
    url = "https://elsewhere/x/config.json"
    made = card(model_info=Slot(SlotKind.HF_CONFIG_JSON, file("/m/config.json").with_url(url)))
    hosted = self_hosted(made, base_url=BASE, endpoint=ENDPOINT)
    assert url in locations(hosted.card)
    assert [key.filename for key in hosted.entries] == ["tokenizer.json"]


def test_w5_a_relative_link_keeps_its_name_and_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "config.json").symlink_to("blob")
    monkeypatch.chdir(tmp_path)
    made = card(model_info=Slot(SlotKind.HF_CONFIG_JSON, CheckedFile.from_disk("config.json")))
    hosted = self_hosted(made, base_url=BASE, endpoint=ENDPOINT)
    key = MetadataKey("ns", "comp", "ep", "org_model", "_base", "config.json")
    assert str(hosted.entries[key].path) == os.path.join(tmp_path, "config.json")  # noqa: PTH118 - as spelled


def test_m1_a_loras_files_have_its_suffix() -> None:
    hosted = self_hosted(card(), base_url=BASE, endpoint=ENDPOINT, lora_slug="my_lora")
    assert {key.suffix for key in hosted.entries} == {"my_lora"}
    assert all("/org_model/my_lora/" in place for place in locations(hosted.card))


def test_two_files_of_one_name_are_refused_naming_both() -> None:
    custom = Slot(SlotKind.HF_CHAT_TEMPLATE, file("/other/config.json"), is_custom=True)
    with pytest.raises(CardError) as caught:
        self_hosted(card(chat_template_file=custom), base_url=BASE, endpoint=ENDPOINT)
    assert "/m/config.json" in caught.value.message
    assert "/other/config.json" in caught.value.message


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_comes_back_from_its_url(name: str) -> None:
    if name in (".", ".."):
        return
    hosted = self_hosted(card(file(f"/m/{name}", b"x")), base_url=BASE, endpoint=ENDPOINT)
    urls = [place.removeprefix(BASE) for place in locations(hosted.card)]
    assert {parse_path(url) for url in urls} == set(hosted.entries)


def test_w6_typed_files_point_at_the_hub_extra_and_custom_ones_stay() -> None:
    custom = Slot(SlotKind.HF_CHAT_TEMPLATE, file("/mine/t.jinja"), is_custom=True)
    made = card(file("/m/LICENSE"), chat_template_file=custom)
    assert set(locations(point_at_hub(made))) == {
        "hf://Org/Model/config.json",
        "hf://Org/Model/tokenizer.json",
        "/mine/t.jinja",
        "/m/LICENSE",
    }


def test_w6_what_is_hosted_already_does_not_move_to_the_hub() -> None:
    hosted = self_hosted(card(), base_url=BASE, endpoint=ENDPOINT).card
    assert locations(point_at_hub(hosted)) == locations(hosted)


def test_the_card_says_where_the_worker_is_beside_what_it_said() -> None:
    made = card(muster={"identity": "x"})
    hosted = self_hosted(made, base_url=BASE, endpoint=ENDPOINT).card
    assert hosted.muster == {"identity": "x", "blobs": f"{BASE}/v1/blobs/", "status": BASE}


def test_a_name_that_no_card_can_hold_is_refused() -> None:
    custom = Slot(SlotKind.HF_CHAT_TEMPLATE, file("/m/\udcff.jinja"), is_custom=True)
    with pytest.raises(CardError, match="has no name that a card can hold"):
        self_hosted(card(chat_template_file=custom), base_url=BASE, endpoint=ENDPOINT)
