"""Talk to a running HAProxy over its Unix sockets (Management Guide, "Unix Socket commands").

One connection carries one command and is closed by HAProxy after the answer, so an answer is whatever comes
until the end of the stream. A payload follows ``<<`` and ends with an empty line.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.adapters.haproxy.waiting import HOLDER
from headway.domain.errors import GatewayFailed

ANSWER_TIMEOUT_S = 10.0
RELOAD_TIMEOUT_S = 30.0
POLL_S = 0.01
PAYLOAD_BYTES = 8 * 1024
"""Well below the smallest buffer that a command must fit in."""


def quoted(text: str) -> str:
    """``text`` as one word of a command line."""
    return "".join("\\" + c if c in " \\;\"'" else c for c in text)


async def ask(socket: Path, command: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """HAProxy's answer to ``command``; raises :class:`GatewayFailed` when nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(command.encode() + b"\n")
                writer.write_eof()  # the master answers only then, a worker does not mind
                return (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise GatewayFailed(f"HAProxy does not answer on {socket.name}: {reason}") from None


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server as ``show stat`` tells of it."""

    backend: str
    name: str
    status: str
    """``UP``, ``DOWN``, ``DRAIN``, ``MAINT``, possibly with more words (``UP 1/2``)."""
    busy: int
    """Requests with it, being sent to it, or queued for it alone."""

    @property
    def drains(self) -> bool:
        """Whether it gets no new requests."""
        return self.status.startswith(("DRAIN", "MAINT"))


@dataclass(frozen=True, slots=True)
class BackendState:
    """One backend: how many requests wait for any of its servers, and the servers."""

    name: str
    queued: int
    servers: Mapping[str, ServerState]


@dataclass(frozen=True, slots=True)
class WorkerPids:
    """Processes that take connections (``current``), and those that only finish what they have."""

    current: frozenset[int]
    old: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        return self.current | self.old


class RuntimeApi:
    """Commands to the present worker through its own socket, and to the master through its socket."""

    def __init__(self, stats_socket: Path, master_socket: Path) -> None:
        self._stats = stats_socket
        self._master = master_socket

    async def _ask(self, command: str, worker: int | None = None) -> str:
        """Ask the present worker, or through the master an old one by its pid."""
        if worker is None:
            return await ask(self._stats, command)
        return await ask(self._master, f"@!{worker} {command}")

    async def _expect(self, command: str, *answers: str, worker: int | None = None) -> None:
        """Run a command of which every answer but ``answers`` means that it was refused."""
        answer = (await self._ask(command, worker)).strip()
        if answer not in answers:
            first = command.partition("\n")[0].removesuffix(" <<")
            raise GatewayFailed(f"HAProxy refused {first[:200]!r}: {answer[:300]}")

    # -- maps ------------------------------------------------------------------------------------

    async def replace_map(self, name: str, entries: Mapping[str, str], *, worker: int | None = None) -> None:
        """Put ``entries`` in place of all that the map holds, in one step for every request."""
        answer = await self._ask(f"prepare map {quoted(name)}", worker)
        prefix, _, version = answer.strip().rpartition(" ")
        if prefix != "New version created:" or not version.isdigit():
            raise GatewayFailed(f"HAProxy refused 'prepare map {name}': {answer.strip()[:300]}")
        for chunk in chunks(entries):
            await self._expect(f"add map @{version} {quoted(name)} <<\n{chunk}", "", worker=worker)
        await self._expect(f"commit map @{version} {quoted(name)}", "", worker=worker)

    async def set_entry(self, name: str, key: str, value: str) -> None:
        """Change the value of a key that the map holds."""
        await self._expect(f"set map {quoted(name)} {quoted(key)} {quoted(value)}", "")

    async def read_map(self, name: str) -> dict[str, str]:
        """What the map holds now."""
        answer = await self._ask(f"show map {quoted(name)}")
        entries = {}
        for line in answer.splitlines():
            words = line.split(" ", 2)  # an address, the key, the value
            if line and not line.startswith("0x"):
                raise GatewayFailed(f"HAProxy refused 'show map {name}': {line[:300]}")
            if len(words) == 3:
                entries[words[1]] = words[2]
        return entries

    # -- servers ---------------------------------------------------------------------------------

    async def backends(self) -> dict[str, BackendState]:
        """Every backend with its servers."""
        return parse_stat(await self._ask("show stat -1 6 -1"))

    async def add_server(self, backend: str, name: str, address: str, options: str) -> None:
        """Add a server that is known to be ready, and put it in rotation at once."""
        where = f"{quoted(backend)}/{quoted(name)}"
        await self._expect(f"add server {where} {quoted(address)} {options}", "New server registered.")
        await self._expect(f"enable health {where}; {_resume(where)}", "")

    async def resume_server(self, backend: str, name: str) -> None:
        """Put a server (back) in rotation, believing that it is healthy until a check says otherwise."""
        where = f"{quoted(backend)}/{quoted(name)}"
        await self._expect(_resume(where), "")

    async def drain_server(self, backend: str, name: str) -> None:
        """No new request goes to it; those that it has go on."""
        await self._expect(f"set server {quoted(backend)}/{quoted(name)} state drain", "")

    async def delete_server(self, backend: str, name: str) -> bool:
        """Forget an idle server. False when HAProxy finds it not yet idle; it can be tried again."""
        where = f"{quoted(backend)}/{quoted(name)}"
        await self._expect(f"set server {where} state maint", "")
        answer = (await self._ask(f"del server {where}")).strip()
        return answer == "Server deleted."

    # -- processes -------------------------------------------------------------------------------

    async def workers(self) -> WorkerPids:
        """The processes under the master."""
        return parse_proc(await ask(self._master, "show proc"))

    async def reload(self) -> None:
        """Load the configuration anew in a new worker; returns once no new connection meets an older one.

        Raises :class:`GatewayFailed` with HAProxy's reason when it refuses.
        """
        before = await self.workers()
        answer = await ask(self._master, "reload", timeout_s=RELOAD_TIMEOUT_S)
        if not answer.startswith("Success=1"):
            raise GatewayFailed(f"HAProxy refused the new configuration: {messages_of(answer)}")
        # For a moment both workers accept: whoever asks right after a reload must not meet the old table.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_TIMEOUT_S):
                while True:
                    if await self._none_listens(before.all):
                        break
                    await asyncio.sleep(POLL_S)

    async def _none_listens(self, pids: Collection[int]) -> bool:
        present = (await self.workers()).all
        for pid in present & set(pids):
            with contextlib.suppress(GatewayFailed):
                frontends = await self._ask("show stat -1 1 -1", pid)
                if ",FRONTEND," in frontends and ",STOP," not in frontends:
                    return False
        return True

    async def in_flight(self, pid: int) -> int:
        """Requests on their way in the worker ``pid``, old ones too."""
        backends = parse_stat(await self._ask("show stat -1 6 -1", pid))
        return sum(b.queued + sum(s.busy for s in b.servers.values()) for b in backends.values())


def _resume(where: str) -> str:
    return f"set server {where} health up; set server {where} state ready"


def chunks(entries: Mapping[str, str]) -> Iterable[str]:
    """The entries as payloads of at most :data:`PAYLOAD_BYTES`, each ended by the empty line it needs."""
    lines: list[str] = []
    size = 0
    for key, value in entries.items():
        line = f"{key} {value}\n"
        if lines and size + len(line) > PAYLOAD_BYTES:
            yield "".join(lines) + "\n"
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield "".join(lines) + "\n"


def messages_of(answer: str) -> str:
    """The lines of HAProxy's own log that say what is wrong, without its prefixes."""
    lines = [line.strip() for line in answer.splitlines() if "[ALERT]" in line or "[WARNING]" in line]
    texts = [line.partition(" : ")[2] or line for line in lines]
    return " | ".join(texts)[:1500] or answer.strip()[:500]


def parse_stat(text: str) -> dict[str, BackendState]:
    """``show stat`` in CSV: lines of backends and servers (Management Guide, "Statistics and monitoring")."""
    lines = text.lstrip("# ").splitlines()
    if not lines or not lines[0].startswith("pxname,"):
        raise GatewayFailed(f"HAProxy refused 'show stat': {text.strip()[:300]}")
    column = {name: index for index, name in enumerate(lines[0].split(","))}
    queued: dict[str, int] = {}
    servers: dict[str, dict[str, ServerState]] = {}
    for line in lines[1:]:
        cells = line.split(",")
        if len(cells) < len(column) - 1:
            continue
        backend, name = cells[column["pxname"]], cells[column["svname"]]
        waiting, busy = int(cells[column["qcur"]] or 0), int(cells[column["scur"]] or 0)
        if name == HOLDER:
            continue  # no replica; what it holds has its place in the queue
        if name == "BACKEND":
            queued[backend] = waiting
        else:
            state = ServerState(backend, name, cells[column["status"]], waiting + busy)
            servers.setdefault(backend, {})[name] = state
    return {name: BackendState(name, waiting, servers.get(name, {})) for name, waiting in queued.items()}


def parse_proc(text: str) -> WorkerPids:
    """``show proc`` of the master: workers first, then those that a reload has left behind."""
    current: set[int] = set()
    old: set[int] = set()
    into = current
    for line in text.splitlines():
        if line.startswith("# old workers"):
            into = old
        words = line.split()
        if len(words) > 1 and words[0].isdigit() and words[1] == "worker":
            into.add(int(words[0]))
    return WorkerPids(frozenset(current), frozenset(old))
