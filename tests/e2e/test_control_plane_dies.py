"""Promise 7: traffic goes on without the control plane, and what runs is adopted when it is back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.calls import Caller, shares
from tests.installation import Installation
from tests.waiting import wait_until

CODE = "def predict(X):\n    return [[{n}] for _ in X]\n"


def deploy_split(running: Installation, write_model: Callable[..., Path]) -> None:
    running.ok("deploy", str(write_model("iris", CODE.format(n=1))))
    running.ok("deploy", str(write_model("iris", CODE.format(n=2))), "--canary", "30%")
    running.ok("scale", "iris", "2")
    wait_until(lambda: running.ok("status", "iris", "-o", "json").json()["ready_replicas"] == 4)


def pids(running: Installation) -> set[int]:
    return {r["pid"] for r in running.ok("status", "iris", "-o", "json").json()["replica_list"]}


def kill_control(running: Installation) -> None:
    pid = running.ok("info", "-o", "json").json()["pid"]
    running.kill(next(p for p in running.processes() if p.pid == pid))


def test_sigkill_of_the_control_plane(running: Installation, write_model: Callable[..., Path]) -> None:
    deploy_split(running, write_model)
    before, events_before = pids(running), running.ok("events", "-o", "json").json()
    gateway_before = running.ok("info", "-o", "json").json()["gateway_pid"]
    kill_control(running)

    assert running.run("list").code == 8
    seen = shares(running.data_url, "/models/iris/predict", 400)
    assert set(seen) == {"v1", "v2"}

    running.up()
    assert pids(running) == before
    info = running.ok("info", "-o", "json").json()
    assert info["gateway_adopted"]
    assert info["gateway_pid"] == gateway_before
    live = running.ok("status", "iris", "-o", "json").json()["live"]
    assert {a["version"]: a["weight"] for a in live} == {"v1": 70, "v2": 30}
    events_after = running.ok("events", "-o", "json").json()
    assert events_after[: len(events_before)] == events_before
    cursors = [e["cursor"] for e in events_after]
    assert cursors == sorted(set(cursors))
    assert set(shares(running.data_url, "/models/iris/predict", 400)) == {"v1", "v2"}
    assert pids(running) == before
    running.ok("promote", "iris")
    wait_until(lambda: set(shares(running.data_url, "/models/iris/predict", 20)) == {"v2"})


def test_a_replica_that_died_meanwhile_is_replaced(running: Installation, write_model: Callable[..., Path]) -> None:
    deploy_split(running, write_model)
    before = pids(running)
    kill_control(running)
    victim = min(before)
    running.kill(next(p for p in running.processes() if p.pid == victim))
    shares(running.data_url, "/models/iris/predict", 200)  # each asserts 200
    running.up()
    wait_until(lambda: running.ok("status", "iris", "-o", "json").json()["ready_replicas"] == 4)
    assert before - {victim} <= pids(running)


def test_down_after_a_crash_leaves_nothing(running: Installation, write_model: Callable[..., Path]) -> None:
    deploy_split(running, write_model)
    kill_control(running)
    running.down()
    assert running.processes() == []


def test_down_then_up_serves_what_was_deployed(running: Installation, write_model: Callable[..., Path]) -> None:
    deploy_split(running, write_model)
    running.down()
    assert running.processes() == []
    assert running.run("list").code == 8
    running.up()
    call = Caller(running.data_url)
    wait_until(lambda: call("/models/iris/predict").status == 200, what="serving again")
    wait_until(lambda: running.ok("status", "iris", "-o", "json").json()["state"] == "ready")
    assert set(shares(running.data_url, "/models/iris/predict", 200)) == {"v1", "v2"}
    call.close()


def test_up_twice_says_so(running: Installation) -> None:
    again = running.run("up", "--detach")
    assert again.code == 0
    assert "already" in again.text
    second = running.run("up")
    assert second.code == 5
    assert "already running" in second.stderr


def test_an_up_that_is_refused_touches_nothing_that_runs(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    deploy_split(running, write_model)
    before = pids(running)
    kill_control(running)
    refused = running.run("up", "--detach", "--data-host", "0.0.0.0")
    assert refused.code == 2, refused
    assert set(shares(running.data_url, "/models/iris/predict", 100)) == {"v1", "v2"}
    running.up()
    assert pids(running) == before


def test_a_lost_admin_token_locks_nobody_out(running: Installation) -> None:
    (running.home / "admin.token").write_text("")
    assert running.run("list").code == 4
    running.down()
    assert running.processes() == []
    running.up()
    assert running.ok("list", "-o", "json").json() == []
    assert (running.home / "admin.token").stat().st_mode & 0o777 == 0o600
