"""Requests that find no replica are answered by the first that comes: from zero, and after the only one was killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.e2e.calls import Caller, Reply
from tests.installation import Installation
from tests.waiting import wait_until

CODE = "def predict(X):\n    return [[1] for _ in X]\n"
TO_ZERO = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: z-sleepy}
spec:
  server: {timeout: 120s}
  scaling:
    minReplicas: 0
    maxReplicas: 2
    cooldownPeriod: 60s
    triggers: [{type: concurrency, target: 4}]
"""


def ask(installation: Installation, name: str) -> Reply:
    call = Caller(installation.data_url)
    try:
        return call(f"/models/{name}/predict")
    finally:
        call.close()


def test_from_zero_and_back_without_a_failed_request(shared: Installation, write_model: Callable[..., Path]) -> None:
    shared.ok("deploy", str(write_model("z-sleepy", CODE, spec=TO_ZERO)))
    for _ in range(3):
        shared.ok("scale", "z-sleepy", "0", "--no-wait")
        wait_until(lambda: not shared.processes("z-sleepy-v1"), what="no replica left")
        with ThreadPoolExecutor(6) as pool:
            replies = [f.result() for f in [pool.submit(ask, shared, "z-sleepy") for _ in range(6)]]
        assert [reply.status for reply in replies] == [200] * 6, [reply.body for reply in replies]
        assert any("x-headway-held-ms" in reply.headers for reply in replies), "one says how long it waited"
    status = shared.ok("status", "z-sleepy", "-o", "json").json()
    assert status["ready_replicas"] >= 1
    shared.ok("delete", "z-sleepy", "--yes")


def test_requests_after_the_only_replica_was_killed_wait_for_it(
    shared: Installation, write_model: Callable[..., Path]
) -> None:
    shared.ok("deploy", str(write_model("z-only", CODE)))
    [pid] = [r["pid"] for r in shared.ok("status", "z-only", "-o", "json").json()["replica_list"]]
    with ThreadPoolExecutor(32) as pool:
        coming: list[Future[Reply]] = []
        for number in range(75):
            if number == 25:
                assert [f.result().status for f in coming] == [200] * 25
                os.kill(pid, signal.SIGKILL)  # nothing is with it
            coming.append(pool.submit(ask, shared, "z-only"))
            time.sleep(0.02)
        replies = [f.result() for f in coming]
    assert [reply.status for reply in replies] == [200] * 75, [r.body for r in replies if r.status != 200]
    [after] = [r["pid"] for r in shared.ok("status", "z-only", "-o", "json").json()["replica_list"]]
    assert after != pid
    shared.ok("delete", "z-only", "--yes")


def test_who_takes_a_fixed_model_to_zero_wants_no_answers(
    shared: Installation, write_model: Callable[..., Path]
) -> None:
    shared.ok("deploy", str(write_model("z-off", CODE)))
    shared.ok("scale", "z-off", "0")
    wait_until(lambda: not shared.processes("z-off-v1"), what="no replica left")
    began = time.monotonic()
    reply = ask(shared, "z-off")
    assert (reply.status, reply.code) == (503, "not_ready")
    assert time.monotonic() - began < 25, "nobody would come: with hope it would be 30 s"
    shared.ok("delete", "z-off", "--yes")
