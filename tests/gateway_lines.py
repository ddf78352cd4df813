"""The gateway's log for tests, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headway.domain.query_segments import GATEWAY_FIELDS
from tests.query_records import START_NS

START_MS = START_NS // 1_000_000


class GatewayLog:
    """Lines of one process of the gateway, numbered as it does."""

    def __init__(self, home: Path, pid: int = 77) -> None:
        self.path = home / "gateway" / "gateway.log"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self.pid = pid
        self.lines = 0

    def lose(self, count: int) -> None:
        """Lines that never reach the file."""
        self.lines += count

    def text(self, **changed: Any) -> bytes:
        """The next line: a request that no replica was there for, unless ``changed``."""
        self.lines += 1
        fields = {
            "pid": self.pid,
            "line": self.lines,
            "at_ms": START_MS,
            "total_ms": 3,
            "status": 503,
            "bytes_in": 100,
            "bytes_out": 200,
            "retries": 0,
            "server": "<NOSRV>",
            "ends": "SC",
            "request_id": "r",
            "model": "iris",
            "version": "v1",
            "client": "",
            "arm": "split",
            "path": "/models/iris/predict",
        }
        assert changed.keys() <= fields.keys() == set(GATEWAY_FIELDS)
        return json.dumps([{**fields, **changed}[name] for name in GATEWAY_FIELDS]).encode() + b"\n"

    def write(self, **changed: Any) -> None:
        self.append(self.text(**changed))

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
