"""The SQLite file itself: crashes, other processes, other schemas, other files in its place."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from headway.adapters.sql import SqlDatabase, SqlDeploymentStore, SqlEventLog, SqlTokenStore
from headway.adapters.sql.tables import events
from headway.domain.deployments import Deployment
from headway.domain.errors import HeadwayError, StaleWrite, StorageFailed
from headway.domain.events import EventType, NewEvent
from headway.domain.names import version_name
from headway.domain.tokens import Scope, Token

pytestmark = pytest.mark.anyio


def event(number: int = 0, model: str = "iris") -> NewEvent:
    return NewEvent(1.0, EventType.REPLICA_READY, model, data={"number": number})


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


SAVES = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from headway.adapters.sql import SqlDatabase, SqlDeploymentStore, SqlEventLog
from headway.domain.deployments import Deployment, Version
from headway.domain.events import EventType, NewEvent

async def main():
    database = SqlDatabase(Path(sys.argv[1]))
    await database.open()
    store = SqlDeploymentStore(database)
    (saved,) = await store.load_all() or [Deployment("iris", 1.0, replicas=0)]
    while True:
        n = saved.replicas + 1
        versions = tuple(Version(f"v{i}", "d", "b", float(n), {"n": n}) for i in range(1, 30))
        notes = [NewEvent(float(n), EventType.DEPLOYMENT_SCALED, "iris", data={"n": n, "part": p}) for p in range(3)]
        saved = await store.save(replace(saved, replicas=n, versions=versions), notes)
        print(n, flush=True)

asyncio.run(main())
"""


async def test_a_kill_in_the_middle_of_saves_leaves_every_save_whole(path: Path) -> None:
    acknowledged = 0
    for kill_after in (1, 7, 3):
        child = run(SAVES, path)
        assert child.stdout is not None
        for _ in range(kill_after):
            acknowledged = int(await asyncio.to_thread(child.stdout.readline))
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = int([str(acknowledged), *child.communicate()[0].split()][-1])

        database = SqlDatabase(path)
        await database.open()
        (found,) = await SqlDeploymentStore(database).load_all()
        told = [(e.data["n"], e.data["part"]) for e in await SqlEventLog(database).read(limit=10_000)]
        await database.close()
        assert found.replicas >= acknowledged
        assert {v.spec["n"] for v in found.versions} == {found.replicas}
        assert told == [(n, part) for n in range(1, found.replicas + 1) for part in range(3)]


APPENDS = """
import asyncio, sys
from pathlib import Path
from headway.adapters.sql import SqlDatabase, SqlEventLog
from headway.domain.events import EventType, NewEvent

async def main():
    database = SqlDatabase(Path(sys.argv[1]))
    await database.open()
    log = SqlEventLog(database)
    for n in range(int(sys.argv[2])):
        await log.append([NewEvent(1.0, EventType.REPLICA_READY, "iris", data={"number": n})] * 2)
    await database.close()

asyncio.run(main())
"""


async def test_two_processes_append_without_losing_or_repeating_a_cursor(path: Path, database: SqlDatabase) -> None:
    log = SqlEventLog(database, poll_s=0.01)
    others = [run(APPENDS, path, 20) for _ in range(2)]
    for n in range(20):
        await log.append([event(n)])
    seen: list[int] = []
    async with asyncio.timeout(60):
        while len(seen) < 100:
            await log.wait(seen[-1] if seen else 0, 60)
            seen += [e.cursor for e in await log.read(after=seen[-1] if seen else 0)]
    assert seen == list(range(1, 101))
    for other in others:
        other.communicate()
        assert other.returncode == 0


async def test_changes_that_read_before_they_write_do_not_collide(path: Path, database: SqlDatabase) -> None:
    other = SqlDatabase(path)
    await other.open()
    stores = [SqlTokenStore(database), SqlTokenStore(other)]
    tokens = [Token(f"t{n}", "0" * 64, Scope.PREDICT, None, float(n)) for n in range(60)]
    await asyncio.gather(*(stores[n % 2].add(token, [event(n)]) for n, token in enumerate(tokens)))
    await other.close()
    assert sorted(t.created_at for t in await stores[0].list()) == [float(n) for n in range(60)]


async def test_an_append_of_another_process_wakes_a_waiter(path: Path, database: SqlDatabase) -> None:
    log = SqlEventLog(database, poll_s=0.02)
    waiter = asyncio.create_task(log.wait(0, 60))
    other = run(APPENDS, path, 1)
    assert await waiter is True
    other.communicate()


async def test_waiting_asks_the_database_seldom_however_many_wait(database: SqlDatabase) -> None:
    log = SqlEventLog(database, poll_s=60)
    asked = 0

    def count(*_: object) -> None:
        nonlocal asked
        asked += 1

    assert database._engine is not None
    sa.event.listen(database._engine.sync_engine, "before_cursor_execute", count)
    waiters = [asyncio.create_task(log.wait(0, 60)) for _ in range(50)]
    assert await log.wait(0, 0.1) is False
    await log.append([event()])
    async with asyncio.timeout(20):
        assert all(await asyncio.gather(*waiters))
    statements_of_the_append = 3
    assert asked <= 3 * 2 + statements_of_the_append


