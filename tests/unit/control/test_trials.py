"""Trials: a canary whose share follows the evidence, over whatever happens to the control plane meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.memory.query_log import MemoryQueryLog
from headway.adapters.memory.runtime import Script
from headway.control.trial_judge import TrialJudge
from headway.domain.comparisons import Margins
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, InvalidInput
from headway.domain.events import Event
from headway.domain.feedback import Feedback
from headway.domain.lifecycle import TrialState
from headway.domain.query_log import QueryRecord
from headway.domain.replicas import Failure
from headway.domain.spec import parse
from headway.domain.trials import AtMost, Trial, TrialRules, rules_of
from tests.query_records import record
from tests.unit.control.world import World

RULES = TrialRules(
    steps=(10, 50, 100), at_least_s=30, at_most_s=600, margins=Margins(latency=0.5, errors=0.05, outcome=0.2)
)


class TrialWorld(World):
    """With a judge, and requests that a test makes up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.queries = MemoryQueryLog()
        self.serial = 0

    async def up(self) -> None:
        await super().up()
        self.judge = TrialJudge(self.book, self.queries, self.clock)
        await self.judge.start()

    async def crash(self) -> None:
        await self.judge.stop()
        await super().crash()

    async def tried(self, rules: TrialRules = RULES, **spec: Any) -> None:
        """v1 live, v2 beside it on trial, and its first split live."""
        await self.deploy("iris", "one")
        await self.pass_time(10)
        await self.deploy("iris", "two", rules=rules, **spec)
        await self.pass_time(10)

    async def deploy(self, name: str, content: str, *, rules: TrialRules | None = None, **spec: Any) -> Any:
        if rules is None:
            return await super().deploy(name, content, **spec)
        digest = self.bundles.add({"model.py": content})
        head = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        return await self.service.deploy(parse({**head, "spec": spec}), digest, rules.steps[0], rules)

    def serve(self, count: int, *, slower: float = 1.0, failing: int = 0, right: float | None = None) -> None:
        """So many requests of each version, now; ``failing`` of v2, which takes ``slower`` times as long."""
        now_ns = int(self.clock.now() * 1e9)
        records: list[QueryRecord] = []
        feedback: list[Feedback] = []
        for number in range(count):
            for version in ("v1", "v2"):
                self.serial += 1
                took = (10_000_000 + number % 100 * 50_000) * (slower if version == "v2" else 1)
                records.append(
                    record(
                        ts_ns=now_ns,
                        version=version,
                        stream=version,
                        seq=self.serial,
                        request_id=f"r{self.serial}",
                        total_ns=int(took),
                        status=500 if version == "v2" and number < failing else 200,
                    )
                )
                if right is not None:
                    good = number % 10 < 10 * (right if version == "v2" else 0.9)
                    feedback.append(Feedback(f"r{self.serial}", "right", float(good), now_ns))
        self.queries.add(records)
        self.queries.say("iris", feedback)

    @property
    def trial(self) -> Trial:
        found = self.model("iris").trial
        assert found is not None
        return found

    async def events(self) -> list[Event]:
        return [event for event in await self.log.read() if event.type.startswith("trial_")]

    async def told(self) -> list[str]:
        return [event.type for event in await self.events()]


