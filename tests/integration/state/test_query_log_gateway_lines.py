"""Compaction of the gateway's lines: taken once, their claims carried out, their space given back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.querylog import settling
from headway.adapters.querylog.directory import folder
from headway.adapters.querylog.gateway_mark import MARK_NAME, advance, current_mark
from headway.adapters.querylog.gateway_tail import LineCounts
from headway.adapters.querylog.housekeeping import REPLACED_AGE_NS
from headway.adapters.querylog.manifest import HOUR_NS, NO_MODEL, gateway_source, part_name
from headway.adapters.querylog.settling import SETTLE_NS
from headway.domain.errors import StorageFailed
from headway.domain.query_log import CompactionReport
from tests.integration.state.query_log_home import (
    HOUR0,
    LATER,
    MINUTE,
    MODEL,
    SECOND,
    START,
    Held,
    Home,
    spread,
)

SOON = START + MINUTE
"""While the first hour lasts."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_answers_of_the_gateway_become_records(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, spread(1))
    first = home.line(1, START, request_id="x")
    second = home.line(2, START + HOUR_NS, request_id="y")
    home.line(3, START, model="unknown", status=404)
    report = home.compact(START + HOUR_NS + MINUTE)
    assert report.records == 4
    stream = current_mark(home.gateway).stream
    assert [record.request_id for record in home.part_records() if record.stream == stream] == ["x", "y"]
    assert home.parts() == sorted([(stream, first), (stream, second), ("iris-v1-a.0", 0)])
    assert len(home.parts(model=NO_MODEL)) == 1
    assert home.compact(START + HOUR_NS + MINUTE) == CompactionReport()
    assert home.seen() == home.parts()


def test_lines_beyond_the_mark_are_not_in_parts(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, spread(1))
    home.line(1, START)
    before = home.live()
    home.compact(SOON)
    home.line(2, START)
    between = home.live()
    home.compact(LATER)
    assert len(home.parts(before)) == 0
    home.compact(LATER)
    assert len(home.parts(between)) == 2
    assert len(home.parts()) == 3


