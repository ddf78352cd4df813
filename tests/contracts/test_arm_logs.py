"""Every arm log keeps the contract, wherever the requests and the feedback are at the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from headway.adapters.memory.query_log import MemoryQueryLog
from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.domain.feedback import Feedback
from headway.domain.query_log import QueryRecord, Retention
from headway.domain.query_segments import Kind
from headway.ports.arm_log import ArmLog
from tests.contracts.arm_log_contract import ArmLogContract, MakeArmLog
from tests.query_records import MINUTE_NS, START_NS, write_segments
from tests.segment_files import SegmentFile

HOUR_NS = 60 * MINUTE_NS


class TestMemoryArmLog(ArmLogContract):
    @pytest.fixture
    def make(self) -> MakeArmLog:
        async def make(records: Sequence[QueryRecord], feedback: Sequence[Feedback]) -> ArmLog:
            log = MemoryQueryLog(records)
            log.say("iris", feedback)
            return log

        return make


@pytest.mark.anyio
class DuckdbContract(ArmLogContract):
    closed = 0
    """1: segments of records are complete."""
    told = False
    """Whether segments of feedback are."""
    rounds = 1
    """Of compaction, each two hours later than the one before."""

    @pytest.fixture
    async def make(self, tmp_path: Path) -> AsyncIterator[MakeArmLog]:
        logs: list[DuckdbQueryLog] = []
        files: list[SegmentFile] = []

        async def make(records: Sequence[QueryRecord], feedback: Sequence[Feedback]) -> ArmLog:
            root = tmp_path / str(len(logs))
            files.extend(write_segments(root / "segments", records, close=self.closed))
            for place in range(2):  # two processes, so that two parts may be merged
                file = SegmentFile(root / "segments" / "iris", stream=f"iris-v3-bcdfg.{place}", replica="iris-v3-bcdfg")
                file.wall_ns, first = START_NS + MINUTE_NS, 0
                for number, one in enumerate(feedback):
                    if (one.metric == "other") == bool(place):
                        item = [one.request_id, one.metric, one.value, one.at_ns]
                        file.wall_ns += number
                        file.note(Kind.FEEDBACK, {"first": first, "items": [item]})
                        first += 1
                if self.told:
                    file.close()
                files.append(file)
            log = DuckdbQueryLog(root, PartStore.directory(root / "records"))
            logs.append(log)
            for number in range(self.rounds):
                await log.compact(START_NS + 2 * HOUR_NS * number, Retention())
            return log

        yield make
        for log in logs:
            await log.close()
        for file in files:
            file.die()


class TestAllLive(DuckdbContract):
    pass


class TestFeedbackCompacted(DuckdbContract):
    told = True


class TestAllCompacted(DuckdbContract):
    closed = 1
    told = True


class TestAllMerged(DuckdbContract):
    closed = 1
    told = True
    rounds = 3


@pytest.mark.anyio
async def test_what_is_too_old_goes_and_a_segment_of_feedback_alone_becomes_a_part(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path / "segments" / "iris")
    file.note(Kind.FEEDBACK, {"first": 0, "items": [["r", "reward", 1.0, 5]]})
    file.close()
    file.die()
    log = DuckdbQueryLog(tmp_path, PartStore.directory(tmp_path / "records"))
    await log.compact(START_NS, Retention())
    assert not list((tmp_path / "segments").rglob("*.hwq"))
    (part,) = (tmp_path / "records" / "feedback").rglob("*.parquet")
    assert part.parent.parent.name == "model=iris"
    await log.compact(START_NS + 3 * HOUR_NS, Retention(max_age_s=3600))
    assert not list((tmp_path / "records").rglob("*.parquet"))
    await log.close()
