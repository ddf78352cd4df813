"""A policy set from the command line, under load, and what may be asked about it afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.e2e.test_autoscaling import SLOW, TIMEOUT_S, load, replicas
from tests.installation import Installation
from tests.waiting import wait_until


def test_a_policy_is_set_watched_explained_and_switched_off(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    running.ok("deploy", str(write_model("slow", SLOW)))
    asked = ("autoscale", "slow", "--max", "2", "--concurrency", "1")
    assert "nothing was changed" in running.ok(*asked, "--dry-run").stdout
    assert running.ok(*asked).stdout.startswith("slow: 1 to 2 replicas of each version (was: 1, fixed)")
    refused = running.run("autoscale", "slow", "--concurrency", "none")
    assert (refused.code, "where: --concurrency" in refused.stderr) == (2, True)
    refused = running.run("scale", "slow", "3")
    assert (refused.code, "where: REPLICAS" in refused.stderr) == (2, True)

    with load(running.data_url, 6):
        wait_until(lambda: replicas(running) == 2, TIMEOUT_S, what="2 ready replicas")
        standing = running.ok("autoscale", "slow").stdout
    assert re.search(r"^v1  100 %  2 replicas wished, 2 ready$", standing, re.MULTILINE)
    assert re.search(r"^  concurrency +[\d.]+ +1\.00 +\d+ ", standing, re.MULTILINE)

    changed = ("explain", "slow", "--changed")
    wait_until(lambda: "1 -> 2" in running.ok(*changed).stdout, TIMEOUT_S, what="a record of the change")
    told = running.ok(*changed).stdout
    # How much more than two replicas it wished for at that moment depends on the machine.
    assert re.match(r"slow v1: 1 -> 2, settled by (concurrency|maxReplicas)\n", told)
    for words in ("concurrency wishes", "what would have changed it", "nothing has changed since"):
        assert words in told
    at = re.search(r"decided (\S+) (\S+) ", told)
    assert at is not None
    assert running.ok("explain", "slow", "--at", f"{at[1]}T{at[2]}").stdout.startswith("slow v1: 1 -> 2")
    assert "1 -> 2" in running.ok("explain", "slow", "--history", "--changed").stdout
    assert re.search(r"^slow +ready .* 2/2 \(1-2\) ", running.ok("list").stdout, re.MULTILINE)

    assert running.ok("autoscale", "slow", "--off").stdout == "slow: 2 replicas of each version, fixed\n"
    assert "fixed" in running.ok("autoscale", "slow").stdout
    assert running.ok(*changed).stdout.startswith("slow v1: 1 -> 2")
