"""The bundles and environments in memory keep the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.adapters.memory.bundles import MemoryBundleStore
from headway.adapters.memory.environments import MemoryEnvironments
from tests.contracts.bundle_store_contract import MAX_BYTES, BundleStoreContract
from tests.contracts.environment_contract import MISSING, EnvironmentContract


class TestMemoryBundleStore(BundleStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MemoryBundleStore]:
        yield MemoryBundleStore(tmp_path / "bundles", max_bytes=MAX_BYTES)
        for folder in tmp_path.rglob("*"):
            if folder.is_dir():
                folder.chmod(0o700)


class TestMemoryEnvironments(EnvironmentContract):
    @pytest.fixture
    def environments(self) -> MemoryEnvironments:
        return MemoryEnvironments(missing={MISSING.partition("==")[0]})
