"""The rules of the house, and the parts of it that others build upon, pinned so that a change is a decision."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import pytest

import headway.client
import headway.ports
from headway.client.deploys import DeployCalls
from headway.client.jobs import JobCalls
from headway.domain.errors import HeadwayError, tree
from headway.domain.jobs import ENDED
from headway.domain.lifecycle import (
    DEPLOYMENT_TRANSITIONS,
    JOB_TRANSITIONS,
    REPLICA_TRANSITIONS,
    TRIAL_TRANSITIONS,
    VERSION_TRANSITIONS,
    DeploymentState,
    JobState,
    ReplicaPhase,
    TrialState,
    VersionState,
    check,
)
from scripts.check_house import MAX_LINES, ROOT, breaches, sources

# Clients and scripts depend on these: class, parent, code, HTTP status, exit code.
ERRORS = [
    ("HeadwayError", "Exception", "internal", 500, 70),
    ("InvalidInput", "HeadwayError", "invalid_input", 400, 2),
    ("InvalidName", "InvalidInput", "invalid_name", 400, 2),
    ("InvalidSpec", "InvalidInput", "invalid_spec", 400, 2),
    ("InvalidTraffic", "InvalidInput", "invalid_traffic", 400, 2),
    ("InvalidBundle", "InvalidInput", "invalid_bundle", 400, 2),
    ("InvalidRequest", "InvalidInput", "invalid_request", 400, 2),
    ("MethodNotAllowed", "InvalidInput", "method_not_allowed", 405, 2),
    ("PayloadTooLarge", "InvalidInput", "payload_too_large", 413, 2),
    ("HeadersTooLarge", "PayloadTooLarge", "headers_too_large", 431, 2),
    ("RequestTimeout", "InvalidInput", "request_timeout", 408, 2),
    ("MalformedHttp", "InvalidInput", "malformed_http", 400, 2),
    ("UnsupportedMediaType", "InvalidInput", "unsupported_media_type", 415, 2),
    ("Unsupported", "InvalidInput", "unsupported", 422, 6),
    ("Unauthenticated", "HeadwayError", "unauthenticated", 401, 4),
    ("Forbidden", "HeadwayError", "forbidden", 403, 4),
    ("InsecureListener", "HeadwayError", "insecure_listener", 400, 2),
    ("NotFound", "HeadwayError", "not_found", 404, 3),
    ("ModelNotFound", "NotFound", "model_not_found", 404, 3),
    ("VersionNotFound", "NotFound", "version_not_found", 404, 3),
    ("ReplicaNotFound", "NotFound", "replica_not_found", 404, 3),
    ("BundleNotFound", "NotFound", "bundle_not_found", 404, 3),
    ("JobNotFound", "NotFound", "job_not_found", 404, 3),
    ("ImageNotFound", "NotFound", "image_not_found", 404, 3),
    ("TokenNotFound", "NotFound", "token_not_found", 404, 3),
    ("SourceNotFound", "NotFound", "source_not_found", 404, 3),
    ("Conflict", "HeadwayError", "conflict", 409, 5),
    ("StaleWrite", "Conflict", "stale_write", 409, 5),
    ("IdempotencyConflict", "Conflict", "idempotency_conflict", 409, 5),
    ("JobNotFinished", "Conflict", "job_not_finished", 409, 5),
    ("JobNotSucceeded", "Conflict", "job_not_succeeded", 409, 5),
    ("AlreadyRunning", "Conflict", "already_running", 409, 5),
    ("DeployFailed", "HeadwayError", "deploy_failed", 422, 7),
    ("EnvironmentFailed", "DeployFailed", "environment_failed", 422, 7),
    ("LoadFailed", "DeployFailed", "load_failed", 422, 7),
    ("SamplePredictionFailed", "DeployFailed", "sample_prediction_failed", 422, 7),
    ("StartTimeout", "DeployFailed", "start_timeout", 422, 7),
    ("OutOfMemory", "DeployFailed", "out_of_memory", 422, 7),
    ("ModelFailed", "HeadwayError", "model_failed", 500, 1),
    ("ResultTooLarge", "ModelFailed", "result_too_large", 500, 1),
    ("Overloaded", "HeadwayError", "overloaded", 429, 1),
    ("NotReady", "HeadwayError", "not_ready", 503, 1),
    ("Retry", "HeadwayError", "retry_later", 503, 1),
    ("DeadlineExceeded", "HeadwayError", "deadline_exceeded", 504, 1),
    ("JobTimedOut", "DeadlineExceeded", "job_timed_out", 504, 1),
    ("WorkerLost", "HeadwayError", "worker_lost", 500, 1),
    ("PromiseBroken", "HeadwayError", "promise_broken", 422, 1),
    ("VerdictRefused", "HeadwayError", "verdict_refused", 422, 10),
    ("ControlUnreachable", "HeadwayError", "control_unreachable", 503, 8),
    ("GatewayFailed", "HeadwayError", "gateway_failed", 500, 9),
    ("StorageFailed", "HeadwayError", "storage_failed", 500, 9),
    ("SignalLost", "HeadwayError", "signal_lost", 502, 9),
    ("BrokerFailed", "HeadwayError", "broker_failed", 502, 9),
    ("ClusterFailed", "HeadwayError", "cluster_failed", 502, 9),
    ("ClusterForbidden", "ClusterFailed", "cluster_forbidden", 403, 4),
    ("ClusterRefused", "ClusterFailed", "cluster_refused", 422, 2),
    ("KindMissing", "ClusterFailed", "kind_missing", 501, 9),
    ("WatchExpired", "ClusterFailed", "watch_expired", 410, 9),
    ("RegistryFailed", "HeadwayError", "registry_failed", 502, 9),
    ("DigestMismatch", "RegistryFailed", "digest_mismatch", 502, 9),
    ("SourceFailed", "HeadwayError", "source_failed", 502, 9),
    ("MissingBinary", "HeadwayError", "missing_binary", 500, 9),
    ("MissingExtra", "HeadwayError", "missing_extra", 500, 9),
]


def test_the_project_keeps_the_house_rules() -> None:
    files = sources()
    assert len(files) > 20
    found = [line for path in files for line in breaches(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("src/headway/control/utils.py", "", "name a module"),
        ("src/headway/x.py", "x = 1\n" * (MAX_LINES + 1), "400"),
        ("src/headway/x.py", "class ReplicaManager: ...", "class ReplicaManager"),
        ("src/headway/x.py", "class BaseStore: ...", "class BaseStore"),
    ],
)
def test_a_breach_of_a_house_rule_is_found(name: str, text: str, complaint: str) -> None:
    assert any(complaint in line for line in breaches(Path(name), text))


def test_the_error_tree_is_the_agreed_one() -> None:
    ours = [c for c in tree() if c.__module__ == HeadwayError.__module__]
    assert [(c.__name__, c.__bases__[0].__name__, c.code, c.status, c.exit_code) for c in ours] == ERRORS


def test_error_codes_are_unique() -> None:
    codes = [code for _, _, code, _, _ in ERRORS]
    assert sorted(codes) == sorted(set(codes))


def test_every_error_of_headway_stands_in_one_file() -> None:
    known = {name for name, *_ in ERRORS}
    stray = [
        f"{path}:{node.lineno} {node.name}"
        for path in (ROOT / "src").rglob("*.py")
        if path != ROOT / "src/headway/domain/errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and known & {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]
    assert not stray


# Table, its states, the first one, the terminal ones.
TABLES: list[tuple[Any, type[StrEnum], StrEnum, set[StrEnum]]] = [
    (VERSION_TRANSITIONS, VersionState, VersionState.PENDING, set()),
    (REPLICA_TRANSITIONS, ReplicaPhase, ReplicaPhase.STARTING, {ReplicaPhase.STOPPED}),
    (DEPLOYMENT_TRANSITIONS, DeploymentState, DeploymentState.DEPLOYING, {DeploymentState.DELETING}),
    (JOB_TRANSITIONS, JobState, JobState.QUEUED, {*ENDED}),
    (TRIAL_TRANSITIONS, TrialState, TrialState.RUNNING, {*TrialState} - {TrialState.RUNNING, TrialState.HELD}),
]


def reachable(table: Mapping[StrEnum, frozenset[StrEnum]], start: StrEnum) -> set[StrEnum]:
    found, edge = {start}, [start]
    while edge:
        for following in table[edge.pop()] - found:
            found.add(following)
            edge.append(following)
    return found


@pytest.mark.parametrize(("table", "states", "first", "last"), TABLES)
def test_lifecycle_tables_hold_every_state_reachably_and_end_where_they_should(
    table: Mapping[StrEnum, frozenset[StrEnum]], states: type[StrEnum], first: StrEnum, last: set[StrEnum]
) -> None:
    assert set(table) == set(states)
    assert reachable(table, first) == set(states)
    assert {state for state, following in table.items() if not following} == last
    assert all(state not in following for state, following in table.items())


def test_every_state_can_reach_an_end_or_come_back() -> None:
    for table, _, first, last in TABLES:
        for state in table:
            assert reachable(table, state) & (last or {first}), f"{state} is a trap"


def test_a_move_that_no_table_holds_is_refused() -> None:
    with pytest.raises(HeadwayError, match="no transition ReplicaPhase stopped -> ready"):
        check(REPLICA_TRANSITIONS, ReplicaPhase.STOPPED, ReplicaPhase.READY)


def ports() -> list[type]:
    found = []
    for info in pkgutil.iter_modules(headway.ports.__path__, "headway.ports."):
        module = importlib.import_module(info.name)
        found += [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if c.__module__ == info.name and Protocol in c.__bases__
        ]
    return found


def test_a_port_has_six_methods_at_most() -> None:
    assert len(ports()) >= 8
    for port in ports():
        methods = [n for n, _ in inspect.getmembers(port, inspect.isfunction) if not n.startswith("_")]
        assert 1 <= len(methods) <= 6, f"{port.__name__}: {methods}"


CLIENT = {
    "__init__": "(url, token, home, gateway_url, *, transport)",
    "close": "()",
    "create_token": "(name, *, scope, models, expires_in_s)",
    "delete": "(name, *, cancel_jobs)",
    "events": "(*, after, model, follow)",
    "get": "(name)",
    "info": "()",
    "list": "()",
    "logs": "(name, *, replica, version, tail, follow)",
    "predict": "(name, body, *, version, content_type, path)",
    "promote": "(name, version)",
    "revoke_token": "(name)",
    "rollback": "(name)",
    "scale": "(name, n)",
    "schema": "()",
    "set_traffic": "(name, weights)",
    "shutdown": "()",
    "spec": "(name)",
    "tokens": "()",
    "versions": "(name)",
    "wait_deleted": "(name, *, cursor, timeout_s)",
    "wait_until": "(name, *, cursor, timeout_s, progress)",
}
DEPLOYS = {
    "apply": "(document, *, models, wait, timeout_s, progress)",
    "deploy": "(path, *, name, canary, auto, spec, tracking_uri, wait, timeout_s, progress)",
    "diff": "(document, *, models)",
    "reconfigure": "(name, spec, *, canary, wait, timeout_s, progress)",
    "set_queue_bound": "(name, most, *, wait, timeout_s, progress)",
}


_ASKED = "version, content_type, route, priority, not_before, deadline, webhook, idempotency_key"
JOBS = {
    "cancel": "(name, job_id)",
    "events": "(name, *, after)",
    "follow": "(name, job_id)",
    "get": "(name, job_id)",
    "list": "(name, *, states, client, batch, version, limit, patience_s)",
    "result": "(name, job_id, *, patience_s)",
    "submit": f"(name, body, *, {_ASKED})",
    "submit_batch": f"(name, bodies, *, {_ASKED})",
    "wait": "(name, job_id, *, timeout_s, progress)",
}


def test_the_public_surface_of_the_client_is_the_agreed_one() -> None:
    assert sorted(headway.client.__all__) == ["Client", "Progress"]
    assert surface(headway.client.Client) == CLIENT
    assert surface(DeployCalls) == DEPLOYS
    jobs = {name: text for name, text in surface(JobCalls).items() if name != "__init__"}
    assert jobs == JOBS
    assert get_type_hints(vars(headway.client.Client)["jobs"].fget)["return"] is JobCalls


def surface(kind: type) -> dict[str, str]:
    """The public methods, with their parameters."""
    return {
        name: f"({', '.join(shown(inspect.signature(member)))})"
        for name, member in vars(kind).items()
        if callable(member) and (not name.startswith("_") or name == "__init__")
    }


def shown(signature: inspect.Signature) -> list[str]:
    """Parameter names, ``*`` before the first that must be named."""
    found: list[str] = []
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        found.append(name)
    return found
