import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile

CONFIG = {"config.json": "{}"}


def make(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def load(root: Path, files: Mapping[str, str | bytes], **options: Any) -> ModelDeploymentCard:
    return ModelDeploymentCard.load(make(root, files), "Org/M", **options)


def refused(root: Path, files: Mapping[str, str | bytes], **options: Any) -> str:
    with pytest.raises(CardError) as caught:
        load(root, files, **options)
    return caught.value.message


def slots(card: ModelDeploymentCard) -> dict[str, str | None]:
    found = {
        "model_info": card.model_info,
        "tokenizer": card.tokenizer,
        "prompt_formatter": card.prompt_formatter,
        "chat_template_file": card.chat_template_file,
        "gen_config": card.gen_config,
    }
    return {name: f"{slot.kind}={slot.file.basename()}" for name, slot in found.items() if slot}


# --- the slots


def test_every_slot_gets_its_file(tmp_path: Path) -> None:
    card = load(
        tmp_path,
        {
            "config.json": "{}",
            "tokenizer.json": "{}",
            "tokenizer_config.json": "{}",
            "chat_template.jinja": "x",
            "generation_config.json": "{}",
            "README.md": "",
            "merges.txt": "",
        },
    )
    assert slots(card) == {
        "model_info": "hf_config_json=config.json",
        "tokenizer": "hf_tokenizer_json=tokenizer.json",
        "prompt_formatter": "hf_tokenizer_config_json=tokenizer_config.json",
        "chat_template_file": "hf_chat_template=chat_template.jinja",
        "gen_config": "hf_generation_config_json=generation_config.json",
    }
    assert all(file.size is not None for file, _ in card.iter_metadata_files())
    assert all(file.checksum_matches(file.location) for file in card.iter_typed_files())
    assert card.extra_files == ()


def test_what_the_caller_knows_better_is_left_empty(tmp_path: Path) -> None:
    card = load(tmp_path, CONFIG)
    assert card == ModelDeploymentCard(
        display_name="Org/M", slug="org_m", model_info=card.model_info
    )


@pytest.mark.parametrize(
    ("names", "tokenizer"),
    [
        ((), None),
        (("tokenizer.json", "tiktoken.model", "a.tiktoken", "b.tiktoken"), "tokenizer.json"),
        (("tiktoken.model", "a.tiktoken", "b.tiktoken"), "tiktoken.model"),
        (("a.tiktoken",), "a.tiktoken"),
        ((".tiktoken", "a.tiktoken"), "a.tiktoken"),
        ((".tiktoken", "a.TIKTOKEN", "tokenizer.model"), None),
    ],
)
def test_the_tokenizer_is_the_first_there_is(
    tmp_path: Path, names: tuple[str, ...], tokenizer: str | None
) -> None:
    card = load(tmp_path, CONFIG | dict.fromkeys(names, ""))
    assert (card.tokenizer and card.tokenizer.file.basename()) == tokenizer


def test_two_tiktoken_files_are_one_too_many(tmp_path: Path) -> None:
    message = refused(tmp_path, {"config.json": "{}", "b.tiktoken": "", "a.tiktoken": ""})
    assert message.startswith(f"Multiple .tiktoken files found in {tmp_path}: ")
    assert "a.tiktoken" in message
    assert "b.tiktoken" in message


def test_a_tokenizer_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    assert refused(tmp_path, CONFIG).startswith("Not a file: ")


def test_a_dangling_tokenizer_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").symlink_to("nothing")
    assert load(tmp_path, CONFIG).tokenizer is None


@pytest.mark.parametrize(
    ("names", "template"),
    [
        ((), None),
        (("chat_template.jinja", "chat_template.json"), "hf_chat_template=chat_template.jinja"),
        (("chat_template.json",), "hf_chat_template_json=chat_template.json"),
    ],
)
def test_the_jinja_template_wins(
    tmp_path: Path, names: tuple[str, ...], template: str | None
) -> None:
    card = load(tmp_path, CONFIG | dict.fromkeys(names, ""))
    assert slots(card).get("chat_template_file") == template


def test_a_custom_template_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    custom = tmp_path / "mine.txt"
    custom.write_text("t")
    card = load(tmp_path, CONFIG | {"chat_template.jinja": ""}, custom_template_path=custom)
    assert slots(card)["chat_template_file"] == "hf_chat_template=mine.txt"
    assert [custom for _, custom in card.iter_metadata_files()] == [False, True]


def test_a_custom_template_must_exist(tmp_path: Path) -> None:
    message = refused(tmp_path, CONFIG, custom_template_path=tmp_path / "no")
    assert message == f"Custom template file does not exist: {tmp_path}/no"


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").mkdir()
    message = refused(tmp_path, CONFIG | {"chat_template.json": ""})
    assert message.startswith("Failed to load chat_template.jinja")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_an_optional_file_that_cannot_be_read_counts_as_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert slots(load(tmp_path, CONFIG)) == {"model_info": "hf_config_json=config.json"}


def test_a_name_in_a_snapshot_is_the_links(tmp_path: Path) -> None:
    """As in a hub cache, where names are links to files named by a hash."""
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "config.json").symlink_to("blob")
    card = load(tmp_path, {})
    assert slots(card) == {"model_info": "hf_config_json=config.json"}


