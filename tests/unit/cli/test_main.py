from __future__ import annotations

import subprocess
import sys

from muster.cli.main import main

HEAVY = {"aiohttp", "asyncio", "jinja2", "msgspec", "rich", "tokenizers", "uvloop"}


def test_the_commands_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from muster.cli.main import cli, main\n"
        "for name in cli.list_commands(None):\n"
        "    main([name, '--help'])\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=15
    )
    assert "Usage: muster worker" in result.stdout
    assert result.stdout.endswith("heavy: []\n")


def test_wrong_usage_is_2() -> None:
    assert main(["nonsense"]) == 2
    assert main(["ls", "--frontend", "nonsense"]) == 2
