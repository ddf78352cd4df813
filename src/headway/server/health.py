"""Liveness, readiness, and the model's own opinion of its health.

``/health/live`` and ``/health/ping``: the event loop answers. ``/health/ready``: 200, or 503 while draining.
``/health/status`` asks the model's ``health_status`` (on a thread of its own: it may be slow, and the worker
may be busy); 503 when it raises or takes longer than :data:`STATUS_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from headway.domain.errors import HeadwayError, NotReady
from headway.server.failures import describe, log_traceback
from headway.server.http import Request, Response, error_response, json_response
from headway.server.model import LoadedModel
from headway.server.results import encode_json
from headway.server.telemetry import Telemetry

STATUS_TIMEOUT_S: Final = 5.0

_OK = json_response({"status": "ok"})


class Health:
    """Answers health requests; those that come while ``health_status`` runs share its answer."""

    def __init__(self, model: LoadedModel, telemetry: Telemetry, loop: asyncio.AbstractEventLoop) -> None:
        self._model = model
        self._telemetry = telemetry
        self._loop = loop
        self._askers: list[Request] = []
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self.draining = False
        self.obstacle: Callable[[], str | None] | None = None
        """Why the replica as a whole is not ready, where it is more than this process."""

    def live(self, request: Request) -> Response:
        """The loop is alive if this is answered at all."""
        return _OK

    def ready(self, request: Request) -> Response:
        """Whether new requests are welcome."""
        reason = "this replica is draining" if self.draining else None
        if reason is None and self.obstacle is not None:
            reason = self.obstacle()
        return _OK if reason is None else error_response(NotReady(reason), request)

    def status(self, request: Request) -> Response | None:
        """The model's ``health_status``."""
        if self._model.health_status is None:
            return self.ready(request)
        ready = self.ready(request)
        if ready is not _OK:
            return ready
        self._askers.append(request)
        if self._timer is None:
            self._timer = self._loop.call_later(STATUS_TIMEOUT_S, self._give_up)
        if not self._running:
            self._running = True
            threading.Thread(target=self._ask, name="headway-health", daemon=True).start()
        return None

    def _ask(self) -> None:
        response = self._asked()
        try:
            self._loop.call_soon_threadsafe(self._done, response)
        except RuntimeError:  # the loop is closed
            return

    def _asked(self) -> Response:
        assert self._model.health_status is not None
        try:
            detail: Any = self._model.health_status()
            return Response(200, b'{"status":"ok","detail":%b}' % encode_json(detail))
        except HeadwayError as error:
            return error_response(NotReady(f"health_status: {error.message}"))
        except BaseException as error:
            log_traceback(error, "health_status says the model is not healthy")
            failure = describe(error, self._model.bundle)
            return error_response(NotReady(failure.message, where=failure.where))

    def _done(self, response: Response) -> None:
        self._running = False
        self._answer(response)

    def _give_up(self) -> None:
        self._timer = None
        self._answer(error_response(NotReady(f"health_status takes longer than {STATUS_TIMEOUT_S:g} s")))

    def _answer(self, response: Response) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        askers, self._askers = self._askers, []
        for request in askers:
            self._telemetry.described(request, response.status)
            request.peer.settle(request, response)
