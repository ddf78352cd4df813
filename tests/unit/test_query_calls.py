"""Blocks of whole calls in segments: the same records as rows, and damage that is told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.querylog.segments import SegmentReader, read_segment
from headway.domain.query_log import Losses
from headway.domain.query_segments import Flag, Kind
from tests.segment_files import Row, SegmentFile


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[SegmentFile]:
    file = SegmentFile(tmp_path)
    yield file
    file.die()


def batch(count: int, draw: random.Random, start: int = 10_000) -> list[Row]:
    """Requests of one call, no two alike."""
    started = start + draw.randrange(1, 10**6)
    predicted = answered = started + draw.randrange(10**6)
    made = []
    for _ in range(count):
        queued = started - draw.randrange(1, 10**4)
        answered += draw.randrange(1000)
        made.append(
            Row(
                received=queued - draw.randrange(1000),
                queued=queued,
                started=started,
                predicted=predicted,
                answered=answered,
                status=draw.choice([200, 400, 499]),
                rows=draw.randrange(1, 2**32),
                batch=count,
                bytes_in=draw.randrange(2**32),
                bytes_out=draw.randrange(2**32),
                flags=Flag.COLD_START,
                arm=draw.choice(["direct", "split", "shadow"]),
                route="/invocations",
                format="mlflow",
                client=draw.randrange(3),
                request_id=f"{draw.getrandbits(draw.choice([8, 100])):x}",
            )
        )
    return made


def test_calls_and_rows_say_the_same(tmp_path: Path) -> None:
    """In any mixture, with blocks of every other kind between them, read in one go and bit by bit."""
    draw = random.Random(7)
    as_rows, mixed = SegmentFile(tmp_path / "rows"), SegmentFile(tmp_path / "mixed")
    reader, found = SegmentReader(mixed.path), []
    for segment in (as_rows, mixed):
        segment.note(Kind.NAMES, {"clients": ["ann", "bob"]})
    for turn in range(40):
        made = batch(draw.choice([1, 2, 7, 64]), draw)
        as_rows.rows(made)
        (mixed.call if draw.random() < 0.6 else mixed.rows)(made)
        if turn % 5 == 0:
            found += reader.read().records("iris")
            for segment in (as_rows, mixed):
                segment.drop(2)
    found += reader.read().records("iris")
    wanted = read_segment(as_rows.path)[1].records("iris")
    assert found == wanted
    assert read_segment(mixed.path)[1].records("iris") == wanted
    assert reader.losses == read_segment(as_rows.path)[0].losses == Losses(dropped=16)
    for segment in (as_rows, mixed):
        segment.die()


def test_long_ids_of_a_call(segment: SegmentFile) -> None:
    long = "0123456789" * 12
    segment.call([Row(1, 2), Row(1, 3, request_id=long), Row(1, 4, request_id="x" * 36)])
    reader = SegmentReader(segment.path)
    assert reader.read().request_ids() == ["r", long, "x" * 36]
    assert reader.late_ids == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"status": [200]},
        {"arms": [1]},
        {"decode_ns": "ten"},
        {"request_ids": [b"a", b"b", b"c"]},
        {"started": None},
        {"encode_ns": [1, 2**64 - 1]},
    ],
)
def test_a_call_that_makes_no_sense_is_damage(segment: SegmentFile, changed: dict[str, Any]) -> None:
    segment.rows([Row(1, 2)])
    segment.call([Row(1, 2), Row(3, 4)], **changed)
    segment.rows([Row(1, 2)])
    reader = SegmentReader(segment.path)
    assert reader.read().numbers["seq"].tolist() == [0, 3]
    assert reader.losses == Losses(torn=1, missing=2)
