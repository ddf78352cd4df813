"""Compaction into a directory: each record exactly once at every moment, whatever is done twice or in between."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.querylog.housekeeping import MERGE_AFTER_NS, REPLACED_AGE_NS
from headway.adapters.querylog.manifest import HOUR_NS, Holding, Note, merged_name, part_name
from headway.adapters.querylog.part_files import TAIL_BYTES, TYPES, duck, files_sql, write
from headway.adapters.querylog.segments import read_segment
from headway.domain.query_log import CompactionReport, QueryRecord, Retention
from headway.domain.query_segments import SUFFIX, Kind
from tests.integration.state.query_log_home import (
    HOUR0,
    KEEP,
    LATER,
    MINUTE,
    MODEL,
    SECOND,
    START,
    Held,
    Home,
    block,
    expected,
    rows_block,
    run,
    spread,
)

SOON = START + MINUTE
"""While the first hour lasts."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# -- segments ----------------------------------------------------------------------------------------


def test_a_complete_segment_becomes_a_part_for_each_of_its_hours(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 3, spread(6, start_ns=START + HOUR_NS - 3 * SECOND), first=40)
    _, columns = read_segment(path)
    before = columns.records(MODEL)

    assert home.compact(SOON) == CompactionReport(segments=1, records=6)

    assert not path.exists()
    assert home.part_records() == before
    assert home.names(HOUR0) == home.names(HOUR0 + 1) == [part_name("iris-v1-a.0-3")]
    parts = run(home.store.parts(MODEL, START, START + HOUR_NS))
    assert [(part.rows, part.last_ns < START + HOUR_NS) for part in parts] == [(3, True)]
    assert home.compact(SOON) == CompactionReport()


def test_records_keep_every_field(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, [START], request_ids=["née"])
    home.compact(SOON)
    (record,) = home.part_records()
    assert record.request_id == "née"
    assert (record.model, record.version, record.replica, record.stream) == ("iris", "v1", "iris-v1-a", "iris-v1-a.0")
    assert (record.route, record.format, record.status, record.arm) == ("/predict", "rows", 200, "split")
    assert (record.decode_ns, record.queue_ns, record.predict_ns, record.encode_ns) == (10, 20, 40, 30)
    assert set(QueryRecord.__slots__) - {"model"} == set(TYPES)


def test_what_a_request_did_not_get_to_is_no_number(home: Home) -> None:
    refused = rows_block([START], 0)
    times = 40  # of the row: received, then three more instants that are not reached
    payload = bytearray(refused[times:])
    payload[8:32] = bytes(24)
    home.segment("iris-v1-a.0", 0, [], before_rows=block(Kind.ROWS, 1, bytes(payload), 0, START))
    home.compact(SOON)
    (record,) = home.part_records()
    assert (record.queue_ns, record.decode_ns, record.predict_ns, record.encode_ns) == (None, None, None, None)


def test_a_segment_that_is_being_written_stays(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(3), closed=False)
    with Held(path):
        assert home.compact(SOON) == CompactionReport()
        assert home.seen() == expected("iris-v1-a.0", 3)
    assert home.compact(SOON).records == 3
    assert home.seen() == expected("iris-v1-a.0", 3)


def test_a_closed_segment_is_complete_although_its_file_is_still_held(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(3))
    with Held(path):
        assert home.compact(SOON).segments == 1


def test_a_reader_who_saw_the_segment_live_takes_nothing_of_it_from_parts(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, spread(3))
    home.segment("iris-v1-b.0", 0, spread(5))
    live = frozenset({f"iris-v1-a.0-0{SUFFIX}"})
    home.compact(SOON)
    assert home.parts(live) == expected("iris-v1-b.0", 5)
    home.compact(LATER)
    home.compact(LATER + REPLACED_AGE_NS)
    assert home.names() == [merged_name(1)]
    assert home.parts(live) == expected("iris-v1-b.0", 5)
    assert home.parts(frozenset({"iris-v1-a.0-0", "iris-v1-b.0-0"})) == []
    assert len(home.parts()) == 8