def test_a_claim_is_carried_out_once_it_is_settled(home: Home) -> None:
    """A retry: two replicas have a record, the second one's counts; and the gateway gave up on a third request."""
    home.segment("iris-v1-a.0", 0, spread(3), request_ids=["retried", "mine", "given-up"])
    home.segment("iris-v1-b.0", 0, [START + SECOND // 1000], request_ids=["retried"])
    home.line(1, START - SECOND // 1000, status=200, server="iris-v1-b", retries=1, ends="--", request_id="retried")
    end = home.line(2, START + 2 * SECOND, status=504, server="iris-v1-a", ends="sH", request_id="given-up")
    home.line(3, START + 3 * SECOND, request_id="none")
    home.compact(SOON)
    assert current_mark(home.gateway).offset == 0
    assert len(home.parts()) == 4

    home.compact(START + SETTLE_NS + MINUTE)
    stream = current_mark(home.gateway).stream
    kept = [("iris-v1-a.0", 1), ("iris-v1-b.0", 0)]
    assert [key for key in home.parts() if key[0] != stream] == kept
    assert [(r.request_id, r.status) for r in home.part_records() if r.stream == stream] == [
        ("given-up", 504),
        ("none", 503),
    ]
    assert (stream, end) in home.parts()
    home.compact(LATER)
    home.compact(LATER + REPLACED_AGE_NS)
    assert len(home.names()) == 1
    assert len(home.parts()) == 4


def test_a_claim_waits_for_segments_that_may_hold_its_records(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, [START, START], request_ids=["x", "y"], closed=False)
    home.line(1, START, status=504, server="iris-v1-a", ends="sH", request_id="x")
    with Held(path):
        home.compact(LATER)
        assert current_mark(home.gateway).offset == 0
    home.compact(LATER)
    stream = current_mark(home.gateway).stream
    assert home.parts() == sorted([("iris-v1-a.0", 1), (stream, 0)])


def test_taking_lines_is_finished_after_a_crash(home: Home) -> None:
    """The same lines are taken again, not those that came meanwhile: their part has the same name."""
    home.segment("iris-v1-a.0", 0, [START])
    home.line(1, START)
    second = home.line(2, START)
    mark = current_mark(home.gateway)
    begun = replace(mark, taking=second)
    assert advance(home.gateway, mark, begun)
    home.compact(SOON)
    assert advance(home.gateway, current_mark(home.gateway), begun)  # as if it had ended after the first part
    os.unlink(home.records / folder(MODEL, HOUR0) / part_name(gateway_source(mark.token, second, 2 * second)))
    home.line(3, START)
    assert home.parts(home.live()) == [("iris-v1-a.0", 0)]
    home.compact(SOON)
    assert home.parts() == sorted([("iris-v1-a.0", 0), *((mark.stream, second * place) for place in range(3))])
    assert len(home.names()) == 3


def lost_lines(home: Home) -> int:
    return LineCounts(current_mark(home.gateway).counted).missing


def test_lost_lines_are_counted(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, [START])
    for pid, numbers, lost in [
        (7, (1, 2), 0),
        (7, (6,), 3),
        (8, (1, 3), 4),
        (8, (2,), 3),
        (7, (1, 3), 4),
        (7, (4,), 4),
    ]:
        for number in numbers:
            home.line(number, START, pid=pid, request_id=f"{lost}")
        home.compact(SOON)
        assert lost_lines(home) == lost
    for pid in range(100, 300):
        home.line(2, START, pid=pid)
    home.compact(SOON)
    assert lost_lines(home) == 204
    assert len(current_mark(home.gateway).counted) == 64


def test_the_second_copy_of_a_line_is_none(home: Home) -> None:
    """Others may stand between the two, or the end of what is taken; and one may be lost."""
    home.segment("iris-v1-a.0", 0, [START])
    home.line(1, START)
    home.line(2, START)
    home.line(1, START)
    home.line(3, START)
    home.compact(SOON)
    assert len(home.parts()) == 4
    home.line(2, START)
    home.line(4, START)
    home.line(4, START)
    assert len(home.parts(home.live())) == 4
    home.compact(SOON)
    assert len(home.parts()) == 5
    assert lost_lines(home) == 0


def test_what_is_no_line_is_passed_over(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, [START])
    home.line(1, START)
    with (home.gateway / "gateway.log").open("ab") as file:
        file.write(b"\xff\xfe not a line\n" + b"\0" * 100 + b"\n[1,2]\n")
    home.line(2, START)
    with (home.gateway / "gateway.log").open("ab") as file:
        file.write(b"[7,3,")  # on its way
    home.compact(SOON)
    assert len(home.parts()) == 3
    assert current_mark(home.gateway).offset == (home.gateway / "gateway.log").stat().st_size - 5


def test_space_of_lines_that_were_taken_is_given_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "FREE_BYTES", 100_000)
    home.segment("iris-v1-a.0", 0, [START])
    for number in range(2000):
        home.line(number + 1, START)
    path = home.gateway / "gateway.log"
    size = path.stat().st_size
    home.compact(SOON)
    status = path.stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < 20_000
    home.line(2001, START)
    home.compact(SOON)
    assert len(home.parts()) == 2002
    assert lost_lines(home) == 0


def test_a_file_system_without_holes_has_the_log_cut(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(settling, "FREE_BYTES", 1000)
    monkeypatch.setattr(settling, "punch_hole", refuse)
    home.segment("iris-v1-a.0", 0, [START])
    for number in range(100):
        home.line(number + 1, START)
    home.compact(SOON)
    path = home.gateway / "gateway.log"
    assert path.stat().st_size == 0
    for number in range(100, 110):
        home.line(number + 1, START)
    assert len(home.parts(home.live())) == 101
    home.compact(SOON)
    assert len(home.parts()) == 111
    assert lost_lines(home) == 0


def test_another_log_in_its_place_is_read_from_its_beginning(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, [START])
    home.line(1, START)
    home.compact(SOON)
    before = current_mark(home.gateway)
    (home.gateway / "gateway.log").rename(home.gateway / "old")
    home.line(1, START)
    after = current_mark(home.gateway)
    assert after.offset == 0
    assert after.token != before.token
    home.compact(SOON)
    assert len(home.parts()) == 3


def test_a_mark_that_cannot_be_read_stops_only_the_lines(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, [START])
    home.line(1, START)
    home.gateway.joinpath(MARK_NAME).write_text("{")
    with pytest.raises(StorageFailed, match="mark of the gateway's log") as caught:
        home.compact(SOON)
    assert caught.value.where == str(home.gateway / MARK_NAME)
    assert home.parts() == [("iris-v1-a.0", 0)]
