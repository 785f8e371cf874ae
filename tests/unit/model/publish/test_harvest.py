import os
from pathlib import Path

import pytest

from muster.errors import CardError
from muster.model.publish.harvest import Harvest, LeftOutReason, harvest_extra_files


def harvest(root: Path, taken: frozenset[str] = frozenset()) -> Harvest:
    return harvest_extra_files(root, taken)


def names(result: Harvest) -> list[str]:
    return [Path(path).name for path in result.kept]


def reasons(result: Harvest) -> dict[str, LeftOutReason]:
    return {left_out.name: left_out.reason for left_out in result.left_out}


def test_filters_weights_typed_and_ignored(tmp_path: Path) -> None:
    for name in (
        *("config.json", "tokenizer.json", "preprocessor_config.json", "special_tokens_map.json"),
        *("model.safetensors", "README.md", ".gitattributes", "target_for_symlink"),
    ):
        (tmp_path / name).touch()
    (tmp_path / "added_tokens.json").symlink_to("target_for_symlink")
    (tmp_path / "sub").mkdir()
    result = harvest(tmp_path, frozenset({"config.json", "tokenizer.json"}))
    assert names(result) == [
        *("added_tokens.json", "preprocessor_config.json", "special_tokens_map.json"),
        "target_for_symlink",
    ]
    assert reasons(result) == {
        ".gitattributes": LeftOutReason.HIDDEN,
        "README.md": LeftOutReason.README,
        "config.json": LeftOutReason.TYPED,
        "model.safetensors": LeftOutReason.WEIGHTS,
        "sub": LeftOutReason.NOT_A_FILE,
        "tokenizer.json": LeftOutReason.TYPED,
    }


@pytest.mark.parametrize(
    "name",
    [
        *("LICENSE", "README", "readme.md", "Readme.md", "NOTES.md", "x.py", "a.png", "m.ckpt"),
        *("m.npz", "m.ot", "m.pb", "UPPER.SAFETENSORS", "model.safetensors.index.json"),
        *("tokenizer.model", "merges.txt", "chat_template.jinja", "bin", "x.bin ", "a b%20é.json"),
        *("-lead", "x.ptx", "x.", "safetensors"),
    ],
)
def test_what_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert names(harvest(tmp_path)) == [name]


@pytest.mark.parametrize(
    "extension", ["safetensors", "bin", "gguf", "onnx", "tflite", "h5", "pt", "pth", "msgpack"]
)
def test_weights_stay(tmp_path: Path, extension: str) -> None:
    (tmp_path / f"model.x.{extension}").touch()
    assert set(reasons(harvest(tmp_path)).values()) == {LeftOutReason.WEIGHTS}


@pytest.mark.parametrize("name", [".hidden", ".bin", "..x"])
def test_hidden_files_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert reasons(harvest(tmp_path)) == {name: LeftOutReason.HIDDEN}


def test_a_link_out_of_the_directory_stays_and_one_within_it_travels(tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "inside").touch()
    (root / "link").symlink_to("../outside")
    (root / "within").symlink_to("sub/inside")
    result = harvest(root)
    assert names(result) == ["within"]
    assert reasons(result)["link"] is LeftOutReason.LINK_OUTSIDE


def test_a_file_over_the_limit_stays_and_an_empty_one_travels(tmp_path: Path) -> None:
    for name, size in (("empty", 0), ("at the limit", 8), ("over it", 9)):
        (tmp_path / name).write_bytes(b"x" * size)
    result = harvest_extra_files(tmp_path, frozenset(), max_bytes=8)
    assert names(result) == ["at the limit", "empty"]
    assert reasons(result) == {"over it": LeftOutReason.TOO_LARGE}


def test_the_limit_is_64_mib_by_default(tmp_path: Path) -> None:
    for name, size in (("at", 64 << 20), ("over", (64 << 20) + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    assert names(harvest(tmp_path)) == ["at"]


def test_only_what_somebody_would_expect_to_travel_is_a_surprise() -> None:
    assert {reason for reason in LeftOutReason if reason.is_surprise} == {
        LeftOutReason.DANGLING,
        LeftOutReason.LINK_OUTSIDE,
        LeftOutReason.NOT_UTF8,
        LeftOutReason.TOO_LARGE,
    }


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "directory").symlink_to(tmp_path)
    assert reasons(harvest(tmp_path)) == {
        "dangling": LeftOutReason.DANGLING,
        "directory": LeftOutReason.NOT_A_FILE,
        "loop": LeftOutReason.DANGLING,
        "pipe": LeftOutReason.NOT_A_FILE,
    }


def test_a_name_that_is_not_utf8_stays(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/x\xff.json"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("the file system refuses such names")
    assert list(reasons(harvest(tmp_path)).values()) == [LeftOutReason.NOT_UTF8]


def test_sub_directories_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.json").touch()
    assert harvest(tmp_path).kept == ()


def test_returns_empty_for_missing_dir(tmp_path: Path) -> None:
    assert harvest(tmp_path / "no") == Harvest(kept=(), left_out=())


def test_a_file_has_nothing_to_list(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(CardError, match=r"^Cannot list "):
        harvest(tmp_path / "f")


def test_paths_are_sorted_and_spelled_as_the_directory_is(tmp_path: Path) -> None:
    for name in ("b", "a", "C"):
        (tmp_path / name).touch()
    directory = f"{tmp_path}/./"
    assert harvest_extra_files(directory, frozenset()).kept == tuple(
        f"{directory}{name}" for name in ("C", "a", "b")
    )
