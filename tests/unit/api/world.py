"""A control plane for API tests: the real service on memory adapters; replicas and bundles as a test needs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.gateway import MemoryGateway
from headway.adapters.memory.payload_log import MemoryPayloadLog
from headway.adapters.memory.plan_store import MemoryPlanStore
from headway.adapters.memory.query_log import MemoryQueryLog
from headway.adapters.memory.replica_stats import MemoryReplicaStats
from headway.adapters.memory.stores import MemoryDeploymentStore, MemoryTokenStore
from headway.api.app import create_app
from headway.api.schemas import InfoView
from headway.control.book import DeploymentBook
from headway.control.comparisons import ComparisonService
from headway.control.decisions import DecisionService
from headway.control.payloads import PayloadService
from headway.control.plans import PlanService
from headway.control.query_log import QueryLogService
from headway.control.service import ControlService
from headway.control.tokens import TokenService
from headway.domain.errors import BundleNotFound, InvalidBundle, ReplicaNotFound
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaSpec, ReplicaStatus, ReplicaTransition
from headway.domain.tables import Column, Row
from headway.domain.tokens import digest

ADMIN = "hw_home-admin-of-the-tests"
BUNDLE = hashlib.sha256(b"a bundle").hexdigest()
OTHER_BUNDLE = hashlib.sha256(b"another bundle").hexdigest()
GATEWAY_URL = "http://127.0.0.1:8420"


class PrintingReplicas:
    """A runtime whose replicas are put there by the test and print what it says."""

    def __init__(self) -> None:
        self.statuses: dict[str, ReplicaStatus] = {}
        self.printed: dict[str, list[bytes]] = {}
        self.gone: set[str] = set()
        self.reading = 0
        self._grown = asyncio.Event()

    def add(self, model: str, version: str, suffix: str, *, phase: ReplicaPhase = ReplicaPhase.READY) -> str:
        name = f"{model}-{version}-{suffix}"
        self.statuses[name] = ReplicaStatus(name, model, version, phase, "unix:/run/x.sock", pid=4242)
        self.printed[name] = []
        return name

    def print(self, replica: str, text: bytes) -> None:
        self.printed[replica].append(text)
        self._wake()

    def end(self, replica: str) -> None:
        """Its log is over and it is seen no more; the log itself stays."""
        self.gone.add(replica)
        self.statuses.pop(replica, None)
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self, *, stop_replicas: bool) -> None: ...

    async def apply(self, desired: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> None: ...

    def observe(self) -> tuple[ReplicaStatus, ...]:
        return tuple(self.statuses.values())

    async def transitions(self) -> AsyncIterator[ReplicaTransition]:
        for _ in ():
            yield _

    async def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        if replica_id not in self.printed:
            raise ReplicaNotFound(f"no replica {replica_id}")
        printed = self.printed[replica_id]
        self.reading += 1
        try:
            position = 0 if tail_lines is None else max(len(printed) - tail_lines, 0)
            while True:
                while position < len(printed):
                    position += 1
                    yield printed[position - 1]
                if not follow or replica_id in self.gone:
                    return
                await self._grown.wait()
        finally:
            self.reading -= 1


class HashedBundles:
    """Keeps uploads whose SHA-256 is their digest (the real stores hash the files in them)."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.received = 0

    async def has(self, digest: str) -> bool:
        return digest in self.stored

    async def put(self, digest: str, archive: AsyncIterator[bytes]) -> None:
        content = bytearray()
        async for chunk in archive:
            content += chunk
            self.received += len(chunk)
        if hashlib.sha256(content).hexdigest() != digest:
            raise InvalidBundle("the files have another digest", where="body")
        self.stored[digest] = bytes(content)

    def place(self, digest: str) -> Path:
        return Path("/bundles") / digest

    async def path(self, digest: str) -> Path:
        if digest not in self.stored:
            raise BundleNotFound(f"no bundle {digest[:12]}", hint="upload it first")
        return self.place(digest)

    async def list(self) -> list[str]:
        return sorted(self.stored)

    async def delete(self, digest: str) -> None:
        self.stored.pop(digest, None)


class PlainTables:
    """Writes no Parquet but says what would be in it."""

    async def parquet(
        self, columns: Sequence[Column], batches: AsyncIterator[Sequence[Row]]
    ) -> AsyncGenerator[bytes, None]:
        rows = [row async for batch in batches for row in batch]
        yield json.dumps({"columns": [[c.name, c.type] for c in columns], "rows": rows}).encode()


@dataclass
class World:
    """Everything behind one application, and clients for it."""

    app: FastAPI
    service: ControlService
    book: DeploymentBook
    event_log: MemoryEventLog
    runtime: PrintingReplicas
    bundles: HashedBundles
    tokens: TokenService
    clock: ManualClock
    closing: asyncio.Event
    query_log: MemoryQueryLog
    questions: QueryLogService
    payload_log: MemoryPayloadLog
    payloads: PayloadService
    plans: PlanService
    decisions: DecisionService
    comparisons: ComparisonService
    decision_log: MemoryDecisionLog
    stats: MemoryReplicaStats
    decided: dict[str, dict[str, Any]]
    """What the autoscaler decided last, by version."""
    shutdowns: list[str] = field(default_factory=list)

    def client(self, token: str | None = ADMIN, *, base_url: str = "http://localhost:8421") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=base_url, headers=headers)

    async def token(self, name: str, scope: str, models: list[str] | None = None) -> str:
        return (await self.tokens.create(name, scope, models=models)).secret

    async def deploy(self, name: str = "iris", bundle: str = BUNDLE) -> None:
        async with self.client() as client:
            answer = await client.post(f"/v1/models/{name}/deploy", json={"bundle": bundle, "spec": document(name)})
            assert answer.status_code == 202, answer.text


