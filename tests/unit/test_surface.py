"""The public surface: small, sorted, and free to import."""

from __future__ import annotations

import subprocess
import sys

import muster


def test_every_name_is_there_and_the_list_is_sorted() -> None:
    assert sorted(muster.__all__) == sorted(set(muster.__all__))
    for name in muster.__all__:
        assert getattr(muster, name) is not None
    assert {*muster._PLACES, "__version__"} == {*muster.__all__}


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import muster, sys; print(*[m for m in ('aiohttp', 'msgspec', 'jinja2') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
