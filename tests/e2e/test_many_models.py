"""Fifty models on one machine: the list stays quick and the control plane idle."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

MODELS = 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_models(running: Installation) -> None:
    folder = running.scratch / "many"
    folder.mkdir()
    (folder / "model.py").write_text("def predict(X):\n    return [[1] for _ in X]\n")
    names = [f"m{number:02d}" for number in range(MODELS)]
    for name in names:
        running.ok("deploy", str(folder), "--name", name, "--no-wait")
    wait_until(
        lambda: all(m["state"] == "ready" for m in running.ok("list", "-o", "json").json()), 240, what="all ready"
    )
    call = Caller(running.data_url)
    for name in names:
        assert call(f"/models/{name}/predict", "[[1]]").status == 200
    call.close()

    started = time.monotonic()
    assert len(running.ok("list", "-o", "json").json()) == MODELS
    took = time.monotonic() - started
    print(f"list of {MODELS} models: {took:.2f} s")

    control = psutil.Process(running.ok("info", "-o", "json").json()["pid"])
    time.sleep(5)
    before, since = control.cpu_times(), time.monotonic()
    time.sleep(20)
    after, span = control.cpu_times(), time.monotonic() - since
    share = (after.user + after.system - before.user - before.system) / span
    print(f"idle control plane: {100 * share:.2f} % of a core")
    # The promises are 1 s and 2 %; a shared machine gets room, a runaway loop does not.
    assert took < 3
    assert share < 0.06
