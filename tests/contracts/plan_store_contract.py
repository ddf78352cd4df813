"""What every store of capacity plans does."""

from __future__ import annotations

from typing import Any

import pytest

from headway.domain.errors import HeadwayError
from headway.domain.plans import Basis, PlanRecord
from headway.ports.plan_store import PlanStore


def plan(model: str = "iris", at: float = 1.0, **document: Any) -> PlanRecord:
    basis = Basis("v3", "sha256:ab", {"cpu": 0.5, "memory": None, "workers": 1}, "sha256:cd")
    return PlanRecord(model, at, basis, document or {"at": at})


@pytest.mark.anyio
class PlanStoreContract:
    """Subclasses give a fixture ``plans``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_no_plan(self, plans: PlanStore) -> None:
        assert await plans.read("iris") == []

    async def test_what_is_stored_is_read_unchanged(self, plans: PlanStore) -> None:
        written = plan(at=1_700_000_000.25, text="é\ud800", points=[{"p95": 1e-9, "none": None}], yes=True, n=2**53)
        stored = await plans.add(written)
        assert stored.number > 0
        (read,) = await plans.read("iris")
        assert read == stored
        assert (read.model, read.at, read.basis, dict(read.document)) == (
            written.model, written.at, written.basis, dict(written.document),
        )  # fmt: skip

    async def test_the_newest_come_first_whatever_their_clocks_say(self, plans: PlanStore) -> None:
        for at in (3.0, 1.0, 2.0):
            await plans.add(plan(at=at))
        await plans.add(plan("wine", at=9.0))
        assert [p.at for p in await plans.read("iris")] == [2, 1, 3]
        assert [p.at for p in await plans.read("iris", limit=1)] == [2]
        assert await plans.read("iris", limit=0) == []

    async def test_only_the_newest_of_each_model_stay(self, plans: PlanStore) -> None:
        await plans.add(plan("wine"))
        for at in range(5):
            await plans.add(plan(at=float(at)), keep=2)
        assert [p.at for p in await plans.read("iris")] == [4, 3]
        assert len(await plans.read("wine")) == 1

    @pytest.mark.parametrize("document", [{"x": float("nan")}, {"x": object()}])
    async def test_a_document_that_is_not_json_is_refused(self, plans: PlanStore, document: dict[str, Any]) -> None:
        with pytest.raises(HeadwayError, match="not JSON"):
            await plans.add(plan(**document))
        assert await plans.read("iris") == []

    async def test_nobody_changes_a_plan_through_what_they_hold(self, plans: PlanStore) -> None:
        held: dict[str, Any] = {"list": [1]}
        await plans.add(plan(**held))
        held["list"].append(2)
        (read,) = await plans.read("iris")
        read.document["list"].append(3)
        assert dict((await plans.read("iris"))[0].document) == {"list": [1]}
