"""What every runtime does, whatever replicas are to it. Subclass, and give a ``machine``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import pytest

from headway.domain.errors import HeadwayError, ReplicaNotFound
from headway.domain.lifecycle import REPLICA_TRANSITIONS, ReplicaPhase
from headway.domain.replicas import ReplicaSpec, ReplicaStatus, ReplicaTransition, serving
from headway.ports.runtime import Runtime
from tests.waiting import PATIENCE_S, eventually

ONE, TWO = "iris-v1-bcdfg", "iris-v1-hjklm"
_P = ReplicaPhase


class Machine(Protocol):
    """Where replicas run, and a hand on them from outside of any runtime."""

    def runtime(self) -> Runtime:
        """A new control plane's runtime on this machine."""
        ...

    def spec(self, replica_id: str) -> ReplicaSpec:
        """A replica that gets ready soon."""
        ...

    def broken_spec(self, replica_id: str) -> ReplicaSpec:
        """One whose model cannot be loaded: ``load_failed``."""
        ...

    def kill(self, status: ReplicaStatus) -> None:
        """SIGKILL from outside."""
        ...

    def set_ready(self, replica_id: str, ready: bool) -> None:
        """What its readiness probe is told from now on."""
        ...

    def print(self, replica_id: str, text: str) -> None:
        """As if the replica had printed it."""
        ...


class ControlPlane:
    """A started runtime and everything it has reported. Leaves nothing running unless told to ``detach``."""

    def __init__(self, runtime: Runtime, *, detach: bool = False) -> None:
        self.runtime = runtime
        self.seen: list[ReplicaTransition] = []
        self._detach = detach
        self._collecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ControlPlane:
        await self.runtime.start()
        self._collecting = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runtime.stop(stop_replicas=not self._detach)
        assert self._collecting is not None
        await asyncio.wait_for(self._collecting, PATIENCE_S)  # transitions() ends after stop

    async def _collect(self) -> None:
        async for transition in self.runtime.transitions():
            self.seen.append(transition)

    def status(self, replica_id: str = ONE) -> ReplicaStatus | None:
        return next((s for s in self.runtime.observe() if s.replica_id == replica_id), None)

    async def until(self, phase: ReplicaPhase | None, replica_id: str = ONE, *, restarts: int = 0) -> ReplicaStatus:
        """The status once it is in ``phase`` with at least so many restarts; None for ``phase``: once it is gone."""

        def fact() -> bool:
            status = self.status(replica_id)
            if phase is None or status is None:
                return status is None and phase is None
            return status.phase is phase and status.restarts >= restarts

        await eventually(fact, what=f"{replica_id} is {phase}")
        status = self.status(replica_id)
        return status if status is not None else ReplicaStatus(replica_id, "", "", _P.STOPPED, None)

    async def apply_ready(self, *specs: ReplicaSpec) -> None:
        await self.runtime.apply(specs)
        for spec in specs:
            await self.until(_P.READY, spec.replica_id)

    def phases(self, replica_id: str = ONE) -> list[ReplicaPhase]:
        return [t.status.phase for t in self.seen if t.status.replica_id == replica_id]


async def text_of(runtime: Runtime, replica_id: str, tail_lines: int | None = None) -> str:
    """The whole log, or its end."""
    chunks = [chunk async for chunk in runtime.logs(replica_id, tail_lines=tail_lines, follow=False)]
    return b"".join(chunks).decode()


def check_chain(seen: Sequence[ReplicaTransition]) -> None:
    """Each replica's transitions follow one another, none is missing, and the table allows them all."""
    last: dict[str, ReplicaPhase] = {}
    for transition in seen:
        name, phase = transition.status.replica_id, transition.status.phase
        if transition.old is not None:
            assert transition.old is last.get(name, transition.old), transition
            assert phase in REPLICA_TRANSITIONS[transition.old], transition
        last[name] = phase


