"""What becomes of a trial, as pure functions: a deployment in, the deployment and the events out.

Moving the traffic by hand ends a trial (:func:`stopped`, which every command that moves it calls); what the verdict
makes of it is :func:`moved`. Each event carries the comparison that it follows from, with all its figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headway.comparing.verdict import Move, Verdict
from headway.domain.comparisons import Comparison
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, InvalidInput
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import TrialState, VersionState
from headway.domain.trials import Trial, TrialRules


def begun(deployment: Deployment, version: str, rules: TrialRules, now: float) -> tuple[Deployment, NewEvent]:
    """With a trial of ``version``, whose target is the first step already.

    Raises ``Conflict`` unless the rest of the traffic is one version's: the comparison is with that one.
    """
    others = [arm.version for arm in deployment.target if arm.version != version and arm.weight > 0]
    if len(others) != 1:
        raise Conflict(
            f"the traffic beside {version} goes to {', '.join(others) or 'nothing'}; it is compared with one version",
            hint=f"headway promote {deployment.name} VERSION, then deploy the canary",
        )
    trial = Trial(base=others[0], version=version, rules=rules, began_at=now)
    if {arm.version: arm.weight for arm in deployment.target if arm.weight > 0} != {
        arm.version: arm.weight for arm in trial.split()
    }:
        raise InvalidInput(f"the canary's share is the first step, {trial.share} %", where="canary")
    data = {"base": trial.base, "share": trial.share, "rules": trial.document()["rules"]}
    event = NewEvent(now, EventType.TRIAL_STARTED, deployment.name, version, data=data)
    return deployment.with_trial(trial), event


def stopped(deployment: Deployment, reason: str, now: float) -> tuple[Deployment, list[NewEvent]]:
    """Without a trial that goes on."""
    trial = deployment.trial
    if trial is None or not trial.open:
        return deployment, []
    ended = trial.moved(TrialState.STOPPED, reason, now)
    return deployment.with_trial(ended), [_ended(deployment.name, ended, None, now)]


def overtaken(deployment: Deployment, trial: Trial) -> str | None:
    """Why the trial is over although no verdict ended it; None: it goes on."""
    if {arm.version: arm.weight for arm in deployment.target} == {arm.version: arm.weight for arm in trial.split()}:
        return None
    version = next((v for v in deployment.versions if v.name == trial.version), None)
    if version is not None and version.state is VersionState.FAILED:
        return f"{trial.version} failed: {version.failure.message if version.failure is not None else 'unknown'}"
    return "the traffic was moved"


def moved(model: str, trial: Trial, verdict: Verdict, comparison: Comparison, now: float) -> tuple[Trial, NewEvent]:
    """The trial after a verdict that does not say to wait."""
    data: dict[str, Any] = {"share": trial.share, "reason": verdict.reason, "comparison": comparison.document()}
    if verdict.move is Move.HOLD:
        held = trial.moved(TrialState.HELD, verdict.reason, now)
        return held, NewEvent(now, EventType.TRIAL_HELD, model, trial.version, data=data)
    if verdict.move is Move.ROLL_BACK:
        ended = trial.moved(TrialState.ROLLED_BACK, verdict.reason, now)
        return ended, _ended(model, ended, comparison, now)
    following = replace(trial, step=trial.step + 1, since=None)
    if following.share == 100:
        ended = following.moved(TrialState.PROMOTED, verdict.reason, now)
        return ended, _ended(model, ended, comparison, now)
    following = following.moved(TrialState.RUNNING, "", now)
    data = {**data, "old": trial.share, "share": following.share}
    return following, NewEvent(now, EventType.TRIAL_STEPPED, model, trial.version, data=data)


def _ended(model: str, trial: Trial, comparison: Comparison | None, now: float) -> NewEvent:
    figures = None if comparison is None else comparison.document()
    data = {"base": trial.base, "state": str(trial.state), "reason": trial.reason, "comparison": figures}
    return NewEvent(now, EventType.TRIAL_ENDED, model, trial.version, data=data)
