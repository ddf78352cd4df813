"""Crashes the store of jobs at every write boundary, one process each, and looks at what is left.

A boundary is the moment before a statement that writes, a commit, the making, writing, flushing or removing of a
content file (the moment after one is the moment before the next), and the middle of writing one. The process ends there
as with SIGKILL. What it had acknowledged by then it told outside. Called as a program, so that it may fork:
``python -m tests.integration.jobs.crash_everywhere FOLDER``; prints a line per boundary where something is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.adapters.memory.clock import ManualClock
from headway.adapters.sql import SqlJobs
from headway.adapters.sql.schema import JOBS, prepare
from headway.domain.errors import JobNotFound
from headway.domain.job_ids import new_id
from headway.domain.jobs import Beat, Claim, JobQuery, Webhook
from headway.domain.lifecycle import JobState
from tests.contracts.job_world import LOST, check_consistent, claim, done, failed, new

BIG = 50_000
HOOK = Webhook("https://example.org/told")
CRASHED = 77
_write, _exit, _connect = os.write, os._exit, sqlite3.connect


class Hasty(sqlite3.Connection):
    """Waits for no disk: the death of a process loses nothing that was written."""

    def execute(self, text: str, *values: Any) -> Any:
        return super().execute(text.replace("synchronous = FULL", "synchronous = OFF"), *values)


class Boundaries:
    """Counts them, and ends the process at one."""

    def __init__(self, crash_at: int) -> None:
        self.names: list[str] = []
        self._crash_at = crash_at

    def pass_by(self, name: str) -> None:
        if len(self.names) == self._crash_at:
            _exit(CRASHED)
        self.names.append(name)

    def ahead_of(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.pass_by(name)
            return call(*arguments, **named)

        return watched

    def write(self, handle: int, data: Any) -> int:
        self.pass_by("write")
        half = _write(handle, data[: len(data) // 2])
        self.pass_by("in the middle of write")
        return half + _write(handle, data[half:])

    def install(self) -> None:
        """Watch SQLite and the files from now on, in this process."""
        boundaries = self

        class Watched(Hasty):
            def execute(self, text: str, *values: Any) -> Any:
                if not text.startswith(("SELECT", "PRAGMA")):  # nothing changes between it and the next
                    boundaries.pass_by(text.partition("\n")[0][:60])
                return super().execute(text, *values)

            def executemany(self, text: str, *values: Any) -> Any:
                boundaries.pass_by(f"many {text[:60]}")
                return super().executemany(text, *values)

        sqlite3.connect = lambda *a, **named: _connect(*a, **{**named, "factory": Watched})
        os.write = self.write
        os.fsync = self.ahead_of("fsync", lambda _: None)
        for name in ("open", "unlink", "mkdir"):
            setattr(os, name, self.ahead_of(name, getattr(os, name)))


def job_id(number: int) -> str:
    return new_id(1_750_000_000.0, number.to_bytes(10, "big"))


async def history(jobs: SqlJobs, clock: ManualClock, tell: Callable[..., None]) -> None:
    """A bit of everything; ``tell`` what was acknowledged."""
    batch = [
        new(job_id=job_id(0), body=b"i" * BIG, webhook=HOOK, idempotency_key="k", result_ttl_s=30.0, priority=9),
        new(job_id=job_id(1), priority=8),
        new(job_id=job_id(2), priority=7, webhook=HOOK, not_before=clock.now() + 5),
    ]
    tell("submitted", [answer.job.job_id for answer in await jobs.submit(batch)])
    again = await jobs.submit([new(job_id=job_id(3), body=b"i" * BIG, idempotency_key="k", priority=9)])
    tell("submitted", [again[0].job.job_id])
    first, second = await jobs.claim(claim(most=2))
    tell("claimed", [[lease.job.job_id, lease.token] for lease in (first, second)])
    await jobs.renew("w1", [Beat(first.job.job_id, first.token)], 15.0)
    accepted = await jobs.finish([done(first, b"r" * BIG), failed(second)])
    tell("succeeded", [first.job.job_id] if accepted[0] else [])
    tell("canceled", [(await jobs.cancel(job_id(2))).job_id])
    (delivery, *_) = await jobs.due(1, 30)
    tell("delivered", [delivery.delivery_id] if await jobs.delivered(delivery) else [])
    clock.advance(20)
    (third,) = await jobs.claim(claim("w2"))
    tell("claimed", [[third.job.job_id, third.token]])
    await jobs.abandon("w2", LOST)
    clock.advance(31)
    await jobs.sweep()
    if await jobs.clear():
        tell("cleared", [job_id(0)])


async def live(folder: Path, tell: Callable[..., None]) -> None:
    clock = ManualClock(1000.0)
    jobs = SqlJobs.open_sqlite(folder / "jobs.db", files=folder / "files", clock=clock)
    await jobs.start()
    await history(jobs, clock, tell)
    await jobs.close()


async def check(folder: Path) -> None:
    """What was acknowledged is there, nothing is half done, and life goes on."""
    told: dict[str, list[Any]] = {}
    for line in (folder / "told").read_text().splitlines():
        kind, what = json.loads(line)
        told.setdefault(kind, []).extend(what)
    clock = ManualClock(1060.0)
    jobs = SqlJobs.open_sqlite(folder / "jobs.db", files=folder / "files", clock=clock)
    await jobs.start()
    try:
        await check_consistent(jobs)
        found = {job.job_id: job for job in await jobs.find(JobQuery("iris"))}
        gone = {job_id(0)} if len(told.get("claimed", [])) == 3 else set()  # clearing comes after that
        assert set(told.get("submitted", [])) - gone <= set(found)
        assert not set(told.get("cleared", [])) & set(found)
        assert {job_id(0), job_id(1), job_id(2)} - gone - set(found) in (set(), {job_id(0), job_id(1), job_id(2)})
        for claimed, token in told.get("claimed", []):
            assert claimed not in found or found[claimed].token >= token
        for succeeded in told.get("succeeded", []):
            if succeeded in found:
                assert found[succeeded].state is JobState.SUCCEEDED
                assert await jobs.content(succeeded, "result") == b"r" * BIG
        for canceled in told.get("canceled", []):
            assert found[canceled].state is JobState.CANCELED
        due = {delivery.delivery_id for delivery in await jobs.due(10, 1)}
        assert not due & set(told.get("delivered", []))
        on_disk = {path.name for path in (folder / "files").glob("*/*")}
        with sqlite3.connect(folder / "jobs.db") as connection:
            named = {
                name for (name,) in connection.execute("SELECT file FROM headway_job_contents WHERE file NOT NULL")
            }
        connection.close()
        assert on_disk == named, "a file is missing, or nobody names it"
        await finish_everything(jobs, clock)
    finally:
        await jobs.close()


async def finish_everything(jobs: SqlJobs, clock: ManualClock) -> None:
    for _ in range(6):
        clock.advance(70)
        await jobs.sweep()
        for lease in await jobs.claim(Claim("last", "iris", "v1", True, most=10)):
            assert await jobs.finish([done(lease)]) == [True]
    assert all(job.ended for job in await jobs.find(JobQuery("iris")))
    await check_consistent(jobs)


def run_one(folder: Path, empty: bytes, crash_at: int) -> tuple[int, list[str]]:
    """In a process of its own: its exit code and the boundaries it passed."""
    folder.mkdir()
    (folder / "jobs.db").write_bytes(empty)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            boundaries = Boundaries(crash_at)
            handle = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            boundaries.install()

            def tell(*what: Any) -> None:
                _write(handle, (json.dumps(what) + "\n").encode())

            asyncio.run(live(folder, tell))
            (folder / "names").write_text("\n".join(boundaries.names))
            code = 0
        finally:
            _exit(code)
    _, status = os.waitpid(child, 0)
    names = folder / "names"
    return os.waitstatus_to_exitcode(status), names.read_text().splitlines() if names.exists() else []


def main(folder: Path) -> int:
    template = folder / "template.db"
    prepare(template, 10.0, JOBS)
    empty = template.read_bytes()
    code, names = run_one(folder / "whole", empty, -1)
    assert code == 0, "the history does not even run without a crash"
    first = names.index("BEGIN IMMEDIATE", names.index("BEGIN IMMEDIATE") + 1)
    assert "fsync" in names[names.index("write") : first], "the transaction names a file that is not durable"
    for number, name in enumerate(names):
        code, _ = run_one(folder / str(number), empty, number)
        assert code == CRASHED, f"boundary {number} ({name}): ended with {code}"
    bad = 0
    sqlite3.connect = lambda *a, **named: _connect(*a, **{"factory": Hasty, **named})
    for number, name in enumerate([*names, "the end"]):
        try:
            asyncio.run(check(folder / (str(number) if number < len(names) else "whole")))
        except (AssertionError, JobNotFound, LookupError) as error:
            bad += 1
            print(f"{number} {name}: {type(error).__name__} {error}")
    print(f"{len(names)} boundaries, {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
