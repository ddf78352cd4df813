"""Who gets a second attempt, and who never does."""

from __future__ import annotations

import pytest

from tests.conftest import TESTS
from tests.reruns import DISTURBED, SWITCH, reruns_of


def test_every_folder_of_tests_is_judged() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders - DISTURBED == {"unit", "properties", "contracts"}


@pytest.mark.parametrize("folder", sorted(DISTURBED))
def test_the_disturbed_get_one_unless_it_is_turned_off(folder: str) -> None:
    assert reruns_of(folder, {}) == 1
    assert reruns_of(folder, {SWITCH: "1"}) == 1
    assert reruns_of(folder, {SWITCH: "0"}) == 0


@pytest.mark.parametrize("folder", ["unit", "properties", "contracts", ""])
def test_others_never_do(folder: str) -> None:
    assert reruns_of(folder, {SWITCH: "1"}) == 0


@pytest.mark.parametrize("asked", ["2", "-1", "yes", ""])
def test_anything_else_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match=r"HEADWAY_RERUNS is .*; it can be 0 or 1"):
        reruns_of("e2e", {SWITCH: asked})
