"""Workers that die, hang, or lose their parent."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from headway.domain.stats_page import Slot, read_page
from tests.integration.server.crew import CONST, PID, THREAD, Crew, ask, gated, rows
from tests.waiting import wait_until


@pytest.mark.parametrize("number", [-1, -2])
def test_a_crash_loses_the_requests_of_one_worker_only(scratch: Path, number: int) -> None:
    with Crew(scratch, PID) as crew:
        made = crew.each()
        victim, other = made
        with pytest.raises(ConnectionError):
            ask(made[victim], b"[[%d]]" % number)
        assert ask(made[other]) == [other]
        wait_until(lambda: len(crew.pids()) == 2, what="another worker in its place")
        assert victim not in crew.pids()
        crew.each()
        assert crew.metric("headway_worker_restarts_total") == 1
        assert crew.process.poll() is None


def test_under_load_with_retries_nobody_notices_a_crash(scratch: Path) -> None:
    with Crew(scratch, PID) as crew:
        retries = 0

        def send(number: int) -> None:
            """As a gateway does it: again, on another connection, when the one it used is gone."""
            nonlocal retries
            for _ in range(10):
                try:
                    with crew.connect() as raw:
                        for _ in range(20):
                            ask(raw)
                    return
                except ConnectionError:
                    retries += 1
            raise AssertionError("refused ten times")

        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(send, n) for n in range(200)]
            for _ in range(3):
                victim = min(crew.pids())
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda victim=victim: len(crew.pids() - {victim}) == 2)  # type: ignore[misc]
            for one in sent:
                one.result()
        assert crew.process.poll() is None


def test_counts_of_the_dead_stay(scratch: Path) -> None:
    with Crew(scratch, PID) as crew:
        for _ in range(100):
            with crew.connect() as raw:
                ask(raw)
        name = f'headway_requests_total{{{CONST},route="/predict",status="200"}}'
        wait_until(lambda: crew.metric(name) == 100)
        for _ in range(2):
            before = crew.pids()
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda before=before: len(crew.pids() - before) == 1)  # type: ignore[misc]
            assert crew.metric(name) == 100
        wait_until(lambda: crew.metric("headway_workers") == 2)
        assert crew.metric(name) == 100


def test_what_a_dead_worker_had_in_flight_is_in_flight_no_more(scratch: Path) -> None:
    page = scratch / "stats"

    def slots() -> dict[int, Slot]:
        found = read_page(page.read_bytes())
        assert found is not None
        assert found.head.pid == crew.process.pid
        return {slot.pid: slot for slot in found.slots}

    with Crew(scratch, gated(scratch / "never"), stats_file=str(page)) as crew:
        made = crew.each()
        victim, other = made
        wait_until(lambda: slots().keys() == {victim, other} and all(s.in_flight == 0 for s in slots().values()))
        before = slots()
        made[victim].sendall(rows(b"[[-1]]"))
        wait_until(lambda: slots()[victim].in_flight == 1)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(crew.pids()) == 2 and victim not in slots() and 0 not in slots())
        (successor,) = slots().keys() - {other}
        after = slots()[successor]
        assert (after.in_flight, after.finished) == (0, before[victim].finished)
        assert after.in_flight_ns >= before[victim].in_flight_ns
        with crew.client() as client:
            told = client.get("/stats").json()
        assert (told["workers"], told["in_flight"]) == (2, 0)
        assert told["finished"] == sum(slot.finished for slot in before.values())
        crew.terminate()
        crew.exit_code()
        assert not page.is_symlink()


def test_when_all_keep_dying_the_replica_ends_as_they_did(scratch: Path) -> None:
    with Crew(scratch, PID) as crew:

        def poison() -> bool:
            with contextlib.suppress(OSError), crew.connect() as raw:
                ask(raw, b"[[-2]]")
            return crew.process.poll() is not None

        wait_until(poison)
        assert crew.exit_code() == -signal.SIGSEGV
        assert "all workers keep dying" in crew.log()


def test_a_worker_that_hangs_is_killed_and_the_others_go_on(scratch: Path) -> None:
    with Crew(scratch, PID, worker_hang_s=1.5) as crew:
        made = crew.each()
        victim, other = made
        made[victim].sendall(rows(b"[[-3]]"))  # SIGSTOP: the worst hang
        wait_until(lambda: victim not in crew.pids())
        wait_until(lambda: len(crew.pids()) == 2)
        assert ask(made[other]) == [other]
        assert "has not turned for 1.5 s" in crew.log()


def test_nothing_is_left_when_the_parent_is_killed(scratch: Path) -> None:
    with Crew(scratch, PID, 3) as crew:
        pids = crew.pids()
        crew.process.kill()
        crew.process.wait()
        wait_until(lambda: not any(_lives(pid) for pid in pids))


def test_nor_of_workers_that_were_spawned(scratch: Path) -> None:
    with Crew(scratch, THREAD) as crew:
        pids = crew.pids()
        assert len(pids) == 2
        crew.process.kill()
        crew.process.wait()
        wait_until(lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
