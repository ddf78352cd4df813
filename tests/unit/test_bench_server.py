"""The pure parts of ``make bench-server``: wrk's output, medians and ratios, tables, verdicts."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

# By name: the type checker knows the folder benchmarks/ as a root of its own.
contenders = importlib.import_module("benchmarks.server.contenders")
figures = importlib.import_module("benchmarks.server.figures")
page = importlib.import_module("benchmarks.server.page")
planning = importlib.import_module("benchmarks.server.plan")
visiting = importlib.import_module("benchmarks.server.visit")
wrk = importlib.import_module("benchmarks.server.wrk")

WRK_OUTPUT = """\
Running 3s test @ http://127.0.0.1:8000/predict
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.40ms    0.20ms   9.00ms   90.00%
  150000 requests in 3.00s, 30.00MB read
Requests/sec:  50000.00
FIGURES {"requests":150000,"duration_us":3000000,"p50_us":1250,"p99_us":2600,"max_us":9000,\
"not_ok":0,"broken":0,"timeouts":0}
"""


def visit(server: str, number: int = 1, model: str = "logistic", **changes: Any) -> Any:
    loads = {
        count: {"requests_per_s": changes.pop(f"rate{count}", 100.0), "p99_ms": changes.pop(f"p99_{count}", 10.0)}
        for count in (1, 64)
    }
    known = {"cold_start_s": 2.0, "pss_mb": 100.0, "loads": loads}
    return visiting.Visit(server, model, number, "1.0", **(known | changes))


def bar(what: str, model: str = "logistic") -> Any:
    return next(each for each in figures.BARS if each.what == what and each.model == model)


def test_wrk_output_becomes_figures() -> None:
    load = wrk.parse(WRK_OUTPUT)
    assert load.requests_per_s == 50_000
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (1.25, 2.6, 9.0)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("unable to connect to 127.0.0.1:8000 Connection refused", "Connection refused"),
        (WRK_OUTPUT.replace('"requests":150000', '"requests":0'), "no request was answered"),
        (WRK_OUTPUT * 2, "no figures"),
    ],
)
def test_wrk_without_figures_is_a_failure(output: str, says: str) -> None:
    with pytest.raises(wrk.GeneratorFailed, match=says):
        wrk.parse(output)


def test_a_missing_wrk_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(wrk.GeneratorFailed, match="apt-get install wrk"):
        wrk.run("http://127.0.0.1:1/", b"[]", connections=1, seconds=1)


def test_a_spread_is_median_and_range() -> None:
    assert figures.spread([3.0, 1.0, 2.0]) == figures.Spread(2.0, 1.0, 3.0, 3)
    assert figures.spread([]) is None


def test_ratios_pair_visits_of_the_same_round() -> None:
    """The machine is four times slower in round 2 for everybody: the ratio does not notice."""
    visits = [
        visit("headway", 1, rate64=800.0),
        visit("fastapi", 1, rate64=100.0),
        visit("headway", 2, rate64=200.0),
        visit("fastapi", 2, rate64=25.0),
        visit("headway", 3, rate64=9999.0),  # alone in its round
    ]
    assert figures.ratio(visits, "headway", "fastapi", "logistic", figures.rate(64)) == figures.Spread(8, 8, 8, 2)


def test_the_reference_is_the_peer_with_the_best_median() -> None:
    visits = [visit("kserve", n, rate1=rate) for n, rate in enumerate((50, 60, 900))]
    visits += [visit("fastapi", n, rate1=rate) for n, rate in enumerate((70, 80, 90))]
    found = figures.best(visits, ["kserve", "fastapi", "mlflow"], "logistic", figures.rate(1), most=True)
    assert found[0] == "fastapi"
    assert figures.best(visits, ["mlflow"], "logistic", figures.rate(1), most=True) is None


@pytest.mark.parametrize(("rate", "word"), [(800.0, "pass"), (799.0, "FALLS SHORT")])
def test_throughput_must_reach_its_bar(rate: float, word: str) -> None:
    visits = [visit("headway", rate64=rate), visit("fastapi", rate64=100.0), visit("kserve", rate64=50.0)]
    verdict = figures.judge(visits, bar("requests/s, 64 connections"), ["fastapi", "kserve"])
    assert (verdict.peer, verdict.word) == ("fastapi", word)


@pytest.mark.parametrize(("pss_mb", "word"), [(90.0, "pass"), (91.0, "FALLS SHORT")])
def test_memory_must_stay_below_the_smallest_peer(pss_mb: float, word: str) -> None:
    visits = [visit("headway", pss_mb=pss_mb), visit("fastapi", pss_mb=500.0), visit("kserve", pss_mb=90.0)]
    verdict = figures.judge(visits, bar("memory"), ["fastapi", "kserve"])
    assert (verdict.peer, verdict.word) == ("kserve", word)


def test_the_tail_is_compared_with_that_of_the_fastest_peer() -> None:
    """Not with the peer of the shortest or longest tail, which may be slow ones."""
    visits = [
        visit("headway", p99_64=3.0),
        visit("fastapi", rate64=200.0, p99_64=50.0),
        visit("kserve", rate64=20.0, p99_64=5.0),
        visit("mlflow", rate64=20.0, p99_64=500.0),
    ]
    verdict = figures.judge(visits, bar("p99, 64 connections"), ["fastapi", "kserve", "mlflow"])
    assert verdict.peer == "fastapi"
    assert verdict.ratio.median == pytest.approx(0.06)
    assert verdict.passed is True


def test_what_was_not_measured_is_no_pass() -> None:
    for visits in ([], [visit("headway")], [visit("fastapi")], [visit("headway", 1), visit("fastapi", 2)]):
        verdict = figures.judge(visits, bar("cold start"), ["fastapi"])
        assert (verdict.passed, verdict.word) == (None, "not measured")


def test_a_visit_with_a_problem_counts_for_nothing_and_is_listed() -> None:
    bad = visit("kserve", 1, rate64=1e9, problem="row 1 got [2], the model says 1", wrong=True)
    visits = [bad, visit("kserve", 2, problem=bad.problem), visit("fastapi", 1)]
    assert figures.values(visits, "kserve", "logistic", figures.rate(64)) == {}
    assert figures.problems(visits) == [bad]
    listed = page.failures(visits, {"ray": "no wheel"})
    assert "Ray Serve: not installed: no wheel" in listed
    assert "KServe, LogisticRegression, round 1: row 1 got [2], the model says 1" in listed


def test_visits_survive_the_results_file() -> None:
    before = visit("headway", 3)
    assert visiting.visit_from(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(33_456.0, "33,500"), (1234.0, "1,230"), (456.7, "457"), (12.34, "12.3"), (1.234, "1.23"), (0.0456, "0.046")],
)
def test_numbers_have_three_digits_at_most(value: float, text: str) -> None:
    assert page.number(value) == text


def test_the_table_has_everybody_fastest_first() -> None:
    visits = [visit("kserve", n, rate64=50.0 + n) for n in (1, 2, 3)] + [visit("headway", 1, rate64=4000.0)]
    lines = page.results(visits, "logistic", ["kserve", "headway", "mlflow"]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["Headway", "KServe", "MLflow"]
    assert "| 52.0 (51.0-53.0) |" in lines[3]
    assert set(lines[4].split("|")[2:-1]) == {" – "}


def test_the_page_says_who_falls_short() -> None:
    visits = [visit("headway", n, rate64=700.0) for n in (1, 2)] + [visit("fastapi", n) for n in (1, 2)]
    text = page.page(
        visits,
        machine={"Kernel": "Linux 6"},
        versions={"headway": "1.2.3", "fastapi": "0.1"},
        not_installed={"ray": "no wheel"},
        seconds=3.0,
    )
    assert (
        "| LogisticRegression: requests/s, 64 connections | FastAPI by hand | at least 8.00 | 7.00 (7.00-7.00) " in text
    )
    assert "FALLS SHORT" in text
    assert "| Headway | 1.2.3 |" in text
    assert "Ray Serve: not installed: no wheel" in text
    assert "Figures of 2 rounds only" in text


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2],
        {"predictions": [1, 2]},
        {"model_name": "iris", "outputs": [{"name": "predict", "shape": [2, 1], "data": [1, 2]}]},
    ],
)
def test_every_peers_answer_is_understood(answer: Any) -> None:
    assert contenders.predictions(answer) == [1, 2]


def test_an_answer_without_predictions_is_refused() -> None:
    with pytest.raises(ValueError, match="no prediction"):
        contenders.predictions({"error": "busy"})


def test_each_contender_has_its_pins() -> None:
    """Exact versions only, so that two runs measure the same packages; scikit-learn is the same for all."""
    learn = set()
    for contender in contenders.ALL.values():
        lines = contender.pins.read_text("utf-8").split()
        assert lines
        assert all("==" in line for line in lines), contender.name
        learn |= {line for line in lines if line.startswith(("scikit-learn==", "numpy=="))}
    assert len(learn) == 2


def test_servers_take_turns() -> None:
    steps = planning.plan([], ["headway", "fastapi"], ["logistic", "forest"], 2)
    one = [(1, "logistic", "headway"), (1, "logistic", "fastapi"), (1, "forest", "headway"), (1, "forest", "fastapi")]
    assert steps == one + [(2, model, server) for _, model, server in one]


def test_going_on_first_completes_the_round_that_was_interrupted() -> None:
    done = [visit("headway", 1), visit("fastapi", 1), visit("headway", 2)]
    steps = planning.plan(done, ["headway", "fastapi"], ["logistic"], 1)
    assert steps == [(2, "logistic", "fastapi"), (3, "logistic", "headway"), (3, "logistic", "fastapi")]


def test_going_on_with_others_begins_a_round_of_theirs() -> None:
    done = [visit("headway", 1), visit("fastapi", 1)]
    assert planning.plan(done, ["kserve"], ["forest"], 1) == [(2, "forest", "kserve")]
    assert planning.plan(done, ["headway", "fastapi", "kserve"], ["logistic"], 0) == []


def test_the_chosen_layer_is_shown_as_a_multiple_of_the_others() -> None:
    visits = [visit("layer-protocol", n, rate64=300.0 * n) for n in (1, 2)]
    visits += [visit("layer-uvicorn", n, rate64=100.0 * n) for n in (1, 2)]
    line = page.to_protocol(visits, ["layer-uvicorn"]).splitlines()[-1]
    assert line.split("|")[1:4] == [" ASGI on uvicorn ", " 1.00 (1.00-1.00) ", " 3.00 (3.00-3.00) "]
