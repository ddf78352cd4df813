"""What workers share: words, snapshots that survive a death in the middle, sums; and who takes a connection."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any, cast

import pytest

from headway.server import acceptor, worker_board
from headway.server.acceptor import Acceptor
from headway.server.fork_safety import connections, obstacle
from headway.server.metrics import CustomMetrics, CustomSeries
from headway.server.shared_metrics import SharedMetrics, Snapshot, merge
from headway.server.telemetry import Telemetry
from headway.server.worker_board import BUFFER_BYTES, STALE_NS, Board, Phase, StartMode
from tests.unit.server.bench import Bench
from tests.waiting import eventually


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(3)
    yield made
    os.close(made.fd)


# -- words and snapshots --------------------------------------------------------------------------


def test_words_are_seen_by_every_holder_of_the_board(board: Board) -> None:
    other = Board(board.fd, 3)
    assert (other.phase, other.mode, other.restarts, other.memory_bytes) == (Phase.STARTING, StartMode.FORK, 0, 0)
    board.phase, board.mode = Phase.DRAINING, StartMode.SPAWN
    board.restarts += 2
    board.memory_bytes = 5 * 2**40
    board.occupy(2, 4711)
    board.set_listening(2, True)
    board.set_connections(2, 9)
    assert (other.phase, other.mode, other.restarts, other.memory_bytes) == (
        Phase.DRAINING,
        StartMode.SPAWN,
        2,
        5 << 40,
    )
    assert (other.pid(2), other.listening(2), other.connections(2)) == (4711, True, 9)
    assert (other.pid(1), other.listening(1)) == (0, False)
    board.vacate(2)
    assert (other.pid(2), other.listening(2), other.connections(2)) == (0, False, 0)


def test_the_newest_snapshot_is_read_and_a_torn_one_is_not(board: Board) -> None:
    assert board.read(1) is None
    for number in range(5):
        assert board.write(1, b"snapshot %d" % number)
        assert board.read(1) == b"snapshot %d" % number
    assert board.read(0) is None
    # Generation 5 lies in the odd buffer: whoever wrote it died before it was whole.
    start = worker_board._HEAD_BYTES + 3 * BUFFER_BYTES
    board._map[start + worker_board._FRAME.size] ^= 1
    assert board.read(1) == b"snapshot 3"
    assert board.write(1, b"after")
    assert board.read(1) == b"after"


def test_a_snapshot_beyond_its_place_is_refused(board: Board) -> None:
    assert board.write(0, b"x" * (BUFFER_BYTES - worker_board._FRAME.size))
    assert not board.write(0, b"y" * BUFFER_BYTES)
    assert (board.read(0) or b"")[:1] == b"x"


def test_the_fewest_connections_are_those_of_a_worker_that_could_take_one(board: Board) -> None:
    now = perf_counter_ns()
    assert board.fewest_connections(0, now) is None
    for slot, count in ((0, 1), (1, 7), (2, 5)):
        board.occupy(slot, 100 + slot)
        board.set_connections(slot, count)
        board.set_listening(slot, True)
    assert board.fewest_connections(0, now) == 5
    assert board.fewest_connections(2, now) == 1
    board.set_listening(2, False)
    assert board.fewest_connections(0, now) == 7
    board.beat(1, now - STALE_NS)
    assert board.fewest_connections(0, now) is None


# -- sums -------------------------------------------------------------------------------------------


def telemetry(board: Board, slot: int) -> Telemetry:
    made = Telemetry(model="iris", version="v1", replica_id="r")
    made.gauges.append(("headway_queue_depth", "Waiting.", lambda: 2.0))
    made.shared = SharedMetrics(board, slot)
    return made


def line(made: Telemetry, start: str) -> str:
    return next(text for text in made.render().decode().splitlines() if text.startswith(start)).rpartition(" ")[2]


def test_each_worker_shows_the_sum_of_all(board: Board) -> None:
    crew = [telemetry(board, slot) for slot in range(3)]
    for slot, one in enumerate(crew):
        board.occupy(slot, os.getpid())
        one.decode.observe(1e6 * (slot + 1))
        one.expired = slot
        one.custom.record([{"type": "COUNTER", "key": "seen", "value": 2}, {"type": "TIMER", "key": "t", "value": 7}])
        assert one.shared is not None
        one.shared.publish(one.snapshot())
    for one in crew:
        assert line(one, 'headway_phase_duration_seconds_count{model="iris",version="v1",phase="decode"}') == "3"
        assert line(one, 'headway_phase_duration_seconds_sum{model="iris",version="v1",phase="decode"}') == "0.006"
        assert line(one, "headway_requests_expired_total") == "3"
        assert line(one, "headway_queue_depth") == "6"
        assert line(one, "seen_total") == "6"
        assert line(one, "t_seconds_count") == "3"


def test_of_the_models_own_gauges_the_latest_counts(board: Board) -> None:
    first, second = telemetry(board, 0), telemetry(board, 1)
    for one, value in ((first, 1), (second, 2), (first, 3)):
        one.custom.record([{"type": "GAUGE", "key": "level", "value": value}])
        assert one.shared is not None
        one.shared.publish(one.snapshot())
    assert line(first, "level") == line(second, "level") == "3"


def test_a_successor_goes_on_from_what_its_predecessor_had_counted(board: Board) -> None:
    dead, other = telemetry(board, 0), telemetry(board, 1)
    for slot in range(2):
        board.occupy(slot, os.getpid())
    dead.abandoned = 5
    assert line(dead, "headway_requests_abandoned_total") == "5"
    assert line(other, "headway_queue_depth") == "4"
    board.vacate(0)
    assert line(other, "headway_requests_abandoned_total") == "5"
    assert line(other, "headway_queue_depth") == "2", "what a dead worker was doing is over"
    board.occupy(0, os.getpid())
    successor = telemetry(board, 0)
    successor.abandoned = 1
    assert line(successor, "headway_requests_abandoned_total") == "6"
    assert line(other, "headway_requests_abandoned_total") == "6"
    assert line(other, "headway_queue_depth") == "4"


def test_a_name_that_means_two_things_is_shown_once() -> None:
    counter = CustomSeries("COUNTER", "x_total", (("a", "1"),), 1, [], 0)
    gauge = CustomSeries("GAUGE", "x_total", (("a", "1"),), 9, [], 1)
    merged = merge([Snapshot({}, {}, {}, {}, [counter]), Snapshot({}, {}, {}, {}, [gauge])])
    assert [(one.kind, one.value) for one in merged.custom] == [("COUNTER", 1)]


def test_more_custom_metrics_than_fit_cost_only_themselves(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_board, "BUFFER_BYTES", 4096)
    made, other = telemetry(board, 0), telemetry(board, 1)
    board.occupy(0, os.getpid())
    made.custom = CustomMetrics(made.const)
    made.custom.record([{"type": "GAUGE", "key": f"{'g' * 90}{n}", "value": 1} for n in range(100)])
    made.expired = 3
    assert made.shared is not None
    made.shared.publish(made.snapshot())
    assert line(other, "headway_requests_expired_total") == "3"


def test_one_process_shows_itself_as_before() -> None:
    made = Telemetry(model="iris", version="v1", replica_id="r")
    text = made.render().decode()
    assert "headway_worker" not in text
    assert 0 < float(line(made, "process_resident_memory_bytes")) < 4e9


# -- ready as one -----------------------------------------------------------------------------------


def test_ready_is_what_the_whole_replica_is(board: Board) -> None:
    async def main() -> None:
        bench = Bench(lambda rows: rows)
        words = {Phase.STARTING: "not all", Phase.SERVING: None, Phase.DRAINING: "draining"}
        bench.app.health.obstacle = lambda: words[board.phase]
        assert (await bench.ask(path="/health/ready"))[0] == 503
        board.phase = Phase.SERVING
        assert (await bench.ask(path="/health/ready"))[0] == 200
        board.phase = Phase.DRAINING
        assert [(await bench.ask(path=f"/health/{p}"))[0] for p in ("ready", "status", "live")] == [503, 503, 200]

    asyncio.run(main())


# -- connections --------------------------------------------------------------------------------------


class Door:
    """A listening socket that always has somebody waiting, or nothing to accept with."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.write(self.writing, b"x")
        self.error: int | None = None
        self.accepted = 0

    def fileno(self) -> int:
        return self.reading

    def setblocking(self, flag: bool) -> None: ...

    def accept(self) -> tuple[Any, Any]:
        self.accepted += 1
        raise OSError(self.error or errno.EAGAIN, "no") if self.error else BlockingIOError

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


