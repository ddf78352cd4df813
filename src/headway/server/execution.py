"""One call of the user's ``predict`` for the rows of one or more requests, and what became of each.

Runs on the loop's thread or on the worker's; touches nothing that another thread writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

from headway.domain.errors import DeadlineExceeded, HeadwayError, InvalidInput, InvalidRequest, ModelFailed, Retry
from headway.server.codecs import Codec
from headway.server.failures import describe, log_traceback
from headway.server.http import Request, Response
from headway.server.inputs import Form, Inputs, has_odd_numbers, has_text, stack
from headway.server.model import LoadedModel
from headway.server.results import NotSplittable
from headway.server.signature import Signature, declared, learn

Answer = Response | HeadwayError

_MAX_SHAPES = 64


class Ticket:
    """A request on its way through the queue. Times are ``perf_counter_ns``."""

    __slots__ = (
        "abandoned",
        "answered",
        "codec",
        "deadline_ns",
        "encoded_ns",
        "inputs",
        "queue",
        "queued_ns",
        "request",
        "rows",
    )

    def __init__(self, request: Request, inputs: Inputs, codec: Codec, queued_ns: int, deadline_ns: int) -> None:
        self.request = request
        self.inputs = inputs
        self.rows = inputs.rows
        self.codec = codec
        self.queued_ns = queued_ns
        self.deadline_ns = deadline_ns
        self.encoded_ns = 0
        self.answered = False
        self.abandoned = False
        self.queue: Any = None
        """The predictor, while the ticket waits there."""

    def abandon(self) -> None:
        """The client is gone: see :class:`headway.server.http.Work`."""
        self.abandoned = True
        if self.queue is not None:
            self.queue.forget(self)


class Phases(NamedTuple):
    """What the requests of one call took, each in the order of the tickets, in nanoseconds."""

    decode: list[int]
    queue: list[int]
    encode: list[int]
    """From the answer before it; the first from the end of the call. Without those that failed before encoding."""


class Outcome:
    """``answers`` in the order of the tickets; None when the tickets must be asked about one by one."""

    __slots__ = ("answers", "measurements", "parts", "predicted_ns", "requests", "rows", "started_ns")

    def __init__(self, started_ns: int, requests: int) -> None:
        self.requests = requests
        self.answers: list[Answer] | None = None
        self.started_ns = started_ns
        self.predicted_ns = started_ns
        self.rows = 0
        self.parts: list[int] = []
        """Rows of each request."""
        self.measurements: Any = None
        """What the model's own ``metrics`` returned after the call."""


class Execution:
    """Calls one model and remembers what it answered."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.signature: Signature | None = None
        """Learned from the first input that was answered."""
        self._proven: set[Any] = set()
        """Shapes of input that the model has answered."""
        self.metrics_failed = False

    def run(self, tickets: Sequence[Ticket]) -> Outcome:
        """Predict all ``tickets`` in one call. Never raises."""
        outcome = Outcome(perf_counter_ns(), len(tickets))
        together = len(tickets) > 1
        first = tickets[0].inputs
        outcome.parts = [t.rows for t in tickets]
        outcome.rows = sum(outcome.parts) if together else first.rows
        try:
            x = stack([t.inputs for t in tickets], self.model.kind)
            as_lists = together and not any(t.codec.wants_arrays for t in tickets)
            parts = self.model.answer(x, [t.inputs for t in tickets], as_lists=as_lists)
            outcome.predicted_ns = perf_counter_ns()
        except NotSplittable as error:
            log_traceback(error, "this model does not answer row by row; requests are predicted one at a time")
            self.model.together = False
            return outcome
        except BaseException as error:  # exit() in predict too: it must not end the server
            outcome.predicted_ns = perf_counter_ns()
            if not together:
                outcome.answers = [self._blame(error, first)]
            return outcome
        if len(self._proven) < _MAX_SHAPES:
            self._proven.add(first.shape)
        if self.signature is None:
            self._learn(first, parts[0])
        if self.model.metrics is not None:
            outcome.measurements = self.model.reported = self._measure()
        outcome.answers = [self._encode(ticket, part) for ticket, part in zip(tickets, parts, strict=True)]
        return outcome

    def _encode(self, ticket: Ticket, result: Any) -> Answer:
        try:
            answer: Answer = ticket.codec.encode(ticket.inputs, result)
        except HeadwayError as error:
            answer = error
        except Exception as error:
            log_traceback(error, "the answer cannot be encoded")
            answer = ModelFailed(f"predict returned what cannot be encoded: {type(result).__name__}")
        ticket.encoded_ns = perf_counter_ns()
        return answer

    def _blame(self, error: BaseException, inputs: Inputs) -> HeadwayError:
        """Whose fault ``error`` is.

        The client's when the model says so (an error of Headway's own ``InvalidInput`` family, or one with a
        ``status_code`` from 400 to 499); when the input has not the width that the model tells; when the model
        rejects a shape of input it has never answered while it has answered others (scikit-learn's "X has 3
        features, but … is expecting 4"); when it raises ``ValueError`` for numbers that are missing, infinite or
        beyond float32 ("Input X contains NaN"); when a model that tells its width raises it for text.
        """
        if isinstance(error, InvalidInput):
            return error
        if isinstance(error, ModelFailed):  # of a graph, which names the node
            error.raised = type(error.__cause__ or error)
            return error
        if isinstance(error, DeadlineExceeded):
            log_traceback(error, "predict took too long")
            return error
        failure = describe(error, self.model.bundle)
        if isinstance(error, Retry):
            error.where = error.where or failure.where
            error.raised = type(error)
            return error.with_traceback(None)
        status = getattr(error, "status_code", None)
        if status is None and hasattr(error, "get_http_status_code"):  # MLflow's exceptions
            status = error.get_http_status_code()
        if isinstance(status, int) and 400 <= status < 500:
            return InvalidRequest(failure.message)
        hint = None
        rejects = isinstance(error, ValueError | TypeError | LookupError) or (
            inputs.form is Form.WHOLE and isinstance(error, AttributeError)
        )
        told = self.model.width()
        if told is not None and inputs.form is not Form.WHOLE and inputs.width not in (told, (told,)):
            hint = f"the model takes {told} columns"
        elif rejects and self._proven and inputs.shape not in self._proven:
            hint = "its columns, width or type differ from those of inputs that the model has answered"
        elif isinstance(error, ValueError) and has_odd_numbers(inputs):
            hint = "it holds missing, infinite or huge numbers"
        elif isinstance(error, ValueError) and told is not None and has_text(inputs):
            hint = "it holds text that the model does not know"
        if hint is not None:
            return InvalidRequest(f"the model refused this input: {failure.message}", hint=hint)
        log_traceback(error, f"predict failed{f' at {failure.where}' if failure.where else ''}")
        failed = ModelFailed(failure.message, where=failure.where)
        failed.raised = type(error)
        return failed

    def _learn(self, inputs: Inputs, result: Any) -> None:
        try:
            self.signature = learn(inputs, result, self.model)
        except Exception:  # a result that no description fits, or no numpy: described by what the model tells
            self.signature = declared(self.model)

    def _measure(self) -> Any:
        assert self.model.metrics is not None
        try:
            return self.model.metrics()
        except Exception as error:
            if not self.metrics_failed:
                self.metrics_failed = True
                log_traceback(error, "metrics() failed; reported once")
            return None
