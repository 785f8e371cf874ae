"""Packs: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import CardError, ContentError, DigestMismatchError, StoreError
from muster.model.identity import FileRole
from muster.model.pack.contents import survey_model
from muster.model.pack.manifest import (
    CHECKSUMS_NAME,
    FOLDER,
    MANIFEST_NAME,
    PackedFile,
    PackManifest,
)
from muster.model.pack.read import PackReader, is_pack
from muster.model.pack.tar import END, member_header, padding_of, size_in
from muster.model.pack.unpack import import_pack, unpack_into
from muster.model.pack.write import write_pack, write_pack_file
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def pack(directory: Path, name: str = "tiny", custom_template: Path | None = None) -> bytes:
    contents = survey_model(directory, name, custom_template=custom_template)
    stream = io.BytesIO()
    write_pack(stream, contents.manifest, contents.path_of)
    return stream.getvalue()


def files_in(directory: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in directory.iterdir()}


def read_all(data: bytes) -> dict[str, bytes]:
    """The files a reader was told are complete and right."""
    found: dict[str, bytes] = {}

    def receive(file: PackedFile, pieces: Iterator[bytes]) -> None:
        found[file.name] = b"".join(pieces)

    PackReader(io.BytesIO(data), label="test").read_files(receive)
    return found


def small_pack(tmp_path: Path, extra: dict[str, bytes]) -> bytes:
    """A pack without a tokenizer, so that a test can try every byte of it."""
    directory = tmp_path / "small"
    directory.mkdir()
    (directory / "config.json").write_bytes(b'{"max_position_embeddings": 8}')
    for name, content in extra.items():
        (directory / name).write_bytes(content)
    return pack(directory, "small")


# -- round trips ------------------------------------------------------------------------------


def test_what_is_packed_is_unpacked(model: Path, tmp_path: Path) -> None:
    (model / "added_tokens.json").write_text("{}")
    (model / "README.md").write_text("stays")
    (model / "model.safetensors").write_bytes(bytes(100))
    before = files_in(model)
    reader = PackReader(io.BytesIO(pack(model)), label="test")
    unpack_into(reader, tmp_path / "out")
    assert files_in(tmp_path / "out") == {
        name: content
        for name, content in before.items()
        if name not in ("README.md", "model.safetensors")
    }
    assert {left.name: left.reason for left in reader.manifest.left_out} == {
        "README.md": "the read-me file",
        "model.safetensors": "model weights",
    }


def test_an_unpacked_model_has_the_packed_ones_identity(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}")
    packed = survey_model(model, "tiny", custom_template=template).manifest
    reader = PackReader(io.BytesIO(pack(model, custom_template=template)), label="test")
    unpack_into(reader, tmp_path / "out")
    again = survey_model(
        tmp_path / "out", "tiny", custom_template=tmp_path / "out" / "mine.jinja"
    ).manifest
    assert again.identity == packed.identity == reader.manifest.identity
    assert again.to_bytes() == packed.to_bytes()


def test_the_same_model_gives_the_same_bytes_wherever_and_whenever_it_lies(
    model: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, content in reversed(files_in(model).items()):
        (elsewhere / name).write_bytes(content)
        (elsewhere / name).chmod(0o600)
        os.utime(elsewhere / name, (1, 1))
    assert pack(model) == pack(elsewhere)


def test_a_pack_is_a_plain_tar(model: Path, tmp_path: Path) -> None:
    long_name = "x" * 180 + ".json"
    (model / long_name).write_text("long")
    (model / "naïve\nname.txt").write_text("odd")
    data = pack(model)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        content = {
            member.name: file.read()
            for member in members
            if (file := archive.extractfile(member)) is not None
        }
    names = [member.name for member in members]
    assert names[:2] == [MANIFEST_NAME, CHECKSUMS_NAME]
    assert names[2:] == sorted(names[2:])
    assert all(member.isreg() and member.mtime == 0 for member in members)
    assert {f"{FOLDER}{name}": each for name, each in files_in(model).items()} == {
        name: each for name, each in content.items() if name.startswith(FOLDER)
    }
    (tmp_path / "a.pack").write_bytes(data)
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", str(tmp_path / "a.pack")],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert listed.stdout == "".join(f"{name}\n" for name in names)
    assert listed.stderr == ""


def test_the_checksum_list_has_the_digest_of_every_other_member(model: Path) -> None:
    (model / "back\\slash\n").write_text("odd")
    with tarfile.open(fileobj=io.BytesIO(pack(model))) as archive:
        content = {
            member.name: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    lines = content.pop(CHECKSUMS_NAME).decode().splitlines()
    told = {}
    for line in lines:
        digest, _, name = line.removeprefix("\\").partition("  ")
        if line.startswith("\\"):
            name = name.replace("\\n", "\n").replace("\\\\", "\\")
        told[name] = digest
    assert told == {name: Digest.of(each).hex for name, each in content.items()}


# "d", a letter with a case, digits, what tar, URLs and shells find special, and beyond ASCII
NAMES = st.text(
    st.sampled_from("aZ09 .-_%#?&:;'\"\\\n\r\t*~é本🐟\u202e\x7f\x01"), min_size=1, max_size=120
).filter(lambda name: len(name.encode()) <= 255 and name not in (".", "..", "config.json"))


@settings(max_examples=60)
@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6))
def test_every_name_and_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    directory = tmp_path_factory.mktemp("model")
    (directory / "config.json").write_text('{"max_position_embeddings": 8}')
    for name, content in files.items():
        (directory / name).write_bytes(content)
    contents = survey_model(directory, "any")
    stream = io.BytesIO()
    size_bytes = write_pack(stream, contents.manifest, contents.path_of)
    assert size_bytes == len(stream.getvalue())
    found = read_all(stream.getvalue())
    left = {each.name for each in contents.manifest.left_out}
    assert {name: each for name, each in files.items() if name not in left} == {
        name: each for name, each in found.items() if name != "config.json"
    }


@given(size_bytes=st.integers(0, 8**11 - 1), name=NAMES)
def test_a_header_says_its_name_and_size_to_any_tar_reader(size_bytes: int, name: str) -> None:
    header = member_header(name, size_bytes)
    assert len(header) % 512 == 0
    assert size_in(header[-512:]) == size_bytes
    with tarfile.open(fileobj=io.BytesIO(header + END)) as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size) == (name.rstrip("/"), size_bytes)


def test_a_file_of_8_gib_is_refused() -> None:
    with pytest.raises(ContentError, match="less than 8 GiB"):
        member_header("big", 8**11)


def test_a_file_in_two_slots_is_packed_once(model: Path, tmp_path: Path) -> None:
    data = pack(model, custom_template=model / "generation_config.json")
    manifest = PackReader(io.BytesIO(data), label="test").manifest
    roles = [file.role for file in manifest.files if file.name == "generation_config.json"]
    assert roles == [FileRole.CHAT_TEMPLATE, FileRole.GEN_CONFIG]
    assert read_all(data) == files_in(model)


# -- damage and malice ------------------------------------------------------------------------


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    data = small_pack(tmp_path, {"a.txt": b"hello", "empty.txt": b"", "n" * 120: b"long name"})
    assert len(read_all(data)) == 4
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x01
        with pytest.raises(ContentError):
            read_all(bytes(changed))


def test_no_truncation_goes_unnoticed(tmp_path: Path) -> None:
    data = small_pack(tmp_path, {"a.txt": b"hello", "empty.txt": b""})
    for length in range(len(data)):
        with pytest.raises(ContentError):
            read_all(data[:length])


@settings(max_examples=200)
@given(data=st.data())
def test_a_mutated_pack_never_gives_wrong_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    original = {"a.txt": b"hello", "b.txt": b"x" * 700}
    right = small_pack(tmp_path_factory.mktemp("model"), original)
    start = data.draw(st.integers(0, len(right)))
    end = data.draw(st.integers(start, min(len(right), start + 1024)))
    mutated = right[:start] + data.draw(st.binary(max_size=64)) + right[end:]
    found: dict[str, bytes] = {}

    def receive(file: PackedFile, pieces: Iterator[bytes]) -> None:
        found[file.name] = b"".join(pieces)

    try:
        PackReader(io.BytesIO(mutated), label="test").read_files(receive)
    except ContentError:
        pass
    else:
        assert mutated == right
    for name, content in found.items():
        assert content == original.get(name, b'{"max_position_embeddings": 8}')


def test_a_damaged_file_is_named(model: Path) -> None:
    data = bytearray(pack(model))
    place = bytes(data).index(b"TinyForCausalLM")
    data[place] ^= 0x20
    with pytest.raises(DigestMismatchError, match=r"files/config\.json is damaged"):
        read_all(bytes(data))


def test_a_pack_cut_short_says_where(model: Path) -> None:
    data = pack(model)
    place = data.index(b"TinyForCausalLM")
    with pytest.raises(ContentError, match=r"ends within 'files/config\.json'"):
        read_all(data[:place])


def of_members(*members: tuple[str, bytes], end: bytes = END) -> bytes:
    return (
        b"".join(
            member_header(name, len(content)) + content + bytes(padding_of(len(content)))
            for name, content in members
        )
        + end
    )


def members_of(data: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (member.name, file.read())
            for member in archive
            if (file := archive.extractfile(member)) is not None
        ]


Change = Callable[[list[tuple[str, bytes]]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.pop(), r"'files/config\.json' is missing"),
        (lambda members: members.append(members[-1]), r"'files/config.json' follows the last file"),
        (lambda members: members.append(("x", b"")), "'x' follows the last file"),
        (lambda members: members.insert(2, ("../x", b"")), r"'../x' is where 'files/a.txt' should"),
        (lambda members: members.reverse(), "is not a pack"),
        (lambda members: members.pop(1), rf"'files/a.txt' is where '{CHECKSUMS_NAME}' should be"),
        (lambda members: members.clear(), "is not a pack"),
    ],
)  # fmt: skip
def test_members_must_be_those_of_the_manifest(
    tmp_path: Path, change: Change, message: str
) -> None:
    members = members_of(small_pack(tmp_path, {"a.txt": b"hello"}))
    assert read_all(of_members(*members))  # as it is it can be read
    change(members)
    with pytest.raises(ContentError, match=message):
        read_all(of_members(*members))


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    data = small_pack(tmp_path, {})
    with pytest.raises(ContentError, match="something follows its end"):
        read_all(data + b"\0")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE]
)
def test_nothing_but_a_regular_file_is_taken(tmp_path: Path, kind: bytes) -> None:
    data = small_pack(tmp_path, {})
    place = data.rindex(b"files/config.json\0")
    member = tarfile.TarInfo("files/config.json")
    member.type, member.linkname = kind, "/etc/passwd"
    header = member.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(ContentError, match=r"'files/config\.json"):
        read_all(data[:place] + header + data[place + 512 :])


def rewritten(tmp_path: Path, change: Callable[[dict[str, object]], object]) -> bytes:
    """A pack with another manifest, and the checksums to go with it."""
    members = members_of(small_pack(tmp_path, {"a.txt": b"hello"}))
    manifest = json.loads(members[0][1])
    change(manifest)
    written = json.dumps(manifest).encode()
    lines = members[1][1].splitlines(keepends=True)
    lines[0] = f"{Digest.of(written).hex}  {MANIFEST_NAME}\n".encode()
    return of_members((MANIFEST_NAME, written), (CHECKSUMS_NAME, b"".join(lines)), *members[2:])


def test_a_rewritten_manifest_that_says_the_same_is_read(tmp_path: Path) -> None:
    assert read_all(rewritten(tmp_path, lambda manifest: None))["a.txt"] == b"hello"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "of version 2; this Muster reads version 1"),
        (lambda m: m.update(version="1"), "cannot be read"),
        (lambda m: m.update(format="zip"), "of the format 'zip'"),
        (lambda m: m.update(more=1), "cannot be read"),
        (lambda m: m.update(model="other"), "its model is 'small', not 'other'"),
        (lambda m: m.update(identity="blake3:" + "0" * 64), "its identity is"),
        (lambda m: m["files"].pop(), "list of files is not that of its card"),
        (lambda m: m["files"].append(m["files"][0]), "list of files is not that of its card"),
        (lambda m: m["files"][0].update(name="../x"), "unsafe file name '../x'"),
        (lambda m: m["files"][0].update(role="weights"), "cannot be read"),
        (lambda m: m["files"][0].update(size_bytes=1), "list of files is not that of its card"),
        (lambda m: m["files"][0].update(digest="md5:0"), "invalid checksum"),
        (lambda m: m["card"]["extra_files"][0].update(path="/etc/passwd"), "list of files"),
        (lambda m: m["card"]["extra_files"][0].update(path="http://h/x"), "unsafe file name"),
        (lambda m: m["card"]["extra_files"][0].update(path="files/.."), "unsafe file name"),
        (lambda m: m["card"]["extra_files"][0].update(path="files/config.json"),
         "two files are called 'config.json'"),
        (lambda m: m.update(card=[]), "muster-pack.json"),
    ],
)  # fmt: skip
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    with pytest.raises(ContentError, match=message):
        read_all(rewritten(tmp_path, change))


def test_a_manifest_that_claims_gigabytes_is_refused_unread() -> None:
    header = member_header(MANIFEST_NAME, 1 << 32)
    with pytest.raises(ContentError, match="claims 4294967296 bytes"):
        PackReader(io.BytesIO(header), label="test")


@pytest.mark.parametrize("data", [b"", b"x" * 2000, bytes(2000), b"\x1f\x8b" + bytes(600)])
def test_other_files_are_no_packs(data: bytes) -> None:
    assert not is_pack(data)
    with pytest.raises(ContentError, match="is not a pack"):
        PackReader(io.BytesIO(data), label="test")


# -- unpacking --------------------------------------------------------------------------------


def reader_of(data: bytes) -> PackReader:
    return PackReader(io.BytesIO(data), label="test")


def test_a_damaged_pack_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    data = bytearray(pack(model))
    data[-2000] ^= 1
    with pytest.raises(ContentError):
        unpack_into(reader_of(bytes(data)), place / "out")
    assert list(place.iterdir()) == []


def test_a_damaged_pack_replaces_nothing(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    (out / "mine").write_text("mine")
    with pytest.raises(ContentError):
        unpack_into(reader_of(pack(model)[:-600]), out, replace=True)
    assert files_in(out) == {"mine": b"mine"}
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_an_empty_directory_is_taken_and_a_full_one_only_when_told(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    unpack_into(reader_of(pack(model)), out)
    assert files_in(out) == files_in(model)
    (out / "more").touch()
    with pytest.raises(ContentError, match="not empty"):
        unpack_into(reader_of(pack(model)), out)
    unpack_into(reader_of(pack(model)), out, replace=True)
    assert files_in(out) == files_in(model)
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    for _ in range(2):  # the target is missing, then there
        unpack_into(reader_of(pack(model)), link, replace=True)
        assert link.is_symlink()
        assert files_in(tmp_path / "real") == files_in(model)


def test_a_directory_with_directories_in_it_is_never_replaced(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "inner").mkdir(parents=True)
    with pytest.raises(ContentError, match="holds the directory 'inner'"):
        unpack_into(reader_of(pack(model)), tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "inner").is_dir()


def test_a_file_in_the_way_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ContentError, match="cannot unpack into"):
        unpack_into(reader_of(pack(model)), tmp_path / "out", replace=True)


# -- importing --------------------------------------------------------------------------------


def test_imported_files_are_in_the_store(model: Path, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "cache")
    first = import_pack(reader_of(pack(model)), store)
    assert {file.name for file in first.imported} == set(files_in(model))
    assert first.present == ()
    for file in first.imported:
        found = store.find(file.digest)
        assert found is not None
        assert found.read_bytes() == (model / file.name).read_bytes()
    again = import_pack(reader_of(pack(model)), store)
    assert again.imported == ()
    assert again.present == first.imported


def test_a_bad_blob_is_imported_anew(model: Path, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "cache")
    (file, *_) = import_pack(reader_of(pack(model)), store).imported
    store.blob_path(file.digest).chmod(0o600)
    store.blob_path(file.digest).write_bytes(b"rot")
    again = import_pack(reader_of(pack(model)), BlobStore(tmp_path / "cache"))
    assert again.imported == (file,)


def test_two_files_with_one_content_are_imported_once(tmp_path: Path) -> None:
    data = small_pack(tmp_path, {"a.txt": b"same", "b.txt": b"same"})
    done = import_pack(reader_of(data), BlobStore(tmp_path / "cache"))
    assert [file.name for file in done.imported] == ["a.txt", "config.json"]
    assert [file.name for file in done.present] == ["b.txt"]


def test_a_damaged_file_is_not_imported(model: Path, tmp_path: Path) -> None:
    data = bytearray(pack(model))
    data[bytes(data).index(b"TinyForCausalLM")] ^= 1
    with pytest.raises(ContentError):
        import_pack(reader_of(bytes(data)), BlobStore(tmp_path / "cache"))
    left = tmp_path / "cache" / "blobs"
    assert not left.exists() or list(left.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(StoreError):
        import_pack(reader_of(pack(model)), BlobStore(tmp_path / "cache"))


# -- writing ----------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_packed_is_an_error_and_leaves_no_pack(
    model: Path, tmp_path: Path
) -> None:
    contents = survey_model(model, "tiny")
    place = tmp_path / "place"
    place.mkdir()
    (place / "a.pack").write_bytes(b"old")
    config = model / "config.json"
    for changed in (config.read_bytes() + b" ", config.read_bytes()[:-1], b"x" * 400):
        config.write_bytes(changed)
        with pytest.raises(DigestMismatchError, match=r"config\.json changed"):
            write_pack_file(place / "a.pack", contents.manifest, contents.path_of)
    config.unlink()
    with pytest.raises(ContentError, match="cannot read"):
        write_pack_file(place / "a.pack", contents.manifest, contents.path_of)
    assert files_in(place) == {"a.pack": b"old"}


def test_a_pack_replaces_the_old_one(model: Path, tmp_path: Path) -> None:
    contents = survey_model(model, "tiny")
    place = tmp_path / "place"
    place.mkdir()
    (place / "a.pack").write_bytes(b"old")
    write_pack_file(place / "a.pack", contents.manifest, contents.path_of)
    assert files_in(place) == {"a.pack": pack(model)}


def test_a_pipe_is_written_to_and_not_replaced(model: Path, tmp_path: Path) -> None:
    contents = survey_model(model, "tiny")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_pack_file(pipe, contents.manifest, contents.path_of)
    reader.join()
    assert found == [pack(model)]
    assert pipe.is_fifo()


def test_a_link_stays_and_its_target_is_replaced(model: Path, tmp_path: Path) -> None:
    contents = survey_model(model, "tiny")
    link = tmp_path / "link.pack"
    link.symlink_to(tmp_path / "real.pack")
    for _ in range(2):  # the target is missing, then there
        write_pack_file(link, contents.manifest, contents.path_of)
        assert link.is_symlink()
        assert (tmp_path / "real.pack").read_bytes() == pack(model)


def test_a_pack_that_cannot_be_written_is_an_error(model: Path, tmp_path: Path) -> None:
    contents = survey_model(model, "tiny")
    for target in (tmp_path / "missing" / "a.pack", tmp_path):
        with pytest.raises(ContentError, match="cannot write"):
            write_pack_file(target, contents.manifest, contents.path_of)


def test_two_files_of_one_name_are_refused(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "config.json"
    other.parent.mkdir()
    other.write_text("{{ messages }}")
    with pytest.raises(CardError, match=r"two files are called 'config\.json'"):
        survey_model(model, "tiny", custom_template=other)


def test_a_manifest_reads_back(model: Path) -> None:
    (model / b"\xff".decode("utf-8", "surrogateescape")).touch()
    manifest = survey_model(model, "tiny").manifest
    assert [left.name for left in manifest.left_out] == ["\\xff"]
    assert PackManifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()
