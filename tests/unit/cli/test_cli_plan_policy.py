"""``headway plan --write-policy``, and what a canary beside the measured version means for a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.control.book import Changed
from tests.unit.cli.installation import Installation
from tests.unit.cli.plans import DOCUMENT, POLICY, keep


def test_the_policy_that_follows_is_put_in_force_when_asked(here: Installation, rows: Path) -> None:
    keep(here, rows, {**DOCUMENT, "max_queue": 256})  # as it is: what another one does, tests/e2e/test_plan.py
    here.ok("plan", "iris", "--show", "--data", str(rows))
    assert here.policy is None
    here.ok("plan", "iris", "--show", "--write-policy", "--data", str(rows))
    policy: Any = here.policy
    assert policy["maxReplicas"] == 4
    assert here.trigger("rps")["target"] == 45.6


def test_what_another_policy_changes_is_told(here: Installation, rows: Path) -> None:
    keep(here, rows, {**DOCUMENT, "max_queue": 256})
    here.ok("autoscale", "iris", "--min", "0", "--max", "9", "--concurrency", "5")
    code, _, told = here.run("plan", "iris", "--show", "--write-policy", "--data", str(rows))
    assert code == 0
    for line in ("concurrency: gone", "rps: new, 45.6 requests a second per replica", "minReplicas: 0 -> 1"):
        assert line in told, told


def test_a_policy_of_one_replica_is_a_fixed_number(here: Installation, rows: Path) -> None:
    """Triggers have nothing to move between 1 and 1, and a policy that has them is refused."""
    keep(here, rows, {**DOCUMENT, "max_queue": 256, "policy": {**POLICY, "maxReplicas": 1}})
    shown = here.ok("plan", "iris", "--show", "--write-policy", "--data", str(rows))
    assert "there is nothing to scale between" in shown
    assert "rps" not in shown
    assert here.policy is None


def beside_a_canary(here: Installation) -> None:
    async def second() -> None:
        def with_v2(deployment: Any) -> Any:
            return Changed(deployment.with_version(replace(deployment.version("v1"), name="v2")))

        await here.world.book.change("iris", with_v2)

    here.runner.run(second())
    here.split(v1=90, v2=10)


def test_beside_a_canary_the_queue_bound_is_only_told(here: Installation, rows: Path) -> None:
    keep(here, rows)
    beside_a_canary(here)
    code, _, told = here.run("plan", "iris", "--show", "--write-policy", "--data", str(rows))
    assert code == 0, told
    assert "not now: 2 versions of iris share the traffic; put spec.server.maxQueue: 46 into headway.yaml" in told
    assert here.trigger("rps")["target"] == 45.6


def test_beside_a_canary_nothing_is_measured(here: Installation, rows: Path) -> None:
    """Else it would wait for replicas of one version, and count those of both."""
    beside_a_canary(here)
    code, _, told = here.run("plan", "iris", "--sla", "p95<1s", "--data", str(rows))
    assert code == 5
    assert "v1 and v2 of iris run side by side, and a plan is of one version" in told
    assert "headway promote iris" in told
