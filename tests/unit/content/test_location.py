from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.config.settings import CacheSettings
from muster.content.location import cache_root
from muster.errors import ConfigError


def test_the_setting_wins() -> None:
    environ = {"XDG_CACHE_HOME": "/x", "HOME": "/h"}
    assert cache_root(CacheSettings(directory=Path("/c")), environ) == Path("/c")


def test_xdg_comes_before_home() -> None:
    assert cache_root(CacheSettings(), {"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/muster")


@pytest.mark.parametrize("xdg", [None, "", "relative/cache"])
def test_home_is_used_where_xdg_says_nothing_usable(xdg: str | None) -> None:
    environ = {"HOME": "/h"} | ({} if xdg is None else {"XDG_CACHE_HOME": xdg})
    assert cache_root(CacheSettings(), environ) == Path("/h/.cache/muster")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_no_usable_variable_is_an_error_that_says_what_to_set(home: str | None) -> None:
    environ = {} if home is None else {"HOME": home}
    with pytest.raises(ConfigError) as caught:
        cache_root(CacheSettings(), environ)
    assert "MUSTER_CACHE_DIR" in caught.value.hint


def test_a_tilde_in_the_setting_means_home() -> None:
    settings = CacheSettings(directory=Path("~/c"))
    assert cache_root(settings, {"HOME": "/h"}) == Path("/h/c")
    with pytest.raises(ConfigError, match="HOME"):
        cache_root(settings, {"HOME": ""})


def test_a_relative_setting_counts_from_the_working_directory() -> None:
    assert cache_root(CacheSettings(directory=Path("c")), {}) == Path.cwd() / "c"


_values = st.none() | st.text(alphabet="/.~ax", max_size=6)


@given(setting=_values, xdg=_values, home=_values)
def test_the_answer_is_absolute_or_an_error(
    setting: str | None, xdg: str | None, home: str | None
) -> None:
    pairs = {"XDG_CACHE_HOME": xdg, "HOME": home}
    environ = {name: value for name, value in pairs.items() if value is not None}
    settings = CacheSettings(directory=None if setting is None else Path(setting))
    try:
        assert cache_root(settings, environ).is_absolute()
    except ConfigError:
        assert not str(home or "").startswith("/")
