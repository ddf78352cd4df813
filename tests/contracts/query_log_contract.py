"""What every query log does: each record seen exactly once, windows equal to what the records say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from headway.domain.errors import HeadwayError
from headway.domain.query_log import (
    QUANTILES,
    Condition,
    GroupBy,
    LatencyField,
    Losses,
    Operator,
    QueryRecord,
    RecordQuery,
    Retention,
    Window,
    WindowQuery,
)
from headway.ports.query_log import QueryLog
from tests.query_records import MINUTE_NS, START_NS, record, some_records

MakeLog = Callable[[Sequence[QueryRecord]], Awaitable[QueryLog]]
END_NS = START_NS + 10 * MINUTE_NS


def question(**changed: object) -> WindowQuery:
    plain = WindowQuery(model="iris", since_ns=START_NS, until_ns=END_NS, window_ns=MINUTE_NS)
    return replace(plain, **changed)  # type: ignore[arg-type]


def ask_records(**changed: object) -> RecordQuery:
    return replace(RecordQuery(model="iris", since_ns=START_NS, until_ns=END_NS), **changed)  # type: ignore[arg-type]


def holds(one: QueryRecord, condition: Condition) -> bool:
    value, wanted = getattr(one, condition.field), condition.value
    match condition.op:
        case Operator.LIKE:
            return str(wanted) in value
        case Operator.EQ:
            return bool(value is not None and value == wanted)
        case Operator.NE:
            return bool(value is not None and value != wanted)
        case Operator.LT:
            return bool(value is not None and value < wanted)
        case Operator.LE:
            return bool(value is not None and value <= wanted)
        case Operator.GT:
            return bool(value is not None and value > wanted)
        case Operator.GE:
            return bool(value is not None and value >= wanted)


def asked_for(records: Sequence[QueryRecord], query: WindowQuery | RecordQuery) -> list[QueryRecord]:
    return [
        one
        for one in records
        if one.model == query.model
        and query.since_ns <= one.ts_ns < query.until_ns
        and all(holds(one, condition) for condition in query.where)
    ]


def by_hand(records: Sequence[QueryRecord], query: WindowQuery) -> list[Window]:
    """The definition of windows, as slowly as it can be."""
    windows = []
    chosen = asked_for(records, query)
    groups = sorted({tuple(str(getattr(one, name)) for name in query.by) for one in chosen})
    start = query.since_ns
    while start < query.until_ns:
        end = min(start + query.window_ns, query.until_ns)
        for group in groups:
            inside = [
                one
                for one in chosen
                if start <= one.ts_ns < end and tuple(str(getattr(one, name)) for name in query.by) == group
            ]
            if not inside:
                continue
            timed = [one for one in inside if one.status < 400 or one.status == 500 or one.status == 504]
            values = sorted(v for one in timed if (v := getattr(one, f"{query.field}_ns")) is not None)
            quantiles = [_quantile(values, q) for q in QUANTILES]
            windows.append(
                Window(
                    start_ns=start,
                    end_ns=end,
                    group=group,
                    count=len(inside),
                    timed=len(values),
                    errors=len([one for one in inside if one.status == 429 or one.status // 100 == 5]),
                    average_ns=math.fsum(values) / len(values) if values else None,
                    p50_ns=quantiles[0],
                    p75_ns=quantiles[1],
                    p95_ns=quantiles[2],
                    p99_ns=quantiles[3],
                )
            )
        start = end
    return windows


def _quantile(values: list[int], q: float) -> float | None:
    """Type 7: at ``(n - 1) q`` between the sorted values."""
    if not values:
        return None
    below, share = divmod((len(values) - 1) * q, 1)
    above = min(int(below) + 1, len(values) - 1)
    return (1 - share) * values[int(below)] + share * values[above]


def assert_same(found: Sequence[Window], wanted: Sequence[Window], rel: float = 1e-9) -> None:
    def exact(window: Window) -> tuple[object, ...]:
        return window.start_ns, window.end_ns, window.group, window.count, window.timed, window.errors

    assert [exact(window) for window in found] == [exact(window) for window in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name, within in (("average_ns", 1e-9), *((f"p{q:.0f}_ns", rel) for q in (50, 75, 95, 99))):
            figure, wanted_figure = getattr(one, name), getattr(other, name)
            assert (figure is None) == (wanted_figure is None), name
            if figure is not None:
                assert figure == pytest.approx(wanted_figure, rel=within), name


@pytest.mark.anyio
class QueryLogContract:
    """Subclasses give a fixture ``make``: a log that holds the given records; it is closed after the test."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    # -- windows -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("field", list(LatencyField))
    async def test_windows_are_what_the_records_say(self, make: MakeLog, field: LatencyField) -> None:
        records = some_records(600)
        log = await make(records)
        query = question(field=field)
        table = await log.windows(query)
        assert_same(table.windows, by_hand(records, query))
        assert (table.query, table.exact, table.relative_error, table.losses) == (query, True, 0.0, Losses())

    @pytest.mark.parametrize("window_ns", [7, 1_000_000_000, 17 * MINUTE_NS // 13, 3 * MINUTE_NS, 60 * MINUTE_NS])
    async def test_windows_of_any_length(self, make: MakeLog, window_ns: int) -> None:
        records = some_records(300)
        log = await make(records)
        span_ns = min(10 * MINUTE_NS, window_ns * 1000)
        first = min(one.ts_ns for one in records)
        query = question(since_ns=first - 3, until_ns=first - 3 + span_ns, window_ns=window_ns)
        assert_same((await log.windows(query)).windows, by_hand(records, query))

    @pytest.mark.parametrize(
        "by", [(group,) for group in GroupBy] + [(GroupBy.STATUS, GroupBy.VERSION), tuple(GroupBy)]
    )
    async def test_windows_by_group(self, make: MakeLog, by: tuple[GroupBy, ...]) -> None:
        records = some_records(400, seed=1)
        log = await make(records)
        query = question(by=by, window_ns=4 * MINUTE_NS)
        assert_same((await log.windows(query)).windows, by_hand(records, query))

    async def test_bounds_are_first_in_last_out(self, make: MakeLog) -> None:
        times = [START_NS - 1, START_NS, START_NS + MINUTE_NS - 1, START_NS + MINUTE_NS, END_NS - 1, END_NS]
        log = await make([record(ts_ns=ts_ns, seq=seq) for seq, ts_ns in enumerate(times)])
        table = await log.windows(question())
        assert [(w.start_ns - START_NS, w.count) for w in table.windows] == [
            (0, 2), (MINUTE_NS, 1), (9 * MINUTE_NS, 1),
        ]  # fmt: skip

    async def test_only_timed_records_have_a_latency(self, make: MakeLog) -> None:
        statuses = [200, 299, 304, 399, 400, 404, 429, 499, 500, 501, 502, 503, 504, 599]
        log = await make([record(status=s, seq=n, total_ns=1000 + n) for n, s in enumerate(statuses)])
        (window,) = (await log.windows(question())).windows
        assert (window.count, window.timed, window.errors) == (14, 6, 7)
        assert window.average_ns == pytest.approx((1000 + 1001 + 1002 + 1003 + 1008 + 1012) / 6)

    async def test_a_window_of_refusals_has_no_latency(self, make: MakeLog) -> None:
        log = await make([record(status=429, shed=True)])
        (window,) = (await log.windows(question())).windows
        assert (window.count, window.timed, window.errors, window.rate_per_s) == (1, 0, 1, 1 / 60)
        assert {window.average_ns, window.p50_ns, window.p75_ns, window.p95_ns, window.p99_ns} == {None}

    async def test_a_phase_that_was_not_reached_is_not_zero(self, make: MakeLog) -> None:
        reached = record(predict_ns=8_000_000, decode_ns=0)
        not_reached = record(status=504, queue_ns=None, predict_ns=None, encode_ns=None, seq=1)
        log = await make([reached, not_reached])
        (window,) = (await log.windows(question(field=LatencyField.PREDICT))).windows
        assert (window.count, window.timed, window.p50_ns) == (2, 1, 8_000_000)

    async def test_interpolation_between_ranks(self, make: MakeLog) -> None:
        log = await make([record(total_ns=total, seq=n) for n, total in enumerate([100_000_000, 20_000_000])])
        (window,) = (await log.windows(question())).windows
        assert window.p50_ns == pytest.approx(60e6)
        assert window.p95_ns == pytest.approx(96e6)

    @pytest.mark.parametrize("exact", [False, None, True])
    async def test_sketches_are_as_near_as_they_say(self, make: MakeLog, exact: bool | None) -> None:
        records = some_records(2000, seed=3)
        log = await make(records)
        for query in (question(exact=exact), question(exact=exact, by=(GroupBy.VERSION,), window_ns=10 * MINUTE_NS)):
            table = await log.windows(query)
            assert table.relative_error <= 0.01
            assert table.exact or exact is not True
            assert_same(table.windows, by_hand(records, query), rel=table.relative_error + 1e-9)

    async def test_an_unknown_model_has_no_windows_and_no_records(self, make: MakeLog) -> None:
        log = await make([record()])
        for model in ("wine", "", "..", "../iris", "a/b", "*", "iris' OR 1=1 --", "x" * 300):
            assert (await log.windows(question(model=model))).windows == ()
            assert await log.records(ask_records(model=model)) == []
            assert await log.losses(model) == Losses()

    async def test_an_empty_log(self, make: MakeLog) -> None:
        log = await make([])
        assert (await log.windows(question(by=(GroupBy.VERSION,)))).windows == ()
        assert await log.records(ask_records()) == []
        assert await log.losses("iris") == Losses()

    async def test_models_do_not_mix(self, make: MakeLog) -> None:
        records = some_records(50) + some_records(70, model="wine", seed=5)
        log = await make(records)
        for model in ("iris", "wine"):
            query = question(model=model)
            assert_same((await log.windows(query)).windows, by_hand(records, query))
            assert {one.model for one in await log.records(ask_records(model=model))} == {model}

    # -- conditions --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "condition",
        [
            *(Condition("status", op, 404) for op in Operator if op is not Operator.LIKE),
            *(Condition("queue_ns", op, 2_000_000) for op in Operator if op is not Operator.LIKE),
            Condition("predict_ns", Operator.NE, -1),
            Condition("predict_ns", Operator.LT, 0),
            Condition("bytes_in", Operator.GT, 2**31),
            Condition("version", Operator.EQ, "v2"),
            Condition("version", Operator.NE, "v2"),
            Condition("replica", Operator.LIKE, "bcd"),
            Condition("route", Operator.LIKE, "predict"),
            Condition("route", Operator.EQ, ""),
            Condition("format", Operator.LIKE, "_"),
            Condition("client", Operator.EQ, "é"),
            Condition("client", Operator.GT, "b"),
            Condition("client", Operator.EQ, "' OR 1=1 --"),
            Condition("client", Operator.LIKE, "%"),
            Condition("arm", Operator.NE, "shadow"),
            Condition("stream", Operator.LE, "iris-v1-hjklm.0"),
            Condition("shed", Operator.EQ, True),
            Condition("cold_start", Operator.NE, False),
            Condition("expired", Operator.EQ, False),
            Condition("request_id", Operator.EQ, "1f"),
            Condition("request_id", Operator.NE, "1f"),
            Condition("request_id", Operator.LIKE, "ff1"),
            Condition("request_id", Operator.LIKE, "ee1eeee1eeee1eeee1eeee1eeee1eee"),
            Condition("request_id", Operator.EQ, "12b" * 12),
            Condition("request_id", Operator.EQ, "12b" * 12 + "1"),
            Condition("request_id", Operator.GE, "9"),
            Condition("seq", Operator.LT, 10),
            Condition("ts_ns", Operator.GE, START_NS + MINUTE_NS),
            Condition("model", Operator.EQ, "iris"),
            Condition("model", Operator.NE, "iris"),
        ],
        ids=lambda condition: f"{condition.field}{condition.op}{condition.value}",
    )
    async def test_conditions(self, make: MakeLog, condition: Condition) -> None:
        records = some_records(400, seed=2)
        log = await make(records)
        query = question(where=(condition,), window_ns=5 * MINUTE_NS)
        assert_same((await log.windows(query)).windows, by_hand(records, query))
        wanted = sorted(asked_for(records, query), key=lambda one: (one.ts_ns, one.stream, one.seq))
        assert await log.records(ask_records(where=(condition,), limit=5000)) == wanted

    async def test_all_conditions_have_to_hold(self, make: MakeLog) -> None:
        records = some_records(400, seed=4)
        log = await make(records)
        where = (
            Condition("status", Operator.EQ, 200),
            Condition("version", Operator.EQ, "v1"),
            Condition("total_ns", Operator.GT, 3_000_000),
            Condition("total_ns", Operator.LT, 9_000_000),
        )
        query = question(where=where)
        assert_same((await log.windows(query)).windows, by_hand(records, query))

    # -- records -----------------------------------------------------------------------------------

    async def test_records_come_back_as_they_were(self, make: MakeLog) -> None:
        records = some_records(300, seed=6)
        log = await make(records)
        found = await log.records(ask_records())
        assert found == sorted(records, key=lambda one: (one.ts_ns, one.stream, one.seq))

    async def test_records_of_one_instant_are_in_order(self, make: MakeLog) -> None:
        records = [record(seq=seq, stream=stream) for stream in ("b.0", "a.0", "B.0", "ä.0") for seq in range(12)]
        log = await make(records)
        found = await log.records(ask_records())
        assert [(one.stream, one.seq) for one in found] == sorted((one.stream, one.seq) for one in records)
        assert [(one.stream, one.seq) for one in await log.records(ask_records(limit=14))] == [
            (one.stream, one.seq) for one in found[:14]
        ]
        assert await log.records(ask_records(limit=14, newest=True)) == found[-14:]

    @pytest.mark.parametrize("limit", [-1, 0, 1, 7, 299, 300, 301])
    @pytest.mark.parametrize("newest", [False, True])
    async def test_limit(self, make: MakeLog, limit: int, newest: bool) -> None:
        records = sorted(some_records(300, seed=7), key=lambda one: (one.ts_ns, one.stream, one.seq))
        log = await make(records)
        wanted = records[max(0, 300 - max(limit, 0)) :] if newest else records[: max(limit, 0)]
        assert await log.records(ask_records(limit=limit, newest=newest)) == wanted

    async def test_paging_sees_each_record_once(self, make: MakeLog) -> None:
        records = [replace(one, ts_ns=one.ts_ns // MINUTE_NS * MINUTE_NS) for one in some_records(300, seed=8)]
        log = await make(records)
        seen: list[QueryRecord] = []
        while page := await log.records(
            ask_records(limit=37, after=(seen[-1].ts_ns, seen[-1].stream, seen[-1].seq) if seen else None)
        ):
            seen += page
        assert seen == sorted(records, key=lambda one: (one.ts_ns, one.stream, one.seq))
        middle = seen[150]
        after = (middle.ts_ns, middle.stream, middle.seq)
        assert await log.records(ask_records(limit=5, newest=True, after=after)) == seen[-5:]
        assert await log.records(ask_records(after=after, where=(Condition("status", Operator.EQ, 200),))) == [
            one for one in seen[151:] if one.status == 200
        ]

    # -- housekeeping ------------------------------------------------------------------------------

    async def test_compaction_changes_no_answer(self, make: MakeLog) -> None:
        records = some_records(300, seed=9)
        log = await make(records)
        query = question(by=(GroupBy.VERSION,))
        for now_ns in (END_NS, END_NS + 60 * MINUTE_NS, END_NS + 600 * MINUTE_NS):
            await log.compact(now_ns, Retention())
            assert_same((await log.windows(query)).windows, by_hand(records, query))
            assert len(await log.records(ask_records())) == 300

    async def test_questions_at_once_and_during_compaction(self, make: MakeLog) -> None:
        records = some_records(300, seed=10)
        log = await make(records)
        query = question()
        wanted = by_hand(records, query)
        asked = asyncio.gather(*(log.windows(query) for _ in range(8)))
        listed = asyncio.ensure_future(log.records(ask_records()))
        await asyncio.gather(log.compact(END_NS, Retention()), log.compact(END_NS, Retention()), log.ingest())
        for table in await asked:
            assert_same(table.windows, wanted)
        assert len(await listed) == 300

    async def test_ingest_counts_what_is_new(self, make: MakeLog) -> None:
        log = await make(some_records(30, seed=11))
        report = await log.ingest()
        assert report.newly_lost == {}
        assert (await log.ingest()).records == 0

    async def test_close_is_final_and_idempotent(self, make: MakeLog) -> None:
        log = await make([record()])
        await log.close()
        await log.close()
        with pytest.raises(HeadwayError, match="closed"):
            await log.windows(question())
