"""What a worker's model says that cannot be told as it is, and a worker that cannot go on."""

from __future__ import annotations

from typing import Any

import pytest

from headway import jobs
from headway.domain.errors import InvalidRequest
from headway.server.process_end import EXIT_BROKEN
from tests.unit.server.job_bench import JobBench
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
HALF = "caf\udce9"
"""As a file's name that is not UTF-8 comes out of the operating system."""
RAISED = {"InvalidRequest": InvalidRequest, "OSError": OSError, "Retry": jobs.Retry}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Echo:
    def predict(self, X: Any) -> Any:  # noqa: N803
        return X


def speak(X: dict[str, Any]) -> Any:  # noqa: N803
    if "raise" in X:
        jobs.progress(0.5, HALF)
        raise RAISED[X["raise"]](HALF)
    return 1


@pytest.mark.parametrize("kind", ["OSError", "InvalidRequest", "Retry"])
async def test_half_a_character_in_what_a_model_says_does_not_silence_the_worker(kind: str) -> None:
    async with JobBench(speak) as bench:
        job = await bench.done({"raise": kind})
        assert job.outcome is not None
        assert job.outcome.error is not None
        assert job.outcome.error.message.endswith("caf?")
        await bench.done({})
        assert not bench.ended


async def test_binary_tensors_are_no_result() -> None:
    async with JobBench(Echo()) as bench:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
        for wanted, state in (({}, "succeeded"), ({"parameters": {"binary_data_output": True}}, "failed")):
            job = await bench.done({"inputs": [tensor], **wanted}, route="/v2/models/iris/infer")
            assert job.state == state
        assert job.outcome is not None
        assert job.outcome.error is not None
        assert job.outcome.error.code == "unsupported"


@pytest.mark.parametrize("what", ["reports", "claims"])
async def test_a_worker_that_cannot_go_on_ends_its_process(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    async with JobBench(speak) as bench:
        monkeypatch.setattr(getattr(bench, what), "ask", broken)
        bench.add({})
        bench.add({})
        await eventually(lambda: bool(bench.ended))
    ((code, report),) = bench.ended
    assert code == EXIT_BROKEN
    assert report is not None
    assert report.stage == "serve"  # a fault of its own, after which a fresh one does not start at once
    assert "ZeroDivisionError: a fault of ours" in report.message
