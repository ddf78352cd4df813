"""A home for local replicas and a hand on them, for the runtime's contract and integration tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.adapters.local import LocalRuntime, SystemClock, procfs, run_dir_for
from headway.domain.replicas import Probe, Probes, ReplicaSpec, ReplicaStatus
from tests.integration.local.stub_server import stub_python
from tests.waiting import wait_until

PATIENT_S = 20.0
"""How long a probe waits for an answer where a busy machine must not make a replica look hung."""


def probes(period_s: float = 0.05, *, startup_s: float = 60.0, hung_after_s: float = PATIENT_S) -> Probes:
    """Asked often: the verdict of two failures in a row, each of them no answer for ``hung_after_s``."""
    return Probes(
        startup=Probe("/health/ready", period_s=startup_s / 4, failure_threshold=4),
        readiness=Probe("/health/ready", period_s=period_s, timeout_s=hung_after_s, failure_threshold=2),
        liveness=Probe("/health/live", period_s=period_s, timeout_s=hung_after_s, failure_threshold=2),
    )


class LocalHand:
    """Replicas of one home below ``folder``; ``files`` of a bundle can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)

    def runtime(self, **options: Any) -> LocalRuntime:
        """A new control plane's runtime on this home."""
        options = {"job_server": f"unix:{self.folder}/no-job-server", **options}
        return LocalRuntime(
            self.home, run_dir_for(self.home), clock=SystemClock(), server_env=dict(os.environ), **options
        )

    def bundle(self, replica_id: str, files: Mapping[str, str] | None = None) -> Path:
        """The bundle that only this replica uses."""
        bundle = self.folder / "bundles" / replica_id
        bundle.mkdir(parents=True, exist_ok=True)
        for name, text in (files or {}).items():
            (bundle / name).write_text(text)
        return bundle

    def spec(self, replica_id: str, files: Mapping[str, str] | None = None, **changes: Any) -> ReplicaSpec:
        """A replica on the stand-in server."""
        spec = ReplicaSpec(
            replica_id=replica_id,
            model=replica_id.rsplit("-", 2)[0],
            version=replica_id.rsplit("-", 2)[1],
            digest="0" * 64,
            bundle_path=str(self.bundle(replica_id, files)),
            python=stub_python(self.folder),
            entrypoint=None,
            probes=probes(),
            termination_grace_s=10.0,
        )
        return replace(spec, **changes)

    def broken_spec(self, replica_id: str) -> ReplicaSpec:
        return self.spec(replica_id, {"model.py": "def load():\n    raise ValueError('no')\n"})

    def kill(self, status: ReplicaStatus) -> None:
        """SIGKILL; returns once the process has ended."""
        pid = status.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: (left := procfs.stat(pid)) is None or left.dead, what=f"the end of process {pid}")

    def set_ready(self, replica_id: str, ready: bool) -> None:
        mark = self.bundle(replica_id) / "unready"
        if ready:
            mark.unlink(missing_ok=True)
        else:
            mark.touch()

    def print(self, replica_id: str, text: str) -> None:
        with (self.home / "replicas" / replica_id / "log").open("a") as file:
            file.write(text)
