"""Tests that fail, for ``test_reruns.py``, which runs them in a pytest of its own. Not collected by their name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

NOTES = "RERUN_NOTES"
"""Names a folder that outlives the attempts."""


def attempt(of: str) -> int:
    """Which one this is, counted from 1."""
    with open(Path(os.environ[NOTES]) / of, "a+") as note:
        note.write("x")
        return note.tell()


@pytest.fixture(scope="module")
def shared() -> Iterator[list[str]]:
    """One for all tests of the module. A second attempt keeps it, or gets a new one when the module had ended."""
    attempt("shared starts")
    still_there = ["yes"]
    yield still_there
    still_there.clear()
    attempt("shared ends")


@pytest.fixture(scope="module")
def starts_late() -> int:
    tries = attempt("starts late")
    assert tries == 2, "too early"
    return tries


def test_fails_once(shared: list[str]) -> None:
    assert attempt("fails once") == 2, "the machine was busy"
    assert shared == ["yes"]


def test_fails_always(shared: list[str]) -> None:
    attempt("fails always")
    pytest.fail("it is broken")


def test_needs_what_starts_late(shared: list[str], starts_late: int) -> None:
    assert starts_late == 2


@pytest.mark.timeout(2, func_only=True)
def test_hangs_once(shared: list[str]) -> None:
    if attempt("hangs") == 1:
        signal.pause()


def test_succeeds(shared: list[str]) -> None:
    assert shared == ["yes"]
    assert attempt("succeeds") == 1


def test_leaves_a_file_once(shared: list[str], scratch: Path) -> None:
    """The last one: by the time it fails, its module has ended."""
    if attempt("leaves a file") == 1:
        (scratch / "tmp" / "forgotten").touch()
