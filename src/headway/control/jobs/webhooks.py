"""WebhookCourier: tells callers of the end of their jobs, signed, again and again until it arrives or is given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from headway.control.jobs.policies import JobPolicies
from headway.control.jobs.rounds import Rounds
from headway.domain.errors import InvalidInput
from headway.domain.job_spec import JobWebhooks
from headway.domain.jobs import Delivery, Job
from headway.domain.webhooks import GONE, check_url, pause_s, secret_key, signed_headers
from headway.ports.clock import Clock
from headway.ports.job_store import WebhookOutbox
from headway.ports.webhook_caller import WebhookAnswer, WebhookCaller

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
SIDE_BY_SIDE: Final = 20
HOLD_S: Final = 60.0
"""Longer than a call may take, so that nobody else makes the same one meanwhile."""
DEFAULTS: Final = JobWebhooks()


class WebhookCourier:
    """``render`` makes the body; ``env`` holds the secrets that specs name; ``chance`` gives a number from 0 to 1."""

    def __init__(
        self,
        outbox: WebhookOutbox,
        caller: WebhookCaller,
        policies: JobPolicies,
        clock: Clock,
        *,
        secret: str,
        env: Mapping[str, str],
        render: Callable[[Job], bytes],
        chance: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._caller = caller
        self._policies = policies
        self._clock = clock
        self._secret = secret
        self._env = env
        self._render = render
        self._chance = chance
        self._rounds = Rounds("webhooks", clock, LOOK_S, self.deliver)

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        await self._rounds.start()

    async def stop(self) -> None:
        """End: calls under way are made again by whoever holds the deliveries next. A second call changes nothing."""
        await self._rounds.stop()

    async def deliver(self) -> bool:
        """Call what is due; whether there may be more."""
        due = await self._outbox.due(SIDE_BY_SIDE, HOLD_S)
        await asyncio.gather(*(self._deliver(delivery) for delivery in due))
        return len(due) >= SIDE_BY_SIDE

    async def _deliver(self, delivery: Delivery) -> None:
        found = self._policies.find(delivery.job.model)
        rules = found.jobs.webhooks if found is not None else DEFAULTS
        answer = await self._call(delivery, rules)
        if answer.arrived:
            await self._outbox.delivered(delivery)
            return
        tries = delivery.tries + 1
        reason = answer.problem or f"answered {answer.status}"
        if tries >= rules.max_tries or answer.status == GONE:
            log.warning("webhook of job %s is given up after %d tries: %s", delivery.job.job_id, tries, reason)
            await self._outbox.postpone(delivery, None, reason)
        else:
            await self._outbox.postpone(delivery, pause_s(tries, self._chance()), reason)

    async def _call(self, delivery: Delivery, rules: JobWebhooks) -> WebhookAnswer:
        secret = self._secret
        if rules.secret_from_env is not None:
            secret = self._env.get(rules.secret_from_env, "")
            if not secret:
                return WebhookAnswer(None, f"the job server has no variable {rules.secret_from_env} to sign it with")
        try:
            # Again, since what is allowed may have changed.
            check_url(delivery.url, allow_private=rules.allow_private)
        except InvalidInput as error:
            return WebhookAnswer(None, error.message)
        body = self._render(delivery.job)
        headers = {
            "content-type": "application/json",
            **signed_headers(secret_key(secret), delivery.delivery_id, self._clock.now(), body),
        }
        return await self._caller.post(delivery.url, headers, body, allow_private=rules.allow_private)
