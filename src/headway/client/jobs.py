"""Jobs through the gateway: submit, look, wait, follow, cancel.

What is safe to repeat is repeated: a submission carries an idempotency key, so one whose answer was lost is sent again
and is the same job; a wait that is cut off goes on.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx

from headway.client.connection import GATEWAY, Connection
from headway.client.job_views import Job, JobBatch, JobEvent, JobPage, JobProgress, JobResult
from headway.client.rollout import Time
from headway.client.wire import Frame, frames_of, json_of, view_of
from headway.domain.errors import DeadlineExceeded, GatewayFailed, InvalidInput, NotReady
from headway.domain.job_ids import check_job_id
from headway.domain.names import check_model_name, check_version_name

T = TypeVar("T")
WAIT_S: Final = 30.0
"""One long poll."""
SLACK_S: Final = 30.0
RETRY_S: Final = 0.5
GIVE_UP_S: Final = 60.0
"""Without an answer for so long, waiting ends."""
SUBMIT_S: Final = 10.0
"""The same for a submission."""
SILENCE_S: Final = 45.0
"""A stream says at least every 15 s that it is still there."""
LINES: Final = "application/x-ndjson"
PAGE: Final = 1000


class JobCalls:
    """The jobs of models; :attr:`headway.client.Client.jobs`.

    Every method raises the error that the gateway or the job server tells of; ``GatewayFailed`` when nothing answers,
    ``ModelNotFound``, ``JobNotFound``.
    """

    def __init__(self, connection: Connection, gateway: Callable[[], str], time: Time | None = None) -> None:
        self._connection = connection
        self._gateway = gateway
        self._time = time or Time()

    def submit(
        self,
        name: str,
        body: bytes,
        *,
        version: str | None = None,
        content_type: str = "application/json",
        route: str | None = None,
        priority: int | None = None,
        not_before: str | None = None,
        deadline: str | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Store a job, durably; it is carried out later.

        ``body`` and ``content_type`` as for ``predict``; ``route``: another wire format (``/invocations``).
        ``priority``: 0 to 9, larger is sooner. ``not_before``, ``deadline``: RFC 3339, or from now (``10m``).
        ``webhook``: URL that is told of its end. ``idempotency_key``: the same key is the same job, however often it
        is submitted; left out, one is drawn. Raises ``Overloaded`` when too many wait, ``IdempotencyConflict``.
        """
        params = _asked(priority, not_before, deadline, webhook, route)
        return view_of(Job, self._submit(name, version, "", body, content_type, params, idempotency_key), GATEWAY)

    def submit_batch(
        self,
        name: str,
        bodies: Sequence[bytes] | bytes,
        *,
        version: str | None = None,
        content_type: str = LINES,
        route: str | None = None,
        priority: int | None = None,
        not_before: str | None = None,
        deadline: str | None = None,
        webhook: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobBatch:
        """Store many jobs at once, all or none: JSON bodies, a line each, or the lines themselves.

        With ``content_type="application/json"``: ``{"jobs": [{"body": …, "priority": …}, …]}``. Else as
        :meth:`submit`.
        """
        content = bodies if isinstance(bodies, bytes) else b"\n".join(_line(one) for one in bodies)
        params = _asked(priority, not_before, deadline, webhook, route)
        answer = self._submit(name, version, "/batch", content, content_type, params, idempotency_key)
        return view_of(JobBatch, answer, GATEWAY)

    def get(self, name: str, job_id: str) -> Job:
        """One job as it is."""
        return self._job("GET", _path(name, job_id))

    def wait(
        self,
        name: str,
        job_id: str,
        *,
        timeout_s: float | None = None,
        progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """The job once it has ended, however; ``progress`` is shown it each time it is looked at.

        Raises ``DeadlineExceeded`` when it has not ended after ``timeout_s``; it goes on all the same. Outlives
        restarts of gateway and job server.
        """
        path = _path(name, job_id)
        ends_at = None if timeout_s is None else self._time.now() + timeout_s
        most_s = WAIT_S if progress is None else 1.0
        while True:
            left_s = most_s if ends_at is None else max(0.0, min(most_s, ends_at - self._time.now()))
            job = self._patiently(functools.partial(self._job, "GET", path, {"wait": f"{left_s:.3f}"}, left_s))
            if progress is not None:
                progress(job)
            if job.ended:
                return job
            if ends_at is not None and self._time.now() >= ends_at:
                raise DeadlineExceeded(
                    f"job {job_id} is {job.state} after {timeout_s:g} s; it goes on",
                    hint=f"headway job wait {name} {job_id}",
                )

    def result(self, name: str, job_id: str, *, patience_s: float = 0.0) -> JobResult:
        """What the prediction was answered with. Raises ``JobNotFinished``, ``JobNotSucceeded``.

        ``patience_s``: for how long to ask again while nothing answers.
        """
        path = f"{_path(name, job_id)}/result"
        answer = self._patiently(lambda: self._ask("GET", path), patience_s)
        return JobResult(answer.content, answer.headers.get("content-type", "application/json"))

    def cancel(self, name: str, job_id: str) -> Job:
        """Call it off: queued, it is canceled now; running, in a moment; ended, it stays as it is."""
        return self._job("DELETE", _path(name, job_id))

    def list(
        self,
        name: str,
        *,
        states: Sequence[str] = (),
        client: str | None = None,
        batch: str | None = None,
        version: str | None = None,
        limit: int = 100,
        patience_s: float = 0.0,
    ) -> Sequence[Job]:
        """The newest ``limit`` jobs, newest first; ``states``, ``client``, ``batch``, ``version``: only such.

        ``patience_s``: for how long to ask again while nothing answers.
        """
        found: list[Job] = []
        before: str | None = None
        while len(found) < limit:
            params = {
                "state": ",".join(states) or None,
                "client": client,
                "batch": batch,
                "version": None if version is None else check_version_name(version),
                "before": before,
                "limit": str(min(PAGE, limit - len(found))),
            }
            ask = functools.partial(self._ask, "GET", _jobs(name), params=params)
            answer = self._patiently(ask, patience_s)
            page = view_of(JobPage, json_of(answer.content, GATEWAY), GATEWAY)
            found += page.jobs
            before = page.next
            if before is None:
                break
        return found

    def follow(self, name: str, job_id: str) -> Iterator[JobEvent | JobProgress | Job]:
        """What happens to a job, from its beginning: its events, what the model says of its progress, and at last the
        job itself as it has ended. A stream that is cut off is resumed."""
        path, after = f"{_path(name, job_id)}/events", 0
        while True:
            for frame in self._stream(path, after):
                if frame.event == "job":
                    yield view_of(Job, json_of(frame.data.encode(), GATEWAY), GATEWAY)
                    return
                if frame.event == "progress":
                    yield view_of(JobProgress, json_of(frame.data.encode(), GATEWAY), GATEWAY)
                else:
                    event = _event(frame)
                    after = event.cursor
                    yield event
            # The stream has ended without the job, or there was nothing more to tell.
            job = self._patiently(lambda: self.get(name, job_id))
            if job.ended:
                yield job
                return

    def events(self, name: str, *, after: int | None = None) -> Iterator[JobEvent]:
        """What happens to all jobs of a model, for ever: from now on, or after the cursor ``after``."""
        path = f"{_jobs(name)}/events"
        while True:
            for frame in self._stream(path, after):
                event = _event(frame)
                after = event.cursor
                yield event

    # -- over the wire -------------------------------------------------------------------------------

    def _submit(
        self,
        name: str,
        version: str | None,
        what: str,
        body: bytes,
        content_type: str,
        params: Mapping[str, str],
        key: str | None,
    ) -> Any:
        path = f"{_jobs(name, version)}{what}"
        headers = {"Content-Type": content_type, "Idempotency-Key": key or secrets.token_hex(16)}
        answer = self._patiently(
            lambda: self._ask("POST", path, params=params, headers=headers, content=body), SUBMIT_S
        )
        return json_of(answer.content, GATEWAY)

    def _job(self, method: str, path: str, params: Mapping[str, str] | None = None, wait_s: float = 0.0) -> Job:
        answer = self._ask(method, path, params=params, timeout_s=wait_s + SLACK_S)
        return view_of(Job, json_of(answer.content, GATEWAY), GATEWAY)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._connection.gateway(self._gateway(), method, path, **more)

    def _patiently(self, ask: Callable[[], T], give_up_s: float = GIVE_UP_S) -> T:
        """The answer, over restarts of the other side. Only for what may be repeated."""
        begun = self._time.now()
        while True:
            try:
                return ask()
            except (GatewayFailed, NotReady, DeadlineExceeded):
                if self._time.now() - begun >= give_up_s:
                    raise
                self._time.pause(RETRY_S)

    def _stream(self, path: str, after: int | None) -> Iterator[Frame]:
        """What one stream tells until it ends, as it does every few minutes, or breaks.

        Raises when none can be begun for :data:`GIVE_UP_S`.
        """
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
        with contextlib.ExitStack() as stack:
            open_one = functools.partial(self._connection.gateway_stream, self._gateway(), path, headers, SILENCE_S)
            chunks = self._patiently(lambda: stack.enter_context(open_one()))
            with contextlib.suppress(GatewayFailed, DeadlineExceeded):
                yield from (frame for frame in frames_of(chunks) if frame is not None)


def _asked(
    priority: int | None, not_before: str | None, deadline: str | None, webhook: str | None, route: str | None
) -> dict[str, str]:
    given = {
        "priority": None if priority is None else str(priority),
        "notBefore": not_before,
        "deadline": deadline,
        "webhook": webhook,
        "route": route,
    }
    return {name: value for name, value in given.items() if value is not None}


def _line(body: bytes) -> bytes:
    line = body.strip()
    if b"\n" in line or b"\r" in line:
        raise InvalidInput("a body of a batch is one line of JSON", where="bodies", hint="json.dumps writes one")
    return line


def _event(frame: Frame) -> JobEvent:
    return view_of(JobEvent, json_of(frame.data.encode(), GATEWAY), GATEWAY)


def _jobs(name: str, version: str | None = None) -> str:
    pinned = "" if version is None else f"/versions/{check_version_name(version)}"
    return f"/models/{check_model_name(name)}{pinned}/jobs"


def _path(name: str, job_id: str) -> str:
    return f"{_jobs(name)}/{check_job_id(job_id, name)}"
