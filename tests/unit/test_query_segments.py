"""Reading segments: while they grow, torn anywhere, of clocks that step; and the gateway's lines beside them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.querylog import calls as calls_module
from headway.adapters.querylog import segments as segments_module
from headway.adapters.querylog.segments import SegmentReader, read_segment, stream_and_number
from headway.domain.query_log import Losses
from headway.domain.query_segments import BLOCK, ROW, Kind
from tests.segment_files import WALL_NS, Row, SegmentFile, block


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[SegmentFile]:
    file = SegmentFile(tmp_path)
    yield file
    file.die()


def rows(count: int, start: int = 1000) -> list[Row]:
    return [Row(received=start + n, answered=start + n + 50, request_id=f"id-{n}") for n in range(count)]


def seqs(reader: SegmentReader) -> list[int]:
    return list(reader.read().numbers["seq"].tolist())


def test_layout_is_what_the_contract_says() -> None:
    assert calls_module.ROW_TYPE.itemsize == ROW.size == 100
    assert sum(int(kind[-1]) for _, kind in segments_module._HEAD_FIELDS) == BLOCK.size == 40


def test_every_field(segment: SegmentFile) -> None:
    segment.note(Kind.NAMES, {"clients": ["ann", "bob"]})
    segment.rows(
        [
            Row(
                received=1_000,
                queued=1_010,
                started=1_030,
                predicted=1_130,
                answered=1_135,
                rows=3,
                batch=2,
                bytes_in=2**32 - 1,
                bytes_out=7,
                flags=1,
                arm="sticky",
                route="/invocations",
                format="mlflow",
                client=2,
                request_id="x" * 36,
            ),
            Row(received=2_000, answered=2_005, status=429, flags=2, route="", format="", request_id=""),
            Row(received=3_000, queued=3_001, answered=3_500, status=504, flags=4, client=1, request_id="é"),
        ]
    )
    reader, columns = read_segment(segment.path)
    first, second, third = columns.records("iris")
    assert (first.ts_ns, first.model, first.version, first.replica) == (WALL_NS + 1_000, "iris", "v1", "iris-v1-bcdfg")
    assert (first.stream, first.seq, first.request_id) == ("iris-v1-bcdfg.0", 0, "x" * 36)
    assert (first.decode_ns, first.queue_ns, first.predict_ns, first.encode_ns, first.total_ns) == (10, 20, 100, 5, 135)
    assert (first.rows, first.batch, first.bytes_in, first.bytes_out) == (3, 2, 2**32 - 1, 7)
    assert (first.route, first.format, first.client, first.arm) == ("/invocations", "mlflow", "bob", "sticky")
    assert (first.cold_start, first.shed, first.expired) == (True, False, False)
    assert (second.seq, second.status, second.shed, second.total_ns) == (1, 429, True, 5)
    assert {second.decode_ns, second.queue_ns, second.predict_ns, second.encode_ns} == {None}
    assert (second.route, second.format, second.client, second.request_id, second.arm) == ("", "", "", "", "direct")
    assert (third.decode_ns, third.queue_ns, third.expired, third.client, third.request_id) == (
        1, None, True, "ann", "é",
    )  # fmt: skip
    assert reader.losses == Losses()
    assert (reader.start_seq, reader.next_seq, reader.closed, reader.final) == (0, 3, False, False)


def test_segments_of_the_version_before_are_read(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, headed=False)
    file.head(format=1)
    file.rows(rows(2))
    file.die()
    reader = SegmentReader(file.path)
    assert seqs(reader) == [0, 1]
    assert reader.losses == Losses()


def test_only_what_was_added_is_read_again(segment: SegmentFile) -> None:
    reader = SegmentReader(segment.path)
    assert seqs(reader) == []
    for count in (1, 3, 40, 1):
        before = segment.seq
        segment.rows(rows(count))
        assert seqs(reader) == list(range(before, before + count))
        assert seqs(reader) == []
    segment.close()
    assert seqs(reader) == []
    assert (reader.closed, reader.final, reader.losses) == (True, True, Losses())


def test_names_that_come_later(segment: SegmentFile) -> None:
    reader = SegmentReader(segment.path)
    segment.rows([Row(1, 2)])
    segment.note(Kind.NAMES, {"clients": ["ann"]})
    segment.rows([Row(1, 2, client=1)])
    assert [one.client for one in reader.read().records("iris")] == ["", "ann"]
    segment.note(Kind.NAMES, {"clients": ["bob"]})
    segment.rows([Row(1, 2, client=2), Row(1, 2, client=9)])
    assert [one.client for one in reader.read().records("iris")] == ["bob", ""]


def test_long_ids(segment: SegmentFile) -> None:
    reader = SegmentReader(segment.path)
    long = "0123456789" * 12
    segment.rows([Row(1, 2), Row(1, 2, request_id=long)])
    segment.note(Kind.LONG_ID, {"1": long})
    assert reader.read().request_ids() == ["r", long]
    segment.rows([Row(1, 2, request_id=long)])
    assert reader.read().request_ids() == [long[:36]]
    segment.note(Kind.LONG_ID, {"2": long})
    assert reader.read().request_ids() == []
    assert reader.late_ids == {2: long}


def test_what_a_living_writer_has_not_finished_is_waited_for(segment: SegmentFile) -> None:
    first, second = segment.rows(rows(2)), segment.rows(rows(3))
    segment.note(Kind.CLOSED, {})
    whole = segment.path.read_bytes()
    start = len(whole) - len(first) - len(second) - BLOCK.size - 2
    segment.path.write_bytes(b"")  # the same file, with its lock
    reader = SegmentReader(segment.path)
    seen: list[int] = []
    for end in range(start, len(whole) + 1):
        with segment.path.open("ab") as file:
            file.write(whole[file.tell() : end])
        seen += seqs(reader)
        assert not reader.torn
        complete = 5 if end >= start + len(first) + len(second) else 2 if end >= start + len(first) else 0
        assert seen == list(range(complete)), end
    assert reader.closed


@pytest.mark.parametrize("calls", [False, True])
def test_torn_at_every_byte(segment: SegmentFile, calls: bool) -> None:
    """What was whole is kept; the loss is counted unless the cut leaves whole blocks only."""
    ends = [segment.path.stat().st_size]
    counts = [0]
    for count in (2, 1, 3):
        (segment.call if calls and count > 1 else segment.rows)(rows(count))
        ends.append(segment.path.stat().st_size)
        counts.append(counts[-1] + count)
    segment.note(Kind.DROPPED, {"records": 0, "reason": ""})
    ends.append(segment.path.stat().st_size)
    counts.append(counts[-1])
    segment.die()
    whole = segment.path.read_bytes()
    for end in range(len(whole) + 1):
        segment.path.write_bytes(whole[:end])
        reader = SegmentReader(segment.path)
        found = seqs(reader)
        kept = max([counts[place] for place, at in enumerate(ends) if at <= end], default=0)
        assert found == list(range(kept)), end
        assert reader.torn == (end not in ends and end != 0), end
        assert reader.final
        assert reader.missing == 0


@pytest.mark.parametrize("calls", [False, True])
def test_damage_in_the_middle_costs_that_block_only(segment: SegmentFile, calls: bool) -> None:
    before = segment.path.stat().st_size
    size = len((segment.call if calls else segment.rows)(rows(4)))
    segment.rows(rows(2))
    segment.rows(rows(1))
    segment.die()
    whole = segment.path.read_bytes()
    draw = random.Random(0)
    for place in range(before, before + size):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        segment.path.write_bytes(damaged)
        reader = SegmentReader(segment.path)
        assert seqs(reader) == [4, 5, 6], place
        assert reader.losses == Losses(torn=1), place  # holes before the first number are for who knows the stream
        assert (reader.start_seq, reader.next_seq) == (4, 7)


def test_damage_between_sound_blocks_is_a_hole(segment: SegmentFile) -> None:
    segment.rows(rows(1))
    start = segment.path.stat().st_size
    segment.rows(rows(4))
    segment.rows(rows(2))
    segment.die()
    data = bytearray(segment.path.read_bytes())
    data[start + 60] ^= 0x10
    segment.path.write_bytes(data)
    reader = SegmentReader(segment.path)
    assert seqs(reader) == [0, 5, 6]
    assert reader.losses == Losses(torn=1, missing=4)


@pytest.mark.parametrize("alive", [False, True])
def test_garbage_at_the_end(segment: SegmentFile, alive: bool) -> None:
    segment.rows(rows(3))
    segment.write(b"HWQ1" + b"\xff" * 200 + b"HWQ1HW")
    if not alive:
        segment.die()
    reader = SegmentReader(segment.path)
    assert seqs(reader) == [0, 1, 2]
    assert reader.torn
    assert reader.final is not alive
    if alive:
        segment.write(segment_block(3))
        assert seqs(reader) == [3]


def segment_block(first: int) -> bytes:
    return block(Kind.ROWS, Row(1, 2).packed(), first=first)


def test_a_block_that_a_failed_write_left_behind_and_that_was_cut_off(segment: SegmentFile) -> None:
    segment.rows(rows(3))
    sound = segment.path.stat().st_size
    reader = SegmentReader(segment.path)
    segment.write(segment_block(3)[:77])
    assert seqs(reader) == [0, 1, 2]
    os.truncate(segment.path, sound)
    assert seqs(reader) == []
    segment.seq = 3
    segment.drop(2)
    segment.rows(rows(1))
    assert seqs(reader) == [5]
    assert reader.losses == Losses(dropped=2)


@pytest.mark.parametrize("length", [0, 1, 39, 40, 300])
def test_a_file_without_a_head(tmp_path: Path, length: int) -> None:
    file = SegmentFile(tmp_path, headed=False)
    file.write(bytes(length))
    file.die()
    reader, columns = read_segment(file.path)
    assert len(columns) == 0
    assert reader.torn == (length > 0)
    assert (reader.start_seq, reader.final) == (None, True)


@pytest.mark.parametrize("changed", [{"format": 3}, {"routes": 3}, {"clients": None}])
def test_rows_without_a_readable_head_are_not_guessed_at(tmp_path: Path, changed: dict[str, Any]) -> None:
    file = SegmentFile(tmp_path, headed=False)
    file.head(**changed)
    file.rows(rows(2))
    file.die()
    reader, columns = read_segment(file.path)
    assert (len(columns), reader.torn, reader.final) == (0, True, True)


def test_unknown_kinds_are_skipped(segment: SegmentFile) -> None:
    segment.rows(rows(1))
    segment.note(99, {"of": "a later release"})
    segment.write(block(77, b"\0" * 5000, count=9))
    segment.rows(rows(1))
    reader = SegmentReader(segment.path)
    assert seqs(reader) == [0, 1]
    assert reader.losses == Losses()


@pytest.mark.parametrize("kind", [Kind.NAMES, Kind.LONG_ID, Kind.DROPPED])
@pytest.mark.parametrize("value", [None, [], "x", {"clients": 3}, {"a": "b"}, {"records": "many"}])
def test_objects_that_say_nothing_sensible(segment: SegmentFile, kind: Kind, value: object) -> None:
    segment.rows(rows(1))
    segment.note(kind, value)
    segment.rows(rows(1))
    assert seqs(SegmentReader(segment.path)) == [0, 1]


def test_holes_and_drops(segment: SegmentFile) -> None:
    segment.drop(3)
    segment.rows(rows(2))
    segment.seq += 5
    segment.rows(rows(1))
    segment.seq += 2
    segment.drop(4)
    segment.rows(rows(1))
    segment.seq += 1
    segment.close()
    reader = SegmentReader(segment.path)
    assert seqs(reader) == [3, 4, 10, 17]
    assert reader.losses == Losses(dropped=7, missing=5 + 2 + 1)
    assert (reader.start_seq, reader.next_seq) == (0, 19)


def test_holes_are_found_whatever_is_read_at_once(segment: SegmentFile) -> None:
    reader = SegmentReader(segment.path)
    segment.rows(rows(2))
    reader.read()
    segment.seq += 5
    segment.rows(rows(2))
    reader.read()
    assert reader.losses == Losses(missing=5)


def test_clock_steps(segment: SegmentFile) -> None:
    second = 1_000_000_000
    reader = SegmentReader(segment.path)
    for number, step_ns in enumerate([0, -99_000_000, -101_000_000, 3600 * second, -3600 * second, 50, -50]):
        segment.wall_ns += step_ns
        segment.rows([Row((number + 1) * second, (number + 1) * second + 5)])
        if number % 2:
            reader.read()
    reader.read()
    assert reader.losses == Losses(clock_steps=2)


def test_durations_do_not_follow_the_wall_clock(segment: SegmentFile) -> None:
    segment.wall_ns += 3600 * 10**9
    segment.rows([Row(received=5_000, answered=6_000)])
    segment.wall_ns -= 3600 * 10**9
    segment.rows([Row(received=6_000, answered=7_500)])
    one, other = read_segment(segment.path)[1].records("iris")
    assert (one.total_ns, other.total_ns) == (1_000, 1_500)
    assert one.ts_ns - other.ts_ns == 3600 * 10**9 - 1_000


@pytest.mark.parametrize("sizes", [[1] * 900, [3] * 300, [1] * 40 + [2] * 40 + [1] * 5 + [64] * 30])
def test_many_blocks_of_one_size(segment: SegmentFile, sizes: list[int]) -> None:
    """They are read together, and each one's checksum still counts."""
    places = []
    for size in sizes:
        places.append((segment.path.stat().st_size, segment.seq, size))
        segment.rows(rows(size, start=10_000 + segment.seq))
    segment.die()
    reader, columns = read_segment(segment.path)
    assert columns.numbers["seq"].tolist() == list(range(sum(sizes)))
    assert columns.numbers["ts_ns"].tolist() == sorted(columns.numbers["ts_ns"].tolist())
    assert reader.losses == Losses()
    whole = segment.path.read_bytes()
    for start, first, size in places[:: len(places) // 13]:
        damaged = bytearray(whole)
        damaged[start + BLOCK.size + 64] ^= 1
        segment.path.write_bytes(damaged)
        reader, columns = read_segment(segment.path)
        assert columns.numbers["seq"].tolist() == [*range(first), *range(first + size, sum(sizes))]
        at_an_end = first in (0, sum(sizes) - size)
        assert reader.losses == Losses(torn=1, missing=0 if at_an_end else size)


def test_a_segment_is_read_in_pieces_when_it_is_large(segment: SegmentFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "READ_BYTES", 1000)
    for size in (1, 9, 2, 5) * 10:
        segment.rows(rows(size))
    segment.note(Kind.LONG_ID, {"3": "z" * 50})
    segment.close()
    reader, columns = read_segment(segment.path)
    assert columns.numbers["seq"].tolist() == list(range(170))
    assert columns.request_ids()[3] == "z" * 50
    assert (reader.closed, reader.losses) == (True, Losses())


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SegmentReader(tmp_path / "iris.0-0.hwq").read()


def test_stream_and_number() -> None:
    assert stream_and_number("iris-v1-bcdfg.4f-12.hwq") == ("iris-v1-bcdfg.4f", 12)
    assert stream_and_number("iris-x.hwq") == ("iris", -1)
    assert json.dumps(stream_and_number("nothing")) == '["", -1]'
