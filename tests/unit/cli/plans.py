"""A kept plan, for tests of what commands make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.cli import plan as plan_command
from headway.ports.load_generator import LoadRequest
from tests.unit.cli.installation import Installation

POLICY: dict[str, Any] = {"minReplicas": 1, "maxReplicas": 4, "triggers": [{"type": "rps", "target": 45.6}]}
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "promise": "p95<1s",
    "limit_s": 1.0,
    "errors": 0.001,
    "cpu_ceiling": 0.8,
    "load": {"kind": "users", "think_time_s": 1.0},
    "points": [
        {"replicas": 1, "load": {"kind": "users", "size": 1, "think_time_s": 0.0}, "value_s": 0.02},
        {"replicas": 1, "load": {"kind": "users", "size": 60, "think_time_s": 1.0}, "value_s": 0.6},
        {"replicas": 1, "load": {"kind": "users", "size": 90, "think_time_s": 1.0}, "value_s": 5.6},
    ],
    "held_out": {
        "replicas": 2, "load": {"kind": "users", "size": 110, "think_time_s": 1.0}, "measured_s": 0.5, "error": 0.04,
        "predicted": {"value_s": 0.52, "low_s": 0.47, "high_s": 0.58, "rate_per_s": 91.0},
    },
    "model": {"chosen": "queue", "left_out_error": {"queue": 0.021, "usl": None}, "beliefs": []},
    "knees": [{"replicas": 1, "rate_per_s": 49.0, "size": 50.0, "reached": True}],
    "capacity": [
        {"replicas": 1, "size": 64, "low": 64.2, "high": 71.0, "rate_per_s": 45.7, "value_s": 0.9, "by": "sla"},
        {"replicas": 2, "size": 130, "low": 131.0, "high": 140.0, "rate_per_s": 91.0, "value_s": 0.8, "by": "cpu"},
    ],
    "curves": [{"replicas": 1, "points": [[10, 0.03], [64, 0.9], [80, 3.0]]}],
    "answer": {
        "load": {"kind": "users", "size": 500}, "replicas": 8, "cores": 8.0, "nodes": 2, "price": 240.0,
        "expected": {"value_s": 0.8, "low_s": 0.7, "high_s": 0.95, "rate_per_s": 300.0},
    },
    "policy": POLICY,
    "max_queue": 46,
    "node_pool": {
        "replicas_per_node": 4, "bound_by": "cpu", "surge": 1, "spare": 1, "min_nodes": 2, "max_nodes": 3,
    },
    "notes": ["replicas get in each other's way"],
}  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.json"
    path.write_text("[[1, 2]]")
    return path


def keep(here: Installation, rows: Path, document: dict[str, Any] | None = None) -> None:
    digest = plan_command.digest_of([LoadRequest(b"[[1,2]]")])
    here.runner.run(here.world.plans.add("iris", digest, "v1", DOCUMENT if document is None else document))
