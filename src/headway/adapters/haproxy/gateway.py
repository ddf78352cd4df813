"""HaproxyGateway: one HAProxy in front of all replicas, told by whole routing tables.

How a new table gets into the running HAProxy, cheapest way first:

1. It equals the one in force: nothing is done. After a restart of the control plane that is read off
   HAProxy itself, where the fingerprint of the table in force lies in a map.
2. It needs only servers, shares, tokens: servers are added, maps replaced, servers drained, in this order, so
   that at no moment a route leads to nothing.
3. It needs a backend or a sticky name that is not loaded: HAProxy reloads. A new worker takes over the
   listening sockets; the old one finishes its requests and closes each idle connection after one more answer
   or the keep-alive time. Until then it goes on routing by its old table, which is why :meth:`drained` waits
   for old workers as well.

The files on disk always say what was applied last, so a restart or reload of HAProxy reads the same. Requests that
find no replica wait for one: :mod:`headway.adapters.haproxy.waiting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from headway.adapters.haproxy import process as processes
from headway.adapters.haproxy.binary import Binary, check_binary, find_binary
from headway.adapters.haproxy.config import (
    Listen,
    Rendered,
    Structure,
    render,
    render_cold,
    server_address,
    server_options,
    structure,
)
from headway.adapters.haproxy.held import HeldRequests, Waiting
from headway.adapters.haproxy.maps import (
    JOBS_BACKEND,
    ORDER,
    backend_name,
    replica_of,
    replicas_in,
    server_name,
    servers_of,
)
from headway.adapters.haproxy.places import Places, make_folders, replace_file, socket_dir
from headway.adapters.haproxy.process import HaproxyProcess
from headway.adapters.haproxy.runtime_api import BackendState, RuntimeApi
from headway.domain.errors import GatewayFailed, HeadwayError
from headway.domain.routing_table import RoutingTable
from headway.ports.gateway import GatewayStatus

log = logging.getLogger(__name__)

CHANGING = "changing"
RESTART_PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
STOP_POLL_S = 0.05
STOP_LIMIT_S = 60.0
KILL_AFTER_S = 3.0


class HaproxyGateway:
    """The gateway of one home. Starting it twice, or two of it in turn, finds the HAProxy that runs."""

    def __init__(
        self,
        *,
        home: Path,
        host: str,
        port: int,
        keep_alive_s: float = 5.0,
        binary: str | None = None,
        retries: bool = True,
        query_log: bool = True,
    ) -> None:
        """``host``, ``port``: the data listener. ``binary``: HAProxy to run, instead of the one that is found.

        ``keep_alive_s``: how long an idle client connection is kept. ``retries`` False switches off what
        carries requests over a dying replica; only for experiments. ``query_log``: whether requests that it
        answers itself are logged (a gateway that is adopted goes on as it was started).
        """
        self._places = Places(home.resolve(), socket_dir(home), query_log)
        self._named_binary = binary
        self._listen = Listen(
            host=host,
            port=port,
            internal_socket=self._places.internal_socket,
            stats_socket=self._places.stats_socket,
            keep_alive_s=keep_alive_s,
            retries=retries,
            threads=min(4, os.cpu_count() or 1),
        )
        self._api = RuntimeApi(self._places.stats_socket, self._places.master_socket)
        self._lock = asyncio.Lock()
        self.on_held: Callable[[], None] | None = None
        """See the port."""
        self._held = HeldRequests(lambda: self.on_held() if self.on_held is not None else None)
        self._binary: Binary | None = None
        self._process: HaproxyProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._adopted = False
        self._on_disk: Rendered | None = None
        """What the files say; None when an earlier control plane wrote them."""
        self._table: RoutingTable | None = None
        """The table in force; None when it is not known for sure."""
        self._fingerprint = ""
        self._loaded = Structure(frozenset(), frozenset())
        self._suspects: dict[str, frozenset[int]] = {}
        """Replicas that left the table: the workers that knew a route to them then."""
        self._older_suspects: frozenset[int] = frozenset()
        """The same for any replica that left before this object could see it."""

    @property
    def internal_address(self) -> str:
        """``unix:/path`` of the listener for this user's own processes; it asks for no token."""
        return f"unix:{self._places.internal_socket}"

    def held(self) -> Waiting:
        """See the port."""
        return self._held.counts()

    def status(self) -> GatewayStatus:
        process = self._process
        running = process is not None and not process.ended
        return GatewayStatus(
            running=running,
            url=f"http://{self._listen.address}",
            pid=process.pid if process is not None and running else None,
            adopted=self._adopted,
            version=self._binary.version if self._binary is not None else "",
        )

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Adopt the HAProxy of this home, or start one that answers 503 until the first table.

        Raises ``MissingBinary``, ``AlreadyRunning`` (the port is taken), ``GatewayFailed``.
        """
        async with self._lock:
            if self._watch is not None:
                return
            processes.require_linux()
            self._binary = await check_binary(find_binary(self._named_binary))
            make_folders(self._places)
            self._process = await processes.find(self._places)
            self._adopted = self._process is not None
            if self._process is not None:
                await self._read_running()
                if not processes.has_query_log(self._process, self._places):
                    log.warning(
                        "the gateway that runs does not write to %s: its refusals are not logged",
                        self._places.query_log,
                    )
            else:
                self._write(render_cold(self._listen))
                self._table, self._fingerprint = None, ""
                self._loaded, self._older_suspects = structure(RoutingTable()), frozenset()
                self._process = await self._spawn()
            await self._held.start(self._listen.held_socket)
            self._suspects.clear()
            self._watch = asyncio.create_task(self._keep_running(), name="gateway watchdog")

    async def stop(self, *, stop_gateway: bool) -> None:
        """Stop looking after HAProxy; with ``stop_gateway`` end it, gracefully and then by force."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        async with self._lock:
            await self._held.stop()
            process, self._process = self._process, None
            if not stop_gateway:
                if process is not None:
                    process.release()
                return
            if process is None:
                process = await processes.find(self._places)
            if process is not None:
                await self._end(process)
            await processes.end_orphans(self._places)
            places = self._places
            for path in (places.master_socket, places.stats_socket, *self._listen.sockets):
                path.unlink(missing_ok=True)

    async def _end(self, process: HaproxyProcess) -> None:
        """SIGUSR1: listeners close, requests go on. Idle client connections are not waited for."""
        loop = asyncio.get_running_loop()
        workers = frozenset[int]()
        with contextlib.suppress(GatewayFailed):
            workers = (await self._api.workers()).all
        process.send(signal.SIGUSR1)
        deadline = loop.time() + STOP_LIMIT_S
        while not process.ended and loop.time() < deadline:
            if await process.wait_at_most(STOP_POLL_S):
                return
            if not await self._any_in_flight(workers):
                break
        process.send(signal.SIGTERM)
        if not await process.wait_at_most(KILL_AFTER_S):
            process.send(signal.SIGKILL)
            await process.wait()

    async def _any_in_flight(self, workers: Collection[int]) -> bool:
        for pid in workers:
            with contextlib.suppress(GatewayFailed):
                if await self._api.in_flight(pid):
                    return True
        return False

    async def _spawn(self) -> HaproxyProcess:
        if self._binary is None:
            raise GatewayFailed("the gateway was not started")
        return await processes.spawn(self._binary.path, self._places, self._listen.host, self._listen.port)

    async def _read_running(self) -> None:
        """What an adopted HAProxy routes by. What cannot be read counts as unknown: the next apply reloads."""
        self._table, self._fingerprint, self._on_disk = None, "", None
        self._loaded = Structure(frozenset(), frozenset())
        with contextlib.suppress(GatewayFailed):
            self._older_suspects = (await self._api.workers()).all
            self._loaded = Structure(frozenset(await self._api.backends()), frozenset())
            self._fingerprint = (await self._api.read_map("state.map")).get("table", "")

    async def _keep_running(self) -> None:
        """Start HAProxy again whenever it ends; the files still say what it has to do."""
        failures = 0
        while self._process is not None:
            await self._process.wait()
            if failures == 0:
                log.error("HAProxy ended; starting it again (see %s)", self._places.log)
            try:
                async with self._lock:
                    await processes.end_orphans(self._places)
                    self._process = await self._spawn()
                    self._adopted = False
                    self._older_suspects = frozenset()
                    self._suspects.clear()
                    self._loaded = structure(self._table or RoutingTable(), with_spares=True)
                failures = 0
            except (HeadwayError, OSError) as error:
                log.error("HAProxy does not start: %s", error)
                await asyncio.sleep(RESTART_PAUSES_S[min(failures, len(RESTART_PAUSES_S) - 1)])
                failures += 1

    # -- routes ----------------------------------------------------------------------------------

    async def apply(self, table: RoutingTable) -> bool:
        async with self._lock:
            if self._process is None or self._process.ended:
                raise GatewayFailed("HAProxy does not run", hint=f"see {self._places.log}")
            if table == self._table:
                return False
            rendered = render(table, self._listen)
            if rendered.fingerprint == self._fingerprint:
                # Found at adoption: it routes just so already. The files were written by the one before us.
                self._table, self._on_disk = table, rendered
                return False
            if self._on_disk is not None and self._table is not None and self._loaded.holds(structure(table)):
                await self._change(table, rendered, self._on_disk)
            else:
                await self._reload(table, rendered, self._table, self._on_disk)
            await self._tell_old_workers(rendered)
            return True

    async def _change(self, table: RoutingTable, rendered: Rendered, before: Rendered) -> None:
        """Through the runtime API; a reload mends what goes wrong on the way."""
        known = self._table
        try:
            self._table, self._fingerprint = None, ""
            await self._api.set_entry("state.map", "table", CHANGING)
            # Before everything that takes time: requests may wait for these.
            await self._bring_in(table, known or RoutingTable())
            workers = await self._api.workers()
            self._write(rendered)
            for name in ORDER:
                if rendered.maps[name] != before.maps[name] and name != "state":
                    await self._api.replace_map(f"{name}.map", rendered.maps[name])
            self._note_leaving(table, known, workers.all)
            await self._let_out(table)
            await self._api.replace_map("state.map", rendered.maps["state"])
        except GatewayFailed as error:
            log.warning("changing routes at run time failed, reloading instead: %s", error)
            await self._reload(table, rendered, known, before)
        self._table, self._fingerprint = table, rendered.fingerprint

    async def _reload(
        self, table: RoutingTable, rendered: Rendered, known: RoutingTable | None, before: Rendered | None
    ) -> None:
        """A new worker with the whole new configuration; when it is refused, the files are as ``before``."""
        binary = self._binary
        if binary is None:
            raise GatewayFailed("the gateway was not started")
        places = self._places
        candidate = places.folder / "candidate.cfg"
        replace_file(candidate, rendered.config)
        await processes.check_config(binary.path, candidate, places.folder, places.home)
        candidate.unlink()
        processes.trim_log(places.log)
        workers = (await self._api.workers()).all
        try:
            self._write(rendered)
            await self._api.reload()
        except BaseException:
            self._table, self._fingerprint = None, ""
            if before is not None:
                self._write(before)
            raise
        self._note_leaving(table, known, workers)
        if known is None:
            self._older_suspects |= workers
        self._loaded = structure(table, with_spares=True)
        self._table, self._fingerprint = table, rendered.fingerprint

    async def _tell_old_workers(self, rendered: Rendered) -> None:
        """Revoke tokens for their last requests too. Routes they keep: they may lack the backends of new ones."""
        with contextlib.suppress(GatewayFailed):  # one that ends meanwhile does not answer
            for pid in (await self._api.workers()).old:
                for name in ("tokens", "state"):
                    await self._api.replace_map(f"{name}.map", rendered.maps[name], worker=pid)

    async def _bring_in(self, table: RoutingTable, known: RoutingTable) -> None:
        """Servers for endpoints that are new: unheard of, or back after they had left."""
        running = await self._api.backends()
        before = servers_of(known)
        for model in table.models:
            for version in model.versions:
                backend = backend_name(model.model, version)
                present = running[backend].servers if backend in running else {}
                for endpoint in version.endpoints:
                    name = server_name(endpoint)
                    if name not in present:
                        options = server_options(version, retries=self._listen.retries)
                        await self._api.add_server(backend, name, server_address(endpoint.address), options)
                    elif (backend, name) not in before:
                        await self._api.resume_server(backend, name)

    async def _let_out(self, table: RoutingTable) -> None:
        """Drain servers that are not in ``table`` and forget those of them that are idle."""
        staying = servers_of(table)
        for backend in (await self._api.backends()).values():
            if backend.name == JOBS_BACKEND:
                continue
            alone = not any((backend.name, name) in staying for name in backend.servers)
            for server in backend.servers.values():
                if (backend.name, server.name) in staying or (alone and backend.queued and not server.drains):
                    continue  # requests queued for a version that loses all its replicas are still served by them
                if not server.drains:
                    await self._api.drain_server(backend.name, server.name)
                if server.busy == 0:
                    await self._api.delete_server(backend.name, server.name)

    def _note_leaving(self, table: RoutingTable, known: RoutingTable | None, workers: frozenset[int]) -> None:
        staying = replicas_in(table)
        for replica_id in (replicas_in(known) if known is not None else frozenset()) - staying:
            self._suspects[replica_id] = workers
        for replica_id in staying & set(self._suspects):
            del self._suspects[replica_id]

    async def drained(self, replica_ids: Collection[str]) -> frozenset[str]:
        """Those that left the table and that no worker, present or old, can have a request with."""
        async with self._lock:
            wanted = frozenset(replica_ids)
            table = self._table
            if not wanted or table is None:
                return frozenset()
            wanted -= replicas_in(table)
            if self._process is None or self._process.ended:
                return wanted  # nothing runs that could send anything, and what will run knows ``table`` only
            await self._let_out(table)
            workers = await self._api.workers()
            left = _held(await self._api.backends())
            known = {r: self._suspects.get(r, self._older_suspects) for r in wanted}
            return frozenset(r for r in wanted if r not in left and not known[r] & workers.old)

    def _write(self, rendered: Rendered) -> None:
        folder = self._places.folder
        try:
            written = self._on_disk.files() if self._on_disk is not None else {}
            self._on_disk = None
            for name, text in rendered.files().items():
                if written.get(name) != text:
                    replace_file(folder / name, text)
        except OSError as error:
            raise GatewayFailed(f"the gateway's files cannot be written: {error}") from None
        self._on_disk = rendered


def _held(backends: dict[str, BackendState]) -> set[str]:
    """Replicas with a server that may have a request.

    One in maintenance without any has none and gets none; it stays while idle connections to it are open.
    """
    servers = [server for backend in backends.values() for server in backend.servers.values()]
    return {replica_of(s.name) for s in servers if s.busy or not s.status.startswith("MAINT")}
