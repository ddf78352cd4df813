"""Tests that only a real cluster can answer share the place of the black-box suite."""

from __future__ import annotations

from tests.e2e.blackbox.cluster_place import cluster_place  # noqa: F401 - a fixture