def test_a_mistral_directory_has_empty_slots(tmp_path: Path) -> None:
    card = load(
        tmp_path,
        {
            "params.json": "nonsense",
            "tokenizer.json": "{}",
            "tokenizer_config.json": '{"model_max_length": 55}',
        },
    )
    assert slots(card) == {}
    assert card.context_length == 55


def test_params_beside_a_configuration_do_not_matter(tmp_path: Path) -> None:
    assert slots(load(tmp_path, {"params.json": "", "config.json": "{}"})) == {
        "model_info": "hf_config_json=config.json"
    }


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}//", "{}/.", "{}/../{name}"])
def test_paths_are_spelled_as_the_directory_is(tmp_path: Path, spelling: str) -> None:
    make(tmp_path, CONFIG)
    directory = spelling.format(tmp_path, name=tmp_path.name)
    card = ModelDeploymentCard.load(directory, "m")
    assert card.model_info is not None
    expected = directory + ("config.json" if directory.endswith("/") else "/config.json")
    assert card.model_info.file.path == expected


def test_any_name_will_do(tmp_path: Path) -> None:
    card = ModelDeploymentCard.load(make(tmp_path, CONFIG), "")
    assert (card.display_name, card.slug) == ("", "")


# --- what is refused


def test_missing_required_files(tmp_path: Path) -> None:
    message = refused(tmp_path, {"model.gguf": ""})
    assert message.startswith(f"unable to extract config.json from directory {tmp_path}")


def test_a_dangling_configuration_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("nothing")
    assert refused(tmp_path, {}).startswith("unable to extract config.json")


def test_a_configuration_that_is_a_directory_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    assert refused(tmp_path, {}).startswith(f"Failed to read {tmp_path}/config.json")


def test_a_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=f"^Model path does not exist: {tmp_path}/no$"):
        ModelDeploymentCard.load(tmp_path / "no", "m")


def test_a_directory_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(CardError, match=f"^Model path is not a directory: {tmp_path}/f$"):
        ModelDeploymentCard.load(tmp_path / "f", "m")


# --- the context length


def length(root: Path, config: str | bytes | None, tokenizer: str | None = None) -> int | None:
    files: dict[str, str | bytes] = {"params.json": ""} if config is None else {}
    if config is not None:
        files["config.json"] = config
    if tokenizer is not None:
        files["tokenizer_config.json"] = tokenizer
    return load(root, files).architectural_max_context_length


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{}", 77),
        ('{"text_config": null}', 77),
        ('{"text_config": {}}', 77),
        ('{"text_config": []}', 77),
        ('{"max_position_embeddings": 7}', 7),
        ('{"max_position_embeddings": 7, "text_config": {"max_position_embeddings": 9}}', 7),
        ('{"text_config": {"max_position_embeddings": 9}}', 9),
        ('{"text_config": [4]}', 4),
        ('{"text_config": [4, "more"]}', 4),
        ('{"max_position_embeddings": 0}', None),
        ('{"text_config": {"max_position_embeddings": 0}}', None),
        ('{"max_position_embeddings": 4294967295}', 4294967295),
        ('{"a": 1, "a": 2}', 77),
        (None, 77),
    ],
)
def test_architectural_context_prefers_config_then_text_config_then_tokenizer(
    tmp_path: Path, config: str | None, expected: int | None
) -> None:
    assert length(tmp_path, config, '{"model_max_length": 77}') == expected


