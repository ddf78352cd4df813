"""What every environment builder does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.domain.errors import EnvironmentFailed
from headway.ports.environment import EnvironmentBuilder

AVAILABLE = "six==1.17.0"
MISSING = "no-such-package-of-headway==1.0"

Bundle = Callable[..., Path]


def ignore(_: str) -> None:
    return


@pytest.mark.anyio
class EnvironmentContract:
    """Subclasses give a fixture ``environments`` that has ``AVAILABLE`` and has not ``MISSING``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        """Makes a bundle of files, given as ``bundle({"requirements.txt": "six"})``."""
        made = iter(range(100))

        def make(files: dict[str, str]) -> Path:
            folder = tmp_path / f"bundle{next(made)}"
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
            folder.chmod(0o555)
            return folder

        return make

    async def test_without_requirements_headways_own_environment_serves(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        notes: list[str] = []
        found = await environments.ensure(bundle({"model.py": ""}), notes.append)
        assert (found.python, found.lock_digest, found.cached) == (sys.executable, None, True)
        assert notes == []
        assert environments.has(found.python)

    async def test_the_same_requirements_are_installed_once(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        notes: list[str] = []
        first = await environments.ensure(bundle({"requirements.txt": AVAILABLE, "model.py": "1"}), notes.append)
        assert first.cached is False
        assert first.lock_digest is not None
        assert len(first.lock_digest) == 64
        assert os.access(first.python, os.X_OK)
        assert notes
        assert all(note and "\n" not in note for note in notes)
        notes.clear()
        second = await environments.ensure(bundle({"requirements.txt": AVAILABLE, "model.py": "2"}), notes.append)
        assert (second.python, second.lock_digest, second.cached) == (first.python, first.lock_digest, True)
        assert notes == []

    async def test_other_requirements_are_another_environment(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        one = await environments.ensure(bundle({"requirements.txt": AVAILABLE}), ignore)
        two = await environments.ensure(bundle({"requirements.txt": "iniconfig==2.0.0"}), ignore)
        assert one.lock_digest != two.lock_digest

    async def test_those_who_ask_at_the_same_time_share_one_build(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        found = await asyncio.gather(
            *(environments.ensure(bundle({"requirements.txt": AVAILABLE}), ignore) for _ in range(3))
        )
        assert len({e.python for e in found}) == 1
        assert len({e.lock_digest for e in found}) == 1

    async def test_a_requirement_that_cannot_be_had_is_named_with_its_line(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        broken = bundle({"requirements.txt": f"# what it needs\n{AVAILABLE}\n{MISSING}\n"})
        for _ in range(2):  # a failure is not remembered as a success
            with pytest.raises(EnvironmentFailed, match="no-such-package-of-headway") as failure:
                await environments.ensure(broken, ignore)
            assert failure.value.where == "requirements.txt:3"

    async def test_after_a_failure_other_builds_go_on(self, environments: EnvironmentBuilder, bundle: Bundle) -> None:
        results = await asyncio.gather(
            environments.ensure(bundle({"requirements.txt": MISSING}), ignore),
            environments.ensure(bundle({"requirements.txt": AVAILABLE}), ignore),
            return_exceptions=True,
        )
        assert isinstance(results[0], EnvironmentFailed)
        assert not isinstance(results[1], BaseException)

    async def test_a_cancelled_build_is_begun_anew(self, environments: EnvironmentBuilder, bundle: Bundle) -> None:
        begun = asyncio.Event()
        folder = bundle({"requirements.txt": AVAILABLE})
        task = asyncio.create_task(environments.ensure(folder, lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        found = await environments.ensure(folder, ignore)
        assert os.access(found.python, os.X_OK)

    async def test_who_leaves_does_not_take_the_build_from_the_others(
        self, environments: EnvironmentBuilder, bundle: Bundle
    ) -> None:
        begun = asyncio.Event()
        folder = bundle({"requirements.txt": AVAILABLE})
        leaving = asyncio.create_task(environments.ensure(folder, lambda _: begun.set()))
        staying = asyncio.create_task(environments.ensure(folder, ignore))
        await begun.wait()
        leaving.cancel()
        assert os.access((await staying).python, os.X_OK)
        await asyncio.wait([leaving])

    async def test_the_lock_in_the_bundle_comes_first(self, environments: EnvironmentBuilder, bundle: Bundle) -> None:
        locked = bundle({"requirements.txt": MISSING, "requirements.lock": AVAILABLE + "\n"})
        found = await environments.ensure(locked, ignore)
        assert found.lock_digest is not None
