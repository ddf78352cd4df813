"""Whatever is wrong with a model: the deploy ends, says what and where, and the old version never stops serving."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

GOOD = "def predict(X):\n    return [[1] for _ in X]\n"
QUICK_START = """
  probes:
    startup: {path: /health/ready, periodSeconds: 1, failureThreshold: 4}
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """``code`` is the model; ``says`` must all be in what the deploy prints."""

    code: str
    says: tuple[str, ...]
    spec: str = ""
    requirements: str | None = None
    sample: str | None = "[[1, 2]]"


CASES = {
    "syntax error": Broken("def predict(X:\n    return X\n", ("SyntaxError", "model.py:1")),
    "import error": Broken("import no_such_package_xyz\n" + GOOD, ("no_such_package_xyz", "model.py:1")),
    "missing requirement": Broken(GOOD, ("no-such-package-xyz",), requirements="no-such-package-xyz==1.0\n"),
    "raises in load": Broken(
        "class M:\n    def load(self):\n        raise RuntimeError('weights are gone')\n    def predict(self, X):\n"
        "        return X\n",
        ("RuntimeError", "weights are gone", "model.py:3"),
    ),
    "raises in predict": Broken("def predict(X):\n    return X[0][99]\n", ("IndexError", "model.py:2")),
    "returns nonsense": Broken("def predict(X):\n    return object()\n", ("object", "predict")),
    "calls sys.exit": Broken("import sys\nsys.exit(3)\n" + GOOD, ("exit", "3", "model.py:2")),
    "calls os._exit in load": Broken(
        "import os\nclass M:\n    def load(self):\n        os._exit(7)\n    def predict(self, X):\n        return X\n",
        ("7",),
    ),
    "hangs in load": Broken(
        "import time\nclass M:\n    def load(self):\n        time.sleep(600)\n    def predict(self, X):\n"
        "        return X\n",
        ("model.py:4", "load"),
        spec=QUICK_START,
    ),
    "eats memory": Broken(
        "class M:\n    def load(self):\n        self.hoard = []\n        while True:\n"
        "            self.hoard.append(bytearray(8_000_000))\n    def predict(self, X):\n        return X\n",
        ("memory", "256 MiB"),
        spec="\n  resources: {memory: 256Mi}\n",
    ),
    "no predict": Broken("answer = 42\n", ("predict", "model.py")),
}


def spec_of(name: str, more: str) -> str:
    head = f"apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {name}}}\n"
    return head + (f"spec:{more}" if more else "spec: {}\n")


@pytest.mark.parametrize("kind", CASES, ids=lambda k: k.replace(" ", "-"))
def test_a_broken_version_is_refused_and_the_old_one_serves_on(shared: Installation, kind: str) -> None:
    case = CASES[kind]
    name = "b-" + kind.replace(" ", "-").replace(".", "-").replace("_", "")
    folder = shared.scratch / name
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(GOOD)
    (folder / "headway.yaml").write_text(spec_of(name, ""))
    shared.ok("deploy", str(folder))

    failures: list[bytes] = []
    done = threading.Event()

    def keep_asking() -> None:
        call = Caller(shared.data_url)
        while not done.is_set():
            reply = call(f"/models/{name}/predict", "[[1, 2]]")
            if reply.status != 200 or reply.version != "v1":
                failures.append(reply.body)
            done.wait(0.02)
        call.close()

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        (folder / "model.py").write_text(case.code)
        (folder / "headway.yaml").write_text(spec_of(name, case.spec))
        if case.requirements is not None:
            (folder / "requirements.txt").write_text(case.requirements)
        if case.sample is not None:
            (folder / "sample.json").write_text(case.sample)
        outcome = shared.run("deploy", str(folder), timeout_s=90)
    finally:
        done.set()
        asking.join()
    assert outcome.code not in (0, 70), outcome
    for word in case.says:
        assert word in outcome.stderr, (word, str(outcome))
    assert "Traceback" not in outcome.stderr
    assert failures == []
    wait_until(lambda: not shared.processes(f"{name}-v2"), what="nothing of v2 running")
    status = shared.ok("status", name, "-o", "json").json()
    assert [a["version"] for a in status["live"]] == ["v1"]
    assert {v["name"]: v["state"] for v in status["versions"]}["v2"] == "failed"
    shared.ok("delete", name, "--yes")


def test_a_first_deploy_that_fails_leaves_nothing_running(
    shared: Installation, write_model: Callable[..., Path]
) -> None:
    outcome = shared.run("deploy", str(write_model("b-first", "raise ValueError('never works')\n")))
    assert outcome.code == 7, outcome
    assert "ValueError" in outcome.stderr
    assert "model.py:1" in outcome.stderr
    wait_until(lambda: not shared.processes("b-first-v1"))
    assert shared.ok("status", "b-first", "-o", "json").json()["state"] == "failed"
    shared.ok("delete", "b-first", "--yes")


def ask_and_forget(installation: Installation, path: str, body: str) -> None:
    """The request that hangs the only replica there is: it has nobody else to be sent to, so it may fail."""
    call = Caller(installation.data_url)
    with contextlib.suppress(http.client.HTTPException, OSError):
        call(path, body)
    call.close()


def test_a_hung_replica_is_killed_and_replaced(shared: Installation, write_model: Callable[..., Path]) -> None:
    code = (
        "import os, signal\n"
        "def predict(X):\n"
        "    if X[0][0] == 666:\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    return [[1] for _ in X]\n"
    )
    spec = spec_of("b-hung", "\n  probes: {liveness: {path: /health/live, periodSeconds: 1, timeoutSeconds: 1}}\n")
    shared.ok("deploy", str(write_model("b-hung", code, spec=spec)))
    before = shared.ok("status", "b-hung", "-o", "json").json()["replica_list"][0]
    call = Caller(shared.data_url)
    assert call("/models/b-hung/predict", "[[1]]").status == 200
    poison = threading.Thread(target=ask_and_forget, args=(shared, "/models/b-hung/predict", "[[666]]"))
    poison.start()

    def replaced() -> bool:
        now = shared.ok("status", "b-hung", "-o", "json").json()["replica_list"]
        return bool(now) and now[0]["ready"] and now[0]["pid"] != before["pid"]

    wait_until(replaced, what="a new process")
    poison.join()
    assert call("/models/b-hung/predict", "[[1]]").status == 200
    reasons = [e["data"].get("reason") for e in shared.ok("events", "--model", "b-hung", "-o", "json").json()]
    assert "LivenessFailed" in reasons
    call.close()
    shared.ok("delete", "b-hung", "--yes")
