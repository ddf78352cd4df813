"""``headway simulate``: what it reads, refuses, tells and draws; the replaying itself is tests/unit/control."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.cli import simulate_source
from headway.cli.simulate_html import render
from headway.cli.simulate_text import money
from headway.control.book import Changed
from headway.domain.errors import InvalidInput
from tests.unit.cli.installation import Installation

MINUTES = "period,count\n" + "".join(f"2026-05-01 12:{m:02}:00,{600 if m in (3, 4) else 60}\n" for m in range(10))
GIVEN = ("--service", "40ms", "--start-up", "2s")
LEAN = "minReplicas: 1\nmaxReplicas: 2\ntriggers:\n  - {type: rps, target: 20}\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "minutes.csv"
    path.write_text(MINUTES)
    return path


def test_policies_are_compared_side_by_side(here: Installation, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "lean.yaml").write_text(LEAN)
    page = tmp_path / "sim.html"
    shown = here.ok(
        "simulate", "iris", "--traffic", str(trace), *GIVEN, "--policy", str(tmp_path / "lean.yaml"), "--sla",
        "p95<2s", "--price", "0.05", "--report", str(page),
    )  # fmt: skip
    assert "iris: 1,680 requests, 2026-05-01 12:00:00Z to 2026-05-01 12:10:00Z" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith(("now  ", "lean  "))}
    assert "1-1, 1.00" in rows["now"]
    assert "kept" in rows["lean"]
    assert "is the cheapest that keeps p95<2s" in shown
    document = json.loads(page.with_suffix(".json").read_text())
    assert [one["name"] for one in document["policies"]] == ["now", "lean"]
    drawn = page.read_text()
    assert "http" not in drawn.split("<script")[0]
    assert drawn.count("<path") >= 5


def test_the_policy_in_force_is_tried_with_changes(here: Installation, trace: Path) -> None:
    here.ok("autoscale", "iris", "--max", "3", "--rps", "9")
    asked = ("simulate", "iris", "--traffic", str(trace), *GIVEN, "--max", "2", "--rps", "7", "-o", "json")
    now, changed = json.loads(here.ok(*asked))["policies"]
    assert (now["name"], now["scaling"]["maxReplicas"]) == ("now", 3)
    assert (changed["name"], changed["scaling"]["maxReplicas"]) == ("changed", 2)
    assert changed["scaling"]["triggers"][0]["target"] == 7
    assert changed["replicas"]["most"] == 2
    assert here.policy["maxReplicas"] == 3, "nothing is changed"


def test_a_policy_in_force_that_cannot_be_replayed_is_left_out_beside_one_that_can(
    here: Installation, trace: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.yaml").write_text(
        "minReplicas: 1\nmaxReplicas: 3\ntriggers:\n  - {type: rps, target: 9}\n"
        "  - {type: prometheus, serverAddress: 'http://127.0.0.1:1', query: up, threshold: 3}\n"
    )
    (tmp_path / "lean.yaml").write_text(LEAN)
    here.ok("autoscale", "iris", "-f", str(tmp_path / "outside.yaml"))
    asked = ("simulate", "iris", "--traffic", str(trace), *GIVEN)
    assert here.refused(*asked)[0] == "now"
    told = json.loads(here.ok(*asked, "--policy", str(tmp_path / "lean.yaml"), "-o", "json"))
    assert [one["name"] for one in told["policies"]] == ["lean"]
    assert "left out: trigger 'prometheus' cannot be replayed" in told["notes"][0]
    where, text = here.refused(*asked, "--policy", str(tmp_path / "outside.yaml"))
    assert (where, "prometheus" in text) == ("outside", True)


def test_what_is_told_as_json_is_the_document(here: Installation, trace: Path) -> None:
    told = json.loads(here.ok("simulate", "iris", "--traffic", str(trace), *GIVEN, "-o", "json"))
    assert (told["format"], told["requests"], told["best"]) == (1, 1680, None)
    assert told["replica"]["work_s"] == 0.04
    (now,) = told["policies"]
    assert now["figures"]["count"] == 1680
    assert len(now["windows"]) == len({one["begin_at"] for one in now["windows"]})


def test_when_nothing_keeps_what_is_promised_the_exit_code_says_so(here: Installation, trace: Path) -> None:
    code, stdout, stderr = here.run("simulate", "iris", "--traffic", str(trace), *GIVEN, "--sla", "p95<1ms")
    assert code == 1
    assert "broken" in stdout
    assert "no policy keeps p95<1ms" in stderr


LOCKED = {"weight": 0.6, "servers": 3, "mean_s": 0.03, "serial": 0.9}
"""In truth one server: a request holds the lock for nine tenths of its time."""
PLAIN = {"weight": 0.3, "servers": 1, "mean_s": 0.02, "slowdown": 0.1, "delay": 0.25}


def planned(here: Installation, *beliefs: dict[str, float]) -> None:
    model = {"chosen": "queue", "left_out_error": {"queue": 0.1, "usl": 0.2}, "beliefs": list(beliefs)}
    here.runner.run(here.world.plans.add("iris", "", "v1", {"format": 1, "model": model}))


def test_the_likeliest_law_of_a_plan_without_a_lock_is_replayed(here: Installation, trace: Path) -> None:
    planned(here, LOCKED, PLAIN)
    asked = ("simulate", "iris", "--traffic", str(trace), "--service", "plan", "--start-up", "2s", "-o", "json")
    found = json.loads(here.ok(*asked))
    assert found["replica"]["servers"] == 1
    assert found["replica"]["work_s"] == pytest.approx(0.015)
    assert found["replica"]["rest_s"] == pytest.approx(0.005)
    assert any("parts that are not replayed: slowdown" in note for note in found["notes"])
    assert not any("stale" in note for note in found["notes"])


def test_without_a_plan_it_says_how_to_make_one(here: Installation, trace: Path) -> None:
    code, _, told = here.run("simulate", "iris", "--traffic", str(trace), "--service", "plan")
    assert code == 3
    assert "headway plan iris --sla 'p95<1s' makes one" in told


def test_a_plan_with_nothing_but_locks_is_not_replayed(here: Installation, trace: Path) -> None:
    planned(here, LOCKED, {**PLAIN, "shared": 0.2})
    where, told = here.refused("simulate", "iris", "--traffic", str(trace), "--service", "plan", "--start-up", "2s")
    assert where == "--service"
    assert "wait for a lock" in told


def test_that_the_plan_is_stale_is_told(here: Installation, trace: Path) -> None:
    planned(here, PLAIN)

    async def change() -> None:
        def with_more(deployment: Any) -> Any:
            version = deployment.version("v1")
            return Changed(deployment.with_version(replace(version, spec={**version.spec, "resources": {"cpu": "2"}})))

        await here.world.book.change("iris", with_more)

    here.runner.run(change())
    asked = ("simulate", "iris", "--traffic", str(trace), "--service", "plan", "--start-up", "2s")
    assert "note: the plan is stale: resources.cpu was not set, is 2.0" in here.ok(*asked)


def test_money_has_as_many_digits_as_tell_two_policies_apart() -> None:
    assert (money(1234.5), money(1.0), money(0.01604), money(0.01648), money(0.0)) == (
        "1,234.50", "1.00", "0.0160", "0.0165", "0.00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ([], "--since"),
        (["--traffic", "missing.csv"], "--traffic"),
        (["--traffic", "TRACE"], "--service"),
        (["--traffic", "TRACE", "--window", "0s"], "--window"),
        (["--traffic", "TRACE", "--price", "inf"], "--price"),
        (["--traffic", "TRACE", "--service", "soon"], "--service"),
        (["--traffic", "TRACE", "--service", "40ms"], "--start-up"),
        (["--traffic", "TRACE", *GIVEN, "--times", "0"], "--times"),
        (["--traffic", "TRACE", *GIVEN, "--since", "2027-01-01"], "--since"),
        (["--traffic", "TRACE", *GIVEN, "--policy", "missing.yaml"], "--policy"),
        (["--traffic", "TRACE", *GIVEN, "--report", "sim.pdf"], "--report"),
        (["--traffic", "TRACE", *GIVEN, "--sla", "fast"], "--sla"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Installation, trace: Path, args: list[str], where: str) -> None:
    given = [str(trace) if arg == "TRACE" else arg for arg in args]
    assert here.refused("simulate", "iris", *given)[0] == where


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        ("2026-05-01,many\n2026-05-02,3\nx,y\n", "'x,y'"),
        ("2026-05-01,3\nlater,3\n", "'later' is not a time"),
        ("2026-05-01,3\n2026-05-01,3\n", "do not rise"),
        ("2026-05-01,-3\n", "is not a period and a count"),
    ],
)
def test_a_file_that_is_no_trace_is_told_where(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=told):
        simulate_source.of_file(path, None, None, 1.0, 1)


def test_a_trace_may_be_packed_cut_and_made_larger(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(MINUTES.encode()))
    whole = simulate_source.of_file(path, None, None, 1.0, 1)
    assert len(whole.at) == 1680
    assert (whole.at[1:] >= whole.at[:-1]).all()
    part = simulate_source.of_file(path, "2026-05-01T12:03", "2026-05-01T12:05", 2.5, 1)
    assert len(part.at) == 3000
    assert (part.begin_at, part.until - part.begin_at) == (whole.begin_at + 180, 120.0)


def test_names_are_text_on_the_page(here: Installation, trace: Path) -> None:
    told = json.loads(here.ok("simulate", "iris", "--traffic", str(trace), *GIVEN, "-o", "json"))
    told["policies"][0]["name"] = told["notes"][0] = "<script>alert(1)</script>"
    page = render(told)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
