import json
from pathlib import Path

import pytest

from muster.digest import Digest
from muster.errors import CardError, ContentError
from muster.model.checked_file import CHECKED_FILE, CheckedFile
from muster.model.strictjson.reader import read
from muster.model.strictjson.writer import dump

HEX = "74787adb167a70c291bdba9146af664e6f6633232f8bfcdb2edbdd7800cf7390"
SUM = Digest(HEX)


def parse(text: str) -> CheckedFile:
    return CHECKED_FILE.read(read(text), "file")


def written(file: CheckedFile) -> str:
    return dump(CHECKED_FILE.write(file))


def wire(**fields: object) -> str:
    return json.dumps({"path": "/a", "checksum": f"blake3:{HEX}"} | fields)


def at(location: str) -> CheckedFile:
    return CheckedFile.at(location, SUM)


# --- JSON


def test_serialization_blake3() -> None:
    assert written(CheckedFile(path="/a", checksum=SUM)) == (
        f'{{"path":"/a","checksum":"blake3:{HEX}"}}'
    )


def test_deserialization_blake3() -> None:
    assert parse(wire()).checksum == SUM


@pytest.mark.parametrize(
    "checksum",
    [
        HEX,
        f"blake3:{HEX}:x",
        "blake3:abcd1234",
        "blake3:../../etc/passwd",
        f"blake3:{HEX.upper()}",
        f"blake3:{HEX}0",
        f"sha256:{HEX}",
        f"BLAKE3:{HEX}",
        f"blake3: {HEX}",
        "",
        None,
        7,
    ],
)
def test_deserialization_invalid_format(checksum: object) -> None:
    with pytest.raises(CardError, match=r"^file\.checksum: "):
        parse(wire(checksum=checksum))


def test_legacy_wire_format_omits_size() -> None:
    file = parse(wire())
    assert (file.size, file.path) == (None, "/a")


def test_new_wire_format_carries_size() -> None:
    assert '"size":12345' in written(parse(wire(size=12345)))


def test_a_null_size_is_no_size() -> None:
    assert parse(wire(size=None)).size is None


def test_sizes_go_up_to_64_bits() -> None:
    assert parse(wire(size=2**64 - 1)).size == 2**64 - 1


@pytest.mark.parametrize("size", ["-1", "1.0", "18446744073709551616", '"1"', "true", "1e2"])
def test_a_size_is_a_whole_number_of_64_bits(size: str) -> None:
    with pytest.raises(CardError, match=r"^file\.size: "):
        parse(wire()[:-1] + f',"size":{size}}}')


def test_unknown_keys_are_dropped() -> None:
    assert written(parse(wire(more=1))) == written(parse(wire()))


def test_an_array_is_read_as_the_fields_in_their_order() -> None:
    assert parse(f'["/a","blake3:{HEX}",3]') == CheckedFile(path="/a", checksum=SUM, size=3)


@pytest.mark.parametrize("missing", ["path", "checksum"])
def test_path_and_checksum_must_be_there(missing: str) -> None:
    fields = json.loads(wire())
    del fields[missing]
    with pytest.raises(CardError, match=f"missing field `{missing}`"):
        parse(json.dumps(fields))


# --- path or URL


@pytest.mark.parametrize("text", ["/a/b", "rel/x.json", ""])
def test_a_path_stays_a_path(text: str) -> None:
    file = at(text)
    assert (file.path, file.url, file.location) == (text, None, text)


def test_a_url_is_normalised() -> None:
    file = at("HTTP://HÖST:80/a.json")
    assert (file.path, file.url) == (None, "http://xn--hst-sna/a.json")


def test_a_windows_path_is_taken_for_a_url() -> None:
    assert at("c:\\a\\b").url == "c:\\a\\b"


def test_a_file_is_at_one_place() -> None:
    for path, url in ((None, None), ("/a", "http://h/")):
        with pytest.raises(CardError):
            CheckedFile(path=path, url=url, checksum=SUM)


# --- names and places


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/a/b.json", "b.json"),
        ("b.json", "b.json"),
        ("/a/b/", "b"),
        ("/a/b/.", "b"),
        ("/a//b", "b"),
        ("/a/..", None),
        ("..", None),
        (".", None),
        ("/", None),
        ("", None),
        ("/a/x y%20é", "x y%20é"),
        ("/a/\udcff", None),
        ("http://h/a/b.json", "b.json"),
        ("http://h/a%20b.json", "a%20b.json"),
        ("http://h/a b?q/r#s/t", "a%20b"),
        ("http://h/a/", "a"),
        ("http://h/a//", "a"),
        ("http://h/", None),
        ("http://h/x/..%2fetc", "..%2fetc"),
        ("hf:a/b.json", "b.json"),
        ("c:\\a\\b", "\\a\\b"),
    ],
)
def test_basename(location: str, name: str | None) -> None:
    assert at(location).basename() == name


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/a/b.json", "/d/b.json"),
        ("http://h/a/b%20c.json", "/d/b%20c.json"),
        ("http://h/a/..%2fetc", "/d/..%2fetc"),
        ("http://h/a/", "http://h/a/"),
        ("/a/..", "/a/.."),
    ],
)
def test_with_dir_keeps_the_last_name_unless_there_is_none(location: str, place: str) -> None:
    assert at(location).with_dir("/d").location == place


def test_with_dir_makes_a_path() -> None:
    assert at("http://h/b").with_dir(Path("/d")).path == "/d/b"


def test_basename_and_with_dir_differ_for_a_url_that_ends_in_a_slash() -> None:
    file = at("http://h/a/")
    assert file.basename() == "a"
    assert file.with_dir("/d") is file


def test_moving_changes_the_place_only() -> None:
    file = CheckedFile(path="/a", checksum=SUM, size=3)
    moved = file.with_url("http://H/a")
    assert moved == CheckedFile(url="http://h/a", checksum=SUM, size=3)
    assert moved.with_path("/a") == file


def test_a_url_to_move_to_must_be_one() -> None:
    with pytest.raises(CardError, match="not an absolute URL"):
        at("/a").with_url("/b")


# --- disk


def test_checked_file_from_disk(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("config.json")
    file = CheckedFile.from_disk(tmp_path / "." / "link")
    assert file == CheckedFile(path=str(tmp_path / "link"), checksum=Digest.of(b"{}"), size=2)


def test_the_path_is_kept_as_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    text = f"{tmp_path}/./x"
    assert CheckedFile.from_disk(text).path == text


def test_from_disk_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"^File not found: "):
        CheckedFile.from_disk(tmp_path / "x")
    with pytest.raises(ContentError, match=r"^Not a file: "):
        CheckedFile.from_disk(tmp_path)


def test_is_local_asks_the_disk(tmp_path: Path) -> None:
    assert at(str(tmp_path)).is_local()
    assert not at(str(tmp_path / "x")).is_local()
    assert not at(f"file://{tmp_path}").is_local()


def test_checksum_matches_only_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a")
    file = CheckedFile.from_disk(path)
    assert file.checksum_matches(path)
    path.write_bytes(b"b")
    assert not file.checksum_matches(path)
    assert not file.checksum_matches(tmp_path / "missing")


def test_a_name_that_is_not_utf8_cannot_be_written() -> None:
    with pytest.raises(CardError, match="not UTF-8"):
        written(CheckedFile(path="/a/\udcff", checksum=SUM))
