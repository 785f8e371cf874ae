"""A model's identity."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from muster.digest import Digest
from muster.model.identity import FileRole, IdentityFile, compute_identity

FILES = st.lists(
    st.builds(
        IdentityFile,
        st.sampled_from(FileRole),
        st.text(max_size=8),
        st.binary(max_size=1).map(Digest.of),
    ),
    max_size=6,
)


def file(role: FileRole, name: str, content: bytes = b"") -> IdentityFile:
    return IdentityFile(role, name, Digest.of(content))


@given(FILES, st.randoms())
def test_the_order_of_the_files_does_not_matter(files: list[IdentityFile], random: object) -> None:
    shuffled = [*files]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compute_identity(shuffled) == compute_identity(files)


@given(FILES, FILES)
def test_other_files_give_another_identity(
    one: list[IdentityFile], other: list[IdentityFile]
) -> None:
    assert (compute_identity(one) == compute_identity(other)) == (sorted(one) == sorted(other))


def test_role_name_and_content_all_count() -> None:
    first = file(FileRole.EXTRA, "a", b"1")
    others = [
        file(FileRole.TOKENIZER, "a", b"1"),
        file(FileRole.EXTRA, "b", b"1"),
        file(FileRole.EXTRA, "a", b"2"),
    ]
    assert len({compute_identity([each]) for each in (first, *others)}) == 4


def test_the_format_is_the_one_that_is_written_down() -> None:
    digest = Digest.of(b"{}")
    parts = [b"model_info", b"config.json", digest.hex.encode()]
    framed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    expected = blake3(b"muster/model-identity/v1\n" + framed).hexdigest()
    made = compute_identity([IdentityFile(FileRole.MODEL_INFO, "config.json", digest)])
    assert made == Digest(expected)


def test_a_name_that_is_not_utf8_has_an_identity_too() -> None:
    assert compute_identity([file(FileRole.EXTRA, "x\udcff")]) != compute_identity([])
