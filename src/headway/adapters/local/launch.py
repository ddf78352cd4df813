"""What a replica's process is started with: command, environment, orders. No process is touched here.

A replica runs user code, so it inherits little: what locale, time zone and the dynamic loader need, and
what the version's spec sets. Whatever else the control plane's environment holds (tokens above all) stays
there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

import headway
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.domain.errors import InvalidSpec
from headway.domain.replicas import ReplicaSpec, thread_variables, worker_name
from headway.server.config import MetricsCompat, PayloadOptions, ServerConfig, options_from, write_config
from headway.server.graph_spec import GraphNode

HOME_VARIABLE = "HEADWAY_HOME"
REPLICA_VARIABLE = "HEADWAY_REPLICA"
INHERITED = frozenset(
    {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}
    | {"HEADWAY_RSCRIPT", "R_LIBS", "R_LIBS_SITE", "R_LIBS_USER"}
)
"""Taken from the control plane's environment; names starting with ``LC_`` too."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Makes command lines for one home."""

    home: Path
    inherited: Mapping[str, str]
    shadow_gateway: str | None
    query_log_dir: str | None = None
    """Where model servers write their segments of the query log; None: they keep none. Payloads lie beside it."""
    job_server: str | None = None
    """Where workers get their jobs, as ``ServerConfig.job_server``; None: there can be no workers."""

    @property
    def library(self) -> Path:
        """The folder for ``PYTHONPATH``: Headway's package and nothing else of the control plane's environment."""
        return self.home / "lib" / headway.__version__

    def prepare(self) -> None:
        """Make :attr:`library` point at this Headway. Fine when it does already."""
        package = Path(headway.__file__).resolve().parent
        link = self.library / "headway"
        self.library.mkdir(parents=True, exist_ok=True, mode=0o700)
        if link.is_symlink() and Path(os.readlink(link)) == package:
            return
        draft = self.library / f".headway.{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(package)
        os.replace(draft, link)

    def write_orders(self, folder: ReplicaFolder, record: ReplicaRecord) -> list[str]:
        """Write the model server's config and take away earlier answers; the command line.

        Raises :class:`InvalidSpec` when the spec's server options do not fit, or for a worker without a job server;
        ``OSError`` for a full disk.
        """
        spec = record.spec
        works = spec.role == "work"
        if works and self.job_server is None:
            raise InvalidSpec(f"{spec.replica_id} is a worker, and there is no job server to take jobs from")
        values, liveness = dict(spec.server), spec.probes.liveness
        sample = values.pop("sample", None)
        compat = values.pop("metrics_compat", None)
        payloads = values.pop("payloads", None)
        graph = values.pop("graph", None)
        if works:
            values["workers"] = 1  # a worker is one process: more of them are more workers
        try:
            config = ServerConfig(
                replica_id=spec.replica_id,
                model=spec.model,
                version=spec.version,
                digest=spec.digest,
                bundle_path=spec.bundle_path,
                listen=f"unix:{record.socket}",
                entrypoint=spec.entrypoint,
                graph=msgspec.convert(graph, GraphNode | None),
                options=options_from(values),
                sample=msgspec.convert(sample, str | None),
                metrics_compat=msgspec.convert(compat, MetricsCompat),
                worker_hang_s=liveness.failure_threshold * liveness.period_s + liveness.timeout_s,
                payloads=msgspec.convert(payloads, PayloadOptions | None),
                payload_dir=None if self.query_log_dir is None else str(Path(self.query_log_dir).parent / "payloads"),
                failure_file=str(folder.failure),
                stack_file=str(folder.stack),
                log_file=str(folder.log),
                stats_file=str(folder.stats),
                query_log_dir=self.query_log_dir,
                shadow_gateway=self.shadow_gateway,
                job_server=self.job_server if works else None,
                worker_name=worker_name(spec.replica_id, record.restarts) if works else "",
                job_grace_s=spec.termination_grace_s,
            )
        except (msgspec.ValidationError, TypeError) as error:
            raise InvalidSpec(str(error), where="spec.server") from error
        for leftover in (folder.failure, folder.stack, folder.stats, Path(record.socket)):
            leftover.unlink(missing_ok=True)
        write_config(config, folder.config)
        return [spec.python, "-m", "headway.server", str(folder.config)]

    def environment(self, spec: ReplicaSpec) -> dict[str, str]:
        """The whole environment of the replica's process."""
        env = {n: v for n, v in self.inherited.items() if n in INHERITED or n.startswith("LC_")}
        env["PYTHONUNBUFFERED"] = "1"  # what a model prints is in its log at once
        env.update(thread_variables(spec.cpu_millicores, spec.workers))
        env.update(spec.env)
        path = [str(self.library), *filter(None, [env.get("PYTHONPATH")])]
        env["PYTHONPATH"] = os.pathsep.join(path)
        env[HOME_VARIABLE] = str(self.home)
        env[REPLICA_VARIABLE] = spec.replica_id
        return env
