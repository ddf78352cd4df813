"""The store of jobs in SQLite, killed at every write boundary."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_half_done_wherever_it_is_killed(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.integration.jobs.crash_everywhere", str(tmp_path)]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=590)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = re.search(r"(\d+) boundaries, 0 bad", ran.stdout)
    assert found
    assert int(found[1]) > 80
