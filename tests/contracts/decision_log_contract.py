"""What every log of scaling decisions does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headway.domain.decisions import DecisionRecord
from headway.domain.errors import HeadwayError
from headway.ports.decision_log import DecisionLog


def record(at: float, model: str = "iris", version: str = "v1", **more: Any) -> DecisionRecord:
    """Desired is current + 1 unless said otherwise; the document says when it was."""
    values: dict[str, Any] = {
        "current": 1, "desired": 2, "binding": "cpu", "summary": f"at {at}", "shadow": False, "document": {"at": at},
    }  # fmt: skip
    return DecisionRecord(at, model, version, **{**values, **more})


def times(records: Sequence[DecisionRecord]) -> list[float]:
    return [r.at for r in records]


@pytest.mark.anyio
class DecisionLogContract:
    """Subclasses give a fixture ``log``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_an_empty_log(self, log: DecisionLog) -> None:
        assert await log.append([]) == 0
        assert await log.read("iris") == []
        assert await log.latest("iris") is None
        assert await log.expire(2e9, 0) == 0

    async def test_what_is_appended_is_read_unchanged(self, log: DecisionLog) -> None:
        document = {"text": "é\ud800", "samples": {"cpu": [0.5, None, True]}, "tiny": 1e-300, "big": 2**53}
        written = record(
            1_700_000_000.125, version="v12", current=0, desired=1000, binding="stabilization", summary="kept at 3 \n",
            shadow=True, document=document,
        )  # fmt: skip
        cursor = await log.append([written])
        (read,) = await log.read("iris")
        assert (read.at, read.model, read.version, read.current, read.desired) == (
            1_700_000_000.125, "iris", "v12", 0, 1000,
        )  # fmt: skip
        assert (read.binding, read.summary) == ("stabilization", "kept at 3 \n")
        assert read.shadow is True
        assert dict(read.document) == document
        assert read.cursor == cursor > 0
        assert read.changed

    async def test_decisions_about_workers_are_apart_from_those_about_replicas(self, log: DecisionLog) -> None:
        await log.append([record(1.0), record(2.0, role="work"), record(3.0, version="v2"), record(4.0, role="work")])
        assert times(await log.read("iris")) == [1.0, 3.0]
        found = await log.read("iris", role="work", version="v1", since=0.0, changed=True)
        assert [(one.at, one.role) for one in found] == [(2.0, "work"), (4.0, "work")]
        for role, at, newest in (("serve", None, 3.0), ("work", None, 4.0), ("work", 3.5, 2.0)):
            latest = await log.latest("iris", None, at, role=role)  # type: ignore[arg-type]
            assert latest is not None
            assert latest.at == newest
        assert await log.latest("iris", "v2", role="work") is None
        assert await log.expire(10.0, 1) == 1, "of each version and role the newest stays"
        assert times(await log.read("iris", role="work")) == [4.0]

    async def test_cursors_grow_and_appending_nothing_tells_the_newest(self, log: DecisionLog) -> None:
        cursors = [await log.append([record(i), record(i + 0.5)]) for i in range(4)]
        assert cursors == sorted(set(cursors))
        assert await log.append([]) == cursors[-1]
        assert await log.expire(1e9, 0) == 8
        assert await log.append([record(9.0)]) > cursors[-1], "a cursor came back"

    async def test_the_newest_come_oldest_first(self, log: DecisionLog) -> None:
        await log.append([record(float(at)) for at in range(10)])
        assert times(await log.read("iris")) == [*range(10)]
        assert times(await log.read("iris", limit=3)) == [7, 8, 9]
        assert times(await log.read("iris", limit=0)) == []
        assert times(await log.read("iris", limit=-1)) == []

    async def test_what_is_read_can_be_narrowed(self, log: DecisionLog) -> None:
        await log.append(
            [record(float(at), version="v1" if at % 2 else "v2", desired=1 + at % 3 % 2) for at in range(10)]
        )
        await log.append([record(5.0, "wine")])
        assert times(await log.read("iris", since=3.0, until=6.0)) == [3, 4, 5]
        assert times(await log.read("iris", since=9.0)) == [9]
        assert times(await log.read("iris", until=0.0)) == []
        assert times(await log.read("iris", version="v1", limit=2)) == [7, 9]
        assert times(await log.read("iris", changed=True)) == [1, 4, 7]
        assert times(await log.read("iris", changed=True, version="v1", until=7.0, limit=5)) == [1]
        assert times(await log.read("wine")) == [5]
        assert await log.read("none") == []
        assert await log.read("iris", version="v9") == []

    async def test_the_latest_of_a_moment(self, log: DecisionLog) -> None:
        await log.append([record(1.0), record(2.0, version="v2"), record(3.0), record(3.0, summary="later")])
        found = await log.latest("iris")
        assert found is not None
        assert (found.at, found.summary) == (3.0, "later")
        for version, at, expected in [
            (None, 2.9, 2.0), ("v1", 2.9, 1.0), ("v2", None, 2.0), (None, 2.0, 2.0), (None, 3.0, 3.0),
        ]:  # fmt: skip
            one = await log.latest("iris", version, at)
            assert one is not None
            assert one.at == expected
        assert await log.latest("iris", "v2", 1.9) is None
        assert await log.latest("iris", None, 0.5) is None
        assert await log.latest("wine") is None

    async def test_a_clock_that_is_set_back_loses_nothing(self, log: DecisionLog) -> None:
        await log.append([record(10.0)])
        await log.append([record(5.0)])
        assert times(await log.read("iris")) == [5, 10]
        newest = await log.latest("iris")
        assert newest is not None
        assert newest.at == 10.0
        assert times(await log.read("iris", limit=1)) == [10]

    async def test_old_ones_expire_but_each_version_keeps_its_newest(self, log: DecisionLog) -> None:
        await log.append([record(float(at)) for at in range(10)])
        await log.append([record(float(at), version="v2") for at in range(3)])
        await log.append([record(float(at), "wine") for at in (1, 1, 1)])
        assert await log.expire(before=6.0, keep=2) == 6 + 1 + 1
        assert times(await log.read("iris", version="v1")) == [6, 7, 8, 9]
        assert times(await log.read("iris", version="v2")) == [1, 2]
        left = await log.read("wine")
        assert len(left) == 2
        assert [r.cursor for r in left] == [15, 16], "of the same time, those written later stay"
        assert await log.expire(before=6.0, keep=2) == 0
        assert await log.expire(before=6.0, keep=0) == 4
        assert times(await log.read("iris")) == [6, 7, 8, 9]

    @pytest.mark.parametrize("document", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": {1}}])
    async def test_a_document_that_is_not_json_is_refused_with_the_whole_batch(
        self, log: DecisionLog, document: dict[str, object]
    ) -> None:
        with pytest.raises(HeadwayError, match="not JSON"):
            await log.append([record(1.0), record(2.0, document=document)])
        assert await log.read("iris") == []

    async def test_nobody_changes_the_past_through_what_they_hold(self, log: DecisionLog) -> None:
        held = {"list": [1]}
        await log.append([record(1.0, document=held)])
        held["list"].append(2)
        (read,) = await log.read("iris")
        read.document["list"].append(3)
        assert dict((await log.read("iris"))[0].document) == {"list": [1]}

    async def test_batches_of_many_writers_stay_whole(self, log: DecisionLog) -> None:
        batches = [[record(float(i), f"m{writer}") for i in range(20)] for writer in range(8)]
        cursors = await asyncio.gather(*(log.append(batch) for batch in batches))
        assert len(set(cursors)) == 8
        for writer in range(8):
            own = await log.read(f"m{writer}")
            assert [r.cursor for r in own] == [*range(own[0].cursor, own[0].cursor + 20)]

    async def test_a_minute_of_a_thousand_deployments_is_one_batch(self, log: DecisionLog) -> None:
        await log.append([record(60.0, f"model-{i}", document={"inputs": ["x" * 20] * 40}) for i in range(1000)])
        last = await log.latest("model-999")
        assert last is not None
        assert last.cursor == 1000
