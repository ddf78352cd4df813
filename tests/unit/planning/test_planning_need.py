"""How many replicas: enough, bound, unsure and many are told apart, and what is unsure says what settles it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from headway.domain.promises import parse
from headway.planning.beliefs import Belief, Evidence
from headway.planning.capacity import NEAREST, Ceiling, capacity
from headway.planning.choice import Errors, Model, QueueModel
from headway.planning.forecast import Expected
from headway.planning.measured import Array, Load, Point, Rate, Run, Users, size
from headway.planning.need import MOST_REPLICAS, Finding, decisive, least_replicas, replicas_for
from headway.planning.nodes import Size
from headway.planning.plan import Question, conclude
from headway.planning.search import Search
from headway.planning.service import law_of


@dataclass
class Known:
    """A service of one server per replica that takes 20 ms, beside ``shared_s`` under a lock that all share."""

    shared_s: float = 0.0
    spread: float = 0.02
    name: str = "known"

    def _value(self, replicas: int, load: Load) -> float:
        rate = load.per_s if isinstance(load, Rate) else load.count / load.think_s
        own, lock = rate * 0.02 / replicas, rate * self.shared_s
        return 9.0 if max(own, lock) >= 0.99 else 0.02 / (1 - own) + self.shared_s / (1 - lock)

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        errors = np.array([-self.spread, self.spread])
        return [Expected(k, load, self._value(k, load), 0.02, size(load), errors) for k, load in loads]

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        return [self._value(k, load) for k, load in loads]

    def bound_per_s(self, replicas: int) -> float:
        return min(replicas / 0.02, 1 / self.shared_s if self.shared_s else math.inf)

    def least_per_s(self, replicas: int) -> float:
        return self.bound_per_s(replicas) * math.exp(-1.6449 * self.spread)

    def most_per_s(self, replicas: int) -> float:
        return self.bound_per_s(replicas) * math.exp(1.6449 * self.spread)


@dataclass
class Foretold:
    """A forecast that is sure of one belief."""

    evidence: Evidence
    law: Array
    belief: Belief

    @property
    def best(self) -> Foretold:
        return self

    def draws(self) -> list[tuple[int, Belief, Array]]:
        return [(0, self.belief, self.law)]


def searched(*points: Point) -> Search:
    run = Run(1000, 50.0, 0.02, 0.02)
    return Search(parse("p95<100ms"), 0.001, Rate(1.0), (1, 2), [Point(1, Users(1), (run, run)), *points])


def point(replicas: int, load: Load, value_s: float, runs: int = 3) -> Point:
    return Point(replicas, load, (Run(1000, size(load), value_s / 2, value_s),) * runs)


def test_enough_is_the_fewest_that_surely_keep_the_promise() -> None:
    need = replicas_for(Known(), Rate(100.0), 0.1)
    assert (need.finding, need.replicas, need.doubt) == (Finding.ENOUGH, 3, None)
    assert need.expected is not None
    assert need.expected.value_s == pytest.approx(0.06)


def test_fewer_that_may_do_are_told_beside_it() -> None:
    need = replicas_for(Known(spread=0.4), Rate(100.0), 0.061)
    assert (need.finding, need.replicas) == (Finding.ENOUGH, 6)
    assert need.doubt is not None
    assert need.doubt.replicas == 3


def test_a_bound_says_what_is_carried_by_any_number() -> None:
    need = replicas_for(Known(shared_s=0.005), Rate(190.0), 0.1)
    assert need.finding is Finding.BOUND
    assert need.most is not None
    assert 140 < need.most < 190
    assert need.most_per_s == 200.0
    assert replicas_for(Known(shared_s=0.005), Rate(400.0), 0.1).finding is Finding.BOUND, "above the lock's own rate"


def test_arrivals_close_to_saturation_are_not_planned_with_however_good_they_look() -> None:
    # 196 of the lock's 200 a second: a short run looks fine, and the queue has not even begun to show.
    need = replicas_for(Known(shared_s=0.005, spread=0.005), Rate(196.0), 5.0)
    assert need.finding is Finding.BOUND
    assert replicas_for(Known(shared_s=0.005), Rate(196.0), 5.0).finding is Finding.UNSURE, "190 to 210 a second"
    assert need.most == pytest.approx(190.0)
    assert replicas_for(Known(), Rate(196.0), 5.0).replicas == 5, "four would be at 98 %"


def test_near_the_bound_nobody_knows_yet() -> None:
    need = replicas_for(Known(shared_s=0.005, spread=0.3), Rate(187.0), 0.1)
    assert (need.finding, need.replicas) == (Finding.UNSURE, None)
    assert need.doubt is not None


def test_many_are_more_than_anybody_starts() -> None:
    assert replicas_for(Known(), Rate(60.0 * MOST_REPLICAS), 0.1).finding is Finding.MANY


def test_the_processor_ceiling_counts_before_the_promise() -> None:
    need = replicas_for(Known(), Rate(100.0), 0.1, Ceiling(0.02, 1.0, 0.5))
    assert (need.finding, need.replicas) == (Finding.ENOUGH, 4)


def test_what_settles_it_is_that_load_at_the_number_in_doubt_as_far_as_it_may_be_started() -> None:
    load = Rate(187.0)
    need = replicas_for(Known(shared_s=0.005, spread=0.3), load, 0.1)
    assert need.doubt is not None
    replicas = need.doubt.replicas
    assert decisive(need, searched(), replicas) == (replicas, load)
    assert decisive(need, searched(), replicas - 1) is None, "so many may not be started"
    assert decisive(need, searched(point(replicas, load, 0.1)), replicas) == (replicas, load)
    assert decisive(need, searched(point(replicas, load, 0.1, runs=9)), replicas) is None, "too close to call"
    assert decisive(replicas_for(Known(), load, 0.1), searched(), 9) is None, "nothing is in doubt"


def test_a_load_that_was_seen_broken_is_never_planned_with_wherever_it_was_measured() -> None:
    search = searched(point(1, Rate(40.0), 0.2), point(5, Rate(200.0), 0.3))
    assert least_replicas(search, Rate(39.0)) == 1
    assert least_replicas(search, Rate(40.0)) == 2
    assert least_replicas(search, Rate(200.0)) == 6


def test_runs_of_the_same_load_join() -> None:
    search = searched()
    search.found(point(3, Rate(60.0), 0.08))
    search.found(point(3, Rate(60.0), 0.12))
    (joined,) = search.at(3)
    assert len(joined.runs) == 6
    assert joined.value_s == pytest.approx(math.sqrt(0.08 * 0.12))


@pytest.mark.parametrize(
    ("belief", "replicas", "share"),
    [
        (Belief(2, ("shared",), np.array([0.0, 0.12])), 4, 0.86),
        (Belief(2, ("shared",), np.array([0.0, 0.12])), 16, 1.0),
        (Belief(3, ("serial",), np.array([0.0, 0.3])), 5, 0.86),
        (Belief(3, ("slowdown",), np.array([0.0, 0.3])), 5, 1.0),
    ],
)
def test_a_bound_knows_that_who_waits_for_a_lock_keeps_a_server(belief: Belief, replicas: int, share: float) -> None:
    law = law_of(np.random.default_rng(1).lognormal(-0.2, 0.63, 20_000) * 0.02)
    evidence = Evidence([point(1, Rate(10.0), 0.02)], parse("p95<100ms"), 1)
    model = QueueModel(Foretold(evidence, law, belief))  # type: ignore[arg-type]
    bound = belief.service(law).bound_per_s(replicas)
    assert model.bound_per_s(replicas) == pytest.approx(share * bound, rel=0.03)
    assert (
        model.least_per_s(replicas)
        == pytest.approx(model.most_per_s(replicas))
        == pytest.approx(share * bound, rel=0.03)
    )


def test_arrivals_are_planned_up_to_a_share_of_what_replicas_can_do_however_good_a_load_beyond_looks() -> None:
    patient, ordinary = capacity(Known(), 2, Rate(1.0), 1.9), capacity(Known(), 2, Rate(1.0), 0.1)
    assert patient.size == pytest.approx(NEAREST * 100.0)
    assert ordinary.size < 85.0
    assert (patient.by, ordinary.by) == ("saturation", "sla")


def test_a_promise_that_was_seen_broken_far_below_what_is_foretold_is_told() -> None:
    seen = searched(point(1, Rate(10.0), 0.05), point(1, Rate(20.0), 0.5), point(2, Rate(80.0), 0.5))
    question = Question(
        promise=seen.promise, most_failed=0.001, like=Rate(1.0), needed=None, most_replicas=2, measured=(1, 2),
        cpu_share=1.0, each=Size(1.0),
    )  # fmt: skip
    found = conclude(question, seen, cast("Model", Known()), Errors(0.0, None), None, None)
    one, two = found.carried
    assert (one.size, one.by) == (10.0, "measured"), "about 40 are foretold"
    told = [note for note in found.notes if "seen broken" in note]
    assert len(told) == 1, "two are as foretold"
    assert told[0].startswith("1 replica: 3")
    assert "broken at 20" in told[0]
    assert two.by != "measured"
