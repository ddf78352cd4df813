"""The page of a load test in a real browser: nothing overlaps or sticks out, nothing is loaded, no script fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from headway.cli import load_html
from headway.domain.load_reports import LoadReport, ScalingMark
from headway.domain.load_shapes import Loop
from tests.unit.cli.test_cli_load_page import report

FAULTS = "<script>window.faults = []; window.onerror = text => { faults.push(String(text)); };</script>"
PROBE = """<script>
const box = node => node.getBoundingClientRect(), chart = document.querySelector("svg");
const texts = [...document.querySelectorAll("svg text")].filter(node => node.textContent);
const pairs = [];
texts.forEach((one, at) => texts.slice(at + 1).forEach(other => {
  const a = box(one), b = box(other);
  const meet = a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  if (meet) pairs.push([one.textContent, other.textContent]);
}));
const all = box(chart);
const outside = texts.filter(node => box(node).left < all.left - 1 || box(node).right > all.right + 1
  || box(node).bottom > all.bottom + 1).map(node => node.textContent);
chart.dispatchEvent(new PointerEvent("pointermove", { clientX: all.left + all.width / 2, clientY: all.top + 99 }));
const found = {
  faults, pairs, outside,
  told: document.getElementById("tip").style.visibility + " " + document.getElementById("tip").textContent,
  loaded: performance.getEntriesByType("resource").map(one => one.name),
  wider: document.documentElement.scrollWidth - innerWidth,
  page: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color,
  least: Math.min(...texts.map(node => box(node).height)),
};
const kept = document.createElement("pre");
kept.id = "found";
kept.textContent = JSON.stringify(found);
document.body.appendChild(kept);
</script></body>"""

Opened = Callable[[LoadReport, str, int], dict[str, Any]]


@pytest.fixture
def opened(tmp_path: Path, require_service: Callable[[str, object], None]) -> Opened:
    """What a browser makes of the page of a report, in this colour scheme and so many pixels wide."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    require_service("Chromium", browser)

    def look(made: LoadReport, scheme: str, width: int) -> dict[str, Any]:
        page = tmp_path / "page.html"
        text = load_html.render(made)
        page.write_text(text.replace("<head>", f"<head>{FAULTS}").replace("</body>", PROBE), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
        options += [f"--window-size={width},900", *(["--force-dark-mode"] if scheme == "dark" else [])]
        command = [str(browser), *options, "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        kept = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
        assert kept, done.stdout[-2000:] + done.stderr[-2000:]
        found: dict[str, Any] = json.loads(unescape(kept[1]))
        return found

    return look


def with_marks(made: LoadReport) -> LoadReport:
    """With phases of every length and many decisions."""
    last_s = made.points[-1].end_s
    shares = (0.0, 0.01, 0.03, 0.4, 0.97)
    phases = tuple(replace(made.phases[0], name=f"phase {at} of some length", begin_s=at * last_s) for at in shares)
    marks = tuple(ScalingMark(last_s * at / 50, "v1", at, at + 1, "cpu") for at in range(50))
    return replace(made, phases=phases, decisions=marks)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 500])
@pytest.mark.parametrize("points", [1, 120, 100_000])
def test_the_page_can_be_read(opened: Opened, points: int, width: int, scheme: str) -> None:
    found = opened(with_marks(report(points, loop=Loop.CLOSED if points == 120 else Loop.OPEN)), scheme, width)
    assert found["faults"] == []
    assert found["pairs"] == []
    assert found["outside"] == []
    assert found["loaded"] == []
    assert found["wider"] <= 0
    assert found["least"] > 9
    assert found["told"].startswith("visible ")
    assert "median10 ms" in found["told"]
    dark, light = "rgb(20, 24, 31)", "rgb(255, 255, 255)"
    assert found["page"] == (dark if scheme == "dark" else light)
    assert found["ink"] != found["page"]
