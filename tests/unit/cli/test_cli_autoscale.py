"""``headway autoscale`` against the real control API in memory: what is set, what is shown; and list, status, scale."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import headway.client
from headway.cli import autoscale, explain
from headway.client.client import Client
from headway.control.book import Changed
from headway.domain.errors import ControlUnreachable
from tests.unit.cli.installation import POLICY, Installation
from tests.unit.scaling_records import document, record

# -- setting -------------------------------------------------------------------------------------------


def test_flags_make_a_policy_and_later_ones_change_their_part(here: Installation) -> None:
    shown = here.ok("autoscale", "iris", *POLICY, "--window", "30s", "--span", "2m", "--cooldown", "90s")
    assert shown.splitlines()[0] == "iris: 1 to 12 replicas of each version (was: 1, fixed)"
    assert here.trigger("cpu")["target"] == "80%"
    wished = {"quantile": "p95", "threshold": "900ms", "step": 2, "window": "30s", "span": "2m", "cooldown": "90s"}
    assert wished.items() <= here.trigger("latency").items()
    before = dict(here.policy)

    assert here.ok("autoscale", "iris", "--max", "9").splitlines()[1:] == ["  maxReplicas: 12 -> 9"]
    assert here.policy == {**before, "maxReplicas": 9}
    here.ok("autoscale", "iris", "--latency", "average < 1.5s")
    assert here.trigger("latency") == {**before["triggers"][1], "quantile": "average", "threshold": "1500ms"}
    shown = here.ok("autoscale", "iris", "--cpu", "off", "--rps", "50", "--concurrency", "4.5")
    assert "  cpu: gone" in shown
    assert "  rps: new, 50 requests a second per replica" in shown
    assert here.trigger("cpu") is None
    assert (here.trigger("rps")["target"], here.trigger("concurrency")["target"]) == (50, 4.5)
    assert "no changes" in here.ok("autoscale", "iris", "--rps", "50")
    assert "  shadow: false -> true" in here.ok("autoscale", "iris", "--shadow")
    assert here.policy["shadow"] is True
    here.ok("autoscale", "iris", "--no-shadow")
    assert here.policy["shadow"] is False


def test_off_keeps_as_many_replicas_as_there_are(here: Installation) -> None:
    here.ok("autoscale", "iris", *POLICY)
    here.ok("scale", "iris", "5", "--no-wait")
    assert here.ok("autoscale", "iris", "--off", "--dry-run").startswith("iris: 5 replicas of each version, fixed\n")
    assert here.policy is not None
    assert here.ok("autoscale", "iris", "--off") == "iris: 5 replicas of each version, fixed\n"
    assert (here.policy, here.world.book.get("iris").replicas) == (None, 5)
    assert "no changes" in here.ok("autoscale", "iris", "--off")


def test_a_dry_run_tells_and_changes_nothing(here: Installation) -> None:
    shown = here.ok("autoscale", "iris", *POLICY, "--dry-run")
    assert "1 to 12 replicas" in shown
    assert "nothing was changed" in shown
    assert here.policy is None
    here.ok("autoscale", "iris", *POLICY)
    told = json.loads(here.ok("autoscale", "iris", "--max", "9", "--cpu", "70%", "--dry-run", "-o", "json"))
    assert told == [
        {"path": "maxReplicas", "old": 12, "new": 9},
        {"path": "cpu.target", "old": "80%", "new": "70%"},
    ]
    assert here.trigger("cpu")["target"] == "80%"


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (["--cpu", "80%"], "--max"),
        (["--max", "3"], ""),
        (["--shadow"], ""),
        (["--max", "3", "--cpu", "80"], "--cpu"),
        (["--max", "3", "--memory", "0%"], "--memory"),
        (["--max", "3", "--concurrency", "many"], "--concurrency"),
        (["--max", "3", "--rps", "-1"], "--rps"),
        (["--max", "3", "--rps", "nan"], "--rps"),
        (["--max", "3", "--latency", "p90<1s"], "--latency"),
        (["--max", "3", "--latency", "p95<1"], "--latency"),
        (["--max", "3", "--latency", "p95>1s"], "--latency"),
        (["--max", "3", "--latency", "p95<2h"], "--latency"),
        (["--max", "3", "--cpu", "80%", "--step", "2"], "--step"),
        (["--max", "3", "--latency", "1s", "--window", "x"], "--window"),
        (["--max", "3", "--latency", "1s", "--window", "1ms"], "--window"),
        (["--max", "3", "--latency", "1s", "--window", "1m", "--span", "90s"], "--span"),
        (["--max", "3", "--latency", "1s", "--cooldown", "2d"], "--cooldown"),
        (["--min", "4", "--max", "3", "--cpu", "80%"], "--max"),
        (["--min", "0", "--max", "3", "--cpu", "80%"], "--min"),
        (["--max", "3", "--cpu", "off"], "--cpu"),
        (["--off", "--max", "3"], "--off"),
        (["--watch", "--max", "3"], "--watch"),
        (["--dry-run"], "--dry-run"),
        (["-f", "nowhere.yaml"], "--file"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_by_the_name_of_its_flag(here: Installation, args: list[str], where: str) -> None:
    found, text = here.refused("autoscale", "iris", *args)
    assert found == where, text
    assert here.policy is None


def test_taking_the_last_trigger_away_points_to_off(here: Installation) -> None:
    here.ok("autoscale", "iris", "--max", "3", "--cpu", "80%")
    assert "--off" in here.refused("autoscale", "iris", "--cpu", "off")[1]
    assert here.trigger("cpu") is not None


def test_two_triggers_of_a_kind_need_a_file(here: Installation, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "maxReplicas: 4\ntriggers:\n- {type: latency, threshold: 1s}\n- {type: latency, name: mean, threshold: 1s}\n"
    )
    here.ok("autoscale", "iris", "-f", str(file))
    where, text = here.refused("autoscale", "iris", "--latency", "2s")
    assert where == "--latency"
    assert "latency, mean" in text
    assert here.refused("autoscale", "iris", "--step", "2")[0] == "--step"


SECTION = "maxReplicas: 4\ntriggers:\n- {type: rps, target: 5}\n"
DOCUMENT = "metadata: {{name: {name}}}\nspec:\n  scaling: {{maxReplicas: 4, triggers: [{{type: rps, target: 5}}]}}\n"


@pytest.mark.parametrize(
    "text",
    [SECTION, "scaling:\n" + re.sub("^", "  ", SECTION, flags=re.MULTILINE), DOCUMENT.format(name="iris")],
    ids=["section", "under its name", "document"],
)
def test_a_file_holds_the_section_or_a_document_and_flags_change_it(
    here: Installation, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    here.ok("autoscale", "iris", "--max", "12", "--cpu", "80%")
    here.ok("autoscale", "iris", "-f", str(file), "--min", "2")
    assert (here.policy["minReplicas"], here.policy["maxReplicas"]) == (2, 4)
    assert [t["type"] for t in here.policy["triggers"]] == ["rps"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (SECTION + "- {type: cpu, targt: 80%}\n", r"policy\.yaml:4:3: triggers\[1\]"),
        ("scaling:\n  maxReplica: 3\n", r"policy\.yaml:2:3: scaling\.maxReplica"),
        (
            "spec: {scaling: {maxReplicas: x}}\nmetadata: {name: iris}\n",
            r"policy\.yaml:1:18: spec\.scaling\.maxReplicas",
        ),
        ("metadata: {name: iris}\n", r"policy\.yaml.*: spec"),
        (DOCUMENT.format(name="wine"), "--file"),
        ("[1]", r"policy\.yaml$"),
    ],
)
def test_a_file_that_says_something_else_is_refused_at_its_line(
    here: Installation, tmp_path: Path, text: str, where: str
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    found, whole = here.refused("autoscale", "iris", "-f", str(file))
    assert re.search(where, found), whole
    assert here.policy is None


def test_a_file_without_triggers_fixes_the_number(here: Installation, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("minReplicas: 3\n")
    here.ok("autoscale", "iris", "--max", "12", "--cpu", "80%")
    assert here.ok("autoscale", "iris", "-f", str(file)) == "iris: 3 replicas of each version, fixed\n"
    assert (here.policy, here.world.book.get("iris").replicas) == (None, 3)


# -- looking -------------------------------------------------------------------------------------------


def test_a_fixed_number_is_said_to_be_fixed(here: Installation) -> None:
    assert here.ok("autoscale", "iris") == "iris  1 replica of each version, fixed\n"
    assert json.loads(here.ok("autoscale", "iris", "-o", "json"))["scaling"] is None
    assert "fixed number" in here.ok("explain", "iris")


def test_each_signal_is_shown_with_its_age_and_what_it_wants(here: Installation, vienna: None) -> None:
    here.ok("autoscale", "iris", *POLICY)
    assert "nothing decided yet" in here.ok("autoscale", "iris")
    here.world.decided["v1"] = document(here.world.clock.now() - 3, cpu=1.4, latency_s=None)
    lines = here.ok("autoscale", "iris").splitlines()
    assert lines[0] == "iris  1 to 12 replicas of each version"
    assert "v1  100 %  1 replica wished, 1 ready" in lines
    cpu = next(line for line in lines if line.startswith("  cpu      1"))
    assert cpu.split()[:9] == ["cpu", "140", "%", "80.0", "%", "4", "0.4", "s", "ok"]
    latency = next(line for line in lines if line.startswith("  latency  -"))
    assert latency.split()[:3] == ["latency", "-", "900"]
    decided = next(line for line in lines if "decided" in line)
    assert re.fullmatch(r"  decided  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d CES?T, 3\.0 s ago: 2 -> 4, settled by cpu", decided)


ALL_KINDS = """
minReplicas: 0
maxReplicas: 4
shadow: true
fallback: {replicas: 2, failureThreshold: 5, behavior: currentReplicasIfHigher}
behavior:
  scaleUp:
    selectPolicy: Min
    policies: [{type: Pods, value: 1, periodSeconds: 60}, {type: Percent, value: 50, periodSeconds: 60}]
  scaleDown: {selectPolicy: Disabled, stabilizationWindowSeconds: 0, tolerance: 0.2}