def run(folder: Path, story: Callable[[TrialWorld], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = TrialWorld(folder)
        await world.up()
        try:
            await story(world)
        finally:
            await world.crash()

    asyncio.run(whole())


def test_a_version_that_is_no_worse_comes_in_by_steps(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        assert world.live("iris") == {"v1": 90, "v2": 10}
        world.serve(2000)
        await world.pass_time(15)
        assert world.live("iris") == {"v1": 90, "v2": 10}  # a step takes 30 s
        await world.pass_time(25)
        assert world.live("iris") == {"v1": 50, "v2": 50}
        assert (world.trial.state, world.trial.share) == (TrialState.RUNNING, 50)
        await world.pass_time(60)
        assert world.live("iris") == {"v1": 50, "v2": 50}  # evidence of the step before does not count
        world.serve(2000)
        await world.pass_time(10)
        assert world.live("iris") == {"v2": 100}
        assert world.trial.state is TrialState.PROMOTED
        assert await world.told() == ["trial_started.v1", "trial_stepped.v1", "trial_ended.v1"]
        ended = (await world.events())[-1]
        assert list(ended.data["comparison"]["requests"]) == [2000, 2000]
        assert (ended.version, ended.data["state"]) == ("v2", "promoted")

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [({"slower": 2.0}, "latency p50"), ({"failing": 400}, "errors"), ({"right": 0.3}, "right")],
    ids=["slower", "failing", "wrong"],
)
def test_a_version_that_does_harm_is_rolled_back_at_once(tmp_path: Path, harm: dict[str, Any], reason: str) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        world.serve(2000, **harm)
        await world.pass_time(5)
        assert world.live("iris") == {"v1": 100}
        assert world.trial.state is TrialState.ROLLED_BACK
        assert reason in world.trial.reason
        assert await world.told() == ["trial_started.v1", "trial_ended.v1"]

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("then", "state", "split"),
    [
        (AtMost.HOLD, TrialState.HELD, {"v1": 90, "v2": 10}),
        (AtMost.ROLLBACK, TrialState.ROLLED_BACK, {"v1": 100}),
        (AtMost.PROMOTE, TrialState.RUNNING, {"v1": 50, "v2": 50}),
    ],
)
def test_a_step_without_enough_evidence_ends_as_it_was_told_to(
    tmp_path: Path, then: AtMost, state: TrialState, split: dict[str, int]
) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried(TrialRules(steps=RULES.steps, at_least_s=30, at_most_s=60, then=then, margins=RULES.margins))
        world.serve(20)
        await world.pass_time(65)
        assert (world.trial.state, world.live("iris")) == (state, split)
        if then is AtMost.HOLD:
            assert "not enough evidence yet about latency, errors after 60 s" in world.trial.reason
            world.serve(2000)
            await world.pass_time(5)  # it goes on looking
            assert (world.trial.state, world.trial.share) == (TrialState.RUNNING, 50)
            assert await world.told() == ["trial_started.v1", "trial_held.v1", "trial_stepped.v1"]

    run(tmp_path, story)


def test_another_control_plane_goes_on_with_it(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        since = world.trial.since
        await world.crash()
        world.serve(2000)
        await world.up()
        await world.pass_time(40)
        assert world.live("iris") == {"v1": 50, "v2": 50}
        await world.crash()
        world.serve(2000, failing=900)
        await world.up()
        await world.pass_time(10)
        assert world.live("iris") == {"v1": 100}
        assert since is not None
        assert await world.told() == ["trial_started.v1", "trial_stepped.v1", "trial_ended.v1"]

    run(tmp_path, story)


@pytest.mark.parametrize("by_hand", ["traffic", "promote", "rollback", "deploy"])
def test_moving_the_traffic_by_hand_ends_it(tmp_path: Path, by_hand: str) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        if by_hand == "traffic":
            await world.service.set_traffic("iris", {"v1": 80, "v2": 20})
        elif by_hand == "promote":
            await world.service.promote("iris", None)
        elif by_hand == "rollback":
            await world.service.rollback("iris")
        else:
            await world.deploy("iris", "three")
        assert (world.trial.state, world.trial.reason) == (TrialState.STOPPED, "the traffic was moved")
        world.serve(2000, failing=900)
        await world.pass_time(60)
        assert await world.told() == ["trial_started.v1", "trial_ended.v1"]
        moved = {"traffic": {"v1": 80, "v2": 20}, "promote": {"v2": 100}, "rollback": {"v1": 100}}
        assert world.live("iris") == moved.get(by_hand, {"v3": 100})

    run(tmp_path, story)


def test_a_version_that_fails_ends_it(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.deploy("iris", "one")
        await world.pass_time(10)
        failure = Failure("load_failed", "ValueError: no weights")
        world.machine.script(Script(failure=failure), model="iris", version="v2")
        await world.deploy("iris", "two", rules=RULES)
        await world.pass_time(10)
        assert (world.trial.state, world.live("iris")) == (TrialState.STOPPED, {"v1": 100})
        assert "no weights" in world.trial.reason

    run(tmp_path, story)


def test_feedback_that_was_asked_for_is_waited_for(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried(TrialRules(steps=RULES.steps, at_least_s=30, margins=RULES.margins, metrics=("right",)))
        world.serve(2000)
        await world.pass_time(60)
        assert world.live("iris") == {"v1": 90, "v2": 10}
        world.serve(2000, right=0.9)
        await world.pass_time(5)
        assert world.live("iris") == {"v1": 50, "v2": 50}

    run(tmp_path, story)


def test_feedback_that_came_once_is_waited_for_in_every_step(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        world.serve(2000, right=0.9)
        await world.pass_time(40)
        assert (world.live("iris"), world.trial.metrics) == ({"v1": 50, "v2": 50}, ("right",))
        world.serve(2000)
        await world.pass_time(60)
        assert world.live("iris") == {"v1": 50, "v2": 50}

    run(tmp_path, story)


def test_the_same_deploy_again_leaves_the_trial_alone(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.tried()
        before = world.trial
        again = await world.deploy("iris", "two", rules=RULES)
        assert again.unchanged
        assert world.trial == before

    run(tmp_path, story)


def test_it_is_compared_with_one_version(tmp_path: Path) -> None:
    async def story(world: TrialWorld) -> None:
        await world.deploy("iris", "one")
        await world.pass_time(10)
        with pytest.raises(Conflict, match="no other version beside"):
            await world.deploy("iris", "one", rules=RULES)
        await world.deploy("iris", "two", canary=20)
        await world.pass_time(10)
        with pytest.raises(Conflict, match="compared with one version"):
            await world.deploy("iris", "three", rules=RULES)

    run(tmp_path, story)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": [100]}, "steps"),
    ({"steps": [10, 5, 100]}, "steps"),
    ({"steps": [10, 50]}, "steps"),
    ({"at_least_s": 90, "at_most_s": 60}, "at_most_s"),
    ({"at_least_s": 0}, "at_most_s"),
    ({"confidence": 1.0}, "confidence"),
    ({"margins": {"errors": -0.1}}, "margins"),
    ({"then": "hope"}, "then"),
]


@pytest.mark.parametrize(("document", "where"), WRONG)
def test_rules_that_make_no_sense_are_refused(document: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rules_of(document)
    assert refused.value.where == where


def test_a_trial_survives_being_written_down() -> None:
    rules = TrialRules(steps=(5, 100), then=AtMost.ROLLBACK, margins=Margins(outcome=0.1), metrics=("a", "b"))
    trial = Trial(base="v1", version="v2", rules=rules, began_at=1.0, since=2.0, metrics=("a",))
    for one in (trial, trial.moved(TrialState.HELD, "why", 3.0), trial.moved(TrialState.STOPPED, "why", 3.0)):
        assert Deployment(name="iris", created_at=0.0).with_trial(one).trial == one
