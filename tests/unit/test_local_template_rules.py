"""Which replicas share a template, and how a forked one gets a name of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.local.adoption import FoundProcess, without_templates
from headway.adapters.local.launch import Launcher
from headway.adapters.local.templates import key_of
from headway.domain.replicas import Probe, Probes, ReplicaSpec
from headway.server import template_wire

PROBE = Probe("/health/ready")
SPEC = ReplicaSpec(
    replica_id="iris-v1-bcdfg",
    model="iris",
    version="v1",
    digest="0" * 64,
    bundle_path="/bundles/x",
    python="/env/bin/python",
    entrypoint=None,
    probes=Probes(PROBE, PROBE, PROBE),
    env={"STAGE": "one"},
)


def key(home: Path = Path("/home"), inherited: dict[str, str] | None = None, **changes: Any) -> str:
    return key_of(replace(SPEC, **changes), Launcher(home, inherited or {"PATH": "/bin"}, None))


def test_replicas_of_a_version_share_a_template() -> None:
    slower = Probes(replace(PROBE, period_s=60.0), PROBE, PROBE)
    assert key() == key(replica_id="iris-v1-hjklm") == key(warm=True) == key(probes=slower, termination_grace_s=1.0)
    assert len(template_wire.mark_of(key())) == template_wire.MARK_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "v2"},
        {"model": "other"},
        {"digest": "1" * 64},
        {"bundle_path": "/bundles/y"},
        {"python": "/other/bin/python"},
        {"entrypoint": "model:Iris"},
        {"env": {"STAGE": "two"}},
        {"cpu_millicores": 500},
        {"memory_bytes": 2**30},
        {"inherited": {"PATH": "/bin", "LANG": "C"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_loaded_model_depends_on_makes_another_template(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_marks_of_templates_are_told_from_replicas() -> None:
    assert template_wire.key_of(template_wire.mark_of("0123456789abcdef")) == "0123456789abcdef"
    assert template_wire.key_of("iris-v1-bcdfg") is None
    replica = FoundProcess(10, 1, 1, True, "iris-v1-bcdfg")
    template = FoundProcess(9, 1, 1, True, template_wire.mark_of("0123456789abcdef"))
    helper = FoundProcess(11, 1, 9, False, template.replica_id)
    assert without_templates([template, replica, helper]) == ([replica], [template, helper])


RENAME = """
import os, sys
from headway.server import template_mark
try:
    template_mark.check()
    template_mark.rename(sys.argv[1])
except template_mark.MarkFault as fault:
    sys.exit(str(fault))
entries = open("/proc/self/environ", "rb").read().split(b"\\0")
print([e.decode() for e in entries if e.startswith(b"HEADWAY_REPLICA=") or e.startswith(b"LAST=")])
print(os.environ["HEADWAY_REPLICA"])
"""


def rename(name: str, mark: str | None) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "NOT_HEADWAY_REPLICA": "x"}
    env |= {"HEADWAY_REPLICA": mark} if mark is not None else {}
    command = [sys.executable, "-c", RENAME, name]
    return subprocess.run(command, env=env | {"LAST": "last"}, capture_output=True, text=True, check=False)


def test_a_process_is_renamed_in_its_environment() -> None:
    renamed = rename("iris-v1-bcdfg", template_wire.mark_of("0123456789abcdef"))
    assert renamed.stdout.splitlines() == ["['HEADWAY_REPLICA=iris-v1-bcdfg', 'LAST=last']", "iris-v1-bcdfg"], renamed


@pytest.mark.parametrize(("mark", "told"), [(None, "is not in the environment"), ("short", "there is no room")])
def test_a_name_that_cannot_be_written_is_a_fault(mark: str | None, told: str) -> None:
    refused = rename("iris-v1-bcdfg", mark)
    assert refused.returncode == 1
    assert told in refused.stderr
