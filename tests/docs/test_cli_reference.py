"""``docs/reference/cli.md`` against the command line itself: commands, arguments, options, exit codes, JSON shapes."""

from __future__ import annotations

import re
from types import NoneType
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from headway.api import schemas, schemas_comparisons, schemas_plans, schemas_query_log, schemas_scaling
from headway.cli.app import app
from headway.cli.exit_codes import ABORTED, INTERRUPTED, TERMINATED
from headway.domain.errors import tree
from scripts.check_docs import ROOT

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
BODIES = (schemas, schemas_query_log, schemas_scaling, schemas_plans, schemas_comparisons)
ON_EVERY_COMMAND = {"--output", "--help"}


def leaves(command: Any, path: str = "headway") -> dict[str, Any]:
    """Every command that does something, by what one types."""
    children = getattr(command, "commands", None)
    if children is None:
        return {path: command}
    for child in children.values():
        child.rich_help_panel = child.rich_help_panel or command.rich_help_panel
    return {name: leaf for key, child in children.items() for name, leaf in leaves(child, f"{path} {key}").items()}


COMMANDS = leaves(typer.main.get_command(app))


def section(heading: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def rows(text: str) -> list[tuple[str, str]]:
    """First and second cell of the table rows whose first cell is code."""
    return re.findall(r"^\| (`[^|]+`[^|]*) \| ([^|]+) \|$", text, re.MULTILINE)


def described(name: str) -> set[str]:
    cells = [first for first, _ in rows(section(f"`{name}`"))]
    return {re.sub(r" [A-Z]+$", "", word) for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def offered(command: Any) -> set[str]:
    found: set[str] = set()
    for param in command.params:
        if param.param_type_name == "argument":
            found.add(param.metavar)
        elif not ON_EVERY_COMMAND & set(param.opts):
            found |= {*param.opts, *param.secondary_opts}
    return found


def test_every_command_has_a_section_and_no_other() -> None:
    assert set(re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_describes_the_commands_arguments_and_options(name: str) -> None:
    assert described(name) == offered(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_tells_the_true_default(name: str) -> None:
    told = {re.findall(r"--[a-z-]+", first)[0]: second for first, second in rows(section(f"`{name}`")) if "--" in first}
    for param in COMMANDS[name].params:
        if isinstance(param.default, int | float) and not isinstance(param.default, bool):
            assert f"default {param.default:g}" in told[param.opts[0]], param.opts[0]


def test_commands_stand_under_the_heading_that_help_groups_them_by() -> None:
    for name, command in COMMANDS.items():
        panel = command.rich_help_panel or "Access and reference"
        above = PAGE[: PAGE.index(f"### `{name}`")]
        assert re.findall(r"^## (.+)$", above, re.MULTILINE)[-1] == panel


def test_exit_codes_are_those_that_exist() -> None:
    told = {int(first.strip("`")) for first, _ in rows(section("Errors and exit codes"))}
    assert told == {0, ABORTED, INTERRUPTED, TERMINATED} | {error.exit_code for error in tree()}


def shapes() -> dict[str, str]:
    return {first.strip("`"): second for first, second in rows(section("JSON")) if first[1].isupper()}


@pytest.mark.parametrize("shape", shapes())
def test_a_json_shape_has_the_fields_told(shape: str) -> None:
    kind: type[BaseModel] = next(vars(one)[shape] for one in BODIES if shape in vars(one))
    without_remarks = re.sub(r"\([^)]*\)", "", shapes()[shape])
    told = dict(re.findall(r"`(\w+)`(\*?)", without_remarks))
    assert set(told) == set(kind.model_fields)
    nullable = {name for name, field in kind.model_fields.items() if can_be_null(field.annotation)}
    assert {name for name, star in told.items() if star} == nullable


def can_be_null(annotation: Any) -> bool:
    return annotation is Any or NoneType in get_args(annotation)


def test_every_shape_that_is_mentioned_is_described() -> None:
    mentioned = set(
        re.findall(
            r"`([A-Z]\w+(?:View|Answer|Change|Created|Summary|Line|Range|Page|Scaling)|Urls|Change|Explanation)`",
            section("JSON"),
        )
    )
    assert mentioned == set(shapes())


def test_every_command_is_in_the_table_of_what_json_it_prints() -> None:
    told = {
        f"headway {word}"
        for first, _ in rows(section("JSON"))
        for word in re.findall(r"`([a-z]+(?:[ -][a-z]+)*)", first)
    }
    told = {name.strip() for name in told}
    assert set(COMMANDS) <= told
