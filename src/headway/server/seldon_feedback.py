"""``POST /api/v1.0/feedback``: what a prediction was worth is counted, and told to the model that made it.

A feedback is no prediction: it waits in no queue with them. Its reward is kept beside the query log, as what comes to
``POST /feedback`` is (:mod:`headway.server.feedback`). ``send_feedback`` runs on a
thread of its own, one at a time, and so may run beside ``predict``.

Which version a feedback is about, its response says (``meta.requestPath``). The split may bring it to a replica of
another version: that one sends it on through the gateway, so it is counted where it belongs, once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import time_ns
from typing import Any, Final

from headway.domain.errors import Conflict, HeadwayError, ModelFailed, Overloaded
from headway.domain.feedback import REWARD, Feedback
from headway.server.bodies import check_json_type, inflate
from headway.server.config import ServerConfig
from headway.server.failures import describe, log_traceback
from headway.server.feedback_message import Lesson, lesson_of
from headway.server.http import Request, Response, error_response
from headway.server.json_text import parse_json
from headway.server.model import LoadedModel
from headway.server.results import encode_json, to_plain
from headway.server.shadow import ShadowSender
from headway.server.telemetry import Telemetry

log = logging.getLogger("headway.server")

MOST_WAITING: Final = 256


class SeldonFeedbackDesk:
    """Takes Seldon's feedback for one model."""

    def __init__(
        self,
        config: ServerConfig,
        model: LoadedModel,
        telemetry: Telemetry,
        loop: asyncio.AbstractEventLoop,
        gateway: ShadowSender | None,
        record: Callable[[Sequence[Feedback]], None] | None,
        max_values: int,
    ) -> None:
        """``gateway``: by which what is about another version gets there. ``record``: keeps rewards; None: nobody."""
        self._config = config
        self._model = model
        self._telemetry = telemetry
        self._loop = loop
        self._gateway = gateway
        self._max_values = max_values
        self._waiting: SimpleQueue[tuple[Request, Lesson]] = SimpleQueue()
        self._open = 0
        self._thread: threading.Thread | None = None
        self._taken = 0
        self._gained = 0.0
        self._lost = 0.0
        self._record = record
        telemetry.counters += [
            ("headway_feedback_messages_total", "Seldon's feedback to this version.", lambda: [((), self._taken)]),
            (
                "headway_feedback_reward_total",
                "Rewards in them, those above and those below zero apart.",
                lambda: [((("sign", "positive"),), self._gained), ((("sign", "negative"),), self._lost)],
            ),
        ]
        if telemetry.seldon is not None:
            labels = telemetry.seldon.custom
            telemetry.counters += [
                ("seldon_api_model_feedback_total", "Feedbacks.", lambda: [(labels, self._taken)]),
                ("seldon_api_model_feedback_reward_total", "Rewards above zero.", lambda: [(labels, self._gained)]),
            ]

    def take(self, request: Request) -> Response | None:
        """The endpoint. Raises ``InvalidRequest``, ``Overloaded``, ``Conflict``."""
        check_json_type(request.headers.get(b"content-type", b""))
        if b"content-encoding" in request.headers:
            limit = self._config.options.max_body_bytes
            request.body = inflate(request.body, request.headers[b"content-encoding"], limit)
        lesson = lesson_of(parse_json(request.body, self._max_values), self._config.model)
        if lesson.version not in (None, self._config.version):
            return self._send_on(request, lesson)
        if self._open >= MOST_WAITING:
            raise Overloaded(f"{self._open} feedbacks wait already", details={"retry_after_s": 1})
        if self._record is not None and lesson.rewarded and lesson.puid is not None:
            # Before it is counted: what could not be written is refused, and comes again.
            self._record([Feedback(lesson.puid, REWARD, lesson.reward, time_ns())])
        self._taken += 1
        self._gained += max(lesson.reward, 0.0)
        self._lost += max(-lesson.reward, 0.0)
        if not self._model.teachable:
            return answer_to(lesson, None)
        self._open += 1
        self._waiting.put((request, lesson))
        if self._thread is None:
            # A daemon: a call that never returns must not keep the process from ending.
            self._thread = threading.Thread(target=self._teach, name="headway-feedback", daemon=True)
            self._thread.start()
        return None

    def _send_on(self, request: Request, lesson: Lesson) -> Response:
        assert lesson.version is not None
        pinned = f"/models/{self._config.model}/versions/{lesson.version}{request.path.decode()}"
        if self._gateway is None or not self._gateway.offer(request, lesson.version.encode()):
            raise Conflict(
                f"this feedback is about {lesson.version[:20]}, and {self._config.version} was asked",
                where="response.meta.requestPath",
                hint=f"send it to {pinned[:120]}",
            )
        return answer_to(lesson, None)

    def _teach(self) -> None:
        while True:
            request, lesson = self._waiting.get()
            response = self._taught(request, lesson)
            try:
                self._loop.call_soon_threadsafe(self._done, request, response)
            except RuntimeError:  # the loop is closed
                return

    def _taught(self, request: Request, lesson: Lesson) -> Response:
        try:
            return answer_to(lesson, self._model.teach(lesson))
        except HeadwayError as error:
            return error_response(error, request)
        except BaseException as error:  # exit() too
            failure = describe(error, self._model.bundle)
            log_traceback(error, "send_feedback failed")
            return error_response(ModelFailed(failure.message, where=failure.where), request)

    def _done(self, request: Request, response: Response) -> None:
        self._open -= 1
        self._telemetry.described(request, response.status)
        request.peer.settle(request, response)


def answer_to(lesson: Lesson, result: Any) -> Response:
    """What the caller gets: the id of the request, and what ``send_feedback`` returned, if anything."""
    meta = {} if lesson.puid is None else {"puid": lesson.puid}
    plain = to_plain(result)
    told: dict[str, Any] = {}
    if isinstance(plain, list | tuple):
        told = {"data": {"names": [], "ndarray": list(plain)}}
    elif plain is not None:
        told = {"jsonData": plain}
    return Response(200, encode_json({**told, "meta": meta}))
