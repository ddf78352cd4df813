"""A rollout, step by step, without a process or a clock."""

from __future__ import annotations

from dataclasses import replace

from headway.control import commands, rollout
from headway.domain.deployments import Deployment
from headway.domain.lifecycle import DeploymentState, ReplicaPhase, VersionState
from headway.domain.replicas import Failure, ReplicaStatus
from headway.domain.routing_table import Arm

from .test_commands import A, B, document, serving

P = ReplicaPhase


def replica(name: str, version: str, phase: P = P.READY, **more: object) -> ReplicaStatus:
    return replace(ReplicaStatus(name, "iris", version, phase, "unix:/x"), **more)  # type: ignore[arg-type]


def starting(deployment: Deployment, version: str) -> Deployment:
    """``version`` past its environment."""
    built = deployment.version(version)
    for state in (VersionState.BUILDING, VersionState.STARTING):
        built = built.moved(state, 10.0)
    return deployment.with_version(built)


def test_a_new_version_is_not_live_before_all_its_replicas_are_ready() -> None:
    deployment = starting(commands.deploy(serving("v1"), document(), B, None, 9.0).deployment, "v2")
    deployment = replace(deployment, replicas=2)
    one = [replica("a", "v1"), replica("b", "v1"), replica("c", "v2"), replica("d", "v2", P.STARTING)]
    assert rollout.shift(deployment, one, 11.0) is None
    both = [*one[:3], replica("d", "v2")]
    shifted = rollout.shift(deployment, both, 12.0)
    assert shifted is not None
    after, events = shifted
    assert after.live == (Arm("v2", 100),)
    assert after.previous == (Arm("v1", 100),)
    assert after.version("v2").state is VersionState.LIVE
    assert [str(e.type) for e in events] == ["version_live.v1", "traffic_shifted.v1"]


def test_the_version_that_left_the_split_drains_then_retires() -> None:
    live_v2 = serving("v1", "v2")
    still_there = live_v2.with_version(replace(live_v2.version("v1"), state=VersionState.LIVE))
    draining, events = rollout.advance(still_there, [replica("a", "v1"), replica("b", "v2")], 20.0)
    assert draining.version("v1").state is VersionState.DRAINING
    assert [str(e.type) for e in events] == ["version_draining.v1"]
    retired, _ = rollout.advance(draining, [replica("b", "v2")], 21.0)
    assert retired.version("v1").state is VersionState.RETIRED


def test_a_failed_start_calls_the_rollout_off_and_the_old_version_stays() -> None:
    deployment = starting(commands.deploy(serving("v1"), document(), B, None, 9.0).deployment, "v2")
    broken = replica("c", "v2", P.BACKOFF, failure=Failure("load_failed", "ValueError: no", "model.py:3"))
    after, events = rollout.advance(deployment, [replica("a", "v1"), broken], 11.0)
    assert after.version("v2").state is VersionState.FAILED
    assert after.target == after.live == (Arm("v1", 100),)
    assert "version_failed.v1" in [str(e.type) for e in events]
    judged = rollout.judge(after, [replica("a", "v1")], 12.0)
    assert judged is None or judged[0].state is DeploymentState.READY
    assert "ValueError: no" in after.message


def test_a_first_deploy_that_fails_leaves_nothing_wished() -> None:
    deployment = starting(commands.deploy(None, document(), A, None, 9.0).deployment, "v1")
    broken = replica("c", "v1", P.BACKOFF, failure=Failure("load_failed", "ValueError: no"))
    after, _ = rollout.advance(deployment, [broken], 11.0)
    assert after.target == ()
    judged = rollout.judge(after, [], 12.0)
    assert judged is not None
    assert judged[0].state is DeploymentState.FAILED
    assert rollout.surplus(after, [broken], ()) == [broken]


def test_a_kill_from_outside_does_not_doom_a_rollout_but_a_crash_loop_does() -> None:
    deployment = starting(commands.deploy(serving("v1"), document(), B, None, 9.0).deployment, "v2")
    killed = replica("c", "v2", P.BACKOFF, failure=Failure("replica_exited", "killed by SIGKILL"), restarts=1)
    after, _ = rollout.advance(deployment, [killed], 11.0)
    assert after.version("v2").state is VersionState.STARTING
    after, _ = rollout.advance(deployment, [replace(killed, restarts=rollout.RESTARTS_ALLOWED)], 11.0)
    assert after.version("v2").state is VersionState.FAILED


def test_a_version_that_never_gets_ready_fails_by_its_deadline() -> None:
    deployment = starting(commands.deploy(serving("v1"), document(), B, None, 9.0).deployment, "v2")
    slow = replica("c", "v2", P.UNREADY, started_at=10.0)
    assert rollout.advance(deployment, [slow], 100.0)[0].version("v2").state is VersionState.STARTING
    after, _ = rollout.advance(deployment, [slow], 500.0)
    failure = after.version("v2").failure
    assert failure is not None
    assert failure.code == "start_timeout"


def test_rollback_after_promote_leads_to_the_split_before_the_canary() -> None:
    canary = starting(commands.deploy(serving("v1"), document(), B, 10, 9.0).deployment, "v2")
    both = [replica("a", "v1"), replica("b", "v2")]
    trial = rollout.shift(canary, both, 10.0)
    assert trial is not None
    promoted = rollout.shift(commands.promote(trial[0], None, 11.0).deployment, both, 12.0)
    assert promoted is not None
    assert commands.rollback(promoted[0], 13.0).deployment.target == (Arm("v1", 100),)


def test_surplus_takes_the_unready_and_the_young_first() -> None:
    deployment = serving("v1")
    old = replica("old", "v1", started_at=1.0)
    young = replica("young", "v1", started_at=5.0)
    unready = replica("unready", "v1", P.UNREADY, started_at=0.5)
    going = rollout.surplus(replace(deployment, replicas=1), [young, old, unready], ())
    assert [r.replica_id for r in going] == ["unready", "young"]
    assert rollout.missing(replace(deployment, replicas=3), [old, young, unready], {"young"}) == {"v1": 1}


def test_fewer_ready_than_wished_is_degraded_and_says_why() -> None:
    deployment = replace(serving("v1"), replicas=2)
    crashed = replica("b", "v1", P.BACKOFF, reason="CrashLoopBackOff")
    judged = rollout.judge(deployment, [replica("a", "v1"), crashed], 5.0)
    assert judged is not None
    assert judged[0].state is DeploymentState.DEGRADED
    assert judged[0].message == "v1: 1 of 2 replicas ready (CrashLoopBackOff)"