triggers:
- {type: cpu, target: 80%}
- {type: concurrency, target: 4, panicWindow: 0s}
- {type: latency, threshold: 900ms, span: 5m, pick: latest}
- {type: prometheus, serverAddress: "http://localhost:9090", query: "sum(up)", threshold: 3}
- {type: rabbitmq, host: "http://localhost:15672", queueName: work, mode: MessageRate, value: 20}
- {type: redis, address: "localhost:6379", listName: work, library: rq}
- {type: postgresql, connection: "postgresql://me@localhost:5432/db", query: "select 1", targetQueryValue: 2}
- {type: jobs, value: 4}
- {type: jobs, name: theirs, model: forecast, value: 2}
- {type: cron, start: "0 8 * * 1-5", end: "0 18 * * 1-5", timezone: Europe/Vienna, desiredReplicas: 3}
- {type: python}
"""


def test_every_kind_of_trigger_and_rule_is_told_in_words(here: Installation, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(ALL_KINDS)
    here.ok("autoscale", "iris", "-f", str(file))
    shown = here.ok("autoscale", "iris")
    for words in (
        "cpu         80% of the cores that a replica has, over 15s",
        "concurrency 4 requests in flight per replica, over 1m\n",
        "p95 above 900ms in the newest of 5 windows of 1m: 1 more, then 1m of cooldown",
        "prometheus  3 per replica of sum(up) at http://localhost:9090",
        "rabbitmq    20 messages a second per replica in queue work",
        "redis       5 entries per replica in work (rq)",
        "postgresql  2 per replica of select 1",
        "jobs        4 jobs, queued and running, per replica",
        "theirs      2 jobs of forecast, queued and running, per replica",
        "cron        3 replicas from '0 8 * * 1-5' to '0 18 * * 1-5', Europe/Vienna",
        "python      scaling:decide of the bundle, every 15s",
        "idle        the last replica goes 5m after it was last needed",
        "fallback    2 replicas (currentReplicasIfHigher) after 5 failures",
        "scale up    at most 1 in 60 s or 50 % in 60 s, whichever is less",
        "scale down  stabilization window 0 s; never; tolerance 0.2",
        "shadow      decisions are recorded and not carried out",
    ):
        assert words in shown


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_no_line_is_wider_than_it(
    here: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(ALL_KINDS)
    here.ok("autoscale", "iris", "-f", str(file))
    here.ok("autoscale", "iris", "--no-shadow", "--min", "1")
    here.world.decided["v1"] = document(here.world.clock.now() - 3, cpu=1.4, latency_s=2.0)
    here.records(record(here.world.clock.now() - 30, cpu=1.4), record(here.world.clock.now() - 20, cpu=3.4))
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width, highlight=False, soft_wrap=True)
    for module in (autoscale, explain):
        monkeypatch.setattr(module, "out", console)
    for args in (["autoscale", "iris"], ["explain", "iris", "--at", "25s"], ["explain", "iris", "--history"]):
        here.ok(*args)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert max(map(len, plain.splitlines())) <= width
    assert "of cooldown" in " ".join(plain.split())


def test_watching_prints_a_line_per_change_in_a_pipe(here: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscale, "EVERY_S", 0.0)
    here.ok("autoscale", "iris", *POLICY)
    monkeypatch.setattr(Client, "scaling", Changing(here).look)
    code, shown, _ = here.run("autoscale", "iris", "-w")
    assert code == 130
    lines = shown.splitlines()
    assert [re.findall(r"\d+ replicas? wished, \d ready|scaled to zero", line)[0] for line in lines] == [
        "1 replica wished, 1 ready",
        "4 replicas wished, 1 ready",
    ]
    code, shown, _ = here.run("autoscale", "iris", "-w", "-o", "json")
    assert code == 130
    views = [json.loads(line) for line in shown.splitlines()]
    assert [view["versions"][0]["wished"] for view in views] == [4]


class Changing:
    """Looks at the model: at first as it is, twice; then nobody answers for once; then it has grown; then Ctrl-C."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.looks = 0
        self.real = Client.scaling

    def look(self, name: str) -> Any:
        self.looks += 1
        if self.looks == 3:
            raise ControlUnreachable("restarting")
        if self.looks == 4:
            book = self.here.world.book
            self.here.runner.run(book.change("iris", lambda d: Changed(d.with_wished("v1", 4)) if d else None))
        if self.looks in (5, 7):
            raise KeyboardInterrupt
        with headway.client.Client() as client:
            return self.real(client, name)


