"""Payload logs in memory and in files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from headway.adapters.memory.payload_log import MemoryPayloadLog
from headway.adapters.querylog.payloads import SUFFIX, FilePayloadLog
from headway.domain.query_log import Payload, Retention
from headway.server import payloads as server
from headway.server.config import PayloadOptions
from tests.contracts.payload_log_contract import HOUR_NS, NOW_NS, Filled, PayloadLogContract, payload


class TestMemory(PayloadLogContract):
    @pytest.fixture
    def filled(self) -> Filled:
        class Memory:
            def __init__(self) -> None:
                self.log = MemoryPayloadLog()

            def add(self, model: str, payload: Payload) -> None:
                self.log.add(model, payload)

        return Memory()


class Files:
    """A file for each stream, modified when its newest line was."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = FilePayloadLog(root)

    def add(self, model: str, payload: Payload) -> None:
        path = self.root / model / f"{payload.stream}-0{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(msgspec.json.encode(payload) + b"\n")
        os.utime(path, ns=(payload.ts_ns, payload.ts_ns))


class TestFiles(PayloadLogContract):
    @pytest.fixture
    def filled(self, tmp_path: Path) -> Files:
        return Files(tmp_path)

    def test_the_oldest_files_go_when_all_are_too_large(self, filled: Files) -> None:
        for place, stream in enumerate("abc"):
            filled.add("iris", payload(place, at_ns=NOW_NS + place * HOUR_NS, stream=stream))
        size = (filled.root / "iris" / f"a-0{SUFFIX}").stat().st_size
        assert asyncio.run(filled.log.expire(NOW_NS + 9 * HOUR_NS, Retention(max_bytes=2 * size + 5))) == size
        assert [p.seq for p in asyncio.run(filled.log.payloads("iris", 0, 2 * NOW_NS, 10))] == [1, 2]

    def test_a_file_that_is_being_written_stays(self, filled: Files) -> None:
        filled.add("iris", payload(0))
        assert asyncio.run(filled.log.expire(NOW_NS + 1, Retention(max_bytes=1))) == 0

    def test_a_torn_line_is_passed_over(self, filled: Files) -> None:
        filled.add("iris", payload(0))
        with (filled.root / "iris" / f"a-0{SUFFIX}").open("ab") as file:
            file.write(b'{"ts_ns": 18000')
        assert [p.seq for p in asyncio.run(filled.log.payloads("iris", 0, 2 * NOW_NS, 10))] == [0]

    def test_the_model_server_writes_what_is_read(self, tmp_path: Path) -> None:
        assert server.SUFFIX == SUFFIX
        options = PayloadOptions(sample=1.0)
        keeper = server.PayloadSampler(
            tmp_path / "iris", options, stream="s", version="v1", columns=None, wall_ns=lambda: 7
        )
        keeper.start()
        keeper.offer(3, b"id", "/predict", 200, b"[[1]]", b'{"predictions":[1]}')
        keeper.stop()
        (found,) = asyncio.run(FilePayloadLog(tmp_path).payloads("iris", 0, 8, 5))
        assert found == Payload(
            ts_ns=7, version="v1", stream="s", seq=3, request_id="id", route="/predict", status=200,
            input=[[1]], output={"predictions": [1]},
        )  # fmt: skip
