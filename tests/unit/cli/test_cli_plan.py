"""``headway plan``: what it refuses and shows of a kept plan; and when a plan is stale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.cli.plan_text import report, size_text, time_text
from headway.control.book import Changed
from headway.domain.errors import Conflict
from tests.unit.cli.installation import Installation
from tests.unit.cli.plans import DOCUMENT, keep


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ([], "--sla"),
        (["--sla", "errors<1%"], "--sla"),
        (["--sla", "p95<1s,p99<2s"], "--sla"),
        (["--sla", "p95"], "--sla"),
        (["--sla", "p95<1s", "--users", "5", "--rate", "5"], "--rate"),
        (["--sla", "p95<1s", "--think-time", "soon"], "--think-time"),
        (["--sla", "p95<1s", "--price", "3"], "--price"),
        (["--sla", "p95<1s", "--node-cores", "some"], "--node-cores"),
        (["--sla", "p95<1s", "--node-cores", "4", "--price", "inf"], "--price"),
        (["--sla", "p95<1s", "--node-cores", "500m"], "--node-cores"),
        (["--sla", "p95<1s", "--node-cores", "4", "--node-memory", "big"], "--node-memory"),
        (["--sla", "p95<1s", "--node-pods", "30"], "--node-pods"),
        (["--sla", "p95<1s", "--spare-nodes", "1"], "--spare-nodes"),
        (["--sla", "p95<1s", "--node-cores", "4", "--node-reserved", "100%"], "--node-reserved"),
        (["--sla", "p95<1s", "--node-cores", "4", "--node-reserved", "some"], "--node-reserved"),
        (["--sla", "p95<1s", "--node-cores", "1", "--node-reserved", "10%"], "--node-cores"),
        (["--sla", "p95<1s", "--cpu-ceiling", "0%"], "--cpu-ceiling"),
        (["--sla", "p95<1s", "--plot", "plan.svg"], "--plot"),
        (["--show", "--sla", "p95<1s"], "--sla"),
        (["--show", "--max-replicas", "2"], "--max-replicas"),
        (["--show", "--cpu-ceiling", "80%"], "--cpu-ceiling"),
        (["--sla", "p95<1s", "--rate", "5", "--think-time", "1s"], "--think-time"),
        (["--sla", "p95<1s", "--duration", "0s"], "--duration"),
        (["--sla", "p95<1s", "--duration", "500ms"], "--duration"),
        (["--sla", "p95<1s", "--data", "nothing-here.json"], "--data"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    here: Installation, args: list[str], where: str
) -> None:
    assert here.refused("plan", "iris", *args)[0] == where
    assert here.policy is None


def test_a_kept_plan_is_told_for_other_nodes_too(here: Installation, rows: Path) -> None:
    keep(here, rows)
    asked = (
        "plan",
        "iris",
        "--show",
        "--data",
        str(rows),
        "--node-cores",
        "8",
        "--node-reserved",
        "10%",
        "--price",
        "100",
    )
    shown = here.ok(*asked)
    for told in ("500 users need 8 replicas, 8 cores, 2 nodes, price 200.00", "node pool: min 1, max 1 nodes"):
        assert told in shown, shown
    assert "2 nodes, price 0.024" in here.ok(*asked[:-1], "0.012"), "of a node for a minute"
    found = json.loads(here.ok(*asked, "--spare-nodes", "1", "-o", "json"))["document"]
    assert (found["answer"]["nodes"], found["answer"]["price"]) == (3, 300.0)
    assert found["node_pool"] == {
        "replicas_per_node": 7, "bound_by": "cpu", "surge": 1, "spare": 1, "min_nodes": 2, "max_nodes": 2,
    }  # fmt: skip
    assert json.loads(here.ok("plan", "iris", "--show", "--data", str(rows), "-o", "json"))["document"] == DOCUMENT
    assert here.refused("plan", "iris", "--show", "--data", str(rows), "--node-cores", "500m")[0] == "--node-cores"


def test_a_plan_from_before_node_pools_is_told_without(here: Installation, rows: Path) -> None:
    keep(here, rows, {key: value for key, value in DOCUMENT.items() if key != "node_pool"})
    assert "node pool" not in here.ok("plan", "iris", "--show", "--data", str(rows))


def test_without_a_plan_it_says_how_to_make_one(here: Installation, rows: Path) -> None:
    code, _, stderr = here.run("plan", "iris", "--show", "--data", str(rows))
    assert code == 3
    assert "there is no plan for iris" in stderr


def test_a_plan_that_another_release_wrote_is_no_fault_of_this_one(here: Installation, rows: Path) -> None:
    keep(here, rows, {"format": 2})
    where, told = here.refused("plan", "iris", "--show", "--data", str(rows))
    assert where == "--show"
    assert "plan 1 of iris is of format 2, and this release reads 1" in told


def test_a_kept_plan_is_told_in_words_and_as_json(here: Installation, rows: Path) -> None:
    keep(here, rows)
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    for told in (
        "iris v1: p95<1s and errors<0.1 %\nplan 1, ",
        "users who think for 1 s between requests",
        "500 users need 8 replicas, 8 cores, 2 nodes, price 240.00",
        "expected: p95 800 ms (90 %: 700 ms to 950 ms), 300 requests/s",
        "       1   64 users    64 to 71              45.7   900 ms   p95<1s\n",
        "       2   130 users   131 to 140            91.0   800 ms   cpu ceiling, 80 %\n",
        "cpu ceiling: with more load replicas use over 80 % of their cores",
        "queues are 2.1 % off on average, the scalability law could not be fitted",
        "tried: 110 users on 2 replicas, predicted 520 ms (90 %: 470 ms to 580 ms), measured 500 ms: 4 % too high",
        "saturates at, in requests/s: 49.0 with 1 replica\n",
        "holds as long as v1 serves, with no limit on a replica, and requests are like these",
        "note: replicas get in each other's way",
        "  maxReplicas: 4\n  triggers:\n    - {type: rps, target: 45.6}\n",
        "spec.server.maxQueue: 46",
        "node pool: min 2, max 3 nodes",
        "4 replicas fit a node (cpu); minReplicas 1 to maxReplicas 4, with room for 1 more during a rollout",
        "and 1 spare node",
    ):
        assert told in shown, shown
    assert "stale" not in shown
    assert "seen broken" not in shown
    told = json.loads(here.ok("plan", "iris", "--show", "--data", str(rows), "-o", "json"))
    assert told["document"] == DOCUMENT
    assert (told["number"], told["stale"], told["basis"]["version"]) == (1, [], "v1")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"finding": "bound", "bound": {"size": 140, "rate_per_s": 88.8}},
            ["more replicas do not help", "any number carries 140 users", "never more than 88.8/s"],
        ),
        (
            {
                "finding": "unsure",
                "doubt": {
                    "replicas": 6,
                    "expected": {"value_s": 0.95, "low_s": 0.8, "high_s": 1.2, "rate_per_s": 300.0},
                    "settle": "--max-replicas 6 measures it",
                },
            },
            [
                "not sure yet; 6 replicas may keep p95<1s",
                "950 ms (90 %: 800 ms to 1.2 s); --max-replicas 6 measures",
                "500 users may be too many for this policy: it goes as far as what 4 replicas can carry",
            ],
        ),
        ({"finding": "many"}, ["more than 200 replicas"]),
        ({}, ["no number of replicas keeps p95<1s"]),
    ],
)
def test_no_number_says_whether_it_is_a_bound_or_not_known_yet(
    here: Installation, rows: Path, answer: dict[str, Any], told: list[str]
) -> None:
    load = {"load": {"kind": "users", "size": 500}, "replicas": None, "expected": None}
    keep(here, rows, {**DOCUMENT, "answer": {**load, **answer}})
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    for one in told:
        assert one in shown, shown


def test_the_cpu_ceiling_is_told_where_it_is_what_calls_for_one_replica_more(here: Installation, rows: Path) -> None:
    asked = {**DOCUMENT["answer"], "load": {"kind": "users", "size": 140}, "replicas": 3}
    keep(here, rows, {**DOCUMENT, "answer": asked})
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    assert "2 replicas carry 130 users: their bound is the cpu ceiling, 80 %, not p95<1s" in shown
    keep(here, rows, {**DOCUMENT, "answer": {**asked, "replicas": 8}})
    assert "their bound is" not in here.ok("plan", "iris", "--show", "--data", str(rows))


def test_what_was_settled_and_what_was_seen_broken_is_told(here: Installation, rows: Path) -> None:
    nothing = {"replicas": 3, "size": 0.0, "low": 0.0, "high": 0.0, "rate_per_s": 0.0, "value_s": None, "by": "sla"}
    seen = {**DOCUMENT["capacity"][0], "by": "measured"}
    settled = {**DOCUMENT["held_out"], "error": -0.1234}
    keep(here, rows, {**DOCUMENT, "capacity": [seen, nothing], "settled": [settled]})
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    for told in (
        "settled: 110 users on 2 replicas, predicted 520 ms",
        "12 % too low",
        "900 ms   seen broken\n",
        "seen broken: what breaks p95<1s was measured below what was foretold",
        "       3   nothing    -                        0   -",
    ):
        assert told in shown, shown


def test_a_line_is_folded_on_a_terminal(here: Installation, rows: Path) -> None:
    keep(here, rows)
    stored = here.runner.run(here.world.plans.read("iris", "", 1))[0].record
    from headway.api.schemas_plans import BasisView, PlanView

    view = PlanView(
        number=1,
        at=0.0,
        basis=BasisView(version="v1", digest="", resources={"cpu": 0.5, "memory": "1Gi", "workers": 2}, requests=""),
        stale=[],
        document=dict(stored.document),
    )
    lines = [line.plain for line in report("iris", view, 80)]
    assert max(len(line) for line in lines) <= 80
    assert "with 0.5 cores and 1Gi and 2 workers a replica" in " ".join(line.strip() for line in lines)


def test_other_requests_and_another_version_make_it_stale(here: Installation, rows: Path) -> None:
    keep(here, rows)
    rows.write_text("[[3, 4]]")
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    assert "stale: the requests that would be sent are others" in shown
    assert "measure again: headway plan iris --sla 'p95<1s' --users 500 --cpu-ceiling 80%\n" in shown
    assert "holds as long as" not in shown
    where, text = here.refused("plan", "iris", "--show", "--write-policy", "--data", str(rows))
    assert where == "--write-policy"
    assert "measure again" in text
    assert here.policy is None


def test_a_stale_plan_is_made_again_with_what_it_promised(here: Installation, rows: Path) -> None:
    keep(here, rows, {**DOCUMENT, "errors": 0.015, "cpu_ceiling": 0.85})
    rows.write_text("[[3, 4]]")
    shown = here.ok("plan", "iris", "--show", "--data", str(rows))
    assert "measure again: headway plan iris --sla 'p95<1s' --sla 'errors<1.5%' --users 500\n" in shown


def test_other_resources_make_it_stale(here: Installation, rows: Path) -> None:
    keep(here, rows)

    async def change() -> None:
        def with_more(deployment: Any) -> Any:
            version = deployment.version("v1")
            spec = {**version.spec, "resources": {"cpu": "2", "memory": "1Gi"}}
            return Changed(deployment.with_version(replace(version, spec=spec)))

        await here.world.book.change("iris", with_more)

    here.runner.run(change())
    told = json.loads(here.ok("plan", "iris", "--show", "--data", str(rows), "-o", "json"))
    assert told["stale"] == ["resources.cpu was not set, is 2.0", "resources.memory was not set, is 1Gi"]


def test_figures_are_short() -> None:
    assert (time_text(0.01234), time_text(1.234), time_text(None)) == ("12.3 ms", "1.23 s", "-")
    assert (size_text("users", 1), size_text("rate", 12.345)) == ("1 user", "12.3 requests/s")


def test_a_plan_of_a_version_that_no_longer_serves_is_not_kept(here: Installation) -> None:
    with pytest.raises(Conflict, match="serves now"):
        here.runner.run(here.world.plans.add("iris", "", "v9", {}))
