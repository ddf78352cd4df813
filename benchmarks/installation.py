"""A Headway of its own for a benchmark: its own home, its own ports, its own control plane process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from headway.client import Client
from headway.domain.errors import HeadwayError

CONTROL = (
    "from headway.bootstrap import serve; from headway.bootstrap_plane import Safeguards; "
    "from headway.settings import Settings; import sys; "
    "sys.exit(serve(Settings(), safeguards=Safeguards(drain={drain}, retries={retries}, job_server={job_server})))"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_model(folder: Path, name: str, code: str, spec: Mapping[str, object]) -> Path:
    """A new folder with model ``name``."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    document = {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": dict(spec),
    }
    (folder / "headway.yaml").write_text(yaml.safe_dump(document))
    return folder


class Installation:
    """A Headway of its own in a folder of its own."""

    def __init__(self, home: Path, without: str | None, *, jobs_lease_s: float | None = None) -> None:
        self.home = home
        self.data_port, self.control_port = free_port(), free_port()
        told = ["--without", without] if without in ("fencing", "sweeper") else []
        told += ["--lease", str(jobs_lease_s)] if jobs_lease_s is not None else []
        drain, retries = without != "draining", without != "retries"
        self.code = CONTROL.format(drain=drain, retries=retries, job_server=tuple(told))
        self.process: subprocess.Popen[bytes] | None = None
        self.env = {
            **os.environ,
            "HEADWAY_HOME": str(home),
            "HEADWAY_DATA_PORT": str(self.data_port),
            "HEADWAY_CONTROL_PORT": str(self.control_port),
        }

    def up(self) -> None:
        with (self.home / "benchmark.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.code], env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120  # on a machine that is busy with other things
        while time.monotonic() < deadline:
            with contextlib.suppress(HeadwayError):
                if self.client().info().pid == self.process.pid:
                    return
            time.sleep(0.1)
        raise SystemExit(f"the control plane did not come up:\n{(self.home / 'benchmark.log').read_text()[-3000:]}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def down(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def client(self) -> Client:
        return Client(home=self.home)
