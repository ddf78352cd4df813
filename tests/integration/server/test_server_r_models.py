"""Models in R, in a real model server with a real R: answers, errors, crashes, noise, and who lives how long."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from headway.server.config import ServerOptions
from tests.integration.server.replica import Replica
from tests.leaks import processes_of
from tests.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
ROWS: list[dict[str, Any]] = [
    {"wt": 2.62, "hp": 110, "transmission": "manual"},
    {"wt": 3.44, "hp": None, "transmission": "automatic"},
]
TRICKY = r"""
features <- data.frame(x = numeric(), what = character())
started <- Sys.time()
load <- function() cat("loaded by", Sys.getpid(), "\n")
scale_of <- function(value) {
  checked <- value
  log(checked)
}
predict <- function(X, features_names) {
  what <- X$what[1L]
  if (what == "noise") {
    print(X); cat("no end"); message("a message"); warning("a warning"); system("echo of a child")
  }
  if (what == "stop") stop("no such luck: ", X$x[1L])
  if (what == "deep") { again <- function(n) again(n + 1); again(1) }
  if (what == "builtin") scale_of("text")
  if (what == "refuse") invalid_request("x is not for sale")
  if (what == "quit") quit(status = 3)
  if (what == "kill") tools::pskill(Sys.getpid(), 9)
  if (what == "hang") repeat {}
  if (what == "close") closeAllConnections()
  if (what == "sink") sink(tempfile())
  if (what == "model") return(lm(mpg ~ wt, mtcars))
  if (what == "big") return(rep(c(0.5, NA, NaN, Inf), length.out = 3e5))
  if (what == "pid") return(rep(Sys.getpid(), nrow(X)))
  X$x * 2
}
health_status <- function() if (file.exists(file.path(Sys.getenv("HEADWAY_HOME"), "ill"))) stop("not well") else "fine"
metrics <- function() list(type = "COUNTER", key = "asked", value = 1)
"""


def example(name: str, scratch: Path, rscript: str) -> dict[str, str]:
    """The files of an example whose model is text; what it trains goes into the bundle by itself."""
    folder = scratch / "example"
    shutil.copytree(EXAMPLES / name, folder)
    if (folder / "train.R").exists():
        subprocess.run([rscript, str(folder / "train.R")], check=True, cwd=scratch, capture_output=True)
        (scratch / "bundle").mkdir()
        shutil.copy(folder / "model.rds", scratch / "bundle")
    return {"model.R": (folder / "model.R").read_text(), "sample.json": (folder / "sample.json").read_text()}


def by_r_itself(rscript: str, folder: Path, rows: str, shown: str) -> Any:
    """What R prints for ``shown`` after model.R has predicted the data frame ``rows``."""
    code = f'source("model.R"); load(); p <- predict({rows}, names(features)); {shown}'
    done = subprocess.run([rscript, "-e", code], check=True, cwd=folder, capture_output=True, text=True)
    return done.stdout.split()


def exact(numbers: list[float | None]) -> list[str]:
    return ["NA" if n is None else f"{n:.17g}" for n in numbers]


@pytest.fixture
def tricky(scratch: Path, rscript: str) -> Iterator[Replica]:
    with Replica(scratch, {"model.R": TRICKY}) as replica:
        yield replica


def ask(client: httpx.Client, what: str, *x: float) -> httpx.Response:
    return client.post("/predict", json=[[number, what] for number in x or (1.5,)])


def r_processes(scratch: Path) -> list[psutil.Process]:
    return [p for p in processes_of(scratch) if p.name() == "R"]


def test_lm_answers_as_r_itself(scratch: Path, rscript: str) -> None:
    with Replica(scratch, example("mtcars", scratch, rscript)) as replica, replica.client() as client:
        answer = client.post("/predict", json=ROWS).json()["predictions"]
        columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
        assert client.post("/invocations", json={"inputs": columns}).json()["predictions"] == answer
        unknown = client.post("/predict", json=[{**ROWS[0], "transmission": "none"}])
        assert (unknown.status_code, unknown.json()["error"]) == (
            400,
            {
                "code": "invalid_request",
                "message": "'none' is not one of its levels (automatic, manual)",
                "where": "row 0, column 'transmission'",
            },
        )
        missing = client.post("/predict", json=[{"wt": 1, "hp": 1}])
        assert "columns are missing: 'transmission'" in missing.json()["error"]["message"]
    frame = 'data.frame(wt = c(2.62, 3.44), hp = c(110, NA), transmission = factor(c("manual", "automatic")))'
    assert exact(answer) == by_r_itself(rscript, replica.bundle, frame, 'cat(sprintf("%.17g", p))')


def test_glm_answers_a_data_frame_as_r_itself(scratch: Path, rscript: str) -> None:
    with Replica(scratch, example("iris-r", scratch, rscript)) as replica, replica.client() as client:
        rows = [[5.9, 3.0, 4.2, 1.5], [6.3, 2.9, 5.6, 1.8]]
        answer = client.post("/predict", json=rows).json()["predictions"]
        assert [list(row) for row in answer] == [["virginica", "species"]] * 2
        outputs = client.post(
            "/v2/models/iris/infer",
            json={"inputs": [{"name": "X", "shape": [2, 4], "datatype": "FP64", "data": rows[0] + rows[1]}]},
        ).json()["outputs"]
        assert [o["data"] for o in outputs] == [[row[name] for row in answer] for name in ("virginica", "species")]
        assert client.get("/health/status").json()["detail"]["iterations"] > 1
        assert 'flowers_asked_total{model="iris",version="v1"} 2' in client.get("/metrics").text
    shown = 'cat(sprintf("%.17g", p$virginica), as.character(p$species))'
    frame = "setNames(as.data.frame(rbind(c(5.9, 3, 4.2, 1.5), c(6.3, 2.9, 5.6, 1.8))), names(features))"
    told = by_r_itself(rscript, replica.bundle, frame, shown)
    assert [*exact([row["virginica"] for row in answer]), *[row["species"] for row in answer]] == told


def test_every_type_arrives_in_r_as_it_is_and_comes_back(scratch: Path, rscript: str) -> None:
    code = """
    features <- data.frame(n = integer(), ok = logical(), day = as.Date(character()), word = character(),
                           t = as.POSIXct(character(), tz = "UTC"), f = factor(levels = c("b", "a"), ordered = TRUE))
    predict <- function(X, features_names) {
      stopifnot(identical(sapply(X, function(x) class(x)[1]), sapply(features, function(x) class(x)[1])),
                identical(levels(X$f), c("b", "a")), identical(features_names, names(features)))
      stats::setNames(data.frame(X$n + 1L, !X$ok, X$day + 1, toupper(X$word), X$t + 3600, rev(X$f), is.na(X$n)),
                      c(names(X), "missing"))
    }
    """
    row = {"n": 7, "ok": True, "day": "2024-02-28", "word": "é", "t": "2024-02-29T23:30:00+01:00", "f": "a"}
    with Replica(scratch, {"model.R": code}) as replica, replica.client() as client:
        answer = client.post("/predict", json=[row, dict.fromkeys(row)])
        assert answer.json()["predictions"] == [
            {"n": 8, "ok": False, "day": "2024-02-29", "word": "É", "t": "2024-02-29T23:30:00Z", "f": None,
             "missing": False},
            {"n": None, "ok": None, "day": None, "word": None, "t": None, "f": "a", "missing": True},
        ]  # fmt: skip
        for column, value, words in (
            ("n", 1.5, "1.5 where a whole number (32 bits) is wanted"),
            ("ok", 2, "2 where true or false is wanted"),
            ("day", "yesterday", "'yesterday' is not a date such as 2024-05-31"),
            ("t", "noon", "'noon' is not a time such as 2024-05-31T12:00:00Z"),
            ("word", 5, "5 where text is wanted"),
        ):
            refused = client.post("/predict", json=[row, {**row, column: value}])
            assert refused.status_code == 400
            told = refused.json()["error"]["message"]
            assert words in told or "mixes text with numbers" in told


def test_an_error_of_r_reaches_the_caller_with_its_words_and_its_line(tricky: Replica) -> None:
    with tricky.client() as client:
        lines = {name: TRICKY[: TRICKY.index(text)].count("\n") + 1 for name, text in (
            ("stop", 'stop("no such'), ("builtin", "log(checked)"))}  # fmt: skip
        stop = ask(client, "stop", 7)
        assert (stop.status_code, stop.json()["error"]) == (
            500,
            {"code": "model_failed", "message": "no such luck: 7", "where": f"model.R:{lines['stop']}"},
        )
        builtin = ask(client, "builtin")
        assert builtin.json()["error"]["message"] == "non-numeric argument to mathematical function"
        assert builtin.json()["error"]["where"] == f"model.R:{lines['builtin']}"
        assert "in log(checked)" in tricky.log()
        assert "Traceback" not in tricky.log()
        refuse = ask(client, "refuse")
        assert (refuse.status_code, refuse.json()["error"]["message"]) == (400, "x is not for sale")
        model = ask(client, "model")
        assert (model.status_code, "has no JSON form" in model.json()["error"]["message"]) == (500, True)
        deep = ask(client, "deep")
        assert deep.status_code == 500
        assert ask(client, "").json() == {"predictions": [3.0]}
        assert len({p.pid for p in r_processes(tricky.folder)}) == 1


def test_what_r_prints_or_closes_does_not_reach_the_channel(tricky: Replica) -> None:
    with tricky.client() as client:
        for what in ("noise", "close", "sink", "noise", ""):
            assert ask(client, what, 1, 2).json() == {"predictions": [2.0, 4.0]}, what
        wait_until(lambda: tricky.log().count("of a child") == 2)
        for printed in ("no end", "a message", "a warning", "of a child"):
            assert printed in tricky.log()


def test_an_r_process_that_ends_is_replaced_and_only_its_own_request_fails(tricky: Replica) -> None:
    with tricky.client() as client:
        pids = {ask(client, "pid").json()["predictions"][0]}
        for what, words in (("quit", "exit status 3; a model must not quit() R"), ("kill", "killed by signal SIGKILL")):
            failed = ask(client, what)
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "model_failed")
            assert words in failed.json()["error"]["message"]
            pids.add(ask(client, "pid").json()["predictions"][0])
        (idle,) = r_processes(tricky.folder)
        idle.kill()
        wait_until(lambda: not idle.is_running() or idle.status() == psutil.STATUS_ZOMBIE)
        assert client.get("/health/status").json() == {"status": "ok", "detail": "fine"}
        pids.add(ask(client, "pid").json()["predictions"][0])
        assert len(pids) == 4
        assert tricky.log().count("loaded by") == 4


def test_a_call_that_hangs_is_ended_with_its_process(scratch: Path, rscript: str) -> None:
    options = ServerOptions(timeout_s=2.0)
    with Replica(scratch, {"model.R": TRICKY}, options=options) as replica, replica.client() as client:
        (before,) = r_processes(scratch)
        late = ask(client, "hang")
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        # On a busy machine the next R process may take longer than a request may.
        wait_until(lambda: ask(client, "").status_code == 200)
        assert "R gave no answer within 2 s" in replica.log()
        assert not before.is_running()


def test_large_answers_and_missing_numbers(tricky: Replica) -> None:
    with tricky.client() as client:
        answer = ask(client, "big").json()["predictions"]
        assert (len(answer), answer[:5]) == (300_000, [0.5, None, None, None, 0.5])
        many = [math.pi] * 60_000
        assert ask(client, "", *many).json()["predictions"] == [2 * x for x in many]


def test_health_and_metrics_are_the_models_own(tricky: Replica) -> None:
    with tricky.client() as client:
        ask(client, "")
        assert 'asked_total{model="iris",version="v1"} 1' in client.get("/metrics").text
        assert client.get("/health/status").json() == {"status": "ok", "detail": "fine"}
        (tricky.folder / "home" / "ill").touch()
        ill = client.get("/health/status")
        assert (ill.status_code, ill.json()["error"]["message"]) == (503, "not well")
        assert ill.json()["error"]["where"].startswith("model.R:")
        (process,) = r_processes(tricky.folder)
        stats = client.get("/stats").json()
        assert stats["memory_bytes"] > process.memory_info().rss


def test_a_server_that_is_killed_leaves_no_r_behind_not_even_a_busy_one(tricky: Replica) -> None:
    with tricky.connect() as raw:
        body = json.dumps([[1, "hang"]]).encode()
        raw.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        (process,) = r_processes(tricky.folder)
        wait_until(lambda: process.cpu_times().user > 0.4)
        tricky.process.kill()
        wait_until(lambda: not r_processes(tricky.folder))


def test_workers_are_forked_and_each_has_an_r_of_its_own(scratch: Path, rscript: str) -> None:
    options = ServerOptions(workers=2)
    with Replica(scratch, {"model.R": TRICKY, "sample.json": '[[1, ""]]'}, options=options) as replica:
        wait_until(lambda: "2 workers (fork)" in replica.log())
        (one, two) = r_processes(scratch)
        assert {one.ppid(), two.ppid()} == {p.pid for p in psutil.Process(replica.process.pid).children()}
        pids: set[int] = set()

        def both() -> bool:
            with replica.client() as client:
                pids.add(ask(client, "pid").json()["predictions"][0])
            return len(pids) == 2

        wait_until(both)
        assert pids == {one.pid, two.pid}
        replica.terminate()
        assert replica.exit_code() == 0


@pytest.mark.parametrize(
    ("code", "words", "where"),
    [
        ("x <- 1\npredict <- function(X {}\n", "unexpected", "model.R:2"),
        ("x <- 1\nstop('not today')\n", "not today", "model.R:2"),
        ("predict <- function(X) X\nload <- function() {\n  readRDS('none.rds')\n}\n", "cannot open", "model.R:3"),
        ("library(nosuchpackage)\n", "there is no package called ‘nosuchpackage’", "model.R:1"),
        ("predikt <- function(X) X\n", "model.R defines no function predict", "model.R"),
        ("predict <- function(X, limit) X\n", "predict needs limit beside its input", "model.R"),
        ("predict <- function(X) X\nfeatures <- 'wt'\n", "features must be a data frame", None),
        ("quit(status = 4)\n", "the R process ended in the midst of it: exit status 4", None),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    scratch: Path, rscript: str, code: str, words: str, where: str | None
) -> None:
    with Replica(scratch, {"model.R": code}, wait=False) as replica:
        assert replica.exit_code() == 78
        failure = replica.failure()
        assert (failure.code, words in failure.message, failure.where) == ("load_failed", True, where), failure
        if "nosuchpackage" in code:
            assert failure.hint is not None
            assert "apt-get install r-cran-nosuchpackage" in failure.hint
            assert "R-packages.txt" in failure.hint


def test_packages_are_checked_before_anything_is_loaded(scratch: Path, rscript: str) -> None:
    files = {"model.R": "stop('never read')", "R-packages.txt": "stats (>= 4.0)  # there\nglmnet\nutils (>= 99.1)\n"}
    with Replica(scratch, files, wait=False) as replica:
        assert replica.exit_code() == 78
        failure = replica.failure()
    assert (failure.code, failure.where) == ("load_failed", "R-packages.txt:2")
    assert "R packages are missing: glmnet; utils (>= 99.1) is needed, 4." in failure.message
    assert failure.hint is not None
    assert "apt-get install r-cran-glmnet" in failure.hint


def test_without_r_the_failure_names_the_program(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_RSCRIPT", str(scratch / "no-rscript"))
    with Replica(scratch, {"model.R": "predict <- function(X) X"}, wait=False) as replica:
        assert replica.exit_code() == 78
        failure = replica.failure()
    assert (failure.code, failure.where) == ("missing_binary", "HEADWAY_RSCRIPT")
    assert failure.hint is not None
    assert "apt-get install r-base-core" in failure.hint


def test_another_r_can_be_named(scratch: Path, rscript: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = scratch / "my-rscript"
    wrapper.write_text(f'#!/bin/sh\nMINE=yes exec {rscript} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("HEADWAY_RSCRIPT", str(wrapper))
    monkeypatch.setenv("LC_ALL", "C")
    code = 'predict <- function(X) paste(Sys.getenv("MINE"), toupper("é"))'
    month = ServerOptions(timeout_s=30 * 86_400.0)  # as for jobs, beyond what poll(2) can wait
    with Replica(scratch, {"model.R": code}, options=month) as replica, replica.client() as client:
        assert client.post("/predict", json=[[1]]).json() == {"predictions": ["yes É"]}


def test_within_the_model_predict_and_load_are_rs_own(scratch: Path, rscript: str) -> None:
    code = """
    path <- tempfile()
    fit <- lm(mpg ~ wt, mtcars)
    save(fit, file = path)
    rm(fit)
    load <- function() load(path, envir = globalenv())
    predict <- function(X, features_names) predict(fit, newdata = X)
    """
    with Replica(scratch, {"model.R": code}) as replica, replica.client() as client:
        answer = client.post("/predict", json=[{"wt": 2.62}]).json()["predictions"]
    told = subprocess.run(
        [rscript, "-e", 'cat(sprintf("%.17g", predict(lm(mpg ~ wt, mtcars), data.frame(wt = 2.62))))'],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert exact(answer) == [told.stdout]


FORKED = """
import os, sys
from pathlib import Path
from headway.server import r_serial
from headway.server.r_process import RProcess
process = RProcess(sys.argv[1], Path.cwd(), lambda _: None)
def pid():
    message = r_serial.HEADER + r_serial.items([r_serial.character(["echo"]), r_serial.value_of([1.5])])
    assert r_serial.read(process.call(message)).values[1].values == [1.5]
    return process.pid
before = pid()
child = os.fork()
if child == 0:
    code = 0 if pid() not in (None, before) else 1
    process.stop()
    os._exit(code)
assert pid() == before
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pid() == before
"""


def test_a_fork_does_not_touch_its_parents_process(scratch: Path, rscript: str) -> None:
    subprocess.run([sys.executable, "-c", FORKED, rscript], check=True, cwd=scratch, timeout=60)
