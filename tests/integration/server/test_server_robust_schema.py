"""Each model against its own description: what schemathesis makes of it, good and bad, meets no 5xx and no answer
that is not described."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.core.result import Ok

from tests.integration.server.replica import Replica
from tests.waiting import PATIENCE_S, wait_until

ARRAY = """
import numpy as np
from sklearn.linear_model import LogisticRegression
x = np.random.default_rng(7).normal(size=(60, 4))
model = LogisticRegression().fit(x, x[:, 0] > 0)
"""
FRAME = """
import pandas as pd
class Price:
    def predict(self, X: pd.DataFrame):
        return X["size"] * 2.0 + X["kind"].str.len()
"""
DICT = "def predict(X: dict):\n    return {'total': sum(X['values']), 'name': X['name'].upper()}\n"
LIST = "def predict(X: list):\n    return [str(cell) for cell in X]\n"
MODELS = {
    "array": (ARRAY, [[5.0, 3.5, 1.5, 0.0]]),
    "frame": (FRAME, [{"size": 1.5, "kind": "flat"}]),
    "dict": (DICT, {"values": [1, 2], "name": "x"}),
    "list": (LIST, ["a", 1]),
}
BEYOND_THE_SCHEMA = [positive_data_acceptance, negative_data_rejection]
"""What a model takes is for the model to say; that it is asked, and what it answers, is described."""


@pytest.mark.parametrize("kind", MODELS)
def test_whatever_a_models_description_allows_or_forbids_is_answered_or_refused(scratch: Path, kind: str) -> None:
    source, sample = MODELS[kind]
    files = {"model.py": source, "sample.json": json.dumps(sample)}
    with Replica(scratch, files, wait=False, listen="tcp:127.0.0.1:0") as replica:
        found = wait_until(lambda: re.search(r"listening on tcp:(127\.0\.0\.1:\d+)", replica.log()))
        assert found is not None
        schema = schemathesis.openapi.from_url(f"http://{found[1]}/openapi.json")
        tried = {(label, mode) for mode in GenerationMode for label in try_all(schema, mode)}
        assert len(tried) >= 13, tried
        assert replica.process.poll() is None
        assert "Traceback" not in replica.log()


def try_all(schema: Any, mode: GenerationMode) -> set[str]:
    """Ten examples of every operation; the labels of those that had any."""
    tried = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(timeout=PATIENCE_S, excluded_checks=BEYOND_THE_SCHEMA)
            tried.add(case.operation.label)

        try:
            attempt()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # there is nothing that could be wrong
        except Exception as error:
            raise AssertionError(f"{operation.label}: {error}") from error
    return tried