def test_repeating_it_after_a_crash_changes_nothing(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(4))
    data = path.read_bytes()
    home.compact(SOON)
    home.segment("iris-v1-b.0", 0, spread(4))
    home.compact(LATER)  # merged
    path.write_bytes(data)  # as if the segment had not been removed yet
    assert home.seen() == expected("iris-v1-a.0", 4) + expected("iris-v1-b.0", 4)
    home.compact(LATER)
    assert home.seen() == expected("iris-v1-a.0", 4) + expected("iris-v1-b.0", 4)
    home.compact(LATER + REPLACED_AGE_NS)
    assert home.names() == [merged_name(1)]


def test_parts_of_a_segment_that_is_there_again_are_not_merged(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(4))
    data = path.read_bytes()
    home.segment("iris-v1-b.0", 0, spread(4))
    home.compact(SOON)
    path.write_bytes(data[: -len(rows_block([START], 0))])  # not to be compacted now
    with Held(path):
        home.compact(LATER)
        assert home.names() == [part_name("iris-v1-a.0-0"), part_name("iris-v1-b.0-0")]


def test_what_segments_say_of_losses_is_kept(home: Home) -> None:
    lost = block(Kind.DROPPED, 1, b'{"records": 5, "reason": "no space"}', 15, START)
    hole = rows_block([START], 10)  # then 5 are dropped, 15 and 16 are missing
    home.segment("iris-v1-a.0", 0, spread(2, start_ns=START + SECOND), first=17, before_rows=hole + lost)
    torn = home.segment("iris-v1-b.0", 2, spread(2), closed=False)
    torn.write_bytes(torn.read_bytes()[:-1])
    home.segment("iris-v1-c.0", 0, [], before_rows=block(Kind.DROPPED, 1, b'{"records": 9}', 9, START))
    for now_ns in (SOON, LATER, LATER + REPLACED_AGE_NS):
        home.compact(now_ns)
        found = run(home.store.accounts(MODEL))
        assert found.damaged == 0
        assert sorted((a.stream, a.number, a.dropped, a.missing, a.torn) for a in found.accounts) == [
            ("iris-v1-a.0", 0, 5, 2, 0),
            ("iris-v1-b.0", 2, 0, 0, 1),
            ("iris-v1-c.0", 0, 9, 0, 0),
        ]
    assert home.names() == [merged_name(1)]


def test_a_segment_without_a_head_is_put_aside(home: Home) -> None:
    home.write("iris-v1-a.0", 4, b"\0" * 5000)
    home.write("iris-v1-b.0", 0, b"")
    home.compact(SOON)
    assert sorted(os.listdir(home.segments / MODEL)) == ["iris-v1-a.0-4.hwq.damaged", "iris-v1-b.0-0.hwq.damaged"]
    assert home.parts() == []
    accounts = run(home.store.accounts(MODEL)).accounts
    assert sorted((a.stream, a.number, a.torn) for a in accounts) == [("iris-v1-a.0", 4, 1), ("iris-v1-b.0", 0, 1)]
    home.compact(START + 100 * HOUR_NS, Retention(max_age_s=3600))
    assert os.listdir(home.segments / MODEL) == []


def test_segments_that_never_got_their_name_are_removed(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, spread(1))
    folder = home.segments / MODEL
    for name in (".old.hwq", ".held.hwq", ".new.hwq"):
        (folder / name).write_bytes(b"")
        age = START if name != ".new.hwq" else LATER
        os.utime(folder / name, ns=(age, age))
    with Held(folder / ".held.hwq"):
        home.compact(LATER)
    assert sorted(os.listdir(folder)) == [".held.hwq", ".new.hwq"]


