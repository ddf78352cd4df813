"""What a master is told and tells comes over whole."""

from __future__ import annotations

import asyncio
import gzip
import json
from random import Random

import msgspec
import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.load_generator import MemoryLoadGenerator
from headway.control.load_orders import LINE_BYTES, LoadListener, LoadOrder, LoadTeller, order_of
from headway.control.load_test import LoadTester
from headway.domain.errors import ClusterFailed, InvalidInput, StartTimeout
from headway.domain.load_documents import to_document
from headway.domain.load_reports import LoadPoint, LoadReport
from headway.domain.load_shapes import Arrivals, Stage, rate, recorded
from headway.domain.promises import parse_all
from headway.ports.load_generator import LoadRequest, LoadTarget


async def _measured(duration_s: float) -> tuple[LoadReport, list[LoadPoint]]:
    clock, chance = ManualClock(), Random(1)
    points: list[LoadPoint] = []
    tester = LoadTester(MemoryLoadGenerator(clock, lambda due_s, number: (chance.random(), 200)), clock)
    running = asyncio.create_task(
        tester.run(
            LoadTarget("iris", "http://iris/models/iris"),
            rate(20, duration_s, arrivals=Arrivals.CONSTANT),
            [LoadRequest(b"[]")],
            promises=parse_all(["p95<1s", "errors<1%"]),
            progress=points.append,
        )
    )
    await clock.elapse(duration_s + 5)
    return await running, points


def test_an_order_is_read_as_it_was_written() -> None:
    shape = rate(100, 60, begin=10, seed=7)
    order = LoadOrder(
        model="iris", url="http://iris", shape=shape, data=b"[[1]]",
        promises=list(parse_all(["p95<1s"])), stop_at_breach=True, locustfile=b"import locust", workers=4,
    )  # fmt: skip
    assert order_of(order.packed()) == order
    assert order.packed() == order.packed()
    assert isinstance(order_of(order.packed()).shape.stages[0], Stage)


def test_recorded_arrivals_come_over_to_the_microsecond_in_a_third_of_the_room() -> None:
    chance, at_s, offsets_s = Random(1), 0.0, []
    for _ in range(10_000):
        offsets_s.append(round(at_s, 6))
        at_s += chance.expovariate(100)
    sizes = [chance.choice((1, 1, 1, 2, 250)) for _ in offsets_s]
    shape = recorded(tuple(offsets_s), at_s)
    order = LoadOrder(model="iris", url="u", shape=shape, rows=1, data=b"[[1]]", sizes=sizes)
    packed = order.packed()
    assert order_of(packed) == order
    assert len(packed) < 3 * len(offsets_s)
    assert len(gzip.compress(msgspec.msgpack.encode(order))) > 6 * len(offsets_s)


def test_a_gap_of_days_comes_over() -> None:
    order = LoadOrder(model="iris", url="u", shape=recorded((0.0, 0.000001, 500_000.25), 500_001), sizes=[1, 2, 3])
    assert order_of(order.packed()) == order


PACKED = LoadOrder(model="a", url="b", shape=rate(1, 1)).packed()


@pytest.mark.parametrize("packed", [b"", b"nothing", PACKED[:-20], PACKED[:10] + b"\xff" * 20])
def test_what_is_no_order_is_refused(packed: bytes) -> None:
    with pytest.raises(InvalidInput, match="no order"):
        order_of(packed)


def test_points_and_report_come_over_whole_in_short_lines() -> None:
    report, points = asyncio.run(_measured(200.0))
    lines: list[str] = []
    teller = LoadTeller(lines.append)
    teller.note("each record is a request of its own")
    for point in points:
        teller.point(point)
    teller.report(report)
    heard: list[LoadPoint] = []
    notes: list[str] = []
    listener = LoadListener(heard.append, notes.append)
    listener.take("Traceback of somebody else's")
    listener.take("{not json")
    ends = [listener.take(line) for line in lines]
    assert ends == [False] * (len(lines) - 1) + [True]
    assert len([line for line in lines if '"report"' in line]) > 1
    assert max(map(len, lines)) < LINE_BYTES + 200
    assert len(heard) == len(points)
    assert notes == ["each record is a request of its own"]
    before = len(heard)
    again = [listener.take(line) for line in lines]  # the log broke off and was read from its begin
    assert again[-1]
    assert (len(heard), len(notes)) == (before, 1)
    assert listener.report is not None
    assert to_document(listener.report) == to_document(report)


def test_a_part_that_is_missing_is_told() -> None:
    report, _ = asyncio.run(_measured(200.0))
    lines: list[str] = []
    LoadTeller(lines.append).report(report)
    with pytest.raises(ClusterFailed, match="missing"):
        LoadListener(lambda _: None).take(lines[1])


def test_an_error_is_the_end() -> None:
    lines: list[str] = []
    LoadTeller(lines.append).error(StartTimeout("1 of 2 workers were there after 3 s"))
    listener = LoadListener(lambda _: None)
    assert listener.take(lines[0])
    assert listener.error == json.loads(lines[0])["error"] != {}
    assert json.loads(lines[0])["error"]["code"] == "start_timeout"
