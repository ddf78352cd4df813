"""How many replicas each version is to have, when triggers move that number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headway.control import commands, rollout
from headway.control.commands import Outcome
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, InvalidInput, InvalidSpec
from headway.domain.lifecycle import DeploymentState, ReplicaPhase
from headway.domain.routing_table import Arm
from headway.domain.scaling_spec import Scaling

from .test_commands import A, B, C, document, serving, types
from .test_rollout import replica, starting

P = ReplicaPhase


def policy(least: int = 1, most: int = 10, **more: Any) -> dict[str, Any]:
    return {"minReplicas": least, "maxReplicas": most, "triggers": [{"type": "concurrency", "target": 4}], **more}


def scaling(least: int = 1, most: int = 10, **more: Any) -> Scaling:
    return document(scaling=policy(least, most, **more)).spec.scaling


def elastic(counts: dict[str, int], split: dict[str, int] | None = None, least: int = 1, most: int = 10) -> Deployment:
    """Live versions with these counts; ``split`` left out: the last has all traffic."""
    names = sorted(counts)
    weights = split or {names[-1]: 100}
    arms = tuple(Arm(name, weight) for name, weight in sorted(weights.items()))
    deployment = commands.configure_scaling(serving(*names, split=arms), scaling(least, most), 3.0).deployment
    return deployment.with_counts({name: counts[name] for name in weights})


def wished(deployment: Deployment, *names: str) -> tuple[int, ...]:
    return tuple(deployment.wished(name) for name in names)


# -- configuring ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "first"), [(0, 1), (1, 1), (3, 3)])
def test_the_very_first_version_starts_with_the_fewest_and_at_least_one(least: int, first: int) -> None:
    outcome = commands.deploy(None, document(scaling=policy(least)), A, None, 5.0)
    assert wished(outcome.deployment, "v1") == (first,)
    assert outcome.deployment.bounds == (least, 10)
    assert types(outcome)[:3] == ["deployment_created.v1", "version_created.v1", "scaling_configured.v1"]
    (told,) = [event for event in outcome.events if event.type == "scaling_configured.v1"]
    assert told.data["scaling"] == outcome.deployment.scaling
    assert told.data["replicas"] == first


def test_the_same_document_again_is_unchanged_and_a_policy_that_is_not_stated_stays() -> None:
    deployment = elastic({"v1": 7})
    again = commands.deploy(deployment, document(scaling=policy()), A, None, 9.0)
    assert again.unchanged
    assert again.deployment.scaling is deployment.scaling
    silent = commands.deploy(deployment, document(), A, None, 9.0)
    assert silent.unchanged
    assert wished(silent.deployment, "v1") == (7,)


def test_a_stated_policy_replaces_the_one_before_and_counts_go_into_its_bounds() -> None:
    narrow = commands.deploy(elastic({"v1": 7}), document(scaling=policy(2, 5)), A, None, 9.0)
    assert not narrow.unchanged
    assert wished(narrow.deployment, "v1") == (5,)
    assert "scaling_configured.v1" in types(narrow)
    high = commands.configure_scaling(elastic({"v1": 0}, least=0), scaling(2), 9.0)
    assert wished(high.deployment, "v1") == (2,)
    assert high.deployment.generation > 1


def test_a_fixed_number_in_a_document_ends_it() -> None:
    outcome = commands.deploy(elastic({"v1": 7}), document(scaling={"minReplicas": 3}), A, None, 9.0)
    assert outcome.deployment.scaling is None
    assert wished(outcome.deployment, "v1") == (3,)
    assert outcome.deployment.bounds == (3, 3)
    assert "scaled" not in outcome.deployment.extra
    (told,) = [event for event in outcome.events if event.type == "scaling_configured.v1"]
    assert dict(told.data) == {"scaling": None, "replicas": 3}


def test_what_was_fixed_goes_on_from_its_number() -> None:
    fixed = commands.scale(serving("v1"), 4, 3.0).deployment
    assert wished(commands.configure_scaling(fixed, scaling(), 9.0).deployment, "v1") == (4,)
    assert wished(commands.configure_scaling(fixed, scaling(1, 3), 9.0).deployment, "v1") == (3,)
    assert wished(commands.configure_scaling(fixed, scaling(6), 9.0).deployment, "v1") == (6,)


def test_turned_off_the_number_stays_but_nothing_is_left_asleep() -> None:
    outcome = commands.configure_scaling(elastic({"v1": 7}), None, 9.0)
    assert outcome.deployment.scaling is None
    assert outcome.deployment.replicas == 7
    assert types(outcome) == ["scaling_configured.v1"]
    asleep = commands.configure_scaling(elastic({"v1": 0}, least=0), None, 9.0)
    assert asleep.deployment.replicas == 1
    assert commands.configure_scaling(serving("v1"), None, 9.0).unchanged


def test_a_policy_without_triggers_fixes_the_number() -> None:
    fixed = document(scaling={"minReplicas": 2}).spec.scaling
    assert commands.configure_scaling(elastic({"v1": 7}), fixed, 9.0).deployment.replicas == 2
    assert commands.configure_scaling(serving("v1"), document(scaling={}).spec.scaling, 9.0).unchanged


def test_rules_are_kept_whoever_makes_the_policy() -> None:
    with pytest.raises(InvalidSpec, match="must be above minReplicas"):
        commands.configure_scaling(serving("v1"), scaling().model_copy(update={"max_replicas": 1}), 9.0)


def test_a_memory_trigger_needs_a_limit_in_every_version_of_the_split() -> None:
    limited = document(resources={"memory": "1Gi"}, scaling=policy(triggers=[{"type": "memory", "target": "80%"}]))
    with pytest.raises(InvalidSpec, match="v1 has none"):
        commands.configure_scaling(serving("v1"), limited.spec.scaling, 9.0)
    deployment = commands.deploy(None, limited, A, None, 1.0).deployment
    with pytest.raises(InvalidSpec, match="v2 has none") as caught:
        commands.deploy(deployment, document(), B, None, 2.0)
    assert caught.value.where == "spec.resources.memory"


def test_what_is_being_deleted_is_not_configured() -> None:
    gone = commands.delete(elastic({"v1": 1}), 5.0).deployment
    with pytest.raises(Conflict):
        commands.configure_scaling(gone, None, 9.0)


# -- versions that come and go -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("busy", "canary", "least", "most", "starts_with"),
    [
        (8, None, 1, 10, 8),  # takes over everything: as many
        (8, 10, 1, 10, 1),  # 0.8, rounded up
        (8, 20, 1, 10, 2),  # 1.6
        (8, 1, 3, 10, 3),
        (0, None, 0, 10, 1),  # to show that it can
        (8, None, 1, 8, 8),
    ],
)
def test_a_version_that_comes_in_starts_with_its_share(
    busy: int, canary: int | None, least: int, most: int, starts_with: int
) -> None:
    outcome = commands.deploy(elastic({"v1": busy}, least=least, most=most), document(), B, canary, 9.0)
    assert wished(outcome.deployment, "v1", "v2") == (busy, starts_with)


def test_a_larger_share_gets_more_and_a_smaller_one_keeps_what_it_has() -> None:
    deployment = elastic({"v1": 8, "v2": 1}, {"v1": 90, "v2": 10})
    promoted = commands.promote(deployment, "v2", 9.0).deployment
    assert wished(promoted, "v1", "v2") == (8, 9)
    back = commands.set_traffic(deployment, {"v1": 95, "v2": 5}, 9.0).deployment
    assert wished(back, "v1", "v2") == (9, 1)
    none = commands.set_traffic(deployment, {"v1": 90, "v2": 10}, 9.0)
    assert none.unchanged


def test_a_larger_share_takes_nothing_away() -> None:
    deployment = elastic({"v1": 1, "v2": 5}, {"v1": 50, "v2": 50})
    assert wished(commands.set_traffic(deployment, {"v1": 40, "v2": 60}, 9.0).deployment, "v2") == (5,)


def test_the_bounds_hold_for_what_comes_in() -> None:
    deployment = elastic({"v1": 8, "v2": 8}, {"v1": 50, "v2": 50})
    assert wished(commands.promote(deployment, "v2", 9.0).deployment, "v2") == (10,)


def test_a_version_at_zero_that_gets_traffic_starts_first() -> None:
    deployment = elastic({"v1": 0, "v2": 0}, {"v1": 90, "v2": 10}, least=0)
    promoted = commands.promote(deployment, "v2", 9.0).deployment
    assert wished(promoted, "v1", "v2") == (0, 1)
    assert rollout.missing(promoted, [], ()) == {"v2": 1}
    assert rollout.shift(promoted, [], 10.0) is None
    assert rollout.shift(promoted, [replica("a", "v2")], 10.0) is not None


def test_a_rollback_starts_as_many_as_serve_now() -> None:
    deployment = replace(elastic({"v1": 1, "v2": 6}, {"v2": 100}), previous=(Arm("v1", 100),))
    assert wished(commands.rollback(deployment, 9.0).deployment, "v1") == (6,)


def test_a_shadow_starts_with_the_share_that_is_copied() -> None:
    shadowed = document(shadow={"version": "v2", "percent": 50})
    outcome = commands.deploy(elastic({"v1": 6}), shadowed, B, None, 9.0)
    assert wished(outcome.deployment, "v1", "v2") == (6, 3)


def test_the_count_of_a_version_nobody_needs_is_forgotten() -> None:
    deployment = elastic({"v1": 8, "v2": 3}, {"v1": 50, "v2": 50})
    only = replace(deployment, target=(Arm("v2", 100),), live=(Arm("v2", 100),))
    after, _ = rollout.advance(only, [replica("a", "v1"), replica("b", "v2")], 9.0)
    assert dict(after.counts) == {"v2": 3}
    again, _ = rollout.advance(after, [replica("b", "v2")], 10.0)
    assert again.extra is after.extra, "nothing to write"


def test_a_failed_version_takes_its_count_with_it() -> None:
    deployment = starting(commands.deploy(elastic({"v1": 8}), document(), B, None, 9.0).deployment, "v2")
    called_off = replace(deployment, target=deployment.live)
    after, _ = rollout.advance(called_off, [], 10.0)
    assert dict(after.counts) == {"v1": 8}


# -- asked for by hand ----------------------------------------------------------------------------


def test_scaling_by_hand_sets_every_version_of_the_split() -> None:
    deployment = elastic({"v1": 8, "v2": 1}, {"v1": 90, "v2": 10})
    outcome = commands.scale(deployment, 4, 9.0)
    assert wished(outcome.deployment, "v1", "v2") == (4, 4)
    (event,) = outcome.events
    assert (event.type, dict(event.data)) == (
        "deployment_scaled.v1", {"old": 8, "new": 4, "reason": "asked for"},
    )  # fmt: skip
    assert outcome.deployment.generation == deployment.generation + 1
    assert commands.scale(outcome.deployment, 4, 9.0).unchanged


@pytest.mark.parametrize("replicas", [0, 1, 11])
def test_a_number_that_triggers_would_not_let_stand_is_refused(replicas: int) -> None:
    with pytest.raises(InvalidInput, match="between 2 and 10") as caught:
        commands.scale(elastic({"v1": 8}, least=2), replicas, 9.0)
    assert caught.value.where == "replicas"


def test_scaled_to_zero_by_hand_a_version_on_its_way_still_shows_that_it_can() -> None:
    deployment = commands.deploy(elastic({"v1": 2}, least=0), document(), B, None, 9.0).deployment
    assert wished(commands.scale(deployment, 0, 9.0).deployment, "v1", "v2") == (0, 1)


# -- decided --------------------------------------------------------------------------------------


def decided(deployment: Deployment, version: str, count: int, **more: Any) -> Outcome:
    return commands.set_wished(deployment, version, count, "because", 9.0, **more)


def test_a_decision_moves_one_version_and_says_why() -> None:
    deployment = elastic({"v1": 8, "v2": 1}, {"v1": 90, "v2": 10})
    outcome = decided(deployment, "v2", 3, binding="concurrency", based_on=1)
    assert wished(outcome.deployment, "v1", "v2") == (8, 3)
    (event,) = outcome.events
    assert (event.type, event.version, event.model) == ("scaling_decided.v1", "v2", "iris")
    assert dict(event.data) == {"old": 1, "new": 3, "binding": "concurrency", "summary": "because"}


def test_a_decision_keeps_the_bounds_of_now() -> None:
    assert wished(decided(elastic({"v1": 8}), "v1", 99).deployment, "v1") == (10,)
    assert wished(decided(elastic({"v1": 8}, least=2), "v1", 0).deployment, "v1") == (2,)
    assert wished(decided(elastic({"v1": 8}, least=0), "v1", 0).deployment, "v1") == (0,)


def test_a_decision_that_was_overtaken_is_dropped() -> None:
    deployment = elastic({"v1": 8})
    assert decided(deployment, "v1", 9, based_on=7).unchanged
    assert decided(deployment, "v2", 9).unchanged
    assert decided(deployment, "v1", 8).unchanged
    assert decided(commands.configure_scaling(deployment, None, 5.0).deployment, "v1", 9).unchanged
    assert decided(commands.delete(deployment, 5.0).deployment, "v1", 9).unchanged


def test_a_version_that_is_about_to_take_over_is_not_lowered() -> None:
    deployment = elastic({"v1": 8, "v2": 1}, {"v1": 90, "v2": 10})
    rolling = commands.promote(deployment, "v2", 9.0).deployment
    assert decided(rolling, "v2", 1).unchanged
    assert wished(decided(rolling, "v2", 10).deployment, "v2") == (10,)
    assert wished(decided(rolling, "v1", 5).deployment, "v1") == (5,)


# -- what becomes of it ---------------------------------------------------------------------------


def told(deployment: Deployment, *replicas: Any, fault: str = "") -> tuple[str, str]:
    judged = rollout.judge(deployment, replicas, 9.0, fault)
    result = judged[0] if judged is not None else deployment
    return str(result.state), result.message


def test_each_version_has_as_many_as_it_is_to_have() -> None:
    deployment = elastic({"v1": 3, "v2": 1}, {"v1": 90, "v2": 10})
    there = [replica("a", "v1"), replica("b", "v2"), replica("c", "v2", started_at=5.0), replica("d", "v2", P.STARTING)]
    assert rollout.missing(deployment, there, ()) == {"v1": 2}
    assert [r.replica_id for r in rollout.surplus(deployment, there, ())] == ["d", "c"]


def test_a_new_version_is_live_with_all_that_it_started_with() -> None:
    deployment = starting(commands.deploy(elastic({"v1": 2}), document(), B, None, 9.0).deployment, "v2")
    old = [replica("a", "v1"), replica("b", "v1")]
    assert rollout.shift(deployment, [*old, replica("c", "v2"), replica("d", "v2", P.STARTING)], 10.0) is None
    assert rollout.shift(deployment, [*old, replica("c", "v2"), replica("d", "v2")], 10.0) is not None


def test_a_canary_does_not_wait_until_the_busy_version_beside_it_has_grown() -> None:
    deployment = starting(commands.deploy(elastic({"v1": 5}), document(), B, 10, 9.0).deployment, "v2")
    assert rollout.shift(deployment, [replica("a", "v1")], 10.0) is None
    assert rollout.shift(deployment, [replica("a", "v1"), replica("b", "v2")], 10.0) is not None
    back = replace(deployment, live=deployment.target, target=(Arm("v1", 100),))
    assert rollout.shift(back, [replica("a", "v1"), replica("b", "v2")], 10.0) is None, "v1 gets more"


def test_scaled_to_zero_it_is_ready_and_says_so() -> None:
    deployment = elastic({"v1": 0}, least=0)
    assert told(deployment) == ("ready", "scaled to zero")
    assert rollout.missing(deployment, [], ()) == {}
    assert [r.replica_id for r in rollout.surplus(deployment, [replica("a", "v1")], ())] == ["a"]
    half = elastic({"v1": 2, "v2": 0}, {"v1": 90, "v2": 10}, least=0)
    assert told(half, replica("a", "v1"), replica("b", "v1")) == ("ready", "scaled to zero: v2")
    fixed = commands.scale(serving("v1"), 0, 9.0).deployment
    assert told(fixed) == ("ready", "")


def test_growing_is_not_being_degraded() -> None:
    deployment = elastic({"v1": 3}, least=1)
    one, coming, broken = replica("a", "v1"), replica("b", "v1", P.STARTING), replica("b", "v1", P.BACKOFF, reason="X")
    assert told(deployment, one, coming) == ("ready", "scaling up, v1: 1 of 3 replicas ready")
    assert told(deployment, one, one, one) == ("ready", "")
    assert told(deployment, one, broken) == ("degraded", "v1: 1 of 3 replicas ready (X)")
    assert told(deployment, coming)[0] == "degraded", "fewer than it has to have"
    assert told(deployment, one, replica("b", "v1", P.UNREADY))[0] == "degraded"
    assert told(deployment, one, fault="no space") == ("degraded", "v1: 1 of 3 replicas ready; no space")
    asleep = elastic({"v1": 1}, least=0)
    assert told(asleep, coming) == ("ready", "scaling up, v1: 0 of 1 replicas ready")
    fixed = commands.scale(serving("v1"), 3, 9.0).deployment
    assert told(fixed, one, coming)[0] == "degraded"


def test_why_the_last_rollout_failed_stays_beside_what_is_now() -> None:
    failed = "last rollout failed: v2: boom; and more"
    deployment = replace(elastic({"v1": 0}, least=0), message=failed)
    assert told(deployment) == ("ready", f"{failed}; now: scaled to zero")
    asleep = replace(deployment, message=f"{failed}; now: scaled to zero")
    assert rollout.judge(asleep, [], 9.0) is None, "it would be written again and again"
    awake = asleep.with_wished("v1", 1)
    assert told(awake, replica("a", "v1")) == ("ready", failed)
    assert asleep.state is DeploymentState.READY


def test_content_of_a_third_version_takes_its_share_of_all() -> None:
    deployment = elastic({"v1": 6, "v2": 3}, {"v1": 70, "v2": 30})
    assert wished(commands.deploy(deployment, document(), C, None, 9.0).deployment, "v3") == (9,)
