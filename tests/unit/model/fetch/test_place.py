import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.content.name import check_file_name
from muster.digest import Digest
from muster.errors import ContentError
from muster.model.checked_file import CheckedFile
from muster.model.fetch.place import HttpPlace, LocalPlace, file_name, redact

DIGEST = Digest.of(b"")


def at(location: str) -> CheckedFile:
    return CheckedFile.at(location, DIGEST)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("http://h/m/config.json", "config.json"),
        ("http://h/m/we%25ird%20n%C3%A4me.json", "we%ird näme.json"),
        ("http://h/m/a%23b.json", "a#b.json"),
        ("http://h/m/c%3Fd.json?query#fragment", "c?d.json"),
        ("http://h/m/back%5Cslash.json", "back\\slash.json"),
        ("http://h/m/config.json/", "config.json"),
        ("/models/my model/con%20fig.json", "con%20fig.json"),
        ("hf://Org/M/config.json", "config.json"),
    ],
)
def test_a_files_name_is_its_real_one(location: str, name: str) -> None:
    assert file_name(at(location)) == name


@pytest.mark.parametrize(
    "location", ["http://h/", "http://h/a%2Fb", "http://h/%00", "http://h/%FF", ""]
)
def test_a_file_without_a_safe_name_is_refused(location: str) -> None:
    with pytest.raises(ContentError, match="unsafe file name"):
        file_name(at(location))


@given(st.text(min_size=1, max_size=80))
def test_every_safe_name_survives_the_url_it_travels_in(name: str) -> None:
    try:
        check_file_name(name)
    except ContentError:
        return
    url = "http://h/v1/metadata/" + urllib.parse.quote(name, safe="")
    assert file_name(at(url)) == name


@given(st.text(max_size=80))
def test_no_url_gives_an_unsafe_name(segment: str) -> None:
    try:
        name = file_name(at("http://h/m/" + segment))
    except ContentError:
        return
    assert check_file_name(name) == name


_secret = st.text(alphabet="abcXYZ019:;@._~-", min_size=1, max_size=12).map("SECRET{}".format)


@given(user=_secret, query=_secret, fragment=_secret)
def test_redacting_leaves_no_secret(user: str, query: str, fragment: str) -> None:
    assert (
        redact(f"http://{user}:{query}@h:80/p/f.json?{query}#{fragment}") == "http://h:80/p/f.json"
    )
    assert redact(f"http://{user}@h?{query}") == "http://h"
    assert "SECRET" not in redact(f"mx:p/f.json?{query}#{fragment}")


def test_a_path_with_control_characters_is_shown_quoted() -> None:
    assert str(LocalPlace(Path("/m/a\nb"))) == r"'/m/a\nb'"


def test_a_source_is_a_scheme_a_host_and_a_port() -> None:
    assert HttpPlace("http://user:secret@h:80/p?q").source == "http://h:80"
    assert HttpPlace("https://[::1]:9/p").source == "https://[::1]:9"
