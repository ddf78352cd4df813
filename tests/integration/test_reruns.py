"""A test that fails is run once more, in the open: with xdist, module fixtures, timeouts and leak checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import TESTS
from tests.integration.rerun_cases import NOTES

CASES = "tests/integration/rerun_cases.py"


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, dict[str, int]]:
    """Exit code and output of pytest on the cases, and how often each thing happened."""
    notes = folder / "notes"
    notes.mkdir()
    apart = ["-p", "no:cacheprovider", f"--basetemp={folder / 'nested'}"]
    few = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin,pytest_timeout,pytest_rerunfailures"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", CASES, *apart, *arguments],
        cwd=TESTS.parent,
        env={**os.environ, NOTES: str(notes), **few, **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr, {note.name: note.stat().st_size for note in notes.iterdir()}


def test_each_gets_a_second_attempt_and_none_a_third(tmp_path: Path) -> None:
    code, output, happened = run(tmp_path, "-n", "1", "--dist", "loadgroup")
    assert code == 1, output
    assert happened.pop("shared starts") == happened.pop("shared ends") <= 2
    assert happened == {
        "starts late": 2,
        "fails once": 2,
        "fails always": 2,
        "leaves a file": 2,
        "hangs": 2,
        "succeeds": 1,
    }, output
    assert re.search(r"= 1 failed, .*, 5 rerun in ", output), output
    report = output.partition("rerun test summary info")[2]
    for name, reason in {
        "fails_once": "the machine was busy",
        "fails_always": "it is broken",
        "leaves_a_file_once": "temporary file forgotten",
        "needs_what_starts_late": "too early",
        "hangs_once": "Timeout",
    }.items():
        assert re.search(rf"RERUN \S+::test_{name}\b", report), output
        assert reason in report, output
    assert "test_succeeds" not in report


def test_can_be_turned_off(tmp_path: Path) -> None:
    code, output, happened = run(tmp_path, "-n", "0", "-k", "fails_once or succeeds", HEADWAY_RERUNS="0")
    assert code == 1, output
    assert happened["fails once"] == 1
    assert re.search(r"= 1 failed, 1 passed, \d deselected in ", output), output
