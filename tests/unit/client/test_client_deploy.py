"""Deploying and waiting, against a control API pretended at the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headway.client import Progress
from headway.client.rollout import Rollout
from headway.domain.errors import (
    Conflict,
    DeployFailed,
    InvalidInput,
    LoadFailed,
    ModelNotFound,
    OutOfMemory,
    StartTimeout,
)
from tests.unit.client.control import HandClock, PretendedControl, connection, model_folder, refusal, stages


@pytest.fixture
def control() -> PretendedControl:
    return PretendedControl()


def test_a_deploy_uploads_the_bundle_sends_what_the_document_states_and_waits_until_it_is_live(
    control: PretendedControl, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, headway_yaml="metadata: {name: iris}\nspec:\n  resources: {memory: 1Gi}\n")
    control.wish("v1")
    control.script = [lambda c: c.starts("v1"), lambda c: c.becomes_live("v1")]
    told: list[Progress] = []

    with control.client() as client:
        answer = client.deploy(folder, progress=told.append)

    (digest,) = control.bundles
    assert answer.version == "v1"
    assert control.bodies == [
        {
            "bundle": digest,
            "spec": {"metadata": {"name": "iris"}, "spec": {"resources": {"memory": "1Gi"}}},
            "canary": None,
            "auto": None,
        }
    ]
    upload = next(r for r in control.requests if r.method == "PUT")
    assert upload.headers["content-length"] == str(len(control.bundles[digest]))
    assert "transfer-encoding" not in upload.headers
    assert upload.headers["authorization"] == "Bearer hw_secret"
    assert stages(told) == [
        ("bundle", "running"),
        ("bundle", "done"),
        ("environment", "running"),
        ("environment", "done"),
        ("start", "running"),
        ("start", "done"),
        ("ready", "done"),
        ("route", "done"),
    ]


def test_a_bundle_that_is_stored_is_not_uploaded_again(control: PretendedControl, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    control.wish("v1")
    with control.client() as client:
        client.deploy(folder, wait=False)
        client.deploy(folder, wait=False)

    assert [r.method for r in control.requests].count("PUT") == 1


def test_a_bundle_that_vanishes_before_the_deploy_is_uploaded_again(control: PretendedControl, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    control.wish("v1")
    answers = iter([refusal(404, "bundle_not_found", "no bundle"), None])

    def vanished(request: httpx.Request) -> httpx.Response | None:
        if request.method == "HEAD":
            return httpx.Response(200)
        return next(answers) if request.method == "POST" else None

    control.override = vanished
    with control.client() as client:
        assert client.deploy(folder, wait=False).version == "v1"

    assert len(control.bundles) == 1


def test_without_waiting_nothing_is_followed(control: PretendedControl, tmp_path: Path) -> None:
    control.wish("v1")
    with control.client() as client:
        client.deploy(model_folder(tmp_path), wait=False)

    assert control.followed == 0


def test_unchanged_content_that_is_live_returns_at_once(control: PretendedControl, tmp_path: Path) -> None:
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    control.unchanged, control.state = True, "degraded"
    with control.client() as client:
        assert client.deploy(model_folder(tmp_path)).unchanged

    assert control.followed == 0


def test_unchanged_content_that_is_still_on_its_way_is_waited_for(control: PretendedControl, tmp_path: Path) -> None:
    control.wish("v1")
    control.unchanged = True
    control.script = [lambda c: c.starts("v1"), lambda c: c.becomes_live("v1")]
    with control.client() as client:
        client.deploy(model_folder(tmp_path))

    assert control.followed == 2


def test_unchanged_content_is_waited_for_while_nothing_of_it_answers(control: PretendedControl, tmp_path: Path) -> None:
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    control.running.clear()  # Headway has just been started again
    control.unchanged = True
    control.script = [lambda c: c.becomes_live("v1")]
    with control.client() as client:
        client.deploy(model_folder(tmp_path))

    assert control.followed == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [("load_failed", LoadFailed), ("out_of_memory", OutOfMemory), ("internal", DeployFailed), ("new", DeployFailed)],
)
def test_a_version_that_fails_raises_the_error_of_its_failure(
    control: PretendedControl, tmp_path: Path, code: str, kind: type[DeployFailed]
) -> None:
    control.wish("v1")
    control.script = [lambda c: c.starts("v1"), lambda c: c.fails("v1", code=code, hint="mend it")]
    told: list[Progress] = []
    with control.client() as client, pytest.raises(DeployFailed) as raised:
        client.deploy(model_folder(tmp_path), progress=told.append)

    error = raised.value
    assert type(error) is kind
    assert (error.message, error.where, error.hint) == ("ValueError: no", "model.py:3", "mend it")
    assert (error.details["version"], error.details["log_tail"]) == ("v1", "…no")
    assert stages(told)[-1] == ("start", "failed")


def test_a_failure_is_told_by_the_view_when_its_event_was_lost(control: PretendedControl) -> None:
    control.wish("v2")
    control.fails("v2")
    control.events.clear()
    with pytest.raises(LoadFailed, match="ValueError: no"):
        Rollout(connection(control), "iris", cursor=0, timeout_s=9, version="v2").wait()


def test_a_change_that_failed_before_the_first_look_is_no_success(control: PretendedControl) -> None:
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    cursor = len(control.events)
    control.wish("v2")
    control.tell("traffic_requested", old={"v1": 100}, new={"v2": 100})
    control.fails("v2")
    with control.client() as client, pytest.raises(LoadFailed):
        client.wait_until("iris", cursor=cursor, timeout_s=9)


def test_the_failure_of_a_version_that_was_not_asked_for_does_not_matter(control: PretendedControl) -> None:
    control.wish("v1")
    control.versions["v9"] = {**control.versions["v1"], "name": "v9"}
    control.starts("v1")
    control.becomes_live("v1")
    cursor = len(control.events)
    control.tell("version_failed", "v9", failure={"code": "load_failed", "message": "no"})
    with control.client() as client:
        assert client.wait_until("iris", cursor=cursor, timeout_s=9).state == "ready"


def test_a_split_called_off_by_its_other_version_tells_why(control: PretendedControl) -> None:
    control.versions["v1"] = {**view("v1"), "state": "starting"}
    control.wish("v2", beside={"v1": 50, "v2": 50})
    control.script = [lambda c: c.fails("v1")]
    with pytest.raises(LoadFailed):
        Rollout(connection(control), "iris", cursor=0, timeout_s=9, version="v2").wait()


def view(version: str) -> dict[str, object]:
    found = PretendedControl()
    found.wish(version)
    return found.versions[version]


def test_a_rollout_that_somebody_called_off_is_a_conflict(control: PretendedControl) -> None:
    control.wish("v2")

    def called_off(c: PretendedControl) -> None:
        c.target = c.live = {"v1": 100}
        c.state = "ready"

    control.script = [called_off]
    with pytest.raises(Conflict, match="v2 is no longer asked for: the traffic goes to v1 100 %"):
        Rollout(connection(control), "iris", cursor=0, timeout_s=9, version="v2").wait()


def test_a_model_deleted_meanwhile_ends_the_waiting(control: PretendedControl) -> None:
    control.wish("v1")
    control.script = [lambda c: c.tell("deployment_deleted")]
    with pytest.raises(ModelNotFound):
        Rollout(connection(control), "iris", cursor=0, timeout_s=9, version="v1").wait()


def test_deletion_can_be_waited_for(control: PretendedControl) -> None:
    control.state = "deleting"
    control.script = [lambda c: None, lambda c: c.tell("deployment_deleted")]
    with control.client() as client:
        client.wait_deleted("iris", cursor=0, timeout_s=9)

    assert control.followed == 2


def test_when_time_is_up_the_state_is_told(control: PretendedControl) -> None:
    control.wish("v1")
    control.starts("v1")
    with control.client() as client, pytest.raises(StartTimeout, match="its state is deploying") as raised:
        client.wait_until("iris", cursor=0, timeout_s=0)

    assert "headway status iris" in (raised.value.hint or "")


def test_a_replica_that_comes_later_does_not_begin_a_stage_anew(control: PretendedControl) -> None:
    control.wish("v1")
    control.starts("v1")
    control.tell("replica_ready", "v1", "iris-v1-bcdfg")
    control.tell("replica_started", "v1", "iris-v1-ghjkl")
    control.becomes_live("v1")
    told: list[Progress] = []
    Rollout(connection(control), "iris", cursor=0, timeout_s=9, version="v1", progress=told.append).wait()

    begun = [state for stage, state in stages([one for one in told if one.stage == "start"])]
    assert begun == ["running", "done"]


def two_versions(control: PretendedControl) -> None:
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    control.wish("v2")
    control.starts("v2")
    control.becomes_live("v2")


def test_the_old_version_is_waited_for(control: PretendedControl) -> None:
    two_versions(control)

    def retires(c: PretendedControl) -> None:
        c.versions["v1"]["state"] = "retired"
        c.tell("version_retired", "v1")

    control.script = [lambda c: None, retires]
    told: list[Progress] = []
    seen = Rollout(connection(control), "iris", cursor=0, timeout_s=60, version="v2", progress=told.append).wait()

    assert {v.name: v.state for v in seen.versions} == {"v1": "retired", "v2": "live"}
    assert [(p.state, p.text) for p in told if p.stage == "drain"] == [
        ("running", "v1: finishing requests in flight"),
        ("done", "v1: stopped"),
    ]


def test_an_old_version_that_takes_long_is_not_waited_for_longer_than_ten_seconds(control: PretendedControl) -> None:
    two_versions(control)
    clock = HandClock()
    control.script = [lambda c: clock.pause(4)] * 3
    told: list[Progress] = []
    Rollout(
        connection(control), "iris", cursor=0, timeout_s=60, version="v2", progress=told.append, time=clock.time()
    ).wait()

    assert clock.at == 12
    assert told[-1] == Progress("drain", "done", "v1: still finishing, in the background")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: setattr(c, "state", "degraded"),
        lambda c: setattr(c, "replicas", 2),
        lambda c: c.versions["v1"].update(state="starting"),
        lambda c: setattr(c, "live", {"v1": 90}),
    ],
)
def test_what_is_not_wholly_there_is_not_taken_for_it(
    control: PretendedControl, spoil: Callable[[PretendedControl], None]
) -> None:
    control.wish("v1")
    control.starts("v1")
    control.becomes_live("v1")
    spoil(control)
    with pytest.raises(StartTimeout):
        Rollout(connection(control), "iris", cursor=0, timeout_s=0, version="v1").wait()


def test_a_canary_share_out_of_range_is_refused_before_anything_is_read(control: PretendedControl) -> None:
    with control.client() as client, pytest.raises(InvalidInput, match="canary"):
        client.deploy(Path("nowhere"), canary=100)

    assert not control.requests
