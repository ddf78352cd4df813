"""The documentation is whole: every page is in the navigation, every relative link and anchor leads somewhere.

Covers ``docs/`` and the Markdown files that the site does not hold (README, CONTRIBUTING, examples). Prints each
fault and exits 1 when there is one. ``tests/docs/test_pages.py`` tries it on broken input.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
EXPLICIT_ID = re.compile(r"\{[^}]*#([\w-]+)[^}]*\}|<a\s+(?:id|name)=\"([\w-]+)\"")


def pages(root: Path = ROOT) -> list[Path]:
    """Every Markdown file that people read."""
    top = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (root / name).exists()]
    return top + sorted((root / "docs").rglob("*.md")) + sorted((root / "examples").rglob("*.md"))


def navigation(root: Path = ROOT) -> list[str]:
    """Paths in the site's navigation, relative to ``docs``."""
    config: dict[str, Any] = tomllib.loads((root / "zensical.toml").read_text(encoding="utf-8"))

    def walk(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for below in entry.values():
                yield from walk(below)
        else:
            for below in entry:
                yield from walk(below)

    return list(walk(config["project"]["nav"]))


def anchors(text: str) -> set[str]:
    """Ids of a page's headings, by the rule of Python-Markdown's ``toc`` extension."""
    found: set[str] = set()
    prose = FENCE.sub("", text)
    for match in EXPLICIT_ID.finditer(prose):
        found.add(match[1] or match[2])
    for match in HEADING.finditer(prose):
        title = re.sub(r"\{[^}]*\}\s*$", "", match[1])
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "")
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.encode("ascii", "ignore").decode()).strip().lower())
        number, unique = 0, slug
        while unique in found:
            number += 1
            unique = f"{slug}_{number}"
        found.add(unique)
    return found


def broken_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Relative links of ``page`` that lead nowhere, one line each."""
    text = page.read_text(encoding="utf-8")
    prose = CODE_SPAN.sub("", FENCE.sub("", text))
    shown = page.relative_to(root)
    for target in LINK.findall(prose):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        goal = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not goal.exists():
            yield f"{shown}: link to {target}: no such file"
        elif page.is_relative_to(root / "docs") and not goal.is_relative_to(root / "docs"):
            yield f"{shown}: link to {target}: outside docs/, the site would not have it"
        elif parts.fragment and goal.suffix == ".md" and parts.fragment not in anchors(goal.read_text("utf-8")):
            yield f"{shown}: link to {target}: no such heading"


def faults(root: Path = ROOT) -> Iterator[str]:
    """Everything that is wrong with the documentation below ``root``."""
    listed = navigation(root)
    there = {str(path.relative_to(root / "docs")) for path in (root / "docs").rglob("*.md")}
    yield from (f"docs/{page}: not in the navigation (zensical.toml)" for page in sorted(there - set(listed)))
    yield from (f"docs/{page}: in the navigation, but there is no such page" for page in listed if page not in there)
    yield from (f"docs/{page}: twice in the navigation" for page in sorted({p for p in listed if listed.count(p) > 1}))
    for page in pages(root):
        yield from broken_links(page, root)


def main() -> int:
    found = list(faults())
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
