"""``headway plan --plot``: the page and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.cli.plan_picture import picture_of
from tests.unit.cli.installation import Installation
from tests.unit.cli.plans import DOCUMENT, keep


def test_a_plot_that_cannot_be_written_is_told_before_anything_is_measured(here: Installation, tmp_path: Path) -> None:
    where, told = here.refused("plan", "iris", "--sla", "p95<1s", "--plot", str(tmp_path / f"{300 * 'x'}.html"))
    assert where == "--plot"
    assert "File name too long" in told
    assert here.refused("plan", "iris", "--sla", "p95", "--plot", str(tmp_path / "other.html"))[0] == "--sla"
    assert not (tmp_path / "other.html").exists(), "nothing is left of the check"


@pytest.mark.parametrize("name", ["plan.html", "plan.png"])
def test_a_plan_is_drawn(here: Installation, rows: Path, tmp_path: Path, name: str) -> None:
    keep(here, rows)
    here.ok("plan", "iris", "--show", "--data", str(rows), "--plot", str(tmp_path / name))
    content = (tmp_path / name).read_bytes()
    if name.endswith(".png"):
        assert content.startswith(b"\x89PNG")
        return
    page = content.decode()
    assert page.count("<circle") == 3
    assert page.count('class="c1 open"') == 1, "5.6 s break the promise"
    assert page.count('<path class="interval') == page.count('<path class="planned') == 2
    for told in (
        "500 users need 8 replicas, 8 cores, 2 nodes, price 240.00",
        "2 replicas: 130 users as planned, 90 %: 131 to 140 users",
        "predicted p95 520 ms (90 %: 470 ms to 580 ms)",
        "1 replica, 90 users: p95 5.6 s, broken",
        "Above the axis a dot is drawn at its end",
        "<td>cpu ceiling, 80 %</td>",
        "replicas get in each other&#x27;s way",
        "maxReplicas: 4",
        ">p95&lt;1s</text>",
    ):
        assert told in page, told
    assert "stale" not in page
    assert "http" not in page


def test_the_picture_has_the_held_out_point_and_ends_at_twice_the_promise() -> None:
    picture = picture_of("iris", DOCUMENT)
    assert [(s.replicas, len(s.measured), len(s.tried)) for s in picture.series] == [(1, 2, 0), (2, 1, 1)]
    assert picture.up_ticks()[-1].at >= 2000
    assert picture.across == "users, thinking 1 s"
    assert picture.asked is None, "500 users are far beyond 110"
    assert picture.cut()
    assert picture.series[0].at(10) == 30
    assert picture.series[0].at(37) == pytest.approx(465)
    assert picture.series[0].at(81) is None


def test_the_load_that_was_asked_about_is_marked_where_it_is_near() -> None:
    asked = {**DOCUMENT["answer"], "load": {"kind": "users", "size": 120}}
    picture = picture_of("iris", {**DOCUMENT, "answer": asked})
    assert picture.asked == (120.0, "120 users")
    assert picture.widest() == 120
