"""The core suite of Muster alone: its frontend before its mock, and before its echo."""

from __future__ import annotations

from tests.clients.core import CoreSuite


class TestMuster(CoreSuite):
    """With the ``deployment`` of either engine."""