def test_folders_that_are_no_models_are_left_alone(home: Home) -> None:
    for name in ("UPPER", "..data", "a_b"):
        path = home.segments / name / f"x-0{SUFFIX}"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert home.compact(SOON) == CompactionReport()
    assert len(list(home.segments.glob(f"*/*{SUFFIX}"))) == 3


# -- merging -----------------------------------------------------------------------------------------


def test_the_parts_of_a_past_hour_become_one(home: Home) -> None:
    for replica in "abc":
        home.segment(f"iris-v1-{replica}.0", 0, spread(4, HOUR_NS // 3))  # the last is in the next hour
    past = START + HOUR_NS + MERGE_AFTER_NS
    home.compact(past - 1)
    assert len(home.names()) == 3
    home.compact(past)
    assert home.names() == [merged_name(1), *(part_name(f"iris-v1-{replica}.0-0") for replica in "abc")]
    assert len(home.parts()) == 12
    home.compact(past + REPLACED_AGE_NS - 1)
    assert len(home.names()) == 4
    home.compact(past + REPLACED_AGE_NS)
    assert home.names() == [merged_name(1)]
    assert len(home.names(HOUR0 + 1)) == 3
    assert len(set(home.parts())) == len(home.parts()) == 12
    times = [record.ts_ns for record in home.part_records()]
    assert times == sorted(times)


def test_what_comes_late_is_merged_too(home: Home) -> None:
    for replica in "abcd":
        home.segment(f"iris-v1-{replica}.0", 0, spread(4))
        home.compact(LATER)
    home.compact(LATER + REPLACED_AGE_NS)
    assert home.names() == [merged_name(3)]
    assert len(home.parts()) == 16


def test_an_hour_waits_for_its_segments(home: Home) -> None:
    for replica in "ab":
        home.segment(f"iris-v1-{replica}.0", 0, spread(4))
    path = home.segment("iris-v1-c.0", 0, spread(4), closed=False)
    with Held(path):
        home.compact(LATER)
        assert len(home.names()) == 2
    home.compact(LATER)
    assert merged_name(1) in home.names()


def test_large_hours_stay_as_they_are(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.adapters.querylog.housekeeping.MERGE_MOST_BYTES", 1000)
    for replica in "ab":
        home.segment(f"iris-v1-{replica}.0", 0, spread(4))
    home.compact(LATER)
    assert len(home.names()) == 2


def test_a_file_may_hold_thousands_of_sources(home: Home, tmp_path: Path) -> None:
    """Its note is then larger than what is read of a file's end at first."""
    holds = tuple(Holding(source=f"iris-v1-{n}.0123456789ab-0", rows=0, spans=()) for n in range(5000))
    note = Note(rows=1, first_ns=START, last_ns=START, made_ns=START, holds=holds)
    home.segment("iris-v1-a.0", 0, [START])
    home.compact(SOON)
    path = home.store.place.local(home.store.place.files(MODEL)[0])
    with duck(tmp_path) as connection:
        write(connection, f"SELECT * FROM {files_sql([path])}", note, draft := tmp_path / "draft")
    assert draft.stat().st_size > TAIL_BYTES
    home.store.place.put(draft, MODEL, HOUR0, merged_name(1), new=True)
    choice = home.store.choices(MODEL)[HOUR0]
    assert choice.merged is not None
    assert choice.merged.note == note


# -- retention ---------------------------------------------------------------------------------------


def hours_of(home: Home) -> list[int]:
    return sorted({stored.hour - HOUR0 for stored in home.store.place.files(None)})


def fill(home: Home, hours: int) -> None:
    for hour in range(hours):
        home.segment("iris-v1-a.0", hour, [START + hour * HOUR_NS], first=hour)
        home.segment("oak-v1-a.0", hour, [START + hour * HOUR_NS], first=hour, model="oak")
    home.compact(START)


def test_hours_that_are_too_old_go_as_a_whole(home: Home) -> None:
    fill(home, 4)
    report = home.compact(START + 4 * HOUR_NS - 1, Retention(max_age_s=3600.0))
    assert hours_of(home) == [2, 3]
    assert report.expired_files == 4
    assert report.expired_bytes > 0
    home.compact(START + 4 * HOUR_NS, Retention(max_age_s=3600.0))
    assert hours_of(home) == [3]
    assert len(list(home.records.glob("model=*/hour=*"))) == 2


def test_the_oldest_hours_go_when_there_is_too_much(home: Home) -> None:
    fill(home, 4)
    sizes = run(home.store.sizes())
    assert set(sizes) == {"iris", "oak"}
    total = sum(sizes.values())
    home.compact(START + 4 * HOUR_NS, Retention(max_bytes=total - 1))
    assert hours_of(home) == [1, 2, 3]
    home.compact(START + 4 * HOUR_NS, Retention(max_bytes=total - 1))
    assert hours_of(home) == [1, 2, 3]
    home.compact(START + 4 * HOUR_NS, Retention(max_bytes=0))
    assert hours_of(home) == []
    assert run(home.store.sizes()) == {}


def test_nothing_goes_without_a_limit(home: Home) -> None:
    fill(home, 2)
    home.compact(START + 10**6 * HOUR_NS, KEEP)
    assert hours_of(home) == [0, 1]


# -- twice at once -------------------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from pathlib import Path
from headway.adapters.querylog.compaction import Compaction
from headway.adapters.querylog.store import PartStore
from headway.domain.query_log import Retention
root, now_ns = Path(sys.argv[1]), int(sys.argv[2])
store = PartStore.directory(root / "records")
report = asyncio.run(Compaction(root / "segments", root / "gateway", store).run(now_ns, Retention()))
print(report.segments, report.records)
"""


def many_segments(home: Home) -> list[tuple[str, int]]:
    everything = []
    for replica in "ab":
        for number in range(4):
            home.segment(f"iris-v1-{replica}.0", number, spread(20, 400 * SECOND), first=20 * number)
        everything += expected(f"iris-v1-{replica}.0", 80)
    return sorted(everything)


def test_two_in_one_process_and_a_reader(home: Home) -> None:
    everything = many_segments(home)
    looks = []

    async def look(done: asyncio.Event) -> None:
        while not done.is_set():
            looks.append(await asyncio.to_thread(home.seen) == everything)

    async def work() -> list[CompactionReport]:
        done = asyncio.Event()
        reader = asyncio.create_task(look(done))
        try:
            return await asyncio.gather(*(home.compaction().run(START + 4 * HOUR_NS, KEEP) for _ in range(3)))
        finally:
            done.set()
            await reader

    reports = run(work())
    assert sum(report.segments for report in reports) == 8
    assert sum(report.records for report in reports) == 160
    assert home.parts() == home.seen() == everything
    assert len(looks) > 1
    assert all(looks)


def test_two_processes_and_a_reader(home: Home) -> None:
    everything = many_segments(home)
    command = [sys.executable, "-c", WORKER, str(home.root), str(START + 4 * HOUR_NS)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        while any(process.poll() is None for process in processes):
            assert home.seen() == everything
    finally:
        outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(int(segments) for segments, _ in outputs) == 8
    assert home.parts() == everything


def test_a_run_that_is_cancelled_stops_after_the_step_it_is_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = many_segments(home)

    async def work() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        add = home.store.add

        def tell(*given: Any) -> None:
            loop.call_soon_threadsafe(begun.set)
            add(*given)

        with monkeypatch.context() as patch:
            patch.setattr(home.store, "add", tell)
            task = asyncio.create_task(home.compaction().run(LATER, KEEP))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(work())
    assert 0 < len(list(home.segments.glob("*/*.hwq"))) < 8
    assert home.seen() == everything
    home.compact(LATER)
    assert home.parts() == everything
