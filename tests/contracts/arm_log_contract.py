"""What every arm log does: only what the split drew counts, and feedback counts for the request that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from headway.domain.arms import ArmFigures, ArmQuery, ArmTable, Moments
from headway.domain.feedback import Feedback
from headway.domain.query_log import Arm, QueryRecord
from headway.domain.sketch import LatencySketch
from headway.ports.arm_log import ArmLog
from tests.query_records import MINUTE_NS, START_NS, record, some_records

MakeArmLog = Callable[[Sequence[QueryRecord], Sequence[Feedback]], Awaitable[ArmLog]]
QUERY = ArmQuery(model="iris", versions=("v1", "v2"), since_ns=START_NS, until_ns=START_NS + 10 * MINUTE_NS)


def drawn(number: int, version: str, **changed: object) -> QueryRecord:
    """One request of ``version`` with the id ``r<number>``."""
    replica = f"iris-{version}-bcdfg"
    whose = {"version": version, "replica": replica, "stream": f"{replica}.0", "seq": number}
    return record(**{"request_id": f"r{number}", "ts_ns": START_NS + number, **whose, **changed})


def said(number: int, value: float, metric: str = "reward", at_ns: int = 0) -> Feedback:
    return Feedback(f"r{number}", metric, value, START_NS + MINUTE_NS + at_ns)


@pytest.mark.anyio
class ArmLogContract:
    """Subclasses give a fixture ``make``: a log with records and, after them, feedback in that order."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_figures_are_what_the_records_say(self, make: MakeArmLog) -> None:
        records = some_records(600)
        table = await (await make(records, [])).arms(QUERY)
        for version, figures in table.arms.items():
            own = [
                r
                for r in records
                if r.version == version and r.arm in (Arm.SPLIT, Arm.STICKY) and r.route and r.ts_ns < QUERY.until_ns
            ]
            timed = [r.total_ns for r in own if not r.cold_start and (r.status < 400 or r.status in (500, 504))]
            assert figures.requests == len(own) > 50
            assert figures.errors == sum(r.status >= 500 or r.status == 429 for r in own) > 0
            assert figures.first_ns == min(r.ts_ns for r in own)
            assert figures.buckets == Counter(LatencySketch.bucket(max(ns, 1)) for ns in timed)
            mean = sum(timed) / len(timed) / 1e9
            assert figures.seconds.count == len(timed)
            assert figures.seconds.mean == pytest.approx(mean)
            spread = sum((ns / 1e9 - mean) ** 2 for ns in timed) / (len(timed) - 1)
            assert figures.seconds.variance == pytest.approx(spread)
            third = sum((ns / 1e9 - mean) ** 3 for ns in timed) / len(timed)
            biased = spread * (len(timed) - 1) / len(timed)
            assert figures.seconds.skewness == pytest.approx(third / biased**1.5, rel=0.05)
        assert (table.query, table.feedback, table.unmatched) == (QUERY, 0, 0)

    @pytest.mark.parametrize("arm", [Arm.PINNED, Arm.SHADOW, Arm.DIRECT, Arm.JOB])
    async def test_what_the_split_did_not_draw_is_no_evidence(self, make: MakeArmLog, arm: Arm) -> None:
        records = [drawn(1, "v1"), drawn(2, "v1", arm=Arm.STICKY), drawn(3, "v1", arm=arm), drawn(4, "v2", route="")]
        table = await (await make(records, [said(1, 1), said(3, 1), said(4, 1)])).arms(QUERY)
        assert (table.arms["v1"].requests, table.arms["v2"].requests) == (2, 0)
        assert table.arms["v1"].feedback == {"reward": Moments(1, 1.0, 0.0, binary=True)}
        assert table.arms["v2"].feedback == {}
        assert (table.feedback, table.unmatched) == (3, 0)

    async def test_versions_without_requests_are_there_without_figures(self, make: MakeArmLog) -> None:
        table = await (await make([drawn(1, "v1")], [])).arms(QUERY)
        assert table.arms["v2"] == ArmFigures(version="v2")
        assert (await (await make([], [said(1, 1)])).arms(QUERY)).unmatched == 1

    async def test_the_span_counts(self, make: MakeArmLog) -> None:
        records = [drawn(1, "v1", ts_ns=QUERY.since_ns - 1), drawn(2, "v1"), drawn(3, "v1", ts_ns=QUERY.until_ns)]
        late = Feedback("r2", "reward", 1.0, QUERY.until_ns + MINUTE_NS)
        table = await (await make(records, [late])).arms(QUERY)
        assert table.arms["v1"].requests == 1
        assert table.arms["v1"].feedback["reward"].count == 1

    async def test_feedback_counts_by_metric_for_the_version_that_answered(self, make: MakeArmLog) -> None:
        records = [drawn(number, "v1" if number < 4 else "v2") for number in range(8)]
        feedback = [said(n, float(n % 2), "good") for n in range(8)] + [said(n, n / 2, "gain") for n in (1, 2, 5)]
        table = await (await make(records, feedback)).arms(QUERY)
        for version in ("v1", "v2"):
            good = table.arms[version].feedback["good"]
            assert (good.count, good.mean, good.binary) == (4, 0.5, True)
            assert good.variance == pytest.approx(1 / 3)
        gain = table.arms["v1"].feedback["gain"]
        assert (gain.count, gain.mean, gain.binary) == (2, 0.75, False)
        assert table.arms["v2"].feedback["gain"] == Moments(1, 2.5, 0.0, binary=False)
        assert table.feedback == 11

    async def test_of_several_the_last_counts(self, make: MakeArmLog) -> None:
        records = [drawn(1, "v1"), drawn(2, "v1")]
        feedback = [said(1, 1.0), said(1, 0.0), said(2, 1.0, at_ns=5), said(2, 0.0, at_ns=4), said(1, 7.0, "other")]
        table = await (await make(records, feedback)).arms(QUERY)
        assert table.arms["v1"].feedback["reward"].mean == 0.5
        assert table.feedback == 3

    async def test_feedback_for_nobody_is_counted_as_unmatched(self, make: MakeArmLog) -> None:
        table = await (await make([drawn(1, "v1")], [said(1, 1.0), said(77, 1.0), said(78, 1.0)])).arms(QUERY)
        assert (table.feedback, table.unmatched) == (3, 2)
        assert table.arms["v1"].feedback["reward"].count == 1

    async def test_long_request_ids_are_matched_whole(self, make: MakeArmLog) -> None:
        long = ["a" * 40 + "b", "a" * 40 + "c"]
        records = [drawn(place, "v1", request_id=text) for place, text in enumerate(long)]
        feedback = [Feedback(long[1], "reward", 1.0, START_NS + MINUTE_NS)]
        table = await (await make(records, feedback)).arms(QUERY)
        assert table.arms["v1"].feedback["reward"].count == 1

    async def test_unknown_models_have_nothing(self, make: MakeArmLog) -> None:
        log = await make([drawn(1, "v1")], [])
        table: ArmTable = await log.arms(ArmQuery(model="nobody", versions=("v1",), since_ns=0, until_ns=2**62))
        assert table.arms == {"v1": ArmFigures(version="v1")}
