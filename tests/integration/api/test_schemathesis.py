"""The API against its own description: generated requests, good and bad, meet no 5xx and no undescribed answer."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.core.result import Ok

from tests.integration.api.conftest import Served
from tests.unit.api.world import ADMIN
from tests.waiting import PATIENCE_S

RULES_BEYOND_THE_SCHEMA = {
    "POST /v1/models/{model}/deploy",  # what a document may say: GET /v1/schema
    "POST /v1/models/{model}/deploy-together",
    "POST /v1/models/{model}/diff",
    "PUT /v1/models/{model}/scaling",  # what a policy may say: GET /v1/schema
    "GET /v1/models/{model}/comparison",  # what a metric may be called: docs/reference/rest-api.md
    "GET /v1/models/{model}/decisions",  # spans and instants
    "GET /v1/models/{model}/explain",
    "PUT /v1/models/{model}/traffic",  # the weights sum to 100
    "PUT /v1/bundles/{digest}",  # the content has that digest
    "GET /v1/models/{model}/logs",  # a replica and a version exclude each other
    "GET /v1/models/{model}/latency",  # spans and conditions: docs/reference/rest-api.md
    "GET /v1/models/{model}/log",
    "GET /v1/models/{model}/payloads",
    "POST /v1/tokens",  # an admin token covers all models
}
AUTH = {"Authorization": f"Bearer {ADMIN}"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_generated_requests(served: Served, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/v1/openapi.json", headers=AUTH)
    schema.config.generation.update(with_security_parameters=False)  # tokens are the affair of test_access.py
    tried = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: schemathesis.Case[Any]) -> None:
            if isinstance(case.query, dict):
                case.query.pop("follow", None)  # an answer that goes on for ever is none to be judged
            lenient = [positive_data_acceptance] if case.operation.label in RULES_BEYOND_THE_SCHEMA else []
            headers = {**AUTH, "Accept": "application/json"}
            case.call_and_validate(headers=headers, timeout=PATIENCE_S, excluded_checks=lenient)
            tried.add(case.operation.label)

        try:
            attempt()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # there is nothing that could be wrong
        except Exception as error:
            raise AssertionError(f"{operation.label}: {error}") from error
    assert len(tried) >= (20 if mode is GenerationMode.POSITIVE else 12)
