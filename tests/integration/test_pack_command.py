"""``muster pack``, ``unpack`` and ``cache import`` as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)


def muster(*arguments: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        input=stdin,
        env=os.environ | env,
    )


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


def test_a_model_goes_through_pipes(model: Path, tmp_path: Path) -> None:
    packed = muster("pack", str(model), "-o", "-")
    assert packed.returncode == 0, packed.stderr
    assert b"packed model: 4 files" in packed.stderr
    unpacked = muster("unpack", "-", "-d", str(tmp_path / "out"), stdin=packed.stdout)
    assert unpacked.returncode == 0, unpacked.stderr
    assert unpacked.stdout == b""
    assert names(tmp_path / "out") == names(model)


def test_json_says_what_was_packed_unpacked_and_imported(model: Path, tmp_path: Path) -> None:
    (model / "README.md").touch()
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}")
    pack = str(tmp_path / "a.pack")
    arguments = ["--name", "tiny", "--custom-jinja-template", str(template), "--json"]
    packed = json.loads(muster("pack", str(model), "-o", pack, *arguments).stdout)
    assert packed["size_bytes"] == Path(pack).stat().st_size
    assert packed["left_out"] == [{"name": "README.md", "reason": "the read-me file"}]
    assert {file["name"]: file["role"] for file in packed["files"]} == {
        "config.json": "model_info",
        "tokenizer.json": "tokenizer",
        "tokenizer_config.json": "prompt_formatter",
        "mine.jinja": "chat_template_file",
        "generation_config.json": "gen_config",
    }

    out = tmp_path / "out"
    unpacked = json.loads(muster("unpack", pack, "-d", str(out), "--json").stdout)
    assert unpacked["model"] == packed["model"] == "tiny"
    assert unpacked["custom_template"] == str(out / "mine.jinja")
    shown = ["--custom-jinja-template", str(out / "mine.jinja"), "--json"]
    card = json.loads(muster("card", str(out), *shown).stdout)
    assert card["identity"] == packed["identity"] == unpacked["identity"]

    result = muster(
        "cache", "import", pack, pack, "--json", MUSTER_CACHE_DIR=str(tmp_path / "cache")
    )
    assert result.returncode == 0, result.stderr
    imported = json.loads(result.stdout)
    assert imported["cache"] == str(tmp_path / "cache")
    first, second = imported["packs"]
    assert set(first["imported"]) == set(second["present"]) == names(out)
    assert first["present"] == second["imported"] == []
    assert names(tmp_path / "cache" / "blobs") == {
        file["digest"].removeprefix("blake3:") for file in packed["files"]
    }


def test_errors_exit_with_1_and_say_what_to_do(model: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.pack"
    assert muster("pack", str(model), "-o", str(good)).returncode == 0
    bad = tmp_path / "bad.pack"
    bad.write_bytes(good.read_bytes()[:-2000])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, message in (
        (["pack", str(tmp_path / "missing"), "-o", str(tmp_path / "x")], b"missing"),
        (["pack", str(model), "-o", str(tmp_path / "no" / "x")], b"cannot write"),
        (["unpack", str(tmp_path / "missing"), "-d", str(tmp_path / "x")], b"cannot read"),
        (["unpack", str(model / "config.json"), "-d", str(tmp_path / "x")], b"is not a pack"),
        (["unpack", str(bad), "-d", str(tmp_path / "x")], b"ends within"),
        (["unpack", str(good), "-d", str(tmp_path / "full")], b"not empty"),
    ):
        result = muster(*arguments)
        assert (result.returncode, result.stdout) == (1, b""), arguments
        assert message in result.stderr
        assert b"Traceback" not in result.stderr
    assert not (tmp_path / "x").exists()
    assert muster("unpack", str(good), "-d", str(tmp_path / "full"), "--force").returncode == 0
    assert names(tmp_path / "full") == names(model)


def test_a_reader_that_goes_away_ends_packing_with_1(model: Path) -> None:
    (model / "long.txt").write_bytes(bytes(4_000_000))
    command = [sys.executable, "-m", "muster.cli.main", "pack", str(model), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(100)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert b"cannot write standard output" in said
    assert b"Traceback" not in said


def test_wrong_usage_exits_with_2(model: Path) -> None:
    assert muster("pack", str(model), "-o", "-", "--json").returncode == 2
    assert muster("pack", str(model)).returncode == 2
    assert muster("unpack", "-").returncode == 2


def test_a_file_over_the_limit_stays_and_is_told(model: Path, tmp_path: Path) -> None:
    (model / "big.dat").write_bytes(bytes(2000))
    result = muster(
        "pack", str(model), "-o", str(tmp_path / "a"), MUSTER_METADATA_MAX_EXTRA_BYTES="1999"
    )
    assert result.returncode == 0
    assert b"left out big.dat" in result.stderr


def test_a_link_out_of_the_directory_is_not_packed(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (model / "extra.json").symlink_to(secret)
    result = muster("pack", str(model), "-o", str(tmp_path / "a"))
    assert b"left out extra.json" in result.stderr
    (model / "generation_config.json").unlink()
    (model / "generation_config.json").symlink_to(secret)
    result = muster("pack", str(model), "-o", str(tmp_path / "b"))
    assert result.returncode == 1
    assert not (tmp_path / "b").exists()


def test_an_import_makes_room_in_the_cache_s_budget_or_says_that_it_cannot(
    model: Path, tmp_path: Path
) -> None:
    pack, cache = str(tmp_path / "a.pack"), str(tmp_path / "cache")
    assert muster("pack", str(model), "-o", pack).returncode == 0
    arguments = ["cache", "import", pack, "--cache-dir", cache]
    result = muster(*arguments, MUSTER_CACHE_MAX_BYTES="1000")
    assert result.returncode == 1
    assert b"hint: " in result.stderr
    assert b"Traceback" not in result.stderr
    assert muster(*arguments, MUSTER_CACHE_MAX_BYTES="1000000").returncode == 0


def test_imported_files_are_in_the_cache_s_list_and_right(model: Path, tmp_path: Path) -> None:
    pack, cache = str(tmp_path / "a.pack"), str(tmp_path / "cache")
    assert muster("pack", str(model), "-o", pack).returncode == 0
    assert muster("cache", "import", pack, "--cache-dir", cache).returncode == 0
    listed = json.loads(muster("cache", "ls", "--cache-dir", cache, "--json").stdout)
    assert len(listed["blobs"]) == len(names(model))
    assert muster("cache", "verify", "--cache-dir", cache).returncode == 0
