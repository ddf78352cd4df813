"""Every ``headway …`` command and every make target that the documentation mentions exists, options included."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from headway.cli.app import app
from scripts.check_docs import ROOT, pages
from tests.docs.blocks import Block, blocks, commands, words

ROOT_COMMAND = typer.main.get_command(app)
SHELLS = ("bash", "sh", "console")


def problem(arguments: list[str]) -> str | None:
    """What is wrong with ``headway ARGUMENTS``, as far as the command tree knows; None when nothing is."""
    command: Any = ROOT_COMMAND
    taken = ["headway"]
    expects_value = False
    for word in arguments:
        if expects_value:
            expects_value = False
        elif word.startswith("-") and len(word) > 1 and not word[1].isdigit():
            name, _, value = word.partition("=")
            found = next((p for p in command.params if name in (*p.opts, *p.secondary_opts)), None)
            if found is None and name not in {"--help", "--version"}:
                return f"{' '.join(taken)} has no option {name}"
            flag = found is None or found.is_flag or found.count
            expects_value = not flag and not value
        elif (children := getattr(command, "commands", None)) is not None:
            below = children.get(word)
            if below is None:
                return f"{' '.join(taken)} has no command {word}"
            command = below
            taken.append(word)
    return None


def mentioned(block: Block) -> list[list[str]]:
    found = [words(command) for command in commands(block)]
    return [w[1:] for w in found if w and w[0] == "headway"]


SHOWN = [(block, arguments) for block in blocks(*SHELLS) for arguments in mentioned(block)]


@pytest.mark.parametrize(
    ("block", "arguments"), SHOWN, ids=lambda value: str(value) if isinstance(value, Block) else ""
)
def test_a_shown_command_exists(block: Block, arguments: list[str]) -> None:
    complaint = problem(arguments)
    assert complaint is None, f"{block}: headway {' '.join(arguments)}: {complaint}"


def test_commands_named_in_prose_exist() -> None:
    """``headway up`` in a code span: the first word is a command."""
    complaints = []
    for page in pages():
        for span in re.findall(r"`headway ([a-z-][^`\n]*)`", page.read_text(encoding="utf-8")):
            first = re.match(r"[a-z-]+", span)
            if first and (complaint := problem([first[0]])):
                complaints.append(f"{page.relative_to(ROOT)}: `headway {span}`: {complaint}")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("arguments", [["fly"], ["up", "--wings"], ["token", "burn"]])
def test_a_command_that_does_not_exist_is_noticed(arguments: list[str]) -> None:
    assert problem(arguments)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|\$ |^)make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, f"{page.relative_to(ROOT)} says make {target}"
