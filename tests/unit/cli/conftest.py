"""A terminal for the tests of the command line."""

from __future__ import annotations

import pytest

from headway.cli import output
from tests.unit.cli.installation import here, vienna
from tests.unit.cli.plans import rows
from tests.unit.cli.wire import Terminal
from tests.unit.cli.wire import terminal as make_terminal

__all__ = ["here", "rows", "vienna"]


@pytest.fixture(autouse=True)
def text_output() -> None:
    """Each test starts in text, whatever format the command of the one before was asked for."""
    output.reset()


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs commands against an API pretended at the wire."""
    return make_terminal(capsys, monkeypatch)
