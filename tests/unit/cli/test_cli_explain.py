"""``headway explain`` against the real control API in memory: which decision, told how."""

from __future__ import annotations

import json
import re
import time

from tests.unit.cli.installation import POLICY, Installation
from tests.unit.scaling_records import record, worker_record


def test_a_decision_is_explained_with_what_came_after(here: Installation, vienna: None) -> None:
    now = here.world.clock.now()
    here.records(record(now - 600, cpu=1.5), record(now - 90, current=4, cpu=1.0), record(now - 20, current=5))
    told = here.ok("explain", "iris", "--at", "-9m")
    assert told.splitlines()[0] == "iris v1: 2 -> 4, settled by cpu"
    assert re.match(r"  decided \d{4}-\d\d-\d\d \d\d:\d\d:\d\d CES?T, 60 s before \d{4}-", told.splitlines()[1])
    assert "UTC" not in told
    for words in ("cpu wishes 4", "latency holds 2", "would have led to", "since then", "4 -> 5"):
        assert words in told
    assert "stays 5" in here.ok("explain", "iris").splitlines()[0]
    assert "nothing has changed since" in here.ok("explain", "iris", "--changed")
    assert here.ok("explain", "iris", "--changed").startswith("iris v1: 4 -> 5")
    assert "no decision about iris was recorded by" in here.ok("explain", "iris", "--at", "-1h")
    view = json.loads(here.ok("explain", "iris", "--at", "-9m", "-o", "json"))
    assert view["decisions"][0]["desired"] == 4


def test_a_model_that_is_not_scaled_any_more_is_said_to_be_so(here: Installation) -> None:
    here.records(record(here.world.clock.now() - 6000, cpu=1.5))
    code, told, noted = here.run("explain", "iris")
    assert (code, told.splitlines()[0]) == (0, "iris v1: 2 -> 4, settled by cpu")
    assert noted == "note: iris has a fixed number of replicas now\n"
    here.ok("autoscale", "iris", *POLICY)
    assert here.run("explain", "iris")[2] == ""
    here.records(record(here.world.clock.now() - 6000, model="gone"))
    assert here.run("explain", "gone")[2] == ""


def test_each_version_of_the_split_is_explained_unless_one_is_named(here: Installation) -> None:
    here.split(v1=90, v2=10)
    here.records(record(here.world.clock.now() - 9, "v1"), record(here.world.clock.now() - 8, "v2"))
    heads = [line for line in here.ok("explain", "iris").splitlines() if line.startswith("iris")]
    assert heads == ["iris v1: stays 2, settled by cpu", "iris v2: stays 2, settled by cpu"]
    assert here.ok("explain", "iris", "--version", "v2").count("settled by") == 1


def test_times_are_local_or_iso_or_relative(here: Installation, vienna: None) -> None:
    now = here.world.clock.now()
    here.records(record(now - 3600, cpu=1.5), record(now - 60, current=4))
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now - 1800))
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 1800))
    for then in (local, utc, "-30m", "30m", f"{now - 1800:.3f}"):
        assert here.ok("explain", "iris", "--at", then).startswith("iris v1: 2 -> 4"), then
    assert here.ok("explain", "iris", "--at", "now").startswith("iris v1: stays 4")
    here.records(record(now - 7199.5, current=4, cpu=1.6))
    shown = re.search(r"decided ([\d-]+) ([\d:]+) ", here.ok("explain", "iris", "--at", f"{now - 7000}"))
    assert shown is not None
    assert here.ok("explain", "iris", "--at", f"{shown[1]}T{shown[2]}").startswith("iris v1: 4 -> 8")
    where, text = here.refused("explain", "iris", "--at", "25:00")
    assert where == "--at"
    assert "local time" in text


def test_history_is_a_line_per_decision(here: Installation, vienna: None) -> None:
    here.world.clock.step_wall(-here.world.clock.now() % 86_400 + 12 * 3600)  # noon in UTC
    now = here.world.clock.now()
    here.records(record(now - 7200, cpu=1.5))
    here.records(record(now - 60, current=4, cpu=0.8), record(now - 30, current=4, cpu=1.6))
    lines = here.ok("explain", "iris", "--history").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d CES?T", lines[0])
    assert lines[1].split() == ["time", "version", "replicas", "settled", "by", "because"]
    assert len(lines) == 4
    assert re.fullmatch(r"1[34]:59:30  v1       4 -> 8    cpu         1\.6 per replica over 4, target 0\.8", lines[3])
    assert "4 replicas" not in lines[3]
    assert len(here.ok("explain", "iris", "--history", "--since", "-3h").splitlines()) == 5
    assert len(here.ok("explain", "iris", "--history", "--since", "3h", "-n", "1").splitlines()) == 3
    assert len(here.ok("explain", "iris", "--history", "--changed").splitlines()) == 3
    here.records(record(now - 86_400))
    dated = here.ok("explain", "iris", "--history", "--since", "2d").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d 1[34]:00:00 CES?T  v1 ", dated[1])
    assert "was recorded since" in here.ok("explain", "iris", "--history", "--since", "1s")
    assert [one["desired"] for one in json.loads(here.ok("explain", "iris", "--history", "-o", "json"))] == [4, 8]
    for args in (["--since", "1h"], ["--limit", "1"], ["--at", "1h", "--history"]):
        assert here.refused("explain", "iris", *args)[0] == args[0]


def test_times_of_day_in_the_story_are_local_as_well(here: Installation, vienna: None) -> None:
    at = here.world.clock.now() - 20
    here.records(record(at, current=6))  # what would have changed it is the latency at the evaluation of that second
    told = here.ok("explain", "iris")
    assert f"at the evaluation of {time.strftime('%H:%M:%S', time.localtime(at))} would lead" in " ".join(told.split())
    assert "UTC" not in told


def test_workers_are_explained_apart_and_in_their_own_words(here: Installation, vienna: None) -> None:
    now = here.world.clock.now()
    here.records(record(now - 50, cpu=1.5), worker_record(now - 40), worker_record(now - 20, current=8, room=3))
    told = here.ok("explain", "iris", "--workers", "--at", "-30s")
    assert told.splitlines()[0] == "iris v1: workers 0 -> 8, settled by workers.max"
    for words in ("0 workers wished, 0 ready, bounds 0 to 8", "jobs wishes 1000: 1000, target 1 per worker", "8 -> 3"):
        assert words in told
    assert "replica" not in told
    assert here.ok("explain", "iris", "--workers").startswith("iris v1: workers 8 -> 3, settled by room")
    assert "with room for 8 it would have been 8" in here.ok("explain", "iris", "--workers")
    history = here.ok("explain", "iris", "--workers", "--history").splitlines()
    assert history[1].split()[:3] == ["time", "version", "workers"]
    assert [line.split()[2:5] for line in history[2:]] == [["0", "->", "8"], ["8", "->", "3"]]
    assert "cpu" in here.ok("explain", "iris", "--history"), "replicas are told of as before"
    assert len(here.ok("explain", "iris", "--history").splitlines()) == 3
    assert "no decision about workers of iris was recorded by" in here.ok("explain", "iris", "--workers", "--at", "-1h")
