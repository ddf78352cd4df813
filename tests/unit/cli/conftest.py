"""A terminal for the tests of the command line."""

from __future__ import annotations

import pytest

from tests.unit.cli.wire import Terminal
from tests.unit.cli.wire import terminal as make_terminal


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs commands against an API pretended at the wire."""
    return make_terminal(capsys, monkeypatch)
