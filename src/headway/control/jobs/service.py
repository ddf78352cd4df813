"""JobService: what callers can ask about jobs. A job is stored when :meth:`JobService.submit` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headway.control.jobs.announcer import JobAnnouncer
from headway.control.jobs.dispatch import Dispatch
from headway.control.jobs.news import JobNews
from headway.control.jobs.orders import Item, Order
from headway.control.jobs.policies import JobPolicies, ModelPolicy
from headway.domain.errors import (
    JobNotFinished,
    JobNotFound,
    JobNotSucceeded,
    NotReady,
    PayloadTooLarge,
    VersionNotFound,
)
from headway.domain.job_ids import RANDOM_BYTES, check_job_id, new_id
from headway.domain.jobs import Job, JobQuery, NewJob, Submitted, Webhook
from headway.domain.lifecycle import JobState
from headway.domain.webhooks import check_url
from headway.ports.clock import Clock
from headway.ports.job_store import JobStore

LOOK_S: Final = 30.0
"""Who waits for a job looks at it this often, too, should the news of it fail to come."""


@dataclass(frozen=True, slots=True)
class Content:
    """An input or a result, with what it is."""

    job: Job
    content_type: str
    content_encoding: str
    body: bytes


class JobService:
    """``random`` gives so many random bytes."""

    def __init__(
        self,
        store: JobStore,
        policies: JobPolicies,
        news: JobNews,
        dispatch: Dispatch,
        clock: Clock,
        *,
        announcer: JobAnnouncer | None,
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._policies = policies
        self._news = news
        self._dispatch = dispatch
        self._clock = clock
        self._announcer = announcer
        self._random = random

    async def body_limit(self, order: Order) -> int:
        """Largest input that a job of ``order`` may have. Raises as :meth:`submit` for what cannot run at all."""
        policy, version = await self._target(order)
        return policy.body_limit(version)

    async def submit(self, order: Order, items: Sequence[Item], *, batch: bool = False) -> list[Submitted]:
        """Store all of them, or none.

        Raises ``ModelNotFound``, ``VersionNotFound``, ``NotReady`` (no version takes traffic), ``InvalidInput``,
        ``PayloadTooLarge``, ``Overloaded``, ``IdempotencyConflict``.
        """
        policy, version = await self._target(order)
        jobs = self._new_jobs(order, items, policy, version, batch)
        submitted = await self._store.submit(jobs, most_queued=policy.jobs.max_queued)
        left = self._dispatch.submitted([one.job for one in submitted if one.created])
        if left and self._announcer is not None:
            self._announcer.tell(left)
        return submitted

    async def get(self, model: str, job_id: str, version: str | None = None) -> Job:
        """One job of ``model`` (and pinned to ``version``, when named). Raises ``JobNotFound``, ``InvalidInput``."""
        job = await self._store.get(check_job_id(job_id, model))
        if job.model != model or version not in (None, job.version):
            raise JobNotFound(f"model {model} has no job {job_id}")
        return job

    async def wait(self, model: str, job_id: str, timeout_s: float, version: str | None = None) -> Job:
        """The job as soon as it has ended; as it is after ``timeout_s``. Raises as :meth:`get`."""
        if timeout_s <= 0:
            return await self.get(model, job_id, version)
        deadline = self._clock.monotonic() + timeout_s
        async with self._news.of_job(job_id) as listener:
            while True:
                job = await self.get(model, job_id, version)
                left_s = deadline - self._clock.monotonic()
                if job.ended or left_s <= 0:
                    return job
                await listener.wait(self._clock, min(left_s, LOOK_S))
                listener.take()

    async def place(self, job: Job) -> int | None:
        """How many jobs are ahead of it; None: it does not wait."""
        return await self._store.place(job.job_id) if job.state is JobState.QUEUED else None

    async def find(self, query: JobQuery) -> list[Job]:
        """Jobs of a model, newest first. Raises ``ModelNotFound``."""
        await self._policies.known(query.model)
        return await self._store.find(query)

    async def cancel(self, model: str, job_id: str, version: str | None = None) -> Job:
        """Call it off; see the port. Raises as :meth:`get`."""
        await self.get(model, job_id, version)
        return await self._store.cancel(job_id)

    async def input(self, job: Job) -> Content:
        """What was submitted."""
        body = await self._store.content(job.job_id, "input")
        return Content(job, job.content_type, job.content_encoding, body)

    async def result(self, job: Job) -> Content:
        """What came of it. Raises ``JobNotFinished``, ``JobNotSucceeded``."""
        if not job.ended:
            raise JobNotFinished(
                f"job {job.job_id} is {job.state}", hint="wait for it: ?wait=30", details={"state": str(job.state)}
            )
        if job.state is not JobState.SUCCEEDED:
            details: dict[str, object] = {"state": str(job.state), "attempts": job.attempts}
            if job.error is not None:
                details["error"] = {"code": job.error.code, "message": job.error.message}
            raise JobNotSucceeded(f"job {job.job_id} has {_ended_words(job.state)}", details=details)
        body = await self._store.content(job.job_id, "result")
        return Content(job, job.result_content_type or "application/json", "", body)

    async def _target(self, order: Order) -> tuple[ModelPolicy, str | None]:
        """The model's policy, and the version that is to run the jobs (None: whichever takes traffic)."""
        policy = await self._policies.known(order.model, order.named or order.drawn)
        if order.named is not None:
            version: str | None = order.named
        else:
            version = (order.drawn or self._drawn(policy)) if policy.jobs.version == "pinned" else None
            if version is None and (policy.jobs.version == "pinned" or not policy.live):
                raise NotReady(f"no version of model {order.model} takes traffic yet")
        if version is not None and version not in policy.max_body_bytes:
            raise VersionNotFound(f"model {order.model} has no version {version[:40]} that can run jobs")
        return policy, version

    def _drawn(self, policy: ModelPolicy) -> str | None:
        return policy.draw(int.from_bytes(self._random(RANDOM_BYTES)))

    def _new_jobs(
        self, order: Order, items: Sequence[Item], policy: ModelPolicy, version: str | None, batch: bool
    ) -> list[NewJob]:
        rules = policy.jobs
        webhook = None
        if order.webhook is not None:
            check_url(order.webhook, allow_private=rules.webhooks.allow_private)
            webhook = Webhook(order.webhook)
        most = policy.body_limit(version)
        now = self._clock.now()
        batch_id = new_id(now, self._random(RANDOM_BYTES)) if batch else None
        retry = rules.retry()
        # The same key with more lines or fewer asks for something else.
        asked = f"{order.asked} batch of {len(items)}" if batch else order.asked
        # Ascending: the jobs of a batch are carried out in the order of its lines.
        drawn = sorted(self._random(RANDOM_BYTES) for _ in items)
        jobs = []
        for number, item in enumerate(items):
            if len(item.body) > most:
                which = f"line {number + 1}" if batch else None
                raise PayloadTooLarge(f"the input is larger than {most} bytes", where=which)
            key = order.key if order.key is None or not batch else f"{order.key}#{number}"
            jobs.append(
                NewJob(
                    job_id=new_id(now, drawn[number]),
                    model=order.model,
                    version=version,
                    client=order.client,
                    route=order.route,
                    content_type=order.content_type,
                    content_encoding=order.content_encoding,
                    body=item.body,
                    priority=item.priority,
                    not_before=item.not_before,
                    deadline_at=item.deadline_at,
                    asked=asked + item.asked,
                    idempotency_key=key,
                    webhook=webhook,
                    batch=batch_id,
                    request_id=order.request_id,
                    retry=retry,
                    timeout_s=rules.timeout_s,
                    result_ttl_s=rules.result_ttl_s,
                    max_result_bytes=rules.max_result_bytes,
                )
            )
        return jobs


def _ended_words(state: JobState) -> str:
    return {JobState.FAILED: "failed", JobState.CANCELED: "been canceled", JobState.EXPIRED: "expired"}[state]
