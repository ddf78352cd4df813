"""The sample: an example request in the bundle, predicted once before the server is ready."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns

from headway.domain.errors import HeadwayError, SamplePredictionFailed
from headway.server.codecs.rows import RowsCodec
from headway.server.config import ServerConfig
from headway.server.execution import Execution, Ticket
from headway.server.http import Request, Response

DEFAULT_SAMPLE = "sample.json"
"""Used when the config names no other and the bundle holds it."""


def sample_of(config: ServerConfig) -> str | None:
    """The file to predict, relative to the bundle; None when there is none."""
    if config.sample is not None:
        return config.sample
    return DEFAULT_SAMPLE if (Path(config.bundle_path) / DEFAULT_SAMPLE).is_file() else None


def predict_sample(execution: Execution, bundle: Path, sample: str) -> None:
    """Predict the body in the file ``sample``. Raises ``SamplePredictionFailed``."""
    path = bundle / sample
    try:
        body = path.read_bytes()
    except OSError as error:
        raise SamplePredictionFailed(f"the sample cannot be read: {error.strerror}", where=sample) from None
    codec = RowsCodec(execution.model.kind, execution.model.columns())
    request = Request(b"POST", b"/predict", body, {}, _Nobody(), perf_counter_ns())
    try:
        inputs = codec.decode(request)
    except HeadwayError as error:
        raise SamplePredictionFailed(f"the sample is not a valid request: {error.message}", where=sample) from None
    now_ns = perf_counter_ns()
    answers = execution.run([Ticket(request, inputs, codec, now_ns, now_ns)]).answers
    assert answers is not None
    answer = answers[0]
    if isinstance(answer, HeadwayError):
        raise SamplePredictionFailed(
            f"predicting the sample failed: {answer.message}", where=answer.where or sample, hint=answer.hint
        )


class _Nobody:
    def settle(self, request: Request, response: Response) -> None:
        """The sample's answer is for nobody."""

    def charge(self, request: Request, size: int) -> None:
        """Nothing else runs yet."""