def at_the_door(door: Door, board: Board, own: int = 0) -> Acceptor:
    made = Acceptor(cast(socket.socket, door), asyncio.Protocol, board, 0, lambda: own)
    made.start()
    return made


def test_out_of_descriptors_it_waits_instead_of_spinning(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        door = Door()
        door.error = errno.EMFILE
        made = at_the_door(door, board)
        await eventually(lambda: door.accepted == 2)
        assert len([r for r in caplog.records if "can be accepted" in r.message]) <= 1
        made.close()
        made.close()

    began = perf_counter_ns()
    asyncio.run(main())
    assert perf_counter_ns() - began >= acceptor.RETRY_S * 1e9


def test_who_has_more_lets_the_other_go_first_but_not_for_ever(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "TURN_S", 0.05)

    async def main() -> None:
        board.occupy(1, 1)
        board.set_listening(1, True)
        door = Door()
        made = at_the_door(door, board, own=3)
        await eventually(lambda: board.connections(0) == 3)
        assert door.accepted == 0
        await eventually(lambda: door.accepted == 1)
        board.set_connections(1, 3)
        await eventually(lambda: door.accepted > 5)  # no reason to wait any more
        made.close()

    asyncio.run(main())


# -- forks -----------------------------------------------------------------------------------------------


def test_threads_and_connections_are_obstacles_to_a_fork() -> None:
    known = connections()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="A prefetch")
    thread.start()
    assert "A prefetch" in (obstacle(known) or "")
    gate.set()
    thread.join()


def test_open_sockets_are_told_apart_from_files() -> None:
    before = connections()
    one, other = socket.socketpair()
    with one, other:
        assert connections() - before == {one.fileno(), other.fileno()}
        reading, writing = os.pipe()
        assert connections() - before == {one.fileno(), other.fileno()}
        os.close(reading)
        os.close(writing)
