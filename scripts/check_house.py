"""House rules that no linter knows: file sizes and names. Prints each breach and exits 1 when there is one.

CONTRIBUTING.md gives the reasons. ``tests/unit/test_house_rules.py`` tries this module on bad input.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "tests", "benchmarks", "examples", "scripts")
MAX_LINES = 399
FORBIDDEN_MODULES = frozenset({"utils", "util", "common", "helpers", "helper", "misc"})
FORBIDDEN_ENDINGS = ("Base", "Impl", "Helper", "Helpers", "Manager", "Utils")


def sources(root: Path = ROOT) -> list[Path]:
    """Every Python file of the project below ``root``."""
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def breaches(path: Path, text: str) -> Iterator[str]:
    """What in the file breaks a house rule, one line each."""
    count = len(text.splitlines())
    if count > MAX_LINES:
        yield f"{path}: {count} lines; split it by duty before it reaches 400"
    if path.stem in FORBIDDEN_MODULES:
        yield f"{path}: name a module for what it owns, not {path.name}"
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.ClassDef) and (
            node.name.endswith(FORBIDDEN_ENDINGS) or node.name.startswith(("Base", "Abstract"))
        ):
            yield f"{path}:{node.lineno}: name class {node.name} for its duty, without Base, Impl, Helper or Manager"


def main() -> int:
    found = [line for path in sources() for line in breaches(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
