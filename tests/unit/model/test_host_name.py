import pytest

from muster.model.host_name import is_host_name


@pytest.mark.parametrize(
    "host",
    [
        *("", "h", "127.0.0.1", "[fd00::2]", "a_b", "-a-", "ab--c", "xn--nxa", "xn--hst-sna.de."),
        *("xn--fa-hia.de", "xn--4db.a", "a.xn--4db", "xn--1-zhc", "xn--mgb8i", "xn--a1-oiz"),
    ],
)
def test_names(host: str) -> None:
    assert is_host_name(host)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("xn--", id="nothing encoded"),
        pytest.param("a.xn--ascii-", id="only ASCII encoded"),
        pytest.param("xn--99999999", id="not punycode"),
        pytest.param("xn--tda-x", id="not the shortest punycode"),
        pytest.param("xn--a", id="a control character encoded"),
        pytest.param("xn--u-ccb", id="not composed"),
        pytest.param("xn--lsa", id="a combining mark first"),
        pytest.param("xn--1ug", id="a joiner alone"),
        pytest.param("xn--4db.1x", id="a label beginning with a digit beside a right-to-left one"),
        pytest.param("xn--4db.a-", id="a label ending in a hyphen beside a right-to-left one"),
        pytest.param("xn--a1-vld", id="directions mixed in one label"),
    ],
)
def test_what_is_no_name(host: str) -> None:
    assert not is_host_name(host)
