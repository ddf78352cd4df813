"""The whole configuration as text, from a routing table and where to listen. Pure.

HAProxy runs in the folder that holds the configuration and the maps, so maps go by their bare names and no
path of the user's has to be quoted inside an expression.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headway.adapters.haproxy import job_calls
from headway.adapters.haproxy.log_lines import log_options
from headway.adapters.haproxy.maps import (
    JOBS_BACKEND,
    Maps,
    backend_name,
    check_table,
    map_text,
    render_maps,
    server_name,
    sticky_rule,
)
from headway.adapters.haproxy.rules import error_pages, frontend_rules, reply
from headway.adapters.haproxy.waiting import NEXT_WORKER, SCRIPT_FILE, holder_server, script, waiting_rules
from headway.domain.errors import Overloaded, PayloadTooLarge
from headway.domain.names import version_name, version_number
from headway.domain.routing_table import ModelRoute, RoutingTable, VersionRoute

CONFIG_FILE = "haproxy.cfg"
BUFFER_BYTES = 128 * 1024
"""A request up to about this size is held until it is answered, so it can be sent to another replica."""
MAX_CONNECTIONS = 2_000
"""Each request in flight takes at most three buffers (request, its copy for a retry, answer): 0.8 GB at most."""
RETRIES = 3
"""The first retry carries a request over a replica that dies: it avoids the server that failed. More of them help
little when several die in the same instant, since a connection refused by a Unix socket is tried again before
anybody can mark the server down; and a request that kills whoever takes it kills one replica more for each."""
WORKER_RETRIES = 6
"""Where several workers share an address: a retry may take one of the idle connections to the one that is just dying,
for the kernel closes them one after the other."""
SPARES = 4
"""Backends for the versions to come: the next versions of a known model with the same limits need no reload."""
CHECK_INTERVAL_MS = 5_000
SHORTEST_CHECK_TIMEOUT_S = 5.0
SLACK_S = 2.0
"""How much longer than the model server's own time limit the gateway waits: its answer tells more than ours."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where HAProxy listens and what it does about dead replicas."""

    host: str
    port: int
    internal_socket: Path
    stats_socket: Path
    keep_alive_s: float = 5.0
    retries: bool = True
    """False only to show, by experiment, that they are needed."""
    threads: int = 2
    request_timeout_s: float = 15.0
    """For a request's head, and again for as much of its body as fits the buffer."""

    @property
    def wait_socket(self) -> Path:
        """Where the request comes in again that is the head of a backend's queue while there is no replica."""
        return self.internal_socket.with_name("gateway-wait.sock")

    @property
    def held_socket(self) -> Path:
        """Where HAProxy tells how many requests wait for a first replica."""
        return self.internal_socket.with_name("gateway-held.sock")

    @property
    def jobs_again_socket(self) -> Path:
        """Where a call for jobs comes in again that the job server did not take."""
        return self.internal_socket.with_name("gateway-jobs.sock")

    @property
    def sockets(self) -> tuple[Path, ...]:
        """Every Unix socket for traffic."""
        return (self.internal_socket, self.wait_socket, self.held_socket, self.jobs_again_socket)

    @property
    def address(self) -> str:
        """``127.0.0.1:8420``, ``[::1]:8420``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Everything on disk: the configuration, the maps, the error pages, and one fingerprint over all."""

    config: str
    maps: Maps
    pages: Mapping[int, str]
    fingerprint: str

    def files(self) -> dict[str, str]:
        """Content by file name; the configuration last, since it names the others."""
        maps = {f"{name}.map": map_text(entries) for name, entries in self.maps.items()}
        pages = {f"{status}.http": text for status, text in self.pages.items()}
        return {**maps, **pages, SCRIPT_FILE: script(), CONFIG_FILE: self.config}


@dataclass(frozen=True, slots=True)
class Structure:
    """What only a reload can add to a running HAProxy."""

    backends: frozenset[str]
    sticky: frozenset[str]

    def holds(self, other: Structure) -> bool:
        return other.backends <= self.backends and other.sticky <= self.sticky


def structure(table: RoutingTable, *, with_spares: bool = False) -> Structure:
    """What ``table`` cannot do without; ``with_spares``: all that its configuration holds."""
    backends = {backend_name(m.model, v) for m in table.models for v in m.versions}
    if with_spares:
        backends |= {backend_name(m.model, v) for m in table.models for v in spares(m)}
    if table.jobs is not None:
        backends.add(JOBS_BACKEND)
    return Structure(frozenset(backends), frozenset(sticky_rule(m.sticky) for m in table.models if m.sticky))


