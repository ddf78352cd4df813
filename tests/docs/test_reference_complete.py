"""The reference pages name every event, every error and every setting, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headway.domain.errors import tree
from headway.domain.events import EventType
from headway.domain.job_rules import JobEventType
from headway.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page whose first cell is code."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\| `[^`]+` \|", line)]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_event_type_is_described_and_no_other() -> None:
    described = [row[0] for row in rows("events.md") if re.search(r"\.v\d+$", row[0])]

    assert sorted(described) == sorted([*EventType, *JobEventType])


def test_every_error_is_described_with_its_status_and_exit_code() -> None:
    described = sorted((row[0], row[1], row[2]) for row in rows("errors.md"))

    assert described == sorted((error.code, str(error.status), str(error.exit_code)) for error in tree())


def test_every_setting_is_described_with_its_variable_and_field() -> None:
    described = sorted((row[0], row[1]) for row in rows("settings.md"))

    assert described == sorted((f"HEADWAY_{name.upper()}", name) for name in Settings.model_fields)


@pytest.mark.parametrize("row", rows("settings.md"), ids=lambda row: row[0])
def test_the_default_of_a_setting_is_the_true_one(row: list[str]) -> None:
    default = Settings.model_fields[row[1]].default

    # Defaults that are computed (the home) or mean "this home's own" (None) are described in words.
    if isinstance(default, (str, int, float)):
        assert row[2] == str(default)
