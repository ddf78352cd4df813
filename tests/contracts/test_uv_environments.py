"""Environments made with uv keep the contract. They install small packages from the package index."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.adapters.local.environments import UvEnvironments
from tests.contracts.environment_contract import EnvironmentContract


@pytest.mark.needs_network
class TestUvEnvironments(EnvironmentContract):
    @pytest.fixture
    def environments(self, tmp_path: Path) -> UvEnvironments:
        return UvEnvironments(tmp_path / "environments")
