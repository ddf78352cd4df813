"""Windows and sketches, over distributions that nobody would think of."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.adapters.querylog.questions import RELATIVE_ERROR
from headway.domain.query_log import GroupBy, LatencyField, QueryRecord, Retention, WindowQuery, WindowTable
from tests.contracts.query_log_contract import assert_same, by_hand
from tests.query_records import MINUTE_NS, START_NS, record, write_segments

LONGEST_NS = 10**15
durations = st.one_of(
    st.integers(0, 3),
    st.integers(0, 10**6),
    st.integers(0, LONGEST_NS),
    st.sampled_from([10**6, 10**9, LONGEST_NS]),
    st.floats(0, 15).map(lambda power: int(10**power)),
)
statuses = st.sampled_from([200, 200, 200, 301, 404, 429, 500, 503, 504])
rows = st.lists(
    st.tuples(st.integers(0, 5 * MINUTE_NS), durations, statuses, st.sampled_from(["v1", "v2"])), max_size=80
)


def records_of(drawn: Sequence[tuple[int, int, int, str]]) -> list[QueryRecord]:
    made = []
    counts = {"v1": itertools.count(), "v2": itertools.count()}
    for after, total, status, version in drawn:
        replica = f"iris-{version}-bcdfg"
        made.append(
            record(
                ts_ns=START_NS + after,
                version=version,
                replica=replica,
                stream=f"{replica}.0",
                seq=next(counts[version]),
                status=status,
                total_ns=total,
                queue_ns=None,
                decode_ns=None,
                predict_ns=None,
                encode_ns=None,
            )
        )
    return made


def ask(records: Sequence[QueryRecord], query: WindowQuery, *, compacted: bool) -> WindowTable:
    async def asked(home: Path) -> WindowTable:
        files = write_segments(home / "segments", records, close=int(compacted))
        log = DuckdbQueryLog(home, PartStore.directory(home / "records"))
        if compacted:
            await log.compact(START_NS, Retention())
        try:
            return await log.windows(query)
        finally:
            await log.close()
            for file in files:
                file.die()

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(asked(Path(folder)))


questions = st.builds(
    WindowQuery,
    model=st.just("iris"),
    since_ns=st.integers(START_NS - MINUTE_NS, START_NS + MINUTE_NS),
    until_ns=st.integers(START_NS + 2 * MINUTE_NS, START_NS + 6 * MINUTE_NS),
    window_ns=st.one_of(st.integers(10**9, 10**10), st.integers(10**10, 10**13), st.just(MINUTE_NS)),
    field=st.sampled_from([LatencyField.TOTAL, LatencyField.TOTAL, LatencyField.QUEUE]),
    by=st.sampled_from([(), (GroupBy.VERSION,), (GroupBy.STATUS, GroupBy.REPLICA)]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=rows, query=questions, compacted=st.booleans())
def test_windows_are_what_the_records_say(
    drawn: list[tuple[int, int, int, str]], query: WindowQuery, compacted: bool
) -> None:
    records = records_of(drawn)
    assert_same(ask(records, query, compacted=compacted).windows, by_hand(records, query))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=rows, compacted=st.booleans())
def test_sketches_are_within_their_error(drawn: list[tuple[int, int, int, str]], compacted: bool) -> None:
    records = records_of(drawn)
    query = WindowQuery(
        model="iris", since_ns=START_NS, until_ns=START_NS + 6 * MINUTE_NS, window_ns=6 * MINUTE_NS, exact=False
    )
    table = ask(records, query, compacted=compacted)
    assert (table.exact, table.relative_error) == (False, RELATIVE_ERROR)
    assert_same(table.windows, by_hand(records, query), rel=RELATIVE_ERROR + 1e-9)