def render(table: RoutingTable, listen: Listen) -> Rendered:
    """Configuration and maps for ``table``; raises ``GatewayFailed`` for names that cannot be configured."""
    check_table(table)
    bare = Rendered(render_config(table, listen), render_maps(table), error_pages(), "")
    digest = hashlib.sha256()
    for name, text in bare.files().items():
        digest.update(f"{name}\0{text}\0".encode())
    return with_state(bare, digest.hexdigest())


def with_state(rendered: Rendered, fingerprint: str) -> Rendered:
    """``rendered`` with the fingerprint also where a running HAProxy can be asked for it."""
    state = {**rendered.maps["state"], "table": fingerprint}
    return replace(rendered, maps={**rendered.maps, "state": state}, fingerprint=fingerprint)


def render_cold(listen: Listen) -> Rendered:
    """What HAProxy starts with while no table is known: every model is "not ready", none is "unknown"."""
    bare = Rendered(render_config(RoutingTable(), listen), render_maps(RoutingTable()), error_pages(), "")
    return replace(bare, maps={**bare.maps, "state": {}})


def render_config(table: RoutingTable, listen: Listen) -> str:
    """``haproxy.cfg``. Servers of the table are in it, so a reload or restart knows them at once."""
    routes = [v for m in table.models for v in m.versions]
    longest_s = max((v.timeout_s for v in routes), default=30.0)
    open_s = longest_s if table.jobs is None else max(longest_s, job_calls.TIMEOUT_S)
    sections = [_global(listen, open_s), _defaults(listen, longest_s)]
    rules = frontend_rules(sorted(structure(table).sticky))
    sections.append(_section("frontend gateway", [*_binds(listen), *log_options(), *rules]))
    sections.append(_section("frontend waiting", [_bind_unix(listen.wait_socket, "waiting"), *waiting_rules()]))
    pass_on = [f"timeout server {_ms(2 * longest_s + SLACK_S)}", _holder(listen, of_next_worker=True)]
    sections.append(_section(f"backend {NEXT_WORKER}", pass_on))
    for model in table.models:
        sections += [_backend(model.model, version, listen) for version in model.versions]
        sections += [_backend(model.model, spare, listen) for spare in spares(model)]
    if table.jobs is not None:
        sections += _jobs(table.jobs, listen)
    return "# Written by Headway; changes are lost.\n\n" + "\n".join(sections)


def spares(model: ModelRoute) -> tuple[VersionRoute, ...]:
    """Routes, without replicas, for the next versions of ``model``, with the limits of its newest one."""
    if not model.versions:
        return ()
    newest = max(model.versions, key=lambda v: version_number(v.version))
    first = version_number(newest.version) + 1
    return tuple(replace(newest, version=version_name(n), endpoints=()) for n in range(first, first + SPARES))


def server_options(version: VersionRoute, *, retries: bool) -> str:
    """Options of each server of ``version``, the same whether it stands in the file or is added later.

    ``observe layer4``, not ``layer7``: a refused connection means a dead replica, and one is enough; an answer
    of 500 means a model that raised, which says nothing about the replica.
    """
    checks = f"check inter {CHECK_INTERVAL_MS}ms fastinter 500ms downinter 500ms rise 1 fall 3"
    watch = " observe layer4 error-limit 1 on-error mark-down" if retries else ""
    return f"maxconn {max(1, version.max_concurrency)} {checks}{watch}"


def server_address(address: str) -> str:
    """``unix:/path`` -> ``unix@/path``; ``host:port`` stays."""
    return f"unix@{address.removeprefix('unix:')}" if address.startswith("unix:") else address


def _section(head: str, lines: list[str]) -> str:
    return "\n".join([head, *(f"    {line}" for line in lines)]) + "\n"


def quoted(text: str) -> str:
    """``text`` as one word of a configuration line."""
    return "'" + text.replace("'", "'\\''") + "'"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def hard_stop_s(longest_s: float, keep_alive_s: float) -> int:
    """An old worker may wait for a held request, in its queue, for its answer, and an idle connection; no longer."""
    return math.ceil(3 * (longest_s + SLACK_S) + keep_alive_s + 10)


def _global(listen: Listen, longest_s: float) -> str:
    return _section(
        "global",
        [
            f"maxconn {MAX_CONNECTIONS}",
            f"nbthread {listen.threads}",
            f"tune.bufsize {BUFFER_BYTES}",
            f"hard-stop-after {hard_stop_s(longest_s, listen.keep_alive_s)}s",
            # Two gateways on one port would share its connections by chance; the second has to fail instead.
            "noreuseport",
            "no strict-limits",
            "spread-checks 10",
            f"lua-load {SCRIPT_FILE} {quoted(str(listen.held_socket))}",
            f"stats socket {quoted(str(listen.stats_socket))} mode 600 level admin expose-fd listeners",
            "stats timeout 30s",
        ],
    )


