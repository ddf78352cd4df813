"""Stats pages read on this machine keep the contract; so do damaged ones, old ones, and those of the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.adapters.local import procfs
from headway.adapters.local.replica_stats import LocalReplicaStats
from headway.adapters.memory.clock import ManualClock
from headway.domain.stats_page import LAYOUT, Head, Slot, empty_page, read_page, slot_record
from tests.contracts.replica_stats_contract import ReplicaStatsContract, only

PARENT = """
import os, subprocess, sys
spin = "import sys, time\\nwhile time.process_time() < 0.3: pass\\nprint(flush=True)\\nsys.stdin.read()"
child = subprocess.Popen([sys.executable, "-Sc", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.readline()
child.communicate()
print(flush=True)
sys.stdin.read()
"""
"""Has a child that has worked; on a line of input it ends."""


class DearClock(ManualClock):
    """Whatever is measured between two looks at it has taken long."""

    def monotonic(self) -> float:
        self.advance(0.1)
        return super().monotonic()


async def cpu_s(fleet: PagesFleet) -> float:
    seconds = (await only(fleet)).cpu_s
    assert seconds is not None
    return seconds


class PagesFleet:
    """Pages written as a model server writes them, in the names of processes that do nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.others: dict[int, list[int]] = {}
        self.stats = LocalReplicaStats(home, self.clock, lambda leader: self.others.get(leader, []))
        self.slots: dict[str, Slot] = {}

    def page(self, replica_id: str) -> Path:
        return self.home / "replicas" / replica_id / "stats"

    def start(self, replica_id: str) -> None:
        self.begin(replica_id, "import sys; sys.stdin.read()")

    def begin(self, replica_id: str, source: str, workers: int = 1) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-Sc", source], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.processes[replica_id] = process
        self.page(replica_id).parent.mkdir(parents=True, exist_ok=True)
        self.lead(replica_id, process.pid, workers)
        self.slots[replica_id] = Slot(pid=process.pid)
        self.write(replica_id)
        return process

    def tell(self, replica_id: str, line: bytes = b"") -> bytes:
        """Write a line to the process, unless it is empty, and read one."""
        process = self.processes[replica_id]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline()

    def lead(self, replica_id: str, pid: int, workers: int = 1, *, later_ticks: int = 0) -> None:
        use = procfs.use(pid)
        assert use is not None
        head = Head(workers, pid, use.start_ticks + later_ticks, time.time_ns())
        self.page(replica_id).write_bytes(empty_page(head))

    def write(self, replica_id: str, place: int = 0, **changes: int) -> None:
        """The next record, everything brought forward to now."""
        slot, now_ns = self.slots[replica_id], int(self.clock.monotonic() * 1e9)
        flown = slot.in_flight_ns + slot.in_flight * (now_ns - slot.at_ns)
        slot = slot._replace(sequence=slot.sequence + 1, at_ns=now_ns, in_flight_ns=flown, **changes)
        self.slots[replica_id] = slot
        start, record = slot_record(place, slot)
        with self.page(replica_id).open("r+b") as file:
            os.pwrite(file.fileno(), record, start)

    def arrive(self, replica_id: str, count: int) -> None:
        self.write(replica_id, in_flight=self.slots[replica_id].in_flight + count)

    def answer(self, replica_id: str, count: int) -> None:
        slot = self.slots[replica_id]
        self.write(replica_id, in_flight=slot.in_flight - count, finished=slot.finished + count)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def kill(self, replica_id: str) -> None:
        self.processes[replica_id].kill()
        self.processes[replica_id].communicate()

    def spoil(self, replica_id: str) -> None:
        os.truncate(self.page(replica_id), 100)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[PagesFleet]:
    fleet = PagesFleet(tmp_path)
    yield fleet
    for name in fleet.processes:
        fleet.kill(name)


class TestLocalReplicaStats(ReplicaStatsContract):
    async def test_the_page_of_an_older_layout_is_left_out(self, fleet: PagesFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        page = bytearray(fleet.page("iris-v1-aaaaa").read_bytes())
        assert page[4] == LAYOUT
        page[4] = LAYOUT - 1
        fleet.page("iris-v1-aaaaa").write_bytes(page)
        assert await fleet.stats.read() == ()

    async def test_a_replica_without_a_page_is_left_out_until_it_has_one(self, fleet: PagesFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        page = fleet.page("iris-v1-aaaaa").read_bytes()
        fleet.page("iris-v1-aaaaa").unlink()
        assert await fleet.stats.read() == ()
        fleet.page("iris-v1-aaaaa").write_bytes(page)
        await only(fleet)

    async def test_a_process_that_has_the_pid_of_one_that_is_gone_is_not_taken_for_it(self, fleet: PagesFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.lead("iris-v1-aaaaa", fleet.processes["iris-v1-aaaaa"].pid, later_ticks=-1)
        assert await fleet.stats.read() == ()

    async def test_a_page_that_runs_ahead_of_its_next_record_does_not_make_a_counter_shrink(
        self, fleet: PagesFleet
    ) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.arrive("iris-v1-aaaaa", 100)
        slot = fleet.slots["iris-v1-aaaaa"]
        fleet.pass_time(0.02)
        before = await only(fleet)
        # All were answered right after that record, which the next one tells.
        fleet.slots["iris-v1-aaaaa"] = slot._replace(in_flight=0, finished=100)
        fleet.write("iris-v1-aaaaa")
        after = await only(fleet)
        assert after.in_flight == 0
        assert after.in_flight_s == before.in_flight_s
        assert before.in_flight_s == pytest.approx(2.0)

    async def test_processor_time_is_of_all_processes_the_dead_ones_too(self, fleet: PagesFleet) -> None:
        process = fleet.begin("iris-v1-aaaaa", PARENT)
        child = int(fleet.tell("iris-v1-aaaaa"))
        alone = await cpu_s(fleet)
        fleet.others[process.pid] = [process.pid, child, os.getpid()]  # the last is of another session
        living = await cpu_s(fleet)
        assert alone + 0.29 <= living < alone + 2
        fleet.tell("iris-v1-aaaaa", b"\n")  # the child has ended and was waited for
        assert living <= await cpu_s(fleet) < living + 0.25

    async def test_processor_time_of_a_process_that_nobody_waited_for_stays(self, fleet: PagesFleet) -> None:
        process = fleet.begin("iris-v1-aaaaa", "import signal; signal.signal(17, signal.SIG_IGN)\n" + PARENT)
        child = int(fleet.tell("iris-v1-aaaaa"))
        fleet.others[process.pid] = [child]
        living = await cpu_s(fleet)
        fleet.tell("iris-v1-aaaaa", b"\n")
        assert living <= await cpu_s(fleet) < living + 0.25

    async def test_memory_is_measured_now_and_then_and_moves_with_what_is_resident(self, fleet: PagesFleet) -> None:
        process = fleet.begin(
            "iris-v1-aaaaa", "import sys\nfor n in sys.stdin: kept = b'x' * (int(n) << 20); print(flush=True)"
        )
        fleet.tell("iris-v1-aaaaa", b"1\n")
        stats = LocalReplicaStats(fleet.home, DearClock())
        assert [one.memory_bytes for one in await stats.read()] == [None]
        (small,) = [one.memory_bytes for one in await stats.read()]
        assert small is not None
        assert abs(small - procfs.proportional_bytes(process.pid)) < 1 << 20
        fleet.tell("iris-v1-aaaaa", b"100\n")
        (large,) = [one.memory_bytes for one in await stats.read()]
        assert large is not None
        assert 95 << 20 < large - small < 105 << 20

    async def test_workers_add_up_and_a_place_that_is_cleared_keeps_its_counts(self, fleet: PagesFleet) -> None:
        fleet.begin("iris-v1-aaaaa", "import sys; sys.stdin.read()", workers=2)
        fleet.write("iris-v1-aaaaa", in_flight=3, finished=10)
        fleet.write("iris-v1-aaaaa", place=1, in_flight=2, finished=20)
        one = await only(fleet)
        assert (one.in_flight, one.finished) == (5, 30)
        page = read_page(fleet.page("iris-v1-aaaaa").read_bytes())
        assert page is not None
        fleet.slots["iris-v1-aaaaa"] = page.slots[0]
        fleet.write("iris-v1-aaaaa", pid=0, in_flight=0)
        one = await only(fleet)
        assert (one.in_flight, one.finished) == (2, 30)