@pytest.mark.parametrize(
    "value", ["null", '"5"', "1e3", "5.0", "4294967296", "-1", "true", "[7]", "{}", "NaN", "7."]
)
@pytest.mark.parametrize("nested", [False, True])
def test_architectural_context_errors_on_malformed_present_fields(
    tmp_path: Path, value: str, nested: bool
) -> None:
    text = f'{{"max_position_embeddings": {value}}}'
    prefix = "text_config." if nested else ""
    config = f'{{"text_config": {text}}}' if nested else text
    message = refused(tmp_path, {"config.json": config})
    assert message == f"Failed to deserialize {prefix}max_position_embeddings"


@pytest.mark.parametrize(
    "config",
    [
        '{"max_position_embeddings": 7, "x": Infinity, "y": -Infinity, "z": NaN}',
        "// c\n{max_position_embeddings: +7,}",
        "{'max_position_embeddings': 0x7} /* c */",
        "\ufeff{\"max_position_embeddings\": 7, 's': 1e999}",
    ],
)
def test_architectural_context_tolerates_non_finite_literals(tmp_path: Path, config: str) -> None:
    assert length(tmp_path, config) == 7


@pytest.mark.parametrize(
    "config",
    [
        *("", "[]", "5", "null", '{"max_position_embeddings": 7', "{} x", '{"text_config": 5}'),
        '{"max_position_embeddings": 7, "max_position_embeddings": 7}',
    ],
)
def test_a_configuration_that_is_none_cannot_be_parsed(tmp_path: Path, config: str) -> None:
    message = refused(tmp_path, {"config.json": config})
    assert message.startswith(f"Failed to parse JSON from file: {tmp_path}/config.json")


def test_a_configuration_that_is_not_utf8_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path, {"config.json": b'{"a": "\xff"}'}).startswith("Failed to read ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"model_max_length": 77}', 77),
        ('{"model_max_length": 1, "model_max_length": 2}', 2),
        ('{"model_max_length": 0}', None),
        ('{"model_max_length": 4294967296}', None),
        ('{"model_max_length": 1000000000000000019884624838656}', None),
        ('{"model_max_length": 1e30}', None),
        ('{"model_max_length": 5.0}', None),
        ('{"model_max_length": null}', None),
        ('{"model_max_length": true}', None),
        ("{}", None),
        ("[5]", None),
        ("{bad", None),
        ("", None),
        ("{model_max_length: 5}", None),
        ('{"model_max_length": 5, "x": 1e999}', None),
    ],
)
def test_a_tokenizer_configuration_that_says_nothing_usable_is_passed_over(
    tmp_path: Path, content: str, expected: int | None
) -> None:
    assert length(tmp_path, "{}", content) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_directory_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    make(tmp_path, CONFIG).chmod(0o300)
    try:
        assert refused(tmp_path, {}).startswith("Cannot list ")
    finally:
        tmp_path.chmod(0o700)


def test_a_loaded_card_reads_back_as_itself(tmp_path: Path) -> None:
    card = load(tmp_path, {"config.json": json.dumps({"max_position_embeddings": 9})})
    again = ModelDeploymentCard.from_json_str(card.to_json_str())
    assert again.mdcsum() == card.mdcsum()
    assert list(again.iter_metadata_files()) == list(card.iter_metadata_files())
    assert isinstance(next(again.iter_typed_files()), CheckedFile)
