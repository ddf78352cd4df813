"""The autoscaler's loop on memory adapters: load, silence, faults and restarts, hours in no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headway.domain.errors import StorageFailed
from headway.domain.query_log import Arm

from .scaling_world import CONCURRENCY, REDIS, ScalingWorld, scaling

pytestmark = pytest.mark.anyio
LOST, BACK = "scaling_signal_lost", "scaling_signal_back"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ScalingWorld]:
    made = ScalingWorld(tmp_path)
    await made.up()
    yield made
    await made.crash()


async def test_replicas_follow_the_load_up_and_down_again(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    await world.pass_time(20)
    assert world.wished("iris") == 4
    assert world.running("iris") == {"v1": 4}
    world.flight["iris"] = 0.0
    await world.pass_time(25)
    assert world.wished("iris") == 4, "the stabilization window is 30 s"
    await world.pass_time(30)
    assert world.wished("iris") == 1
    assert world.running("iris") == {"v1": 1}

    told = await world.events_of("scaling_decided")
    assert [told[0].data["old"], told[-1].data["new"]] == [1, 1]
    assert max(event.data["new"] for event in told) == 4
    assert all(event.data["summary"] and event.data["binding"] for event in told)
    changes = [record for record in await world.recorded("iris") if record.changed]
    assert [(r.current, r.desired) for r in changes] == [(e.data["old"], e.data["new"]) for e in told]


async def test_quiet_decisions_are_recorded_once_a_minute_and_the_last_one_can_be_seen(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 2.0
    await world.pass_time(30)
    before = len(await world.recorded("iris"))
    await world.pass_time(600)
    assert 9 <= len(await world.recorded("iris")) - before <= 11
    shown = world.autoscaler.latest("iris")["v1"]
    assert shown["decision"]["at"] > (await world.recorded("iris"))[-1].at
    assert world.autoscaler.latest("nobody") == {}


async def test_missing_replica_stats_hold_and_are_told_once(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    await world.pass_time(30)
    assert world.wished("iris") == 4
    world.stats_known = False
    world.flight["iris"] = 0.0
    await world.pass_time(600)
    assert world.wished("iris") == 4
    (lost,) = await world.events_of(LOST)
    assert (lost.model, lost.version, lost.data["trigger"]) == ("iris", "v1", "concurrency")
    world.stats_known = True
    await world.pass_time(5)
    (back,) = await world.events_of(BACK)
    assert back.data["lost_s"] == pytest.approx(600, abs=30)
    await world.pass_time(60)
    assert world.wished("iris") == 1


async def test_an_outside_source_that_fails_holds_and_one_that_hangs_delays_nobody(world: ScalingWorld) -> None:
    world.source.value = 20.0
    await world.publish("queue", scaling(REDIS))
    await world.publish("iris", scaling(CONCURRENCY))
    await world.pass_time(15)
    assert world.wished("queue") == 4
    world.source.open.clear()  # no answer at all from now on
    world.flight["iris"] = 8.0
    await world.pass_time(20)
    assert world.wished("iris") == 4, "others are scaled meanwhile"
    await world.pass_time(100)
    assert world.wished("queue") == 4
    (lost,) = await world.events_of(LOST)
    assert (lost.model, lost.version, lost.data["trigger"]) == ("queue", None, "redis")
    assert "no answer within" in lost.data["error"]
    world.source.open.set()
    for value in (None, float("nan"), float("inf")):
        world.source.value = value
        await world.pass_time(120)
        assert world.wished("queue") == 4
    assert len(await world.events_of(LOST)) == 1 + len(await world.events_of(BACK))
    world.source.value = 0.0
    await world.pass_time(60)
    assert world.wished("queue") == 1
    assert len(await world.events_of(LOST)) == len(await world.events_of(BACK))


async def test_outside_sources_are_asked_at_their_interval_once_for_all_versions(world: ScalingWorld) -> None:
    world.source.value = 20.0
    await world.publish("queue", scaling(REDIS))
    await world.deploy("queue", "def predict(X): return 2", canary=25)
    await world.pass_time(30)
    assert world.live("queue") == {"v1": 75, "v2": 25}
    asked = len(world.source.asked)
    await world.pass_time(100)
    assert len(world.source.asked) - asked == 10
    assert (world.wished("queue", "v1"), world.wished("queue", "v2")) == (3, 1), "20 x 75 % / 5 and 20 x 25 % / 5"


async def test_a_changed_policy_counts_at_once_and_a_removed_one_ends_its_questions(world: ScalingWorld) -> None:
    world.source.value = 20.0
    await world.publish("queue", scaling(REDIS))
    await world.pass_time(12)
    await world.deploy("queue", "def predict(X): return X", scaling=scaling({**REDIS, "listName": "other"}))
    await world.pass_time(2)
    assert world.source.asked[-1].list_name == "other"  # type: ignore[union-attr]
    asked = len(world.source.asked)
    await world.deploy("queue", "def predict(X): return X", scaling={"minReplicas": 2})
    await world.pass_time(60)
    assert len(world.source.asked) == asked
    assert world.autoscaler.latest("queue") == {}
    assert world.running("queue") == {"v1": 2}


async def test_scale_to_zero_and_the_first_replica_at_once_when_a_request_is_held(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY, least=0, cooldownPeriod="60s"))
    await world.pass_time(45)
    assert world.wished("iris") == 1, "the cooldown period is not over"
    await world.pass_time(60)
    assert world.running("iris") == {}
    assert world.live("iris") == {"v1": 100}
    world.gateway.hold("iris", "v1")
    await world.pass_time(0.01)  # not a tick: those are a second apart
    assert world.wished("iris") == 1
    world.proxy.held.clear()
    await world.pass_time(1)
    assert world.running("iris") == {"v1": 1}


async def test_a_call_looks_at_versions_at_zero_only(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    await world.pass_time(0.5)
    before = world.autoscaler.latest("iris")["v1"]
    world.proxy.held[("iris", "v1")] = 1
    world.autoscaler.wake()
    await world.pass_time(0.1)
    assert world.autoscaler.latest("iris")["v1"] == before


async def test_a_fault_in_one_deployment_stops_no_other(world: ScalingWorld) -> None:
    await world.publish("broken", scaling(CONCURRENCY))
    await world.publish("iris", scaling(CONCURRENCY))
    deployment = world.model("broken")
    garbled: dict[str, Any] = {**deployment.extra["scaling"], "triggers": [{"type": "moon"}]}
    deployment.extra["scaling"] = garbled
    world.flight = {"iris": 8.0, "broken": 8.0}
    await world.pass_time(30)
    assert (world.wished("iris"), world.wished("broken")) == (4, 1)


async def test_after_a_restart_the_stabilization_window_goes_on(world: ScalingWorld) -> None:
    slow = {"scaleDown": {"stabilizationWindowSeconds": 300}}
    await world.publish("iris", {**scaling(CONCURRENCY), "behavior": slow})
    world.flight["iris"] = 8.0
    await world.pass_time(60)
    assert world.wished("iris") == 4
    world.flight["iris"] = 0.0
    await world.pass_time(240)
    await world.crash()
    await world.up()
    await world.pass_time(30)
    assert world.wished("iris") == 4, "a restart is no reason to go down"
    await world.pass_time(60)
    assert world.wished("iris") == 1, "nor to begin the window anew"


@pytest.mark.parametrize(("away_s", "recorded"), [(1.0, False), (120.0, True), (3600.0, True)])
async def test_when_nothing_is_left_of_the_window_a_restart_begins_it_anew(
    world: ScalingWorld, away_s: float, recorded: bool
) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    await world.pass_time(30)
    await world.crash()
    if not recorded:
        await world.decisions.expire(float("inf"), 0)
    world.flight["iris"] = 0.0
    await world.pass_time(away_s)
    await world.up()
    await world.pass_time(25)
    assert world.wished("iris") == 4
    await world.pass_time(40)
    assert world.wished("iris") == 1


async def test_after_a_restart_the_last_replica_stays_for_the_cooldown_period(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY, least=0, cooldownPeriod="60s"))
    await world.pass_time(50)
    await world.crash()
    await world.pass_time(50)
    await world.up()
    await world.pass_time(50)
    assert world.wished("iris") == 1, "who knows what was asked for while nobody looked"
    await world.pass_time(20)
    assert world.wished("iris") == 0


async def test_shadow_mode_records_what_it_would_do_and_does_nothing(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY, shadow=True))
    world.flight["iris"] = 8.0
    await world.pass_time(120)
    assert world.wished("iris") == 1
    assert not await world.events_of("scaling_decided")
    records = await world.recorded("iris")
    assert [r.desired for r in records if r.shadow][-1] == 4
    assert len(records) < 20, "not one a second, though each says the same"


async def test_what_cannot_be_recorded_is_carried_out_and_recorded_later(
    world: ScalingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    await world.pass_time(5)

    async def full(records: object) -> int:
        raise StorageFailed("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(world.decisions, "append", full)
        world.flight["iris"] = 8.0
        await world.pass_time(30)
        assert world.wished("iris") == 4
        (failed,) = await world.events_of("scaling_records_failed")
        assert "no space left" in failed.data["message"]
        assert not [r for r in await world.recorded("iris") if r.changed]
    await world.pass_time(5)
    (back,) = await world.events_of("scaling_records_back")
    assert back.data["lost"] == 0
    changes = [record for record in await world.recorded("iris") if record.changed]
    assert (changes[0].current, changes[-1].desired) == (1, 4)


async def test_a_decision_that_somebody_overtook_is_not_carried_out(
    world: ScalingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    change = world.book.change

    async def slow(name: str, step: Any) -> Any:
        monkeypatch.undo()
        await world.service.scale("iris", 6)
        return await change(name, step)

    monkeypatch.setattr(world.book, "change", slow)
    await world.pass_time(3)
    assert world.wished("iris") == 6
    assert [e for e in await world.events_of("deployment_scaled") if e.data["new"] == 6]
    assert not [r for r in await world.recorded("iris") if r.changed and r.desired < 6]


async def test_latency_is_read_from_the_query_log_of_each_version(world: ScalingWorld) -> None:
    latency = {"type": "latency", "threshold": "900ms", "quantile": "p95", "window": "30s", "every": "10s", "step": 2}
    await world.publish("slow", scaling({**latency, "cooldown": "60s"}))
    for _ in range(25):
        world.log_requests("slow", 20, total_s=2.0, queue_s=1.5)
        world.log_requests("slow", 400, total_s=0.1, queue_s=0.0, version="v2")  # of a shadow, say
        world.log_requests("slow", 400, total_s=0.1, queue_s=0.0, arm=Arm.JOB)
        await world.pass_time(1)
    assert world.wished("slow") == 3
    (said,) = world.autoscaler.latest("slow")["v1"]["decision"]["proposals"]
    assert said["trigger"] == "latency"
    await world.query_log.close()
    await world.pass_time(600)
    assert world.wished("slow") == 3
    (lost,) = await world.events_of(LOST)
    assert "closed" in lost.data["error"]


async def test_a_step_that_does_not_help_is_taken_back_and_told(world: ScalingWorld) -> None:
    latency = {"type": "latency", "threshold": "900ms", "window": "10s", "every": "5s", "step": 1, "cooldown": "10s"}
    await world.publish("slow", scaling(latency))
    counts = []
    for _ in range(120):
        world.log_requests("slow", 20, total_s=2.0, queue_s=1.0)
        await world.pass_time(1)
        counts.append(world.wished("slow"))
    (told,) = await world.events_of("scaling_not_replica_bound")
    assert (told.model, told.version, told.data["trigger"]) == ("slow", "v1", "latency")
    assert max(counts) < 6, "it does not run to the maximum"
    assert counts[-1] == max(counts) - 1


async def test_a_users_function_is_called_with_what_is_known(world: ScalingWorld) -> None:
    world.functions.functions["scaling:decide"] = lambda context: context["readings"]["redis"] / 10
    world.source.value = 50.0
    trigger = {"type": "python", "every": "5s"}
    await world.publish("own", scaling(trigger, {**REDIS, "listLength": 1000}))
    world.log_requests("own", 10, total_s=0.5, queue_s=0.1)
    await world.pass_time(20)
    assert world.wished("own") == 5
    context = world.functions.contexts[-1]
    assert (context["min"], context["max"], context["replicas"]) == (1, 6, 5)
    assert sum(window["count"] for window in context["latency"]) == 10
    assert context["since_change_s"] > 0
    del world.functions.functions["scaling:decide"]
    await world.pass_time(60)
    assert world.wished("own") == 5
    (lost,) = await world.events_of(LOST)
    assert (lost.version, lost.data["trigger"]) == ("v1", "python")


async def test_replicas_that_drain_do_not_count(world: ScalingWorld) -> None:
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    await world.pass_time(30)
    world.proxy.busy |= world.ids("iris")  # none of them is through with its requests
    world.flight["iris"] = 4.0
    await world.pass_time(60)
    shown = world.autoscaler.latest("iris")["v1"]["samples"]
    assert world.wished("iris") == shown["ready"] < len(world.ids("iris"))


async def test_start_and_stop_may_come_in_any_order_and_twice(world: ScalingWorld) -> None:
    scaler = world.autoscaler
    await asyncio.gather(scaler.start(), scaler.start())
    await asyncio.gather(scaler.stop(), scaler.stop())
    await scaler.stop()
    await world.publish("iris", scaling(CONCURRENCY))
    world.flight["iris"] = 8.0
    await world.pass_time(30)
    assert world.wished("iris") == 1, "it is stopped"
    await scaler.start()
    await world.pass_time(30)
    assert world.wished("iris") == 4
