"""FunctionSignals: what users' own functions say, called at their interval, beside the tick."""

from __future__ import annotations

import math
from typing import Any, Final

from headway.control.latency_signals import query_of, window_documents
from headway.control.questions import Questions
from headway.control.scaling_plan import Called
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.deployments import Version
from headway.domain.errors import SignalLost
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.query_log import QueryLog
from headway.ports.scaling_function import ScalingFunctions
from headway.scaling.decision import State
from headway.scaling.policy import Policy
from headway.scaling.samples import LatencyReading, PerReplica, Reading, Samples

AT_ONCE: Final = 4
"""Functions that run at the same time."""
SLACK_S: Final = 30.0
"""Beyond a call's own time limit: its process may have to be started first."""
WINDOW_S: Final = 60.0
WINDOWS: Final = 5
"""Of latency that a function is shown: the last five minutes."""


class FunctionSignals:
    """One question per version and trigger."""

    def __init__(
        self, functions: ScalingFunctions, bundles: BundleStore, query_log: QueryLog, clock: Clock, watch: SignalWatch
    ) -> None:
        self._functions = functions
        self._bundles = bundles
        self._log = query_log
        self._clock = clock
        self._watch = watch
        self._questions: Questions[float] = Questions(clock, AT_ONCE)

    def reading(
        self, key: SignalKey, trigger: Called, version: Version, policy: Policy, samples: Samples, state: State
    ) -> Reading | None:
        """What is known by now; None before the first answer. ``samples``: of all other triggers."""
        monotonic = self._clock.monotonic()
        question = self._questions.of(key, (trigger, version.digest))
        if question.due(trigger.every_s, trigger.timeout_s + SLACK_S, monotonic):
            context = context_of(policy, samples, state, self._clock.now())
            self._questions.ask(
                question,
                lambda: self._call(key.model, version, trigger, context),
                f"{trigger.spec.entrypoint} of {key.model} {version.name}",
            )
        if question.answer is None and not question.failures:
            return None
        self._watch.look(key, question.failures, question.error, entrypoint=trigger.spec.entrypoint)
        return Reading(question.answer, question.age_s(monotonic), question.error, question.failures)

    def sweep(self) -> None:
        """End questions of triggers that are gone."""
        self._questions.sweep()

    async def close(self) -> None:
        """End every question and every process."""
        await self._questions.close()
        await self._functions.close()

    async def _call(self, model: str, version: Version, trigger: Called, context: dict[str, Any]) -> float:
        if version.python is None:
            raise SignalLost(f"{model} {version.name} has no environment to run {trigger.spec.entrypoint} in")
        bundle = await self._bundles.path(version.bundle_digest)
        table = await self._log.windows(query_of(self._clock, model, version.name, WINDOW_S, WINDOWS))
        context["latency"] = window_documents(table)
        answer = await self._functions.call(model, version.name, version.python, bundle, trigger.spec, context)
        if not math.isfinite(answer):
            raise SignalLost(f"{trigger.spec.entrypoint} of {model} {version.name} answered {answer}")
        return answer


def context_of(policy: Policy, samples: Samples, state: State, now: float) -> dict[str, Any]:
    """What a function is given, but for ``latency``; JSON. Times in seconds, None for no data."""
    return {
        "now": now,
        "replicas": samples.current,
        "ready": samples.ready,
        "held": samples.held,
        "min": policy.least,
        "max": policy.most,
        "since_change_s": None if state.changed_at is None else max(0.0, now - state.changed_at),
        "readings": {name: value_of(reading) for name, reading in (samples.readings or {}).items()},
    }


def value_of(reading: PerReplica | LatencyReading | Reading) -> float | None:
    """A reading as one number: the mean of the replicas that have one, the newest window, the value."""
    if isinstance(reading, Reading):
        return reading.value
    if isinstance(reading, LatencyReading):
        return reading.windows[-1].value_s if reading.windows else None
    values = [replica.value for replica in reading.replicas if replica.value is not None]
    return sum(values) / len(values) if values else None