# -- beside it -----------------------------------------------------------------------------------------


def test_list_and_status_show_bounds_and_rest_at_zero(here: Installation) -> None:
    here.ok("autoscale", "iris", "--min", "0", "--max", "4", "--rps", "5")
    row = here.ok("list").splitlines()[1]
    assert "1/1 (0-4)" in row
    assert "scaled between 0 and 4 of each version" in here.ok("status", "iris")
    here.world.runtime.end("iris-v1-bcdfg")
    book = here.world.book
    ready = type(book.get("iris").state)("ready")
    change = book.change("iris", lambda d: Changed(replace(d.with_wished("v1", 0), state=ready)) if d else None)
    here.runner.run(change)
    row = here.ok("list").splitlines()[1]
    assert "at zero" in row
    assert "0/0 (0-4)" in row
    shown = here.ok("status", "iris")
    assert "scaled to zero: the next request starts one" in shown
    assert "degraded" not in shown
    assert "scaled to zero" in here.ok("autoscale", "iris")


def test_scale_tells_that_it_may_not_last_and_what_can_stand(here: Installation) -> None:
    assert here.run("scale", "iris", "2", "--no-wait") == (0, "iris: asked for v1 100 %, 2 replicas each\n", "")
    here.ok("autoscale", "iris", *POLICY)
    code, shown, noted = here.run("scale", "iris", "3", "--no-wait")
    assert (code, shown) == (0, "iris: asked for v1 100 %, 1-12 replicas each\n")
    assert "may change it again, between 1 and 12" in noted
    where, text = here.refused("scale", "iris", "13", "--no-wait")
    assert where == "REPLICAS"
    assert "headway autoscale iris" in text
