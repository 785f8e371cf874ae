"""Make sure a peer is there: a virtual environment with the real ai-dynamo, at ``PEER``.

``python -m tests.interop.install``. Does nothing if one works already, or if the installer is not
beside this checkout: then the interop tests skip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INSTALLER = Path(__file__).resolve().parents[2].parent / "shared" / "peer" / "install.sh"


def works(peer: Path) -> bool:
    """Whether a peer is installed there."""
    python = peer / "bin" / "python"
    if not python.exists():
        return False
    probe = [str(python), "-c", "import dynamo._core, dynamo.frontend, transformers"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Install if need be; the exit code."""
    peer = Path(os.environ.get("PEER") or ".peer").resolve()
    if works(peer):
        print(f"peer: {peer} is there")
        return 0
    if not INSTALLER.exists():
        print(f"peer: no installer at {INSTALLER}; the interop tests will skip")
        return 0
    print(f"peer: installing into {peer} (about a minute)", flush=True)
    return subprocess.run(["bash", str(INSTALLER), str(peer)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
