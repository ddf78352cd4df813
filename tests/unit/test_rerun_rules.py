"""Who gets a second attempt, and who never does."""

from __future__ import annotations

import pytest

from tests.conftest import TESTS
from tests.reruns import DISTURBED, SWITCH, reruns_of


def test_every_folder_of_tests_is_judged() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders - DISTURBED == {"unit", "properties"}


@pytest.mark.parametrize(
    "nodeid",
    [
        *(f"tests/{folder}/test_any.py::test_it[1]" for folder in sorted(DISTURBED)),
        "tests/integration/server/test_memory.py::test_it",
        "tests/contracts/test_jobs_postgresql.py::TestPostgresqlJobs::test_kept_in_memory",
        "tests/contracts/test_clocks.py::TestSystemClock::test_it",
    ],
)
def test_the_disturbed_get_one_unless_it_is_turned_off(nodeid: str) -> None:
    assert reruns_of(nodeid, {}) == 1
    assert reruns_of(nodeid, {SWITCH: "1"}) == 1
    assert reruns_of(nodeid, {SWITCH: "0"}) == 0


@pytest.mark.parametrize(
    "nodeid",
    [
        "tests/unit/server/test_any.py::test_it",
        "tests/properties/test_any.py::test_it",
        "tests/contracts/test_jobs_memory.py::TestMemoryJobs::test_it",
        "tests/contracts/test_memory_state.py::TestMemoryEventLog::test_it",
        "tests/contracts/test_decision_logs.py::TestMemoryDecisionLog::test_it",
        "tests/contracts/test_clocks.py::TestManualClock::test_it",
        "README.md",
    ],
)
def test_others_never_do(nodeid: str) -> None:
    assert reruns_of(nodeid, {SWITCH: "1"}) == 0


@pytest.mark.parametrize("asked", ["2", "-1", "yes", ""])
def test_anything_else_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match=r"HEADWAY_RERUNS is .*; it can be 0 or 1"):
        reruns_of("tests/e2e/test_any.py::test_it", {SWITCH: asked})
