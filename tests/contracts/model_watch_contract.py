"""What every watch on a model does: look without ever raising, set, and put back what was there."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from headway.ports.model_watch import ModelWatch
from tests.unit.scaling_records import POLICY


class Stage(ABC):
    """A watch on a model with one replica, which nothing scales."""

    watch: ModelWatch

    @abstractmethod
    def replicas(self) -> int:
        """Wished now."""

    @abstractmethod
    def scaled(self) -> bool:
        """Whether triggers move that number."""

    @abstractmethod
    def hide(self) -> None:
        """The model cannot be seen from now on."""


class ModelWatchContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_it_sees_wished_and_ready_replicas_and_what_they_use(self, stage: Stage) -> None:
        look = await stage.watch.look()
        assert look is not None
        assert (look.wished, look.ready, len(look.stats)) == (1, 1, 1)
        assert look.stats[0].cpu_s is not None

    async def test_what_cannot_be_seen_is_unknown_and_no_error(self, stage: Stage) -> None:
        stage.hide()
        assert await stage.watch.look() is None
        assert list(await stage.watch.decisions(0.0)) == []

    async def test_what_was_set_is_put_back_whatever_was_set_in_between(self, stage: Stage) -> None:
        await stage.watch.set_replicas(3)
        assert (stage.replicas(), stage.scaled()) == (3, False)
        await stage.watch.set_scaling(POLICY)
        assert stage.scaled()
        await stage.watch.set_replicas(2)
        assert (stage.replicas(), stage.scaled()) == (2, False)
        await stage.watch.restore()
        assert (stage.replicas(), stage.scaled()) == (1, False)

    async def test_nothing_was_changed_so_nothing_is_put_back(self, stage: Stage) -> None:
        await stage.watch.restore()
        await stage.watch.set_replicas(4)
        await stage.watch.restore()
        await stage.watch.restore()
        assert stage.replicas() == 1
