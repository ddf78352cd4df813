"""A model in R is deployed, warmed, scaled, upgraded, rolled back and logged like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from headway.client import Client
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

WriteModel = Callable[..., Path]
WARM = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: hello}
spec:
  scaling:
    minReplicas: 2
    maxReplicas: 3
    triggers: [{type: concurrency, target: 100}]
"""


def test_a_model_in_r_lives_like_any_other(running: Installation, scratch: Path, rscript: str) -> None:
    running.ok("init", "hello", "--r")
    folder = scratch / "hello"
    running.ok("deploy", "hello")
    call = Caller(running.data_url)
    assert call("/models/hello/predict", "[[1, 2, 3], [4, 5, 6]]").json() == {"predictions": ["short", "long"]}

    # A package that is not there: the deploy says which and how to get it, and the version before goes on.
    packages = folder / "R-packages.txt"
    before = packages.read_text()
    packages.write_text("glmnet (>= 4.0)\n")
    refused = running.run("deploy", "hello")
    assert refused.code == 7
    for words in ("R packages are missing: glmnet (>= 4.0)", "R-packages.txt:1", "apt-get install r-cran-glmnet"):
        assert words in refused.stderr
    packages.write_text(before)

    # Another version, warm and with two replicas, each with an R of its own that the template has not.
    code = (
        (folder / "model.R").read_text().replace("sizes[1 +", 'cat("asked\\n")\n  rep(Sys.getpid(), nrow(X))  # [1 +')
    )
    (folder / "model.R").write_text(code)
    (folder / "headway.yaml").write_text(WARM)
    running.ok("deploy", "hello")

    def replicas() -> dict[int, str]:
        with Client(home=running.home) as client:
            return {r.pid: r.phase for r in client.get("hello").replica_list if r.pid is not None}

    wait_until(lambda: list(replicas().values()) == ["ready", "ready"], what="two replicas ready")
    parents = {psutil.Process(pid).ppid() for pid in replicas()}
    (template,) = parents
    rs = {child.pid for pid in replicas() for child in psutil.Process(pid).children()}
    assert len(rs) == 2
    assert not [c for c in psutil.Process(template).children() if c.pid not in replicas()]
    answers = {call("/models/hello/predict", "[[1, 2, 3]]").json()["predictions"][0] for _ in range(20)}
    assert answers == rs
    assert "asked" in running.ok("logs", "hello").stdout

    # An R that is killed is replaced; nobody notices unless in the midst of an answer.
    for pid in rs:
        running.kill(psutil.Process(pid))
    assert {call("/models/hello/predict", "[[1, 2, 3]]").status for _ in range(6)} == {200}
    running.ok("rollback", "hello")
    assert call("/models/hello/predict", "[[4, 5, 6]]").json() == {"predictions": ["long"]}
    call.close()
