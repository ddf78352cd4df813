"""A model server process on core 0, for benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


class Server:
    """A model server process on core 0."""

    def __init__(self, folder: Path, code: str, *, logged: bool = True, **options: object) -> None:
        bundle = folder / "bundle"
        bundle.mkdir()
        (bundle / "model.py").write_text(code)
        config = {
            "replica_id": "m-v1-bcdfg", "model": "m", "version": "v1", "digest": "0" * 64,
            "bundle_path": str(bundle), "listen": "tcp:127.0.0.1:0", "options": options,
            "query_log_dir": str(folder / "log") if logged else None,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        self.log = (folder / "server.log").open("w+")
        command = [sys.executable, "-m", "headway.server", str(folder / "config.json")]
        self.process = subprocess.Popen(command, stderr=self.log, preexec_fn=lambda: os.sched_setaffinity(0, {0}))
        self.port = self._port()

    def _port(self) -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            text = Path(self.log.name).read_text()
            if "listening on tcp:" in text:
                return int(text.rpartition("listening on tcp:127.0.0.1:")[2].split()[0])
            time.sleep(0.05)
        raise SystemExit(f"the server did not start:\n{Path(self.log.name).read_text()}")

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
