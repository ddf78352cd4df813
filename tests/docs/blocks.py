"""Fenced code blocks of the documentation, for the tests that run, parse or compare them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.check_docs import ROOT, pages

BLOCK = re.compile(
    r"(?P<mark><!-- (?P<note>[^>]*) -->\n)?^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; ``note`` is the HTML comment on the line above it."""

    page: Path
    line: int
    language: str
    code: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str, of: list[Path] | None = None) -> list[Block]:
    """Blocks in these languages, of all pages or of those given."""
    found = []
    for page in pages() if of is None else of:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start("code")) + 1
                code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
                found.append(Block(page, line, match["language"], code, match["note"] or ""))
    return found


def commands(block: Block) -> Iterator[str]:
    """The commands of a shell block: in ``console`` those after ``$ ``, in others every line that is no comment."""
    joined = block.code.replace("\\\n", " ")
    for line in joined.splitlines():
        if block.language == "console":
            if line.startswith("$ "):
                yield line[2:].strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def printed(block: Block) -> dict[str, list[str]]:
    """What a console block shows below each of its commands, line by line."""
    shown: dict[str, list[str]] = {}
    below: list[str] = []
    for line in block.code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            below = shown.setdefault(line[2:].strip(), [])
        elif line.strip():
            below.append(line)
    return shown


def words(command: str) -> list[str]:
    """Words of a command up to the first pipe, redirection or ``&&``; comments dropped."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found = []
    for word in lexer:
        if set(word) <= set("|&;<>"):
            break
        found.append(word)
    return found