def _defaults(listen: Listen, longest_s: float) -> str:
    if listen.retries:
        # What is retried: nobody was there, or the connection broke before the first byte of an answer. Never
        # an answer that was given, whatever its status, and never a replica that merely takes its time.
        again = [f"retries {RETRIES}", "option redispatch 1", "retry-on conn-failure empty-response junk-response"]
    else:
        again = ["retries 0", "no option redispatch"]
    return _section(
        "defaults",
        [
            "mode http",
            "option idle-close-on-response",
            "option forwardfor",
            # Who has gone is not waited for, in the queue or by a replica. To close one's sending half counts as going.
            "option abortonclose",
            "option splice-auto",
            "http-reuse always",
            *again,
            f"timeout http-request {_ms(listen.request_timeout_s)}",
            f"timeout http-keep-alive {_ms(listen.keep_alive_s)}",
            f"timeout client {_ms(longest_s + 30)}",
            "timeout connect 5s",
            f"timeout server {_ms(longest_s)}",
            f"timeout queue {_ms(longest_s)}",
            *(f"errorfile {status} {status}.http" for status in error_pages()),
        ],
    )


def _binds(listen: Listen) -> list[str]:
    return [f"bind {listen.address} name data", _bind_unix(listen.internal_socket, "internal")]


def _bind_unix(path: Path, name: str) -> str:
    return f"bind {quoted(f'unix@{path}')} name {name} mode 600"


def _holder(listen: Listen, *, of_next_worker: bool = False) -> str:
    return holder_server(quoted(f"unix@{listen.wait_socket}"), of_next_worker=of_next_worker)


def _jobs(address: str, listen: Listen) -> list[str]:
    again = [_bind_unix(listen.jobs_again_socket, "again"), *job_calls.again_rules()]
    lines = job_calls.backend_lines(
        quoted(server_address(address)),
        quoted(f"unix@{listen.jobs_again_socket}"),
        retries=listen.retries,
        body_timeout_ms=round(listen.request_timeout_s * 1000),
    )
    return [_section(f"frontend {job_calls.AGAIN_FRONTEND}", again), _section(f"backend {JOBS_BACKEND}", lines)]


def _backend(model: str, version: VersionRoute, listen: Listen) -> str:
    name = backend_name(model, version)
    waiting = max(1, version.max_concurrency)
    full = reply(
        Overloaded, f"the queue of {model} {version.version} is full", "send it again after Retry-After seconds"
    )
    large = reply(
        PayloadTooLarge, f"the body is larger than {version.max_body_bytes} bytes", "send fewer rows in one request"
    )
    options = server_options(version, retries=listen.retries)
    servers = [f"server {server_name(e)} {quoted(server_address(e.address))} {options}" for e in version.endpoints]
    return _section(
        f"backend {name}",
        [
            "balance leastconn",
            "option allbackups",  # else requests that wait for a replica would queue for the holder alone
            *([f"retries {WORKER_RETRIES}"] if listen.retries and version.workers > 1 else []),
            f"timeout server {_ms(version.timeout_s + SLACK_S)}",
            f"timeout queue {_ms(version.timeout_s)}",
            # A model that keeps its interpreter busy answers checks late: lateness alone is no death.
            f"timeout check {_ms(max(SHORTEST_CHECK_TIMEOUT_S, version.timeout_s))}",
            "option httpchk",
            "http-check send meth GET uri /health/ready ver HTTP/1.1 hdr host headway",
            "http-check expect status 200-399",
            f"http-request return {large} if {{ req.body_size gt {version.max_body_bytes} }}",
            # What is the head of the queue already, and goes to a replica now, is not refused for those behind it.
            f"http-request return {full} if {{ queue({name}) ge {waiting} }} !{{ fe_name waiting }}",
            # No replica, or next to no room: it may come to wait, counted from when it came in, then for its answer.
            f"acl scarce be_conn_free({name}) lt 2",
            "http-request set-header x-headway-at %[var(txn.at)] if scarce !{ fe_name waiting }",
            f"http-request set-timeout server {_ms(2 * version.timeout_s + SLACK_S)} if scarce",
            # After every refusal: what is going to be refused is not waited for. A request that lies in the buffer
            # as a whole can be sent to another replica.
            f"http-request wait-for-body time {_ms(listen.request_timeout_s)}",
            _holder(listen),
            *servers,
        ],
    )