def document(name: str = "iris", **spec: Any) -> dict[str, Any]:
    """A ModelDeployment document."""
    return {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


async def make_world(*, hosts: Collection[str] = ("127.0.0.1",), max_bundle_bytes: int = 1_000_000) -> World:
    """A world with both bundles stored and nothing deployed."""
    clock, event_log, runtime, bundles = ManualClock(), MemoryEventLog(), PrintingReplicas(), HashedBundles()
    bundles.stored = {BUNDLE: b"a bundle", OTHER_BUNDLE: b"another bundle"}
    book = DeploymentBook(MemoryDeploymentStore(event_log))
    await book.load()
    service = ControlService(book, runtime, bundles, event_log, clock)
    tokens = TokenService(MemoryTokenStore(event_log), clock, home_admin_sha256=digest(ADMIN))
    await tokens.load()
    gateway = MemoryGateway()
    await gateway.start()
    query_log = MemoryQueryLog()
    questions = QueryLogService(query_log, clock, lambda name: book.find(name) is not None)
    payload_log = MemoryPayloadLog()
    payloads = PayloadService(payload_log, clock, lambda name: book.find(name) is not None)
    decision_log, decided = MemoryDecisionLog(), dict[str, dict[str, Any]]()
    comparisons = ComparisonService(query_log, clock, book.find)
    decisions = DecisionService(decision_log, lambda name: decided, clock, lambda name: book.find(name) is not None)
    plans = PlanService(MemoryPlanStore(), book.get, clock)
    closing = asyncio.Event()
    shutdowns: list[str] = []
    info = InfoView(
        version="0",
        pid=1,
        started_at=clock.now(),
        home="/home/ada/.headway",
        control_url="http://127.0.0.1:8421",
        gateway_url=GATEWAY_URL,
        gateway_running=True,
        gateway_pid=77,
        gateway_version="2.8.25",
        gateway_adopted=False,
        models=99,
        replicas=99,
        require_token=False,
    )
    stats = MemoryReplicaStats()
    app = create_app(
        service=service,
        event_log=event_log,
        bundles=bundles,
        runtime=runtime,
        tokens=tokens,
        gateway=gateway,
        decisions=decisions,
        comparisons=comparisons,
        info=lambda: info,
        shutdown=lambda: shutdowns.append("asked"),
        clock=clock,
        hosts=hosts,
        closing=closing,
        max_bundle_bytes=max_bundle_bytes,
        query_log=questions,
        payloads=payloads,
        plans=plans,
        table_writer=PlainTables(),
        replica_stats=stats,
    )
    return World(
        stats=stats,
        app=app,
        service=service,
        book=book,
        event_log=event_log,
        runtime=runtime,
        bundles=bundles,
        tokens=tokens,
        clock=clock,
        closing=closing,
        query_log=query_log,
        questions=questions,
        comparisons=comparisons,
        payload_log=payload_log,
        payloads=payloads,
        plans=plans,
        decisions=decisions,
        decision_log=decision_log,
        decided=decided,
        shutdowns=shutdowns,
    )


class Exchange:
    """One request driven by hand, for answers that go on: take parts of the body, or go away.

    The application's ``send`` returns only when a part has been taken, as with a client that reads slowly.
    """

    def __init__(self, world: World, target: str, *, token: str = ADMIN, headers: dict[str, str] | None = None) -> None:
        path, _, query = target.partition("?")
        given = {"host": "localhost", "authorization": f"Bearer {token}", **(headers or {})}
        self._app = world.app
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "server": ("localhost", 8421),
            "client": ("127.0.0.1", 1),
        }
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._taken = asyncio.Semaphore(0)
        self._asked = False
        self._gone = asyncio.Event()
        self.sends = 0

    async def __aenter__(self) -> Exchange:
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        start = await self._next()
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go_away()
        await asyncio.wait_for(self.task, 5)

    def go_away(self) -> None:
        self._gone.set()
        self._taken.release()

    async def part(self) -> bytes | None:
        """The next part of the body; None at its proper end."""
        message = await self._next()
        if message["body"]:
            assert isinstance(message["body"], bytes)
            return message["body"]
        assert not message["more_body"]
        return None

    async def text(self, parts: int) -> str:
        return b"".join([await self.part() or b"" for _ in range(parts)]).decode()

    async def _next(self) -> Any:
        message = await asyncio.wait_for(self._sent.get(), 5)
        self._taken.release()
        return message

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sends += 1
        self._sent.put_nowait(message)
        await self._taken.acquire()


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)
