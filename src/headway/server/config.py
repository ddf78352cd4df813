"""How a runtime tells the model server what to do: one JSON file, ``python -m headway.server FILE``.

This is the door between a runtime and the model server. Files named here are the server's answers:

``failure_file``  written (atomically) before the process exits because of the model; a JSON object with
                  the fields of :class:`FailureReport`.
``stack_file``    gets the Python stack of every thread when the process receives SIGUSR2, so that a hung
                  ``load`` or ``predict`` can be named by file and line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.server.graph_spec import GraphNode

MetricsCompat = Literal["seldon"] | None
"""Whose names and labels ``/metrics`` shows beside Headway's own."""


class ServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the spec's ``server`` section sets; part of the version's digest."""

    max_batch_size: int = 64
    """Most rows predicted together."""
    max_batch_delay_s: float = 0.0
    """Longest extra wait for a fuller batch; 0: never wait, predict what is there."""
    latency_target_s: float | None = None
    """What an answer may take: later ones are refused at once, and the extra wait is learned. None: no such bound."""
    max_queue: int = 256
    """Requests that may wait; beyond it 429."""
    timeout_s: float = 30.0
    """Time limit of one request from arrival to answer; then 504."""
    max_body_bytes: int = 32 * 1024 * 1024
    workers: int = 1
    """Processes that serve one replica; above 1 they are forked from one that has loaded the model."""


class PayloadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests are kept whole, with their answers."""

    sample: float
    """Share of requests, 0 to 1."""
    max_bytes: int = 16 * 1024
    """A longer body is left out."""
    redact: tuple[str, ...] = ()
    """Fields whose values are taken out."""


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything one replica's server process needs to know."""

    replica_id: str
    model: str
    version: str
    digest: str
    bundle_path: str
    listen: str
    """``unix:/path`` or ``tcp:host:port`` (port 0: any; the chosen one is printed)."""
    entrypoint: str | None = None
    """``module:attribute``; None: looked for in ``model.py``."""
    graph: GraphNode | None = None
    """The inference graph that the bundle holds, a folder for each node; None: it holds one model."""
    options: ServerOptions = ServerOptions()
    sample: str | None = None
    """File in the bundle with an example request body, predicted once before the server is ready.

    None: ``sample.json``, where the bundle holds it.
    """
    failure_file: str | None = None
    stack_file: str | None = None
    log_file: str | None = None
    """When given, stdout and stderr go there (appending) and are rotated by the server itself."""
    log_max_bytes: int = 10 * 1024 * 1024
    log_files: int = 3
    """Rotated files kept beside the present one: ``log.1`` is the newest of them."""
    drain_delay_s: float = 0.0
    """After SIGTERM: how long to go on accepting before closing the listener (Kubernetes endpoint lag)."""
    metrics_compat: MetricsCompat = None
    worker_hang_s: float = 60.0
    """A worker whose event loop has not turned for this long is killed; other workers go on. Of no meaning for one."""
    query_log_dir: str | None = None
    """Folder for the segments of the query log; None: no log."""
    payloads: PayloadOptions | None = None
    """None: no payload is kept."""
    payload_dir: str | None = None
    """Folder for sampled payloads."""
    stats_file: str | None = None
    """Where the stats page is to be found (:mod:`headway.domain.stats_page`); None: only ``GET /stats`` tells."""
    latency_counts: bool = False
    """Whether latencies are counted in fine buckets for ``GET /stats``, for who scales by them from afar."""
    shadow_gateway: str | None = None
    """``unix:/path`` of the gateway, for copies of requests that carry ``x-headway-shadow``."""
    job_server: str | None = None
    """``unix:/path`` or ``tcp:host:port``: this process is a worker, which takes jobs from there. None: it is none."""
    worker_name: str = ""
    """What a worker calls itself there; empty: by its ``replica_id``."""
    job_grace_s: float = 30.0
    """After SIGTERM: how long a worker's running job may take until it has to be given back."""


class FailureReport(msgspec.Struct, kw_only=True):
    """Why the process gave up; ``code`` is one of the error tree's."""

    stage: str
    """``import``, ``load``, ``sample`` or ``serve``; ``job``: a worker ended itself because of its job."""
    code: str
    message: str
    where: str | None = None
    hint: str | None = None


def read_config(path: Path) -> ServerConfig:
    """The config in ``path``; ``msgspec.ValidationError`` names the field that does not fit."""
    return msgspec.json.decode(path.read_bytes(), type=ServerConfig)


def write_config(config: ServerConfig, path: Path) -> None:
    """Write ``config`` so that :func:`read_config` reads an equal one."""
    path.write_bytes(msgspec.json.encode(config))


def options_from(values: dict[str, Any]) -> ServerOptions:
    """Options from plain values by field name, validated."""
    return msgspec.convert(values, ServerOptions)
