"""The gateway's own log, as tests read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headway.domain.query_segments import GATEWAY_FIELDS
from tests.integration.haproxy.backends import call
from tests.waiting import eventually

LAST = "the.last.one"


class Log:
    """The lines of one home."""

    def __init__(self, home: Path) -> None:
        self.path = home / "query-log" / "gateway" / "gateway.log"

    def text(self) -> str:
        return self.path.read_text(encoding="ascii")

    def lines(self) -> list[dict[str, Any]]:
        """In the order of each process's numbers, without second copies."""
        whole = dict.fromkeys(self.text().rpartition("\n")[0].splitlines())
        found = [dict(zip(GATEWAY_FIELDS, json.loads(text), strict=True)) for text in whole]
        for line in found:
            line["retries"] = int(line["retries"])
        pids = list(dict.fromkeys(line["pid"] for line in found))
        return sorted(found, key=lambda line: (pids.index(line["pid"]), line["line"]))

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The lines, once there are ``count``; more are a failure."""
        await eventually(lambda: len(self.lines()) >= count, what=f"{count} lines")
        assert len(self.lines()) == count, self.lines()
        return self.lines()

    async def until_last(self, port: int) -> list[dict[str, Any]]:
        """All lines but that of a refusal made now: what came before has had its line, if it gets one."""
        await call(port, "/models/nobody/", headers={"x-request-id": LAST})
        await eventually(lambda: any(line["request_id"] == LAST for line in self.lines()))
        return [line for line in self.lines() if line["request_id"] != LAST]