@pytest.mark.anyio
class RuntimeContract:
    @pytest.fixture
    def anyio_backend(self) -> str | tuple[str, dict[str, bool]]:
        return "asyncio"

    @pytest.fixture
    def machine(self) -> Machine:
        raise NotImplementedError("the adapter's own module gives the machine")

    async def test_starts_what_is_new_and_reports_how_it_gets_ready(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            assert control.runtime.observe() == ()
            await control.apply_ready(machine.spec(ONE), machine.spec(TWO))
            status = control.status()
            assert status is not None
            assert status.ready
            assert status.address is not None
            assert status.pid is not None
            assert status.started_at is not None
            assert status.ready_at is not None
            assert status.ready_at >= status.started_at
            assert (status.model, status.version, status.restarts, status.failure) == ("iris", "v1", 0, None)
        assert control.phases() == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]
        assert control.seen[0].old is None
        assert all(t.status.pid is not None for t in control.seen if t.status.phase is _P.STARTING)
        assert not any(t.adopted for t in control.seen)
        check_chain(control.seen)

    async def test_starting_replicas_are_observed_as_soon_as_apply_returns(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.runtime.apply([machine.spec(ONE)])
            status = control.status()
            assert status is not None
            assert status.phase is _P.STARTING
            assert status.address is None

    async def test_an_equal_apply_does_nothing(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            before = control.status()
            await control.runtime.apply([machine.spec(ONE)])
            after = control.status()
            assert before is not None
            assert after is not None
            assert replace(after, rss_bytes=None) == replace(before, rss_bytes=None)
        assert control.phases() == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]

    async def test_stops_what_is_absent_and_nothing_else(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE), machine.spec(TWO))
            await control.runtime.apply([machine.spec(TWO)])
            await control.until(None, ONE)
            two = control.status(TWO)
            assert two is not None
            assert two.ready
        assert control.phases(ONE) == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]

    async def test_a_version_that_is_kept_warm_runs_only_when_it_is_asked_for(self, machine: Machine) -> None:
        spec = replace(machine.spec(ONE), warm=True)
        async with ControlPlane(machine.runtime()) as control:
            await control.runtime.apply([], warm=[spec])
            assert control.runtime.observe() == ()
            await control.runtime.apply([spec], warm=[spec])
            await control.until(_P.READY)
            await control.runtime.apply([], warm=[spec])
            await control.until(None)
            await control.runtime.apply([spec])  # warm by its own word
            await control.until(_P.READY)
            await control.runtime.apply([replace(spec, warm=False)])
            status = control.status()
            assert status is not None
            assert status.ready
        life = [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]
        assert control.phases() == [*life, *life]
        check_chain(control.seen)

    async def test_workers_are_told_apart_whoever_looks_after_them(self, machine: Machine) -> None:
        spec = replace(machine.spec(ONE), role="work")
        async with ControlPlane(machine.runtime(), detach=True) as first:
            await first.apply_ready(spec, machine.spec(TWO))
            assert {s.replica_id: s.role for s in first.runtime.observe()} == {ONE: "work", TWO: "serve"}
            assert [s.replica_id for s in serving(first.runtime.observe())] == [TWO]
            assert {t.status.role for t in first.seen if t.status.replica_id == ONE} == {"work"}
        async with ControlPlane(machine.runtime()) as second:
            adopted = await second.until(_P.READY)
            assert (adopted.role, adopted.ready, adopted.worker_name) == ("work", True, f"{ONE}.0")
            with pytest.raises(HeadwayError, match=ONE):
                await second.runtime.apply([replace(spec, role="serve"), machine.spec(TWO)])
            machine.kill(adopted)
            assert (await second.until(_P.READY, restarts=1)).worker_name == f"{ONE}.1"
            ended = [t.status.worker_name for t in second.seen if t.status.phase is _P.BACKOFF]
            assert ended == [f"{ONE}.0"]

    async def test_asked_for_again_while_it_stops_it_comes_back(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            await control.runtime.apply([])
            await control.runtime.apply([machine.spec(ONE)])
            status = await control.until(_P.READY, restarts=1)
            assert status.restarts == 1
        check_chain(control.seen)

    async def test_a_killed_replica_is_started_again_at_once(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            first = control.status()
            assert first is not None
            machine.kill(first)
            second = await control.until(_P.READY, restarts=1)
            assert second.pid != first.pid
            assert second.failure is None
        assert control.phases()[:5] == [_P.STARTING, _P.READY, _P.BACKOFF, _P.STARTING, _P.READY]
        ended = control.seen[2].status
        assert ended.failure is not None
        assert "SIGKILL" in ended.failure.message
        assert ended.pid is None
        assert ended.address is None
        restarted = control.seen[3].status
        assert restarted.failure == ended.failure  # kept until it is ready
        assert restarted.pid == second.pid
        check_chain(control.seen)

    async def test_a_broken_model_ends_in_a_crash_loop_and_says_why(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.runtime.apply([machine.broken_spec(ONE), machine.spec(TWO)])
            await control.until(_P.BACKOFF, restarts=1)
            status = control.status()
            assert status is not None
            assert status.reason == "CrashLoopBackOff"
            assert status.failure is not None
            assert status.failure.code == "load_failed"
            await control.until(_P.READY, TWO)
            await control.runtime.apply([machine.spec(TWO)])  # also while it waits for its next start
            await control.until(None, ONE)
        assert control.phases()[:4] == [_P.STARTING, _P.BACKOFF, _P.STARTING, _P.BACKOFF]
        check_chain(control.seen)

    async def test_readiness_comes_and_goes_without_a_restart(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            machine.set_ready(ONE, False)
            unready = await control.until(_P.UNREADY)
            assert not unready.ready
            machine.set_ready(ONE, True)
            again = await control.until(_P.READY)
            assert (again.pid, again.restarts) == (unready.pid, 0)

    async def test_another_spec_for_a_running_replica_is_a_fault_of_the_caller(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            other = replace(machine.spec(ONE), env={"A": "1"})
            with pytest.raises(HeadwayError, match=ONE):
                await control.runtime.apply([other, machine.spec(TWO)])
            await control.until(_P.READY, TWO)  # the fault of one is not the harm of another
            one = control.status(ONE)
            assert one is not None
            assert (one.phase, one.restarts) == (_P.READY, 0)
            with pytest.raises(HeadwayError, match="twice"):
                await control.runtime.apply([machine.spec(ONE), machine.spec(ONE), machine.spec(TWO)])

    async def test_start_and_stop_in_any_order(self, machine: Machine) -> None:
        runtime = machine.runtime()
        await runtime.stop(stop_replicas=False)
        await runtime.stop(stop_replicas=True)
        with pytest.raises(HeadwayError, match="not started"):
            await runtime.apply([])
        await asyncio.gather(*(runtime.start() for _ in range(3)))
        await runtime.apply([machine.spec(ONE)])
        await asyncio.gather(runtime.stop(stop_replicas=True), runtime.stop(stop_replicas=False), runtime.start())
        await asyncio.gather(*(runtime.stop(stop_replicas=True) for _ in range(3)))
        assert runtime.observe() == ()
        with pytest.raises(HeadwayError, match="not started"):
            await runtime.apply([])
        async with ControlPlane(runtime) as control:
            await control.apply_ready(machine.spec(TWO))

    async def test_a_cancelled_start_can_be_repeated(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime(), detach=True) as control:
            await control.apply_ready(machine.spec(ONE))
        runtime = machine.runtime()
        starting = asyncio.create_task(runtime.start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        async with ControlPlane(runtime) as control:
            await control.until(_P.READY)

    async def test_replicas_outlive_their_runtime_and_are_adopted(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime(), detach=True) as first:
            await first.apply_ready(machine.spec(ONE), machine.spec(TWO))
            before = first.status(ONE)
        assert before is not None
        async with ControlPlane(machine.runtime()) as second:
            after = second.status(ONE)  # known when start() returns
            assert after is not None
            assert (after.pid, after.phase, after.restarts) == (before.pid, _P.READY, 0)
            assert (after.address, after.started_at) == (before.address, before.started_at)
            await eventually(lambda: len(second.seen) == 2)
            assert all(t.adopted and t.old is None and t.status.ready for t in second.seen)
            await second.runtime.apply([machine.spec(ONE)])
            await second.until(None, TWO)
            assert second.status(ONE) == replace(after, rss_bytes=(second.status(ONE) or after).rss_bytes)
        check_chain(second.seen)

    async def test_a_replica_that_died_meanwhile_is_found_out_and_started_when_wanted(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime(), detach=True) as first:
            await first.apply_ready(machine.spec(ONE), machine.spec(TWO))
            doomed, other = first.status(ONE), first.status(TWO)
        assert doomed is not None
        assert other is not None
        machine.kill(doomed)
        machine.kill(other)
        async with ControlPlane(machine.runtime()) as second:
            found = second.status(ONE)
            assert found is not None
            assert found.phase is _P.BACKOFF
            assert found.failure is not None
            await eventually(lambda: len(second.seen) == 2)
            assert all(t.adopted and t.old is _P.READY and t.status.phase is _P.BACKOFF for t in second.seen)
            await second.runtime.apply([machine.spec(ONE)])
            again = await second.until(_P.READY, ONE, restarts=1)
            assert again.restarts == 1
            await second.until(None, TWO)  # not wanted: never started again
            assert _P.STARTING not in second.phases(TWO)
        check_chain(second.seen)

    async def test_a_replica_that_got_unready_meanwhile_and_back_is_adopted_ready(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime(), detach=True) as first:
            await first.apply_ready(machine.spec(ONE))
            machine.set_ready(ONE, False)
            await first.until(_P.UNREADY)
        machine.set_ready(ONE, True)
        async with ControlPlane(machine.runtime()) as second:
            status = second.status()
            assert status is not None
            assert status.ready
            await eventually(lambda: len(second.seen) == 2)
            assert [(t.old, t.status.phase, t.adopted) for t in second.seen] == [
                (None, _P.UNREADY, True),
                (_P.UNREADY, _P.READY, True),
            ]

    async def test_nothing_is_stopped_before_the_first_apply(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime(), detach=True) as first:
            await first.apply_ready(machine.spec(ONE))
        async with ControlPlane(machine.runtime(), detach=True):
            pass
        async with ControlPlane(machine.runtime()) as third:
            status = third.status()
            assert status is not None
            assert (status.phase, status.restarts) == (_P.READY, 0)

    async def test_logs_are_read_from_their_beginning_or_their_end(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            machine.print(ONE, "first\nsecond\nthird\n")
            assert (await text_of(control.runtime, ONE)).endswith("first\nsecond\nthird\n")
            assert await text_of(control.runtime, ONE, 2) == "second\nthird\n"
            assert await text_of(control.runtime, ONE, 0) == ""
            for unknown in ("iris-v1-zzzzz", "../iris-v1-bcdfg", "", "x" * 300):
                with pytest.raises(ReplicaNotFound):
                    control.runtime.logs(unknown, tail_lines=None, follow=False)

    async def test_logs_are_followed_until_the_replica_is_gone_and_readable_after(self, machine: Machine) -> None:
        async with ControlPlane(machine.runtime()) as control:
            await control.apply_ready(machine.spec(ONE))
            got = bytearray()

            async def follow() -> None:
                async for chunk in control.runtime.logs(ONE, tail_lines=0, follow=True):
                    got.extend(chunk)

            following = asyncio.create_task(follow())
            await asyncio.sleep(0)
            await eventually(lambda: not following.done())
            machine.print(ONE, "one\n")
            await eventually(lambda: b"one\n" in got)
            machine.print(ONE, "two\n")
            await eventually(lambda: got.endswith(b"two\n"))
            assert got.startswith(b"one\n")
            await control.runtime.apply([])
            await control.until(None)
            await asyncio.wait_for(following, PATIENCE_S)
            assert "one\ntwo\n" in await text_of(control.runtime, ONE)
