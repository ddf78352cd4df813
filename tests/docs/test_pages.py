"""The documentation is whole, and the check that says so can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.check_docs import FENCE, ROOT, anchors, broken_links, faults, pages


def test_every_page_is_reachable_and_every_link_leads_somewhere() -> None:
    found = list(faults())
    assert not found, "\n".join(found)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "zensical.toml").write_text('[project]\nnav = ["index.md", { "More" = ["more.md"] }]\n')
    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[more](more.md#a-part-of-it) `[not](a-link.md)`\n")
    (tmp_path / "docs" / "more.md").write_text("# More\n\n## A part of it\n\n```text\n[no](link.md)\n```\n")
    return tmp_path


def test_a_whole_site_has_no_faults(site: Path) -> None:
    assert list(faults(site)) == []


def test_a_page_outside_the_navigation_is_found(site: Path) -> None:
    (site / "docs" / "lost.md").write_text("# Lost\n")
    assert list(faults(site)) == ["docs/lost.md: not in the navigation (zensical.toml)"]


def test_a_missing_page_is_found(site: Path) -> None:
    (site / "docs" / "more.md").unlink()
    assert "docs/more.md: in the navigation, but there is no such page" in list(faults(site))


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("gone.md", "no such file"),
        ("more.md#another-part", "no such heading"),
        ("#nothing-here", "no such heading"),
        ("../zensical.toml", "outside docs/"),
    ],
)
def test_a_broken_link_is_found(site: Path, link: str, complaint: str) -> None:
    page = site / "docs" / "index.md"
    page.write_text(f"# Start\n\nSee [the *other* one]({link}).\n")
    (line,) = broken_links(page, site)
    assert complaint in line


def test_anchors_follow_the_site_generator() -> None:
    text = "# 1. What you can rely on\n## `headway up`\n## Twice\n## Twice\n## Named {#other}\n```\n# no heading\n```\n"
    assert {"1-what-you-can-rely-on", "headway-up", "twice", "twice_1", "other"} <= anchors(text)
    assert "no-heading" not in anchors(text)


def test_files_that_pages_name_exist() -> None:
    """Code spans like ``tests/e2e/test_traffic.py`` or ``control/rollout.py`` name files of the project."""
    rooms = "|".join(p.name for p in (ROOT / "src" / "headway").iterdir() if p.is_dir())
    path = re.compile(rf"`((?:src|tests|scripts|benchmarks|examples|docs|{rooms})/[\w./-]*)`")
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages()
        for name in path.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if not any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "headway"))
    ]
    assert not missing, "\n".join(missing)