async def test_what_was_saved_is_there_after_opening_again(path: Path, database: SqlDatabase) -> None:
    saved = await SqlDeploymentStore(database).save(Deployment("iris", 1.0), [event()])
    await database.close()
    await database.open()
    assert await SqlDeploymentStore(database).load_all() == [saved]
    assert await SqlEventLog(database).wait(0, 0) is True


async def test_open_and_close_may_come_twice_unasked_and_at_once(path: Path) -> None:
    database = SqlDatabase(path)
    await database.close()
    await asyncio.gather(database.open(), database.open(), database.close(), database.open())
    await database.open()
    assert await SqlEventLog(database).append([event()]) == 1
    await asyncio.gather(database.close(), database.close())
    with pytest.raises(HeadwayError, match="not open"):
        await SqlEventLog(database).last_cursor()


async def test_closing_waits_for_what_runs(path: Path) -> None:
    database = SqlDatabase(path)
    await database.open()
    appends = [asyncio.create_task(SqlEventLog(database).append([event(n)])) for n in range(10)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*appends)
    await database.open()
    assert await SqlEventLog(database).last_cursor() == 10
    await database.close()


async def test_cancelled_transactions_neither_block_nor_tear(database: SqlDatabase) -> None:
    store, log = SqlDeploymentStore(database), SqlEventLog(database)
    base = await store.save(Deployment("iris", 1.0, replicas=0))
    for steps in range(60):
        task = asyncio.create_task(store.save(replace(base, replicas=base.replicas + 1), [event(base.replicas + 1)]))
        reading = asyncio.create_task(store.load_all())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        reading.cancel()
        await asyncio.wait([task, reading])
        await log.append([])
        (base,) = await store.load_all()
        while True:  # a save that was under way comes to its end
            told = [e.data["number"] for e in await log.read()]
            (base,) = await store.load_all()
            if base.replicas == len(told):
                break
        assert told == list(range(1, base.replicas + 1))
    with pytest.raises(StaleWrite):
        await store.save(replace(base, resource_version=1))


async def test_a_transaction_that_has_begun_is_ended_though_the_caller_is_gone(
    path: Path, database: SqlDatabase
) -> None:
    log = SqlEventLog(database, poll_s=60)
    waiter = asyncio.create_task(log.wait(0, 60))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        append = asyncio.create_task(log.append([event()]))
        assert await log.wait(0, 0.05) is False  # time enough for the append to wait for the lock
        append.cancel()
        with pytest.raises(asyncio.CancelledError):
            await append
    finally:
        other.close()
    async with asyncio.timeout(20):
        assert await waiter is True
    assert await log.last_cursor() == 1


async def test_the_file_and_its_companions_are_the_owners_alone(path: Path, database: SqlDatabase) -> None:
    await SqlEventLog(database).append([event()])
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["headway.db", "headway.db-shm", "headway.db-wal"]
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await database.close()
    path.chmod(0o644)
    await database.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_every_connection_is_durable_and_checks_references(database: SqlDatabase) -> None:
    def pragmas(connection: sa.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    full = 2
    found = await asyncio.gather(*(database.read(pragmas) for _ in range(8)), database.write(pragmas))
    assert found == [["wal", full, 1, 10_000]] * 9


async def test_a_writer_that_does_not_end_is_waited_for_and_then_reported(path: Path) -> None:
    database = SqlDatabase(path, busy_timeout_s=0.1)
    await database.open()
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="locked"):
            await SqlEventLog(database).append([event()])
        assert await SqlEventLog(database).read() == []
        other.execute("ROLLBACK")
        assert await SqlEventLog(database).append([event()]) == 1
    finally:
        other.close()
        await database.close()


async def test_reading_one_model_uses_its_index(database: SqlDatabase) -> None:
    query = sa.select(events).where(events.c.cursor > 5, events.c.model == "iris").order_by(events.c.cursor).limit(9)
    await SqlEventLog(database).append([event(n, f"m{n % 50}") for n in range(500)])

    def plan(connection: sa.Connection) -> str:
        text = query.compile(connection, compile_kwargs={"literal_binds": True})
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all())

    found = await database.read(plan)
    assert "ix_events_model_cursor" in found
    assert "TEMP B-TREE" not in found


async def test_cursors_do_not_come_back_when_events_are_removed(database: SqlDatabase) -> None:
    log = SqlEventLog(database)
    last = await log.append([event(n) for n in range(5)])
    await database.write(lambda connection: connection.execute(sa.delete(events)))
    assert await log.last_cursor() == last
    assert await log.append([event()]) == last + 1


async def test_a_save_with_many_old_versions_writes_only_what_changed(database: SqlDatabase) -> None:
    from tests.contracts.deployment_store_contract import version

    store = SqlDeploymentStore(database)
    many = tuple(version(version_name(n)) for n in range(1, 300))
    saved = await store.save(Deployment("iris", 1.0, versions=many))
    written: list[str] = []

    def record(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "versions" in statement and not statement.startswith("SELECT"):
            written.append(str(parameters))

    assert database._engine is not None
    sa.event.listen(database._engine.sync_engine, "before_cursor_execute", record)
    await store.save(replace(saved, replicas=2))
    assert written == []
    await store.save(replace((await store.load_all())[0].with_version(replace(many[6], python="/p"))))
    assert len(written) == 2
    assert all("v7" in parameters and "v8" not in parameters for parameters in written)
