"""From what a process leaves behind to words for the model's owner."""

from __future__ import annotations

import json
import signal
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.local import failures
from headway.adapters.local.process import Exit
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.domain.replicas import Probe, Probes, ReplicaSpec

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> ReplicaFolder:
    folder = ReplicaFolder(tmp_path / "iris-v1-bcdfg")
    folder.create()
    return folder


@pytest.fixture
def record(tmp_path: Path) -> ReplicaRecord:
    probe = Probe("/health/ready", period_s=5, failure_threshold=24)
    spec = ReplicaSpec(
        replica_id="iris-v1-bcdfg",
        model="iris",
        version="v1",
        digest="0" * 64,
        bundle_path=str(tmp_path / "bundle"),
        python="python",
        entrypoint=None,
        probes=Probes(probe, probe, replace(probe, failure_threshold=3)),
        memory_bytes=512 * MIB,
    )
    return ReplicaRecord(spec=spec, socket="/nowhere.sock")


def stack(bundle: Path) -> str:
    return textwrap.dedent(f"""\
        Thread 0x00007f1c4bfff6c0 (most recent call first):
          File "/usr/lib/python3.11/threading.py", line 324 in wait
          File "{bundle}/model.py", line 99 in beside

        Current thread 0x00007f1c51234567 (most recent call first):
          File "/usr/lib/python3.11/socket.py", line 706 in readinto
          File "{bundle}/lib/net.py", line 12 in fetch
          File "{bundle}/model.py", line 7 in load
          File "/usr/lib/headway/server/loading.py", line 40 in load_model
        """)


def test_the_failure_report_has_the_best_words(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    report = {"stage": "load", "code": "load_failed", "message": "ValueError: no", "where": "model.py:3", "hint": "h"}
    folder.failure.write_text(json.dumps(report))
    folder.log.write_text("loading\nTraceback\n")
    crash = failures.of_exit(Exit(code=78), folder, record, serving=False)
    assert crash.reason == "LoadFailed"
    found = crash.failure
    assert (found.code, found.message, found.where, found.hint) == ("load_failed", "ValueError: no", "model.py:3", "h")
    assert found.log_tail == "loading\nTraceback\n"


@pytest.mark.parametrize("text", ["", "{", '{"stage": 3}', "[]"])
def test_a_report_cut_short_is_not_one(folder: ReplicaFolder, record: ReplicaRecord, text: str) -> None:
    folder.failure.write_text(text)
    assert "exited with code 78" in failures.of_exit(Exit(code=78), folder, record, serving=False).failure.message


@pytest.mark.parametrize(
    "message", ["MemoryError", "MemoryError: x", "_ArrayMemoryError: Unable to allocate 8 GiB", "numpy.MemoryError: x"]
)
def test_a_memory_error_is_out_of_memory(folder: ReplicaFolder, record: ReplicaRecord, message: str) -> None:
    folder.failure.write_text(json.dumps({"stage": "load", "code": "load_failed", "message": message}))
    crash = failures.of_exit(Exit(code=78), folder, record, serving=False)
    assert (crash.reason, crash.failure.code) == ("OOMKilled", "out_of_memory")
    assert "limit 512 MiB" in crash.failure.message
    assert message in crash.failure.message


def test_a_class_of_the_users_own_is_no_memory_error(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    folder.failure.write_text(json.dumps({"stage": "load", "code": "load_failed", "message": "MyMemoryErrors: x"}))
    assert failures.of_exit(Exit(code=78), folder, record, serving=False).failure.code == "load_failed"


@pytest.mark.parametrize(
    ("exit_", "serving", "code", "words"),
    [
        (Exit(code=3), False, "load_failed", "exited with code 3 while starting"),
        (Exit(code=0), False, "load_failed", "exited with code 0 while starting"),
        (Exit(code=3), True, "model_failed", "exited with code 3 while serving"),
        (Exit(signal=9), False, "model_failed", "killed by signal SIGKILL while starting"),
        (Exit(signal=9), True, "model_failed", "killed by signal SIGKILL while serving"),
        (Exit(signal=11), False, "load_failed", "killed by signal SIGSEGV"),
        (Exit(signal=11), True, "model_failed", "killed by signal SIGSEGV"),
        (Exit(signal=40), True, "model_failed", "killed by signal 40"),
        (Exit(), True, "model_failed", "exit status is not known"),
    ],
)
def test_a_bare_exit_is_put_into_words(
    folder: ReplicaFolder, record: ReplicaRecord, exit_: Exit, serving: bool, code: str, words: str
) -> None:
    crash = failures.of_exit(exit_, folder, record, serving=serving)
    assert crash.failure.code == code
    assert words in crash.failure.message


def test_a_worker_that_ended_because_of_its_job_is_in_order(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    worker = replace(record, spec=replace(record.spec, role="work"))
    killed = failures.of_exit(Exit(signal=14), folder, worker, serving=True)
    assert (killed.reason, killed.failure.code, killed.at_once) == ("JobTimedOut", "job_timed_out", True)
    assert "time limit" in killed.failure.message
    for exit_, serving, who in (
        (Exit(signal=14), False, worker),  # its own alarm, while loading
        (Exit(signal=14), True, record),
        (Exit(signal=11), True, worker),
        (Exit(code=75), True, worker),
    ):
        assert not failures.of_exit(exit_, folder, who, serving=serving).at_once
    told = {"stage": "job", "code": "worker_lost", "message": "job 1 was canceled", "where": "model.py:3"}
    folder.failure.write_text(json.dumps(told))
    ended = failures.of_exit(Exit(code=75), folder, worker, serving=True)
    assert (ended.reason, ended.failure.message, ended.failure.where) == (
        "JobEnded",
        "job 1 was canceled",
        "model.py:3",
    )
    assert ended.at_once
    assert not failures.of_exit(Exit(code=75), folder, record, serving=True).at_once


@pytest.mark.parametrize("listens", [True, False])
def test_a_worker_that_listens_takes_jobs_whether_or_not_it_was_probed(
    folder: ReplicaFolder, record: ReplicaRecord, tmp_path: Path, listens: bool
) -> None:
    socket = tmp_path / "s"
    if listens:
        socket.touch()
    worker = replace(record, spec=replace(record.spec, role="work"), socket=str(socket))
    found = failures.of_exit(Exit(signal=signal.SIGSEGV), folder, worker, serving=False).failure
    expected = ("model_failed", "while serving") if listens else ("load_failed", "while starting")
    assert (found.code, found.message.partition("SIGSEGV ")[2]) == expected
    ended = failures.of_exit(Exit(signal=signal.SIGALRM), folder, worker, serving=False)
    assert (ended.reason == "JobTimedOut") is listens


def test_an_exit_without_an_exception_points_at_os_exit(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    folder.log.write_text("loading weights\n")
    assert "os._exit" in (failures.of_exit(Exit(code=3), folder, record, serving=False).failure.hint or "")


def test_an_exit_with_an_error_in_the_log_quotes_it(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    folder.log.write_text("Traceback (most recent call last):\nModuleNotFoundError: No module named 'msgspec'\n")
    failure = failures.of_exit(Exit(code=1), folder, record, serving=False).failure
    assert failure.message.endswith("ModuleNotFoundError: No module named 'msgspec'")
    assert failure.hint is None


def test_only_what_this_process_printed_counts(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    folder.log.write_text("OldError: of the process before\n")
    found = folder.log.stat()
    record = replace(record, log_inode=found.st_ino, log_offset=found.st_size)
    with folder.log.open("a") as file:
        file.write("new\n")
    assert failures.of_exit(Exit(code=3), folder, record, serving=False).failure.log_tail == "new\n"


def test_a_hang_in_load_is_named_by_file_and_line(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    folder.stack.write_text(stack(Path(record.spec.bundle_path)))
    crash = failures.of_startup("no answer", folder, record)
    assert crash.reason == "StartTimeout"
    assert crash.failure.code == "start_timeout"
    assert crash.failure.message == "did not become ready within 120 s; it hangs in lib/net.py:12 fetch"
    assert crash.failure.where == "lib/net.py:12"


def test_a_hang_elsewhere_is_told_by_the_probe(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    crash = failures.of_liveness("no answer from /health/live within 1 s", folder, record)
    assert crash.reason == "LivenessFailed"
    assert "liveness probe 3 times" in crash.failure.message
    assert "no answer from /health/live within 1 s" in crash.failure.message
    assert crash.failure.where is None


def test_other_threads_are_asked_when_the_main_one_is_outside_the_bundle(tmp_path: Path) -> None:
    text = stack(tmp_path).replace("lib/net.py", "x").replace(f'"{tmp_path}/x"', '"/lib/x"')
    text = text.replace(f'"{tmp_path}/model.py", line 7', '"/elsewhere/model.py", line 7')
    assert failures.innermost_bundle_frame(text, tmp_path) == ("model.py:99", "beside")
    assert failures.innermost_bundle_frame("", tmp_path) is None
    assert failures.innermost_bundle_frame("rubbish\n\n  File", tmp_path) is None


def test_a_bundle_behind_a_link_is_recognised(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    assert failures.innermost_bundle_frame(stack(real), link) == ("lib/net.py:12", "fetch")


def test_memory_says_how_much_and_how_much_was_allowed(folder: ReplicaFolder, record: ReplicaRecord) -> None:
    crash = failures.of_memory(612 * MIB, folder, record)
    assert crash.reason == "OOMKilled"
    assert crash.failure.message == "used 612 MiB, limit 512 MiB"


def test_an_interpreter_that_is_not_there_is_named(record: ReplicaRecord) -> None:
    error = FileNotFoundError(2, "No such file or directory", record.spec.python)
    crash = failures.of_spawn(error, record.spec)
    assert "No such file" in crash.failure.message
    assert "environment" in (crash.failure.hint or "")


def test_signals_have_names() -> None:
    assert str(Exit(signal=signal.SIGTERM)) == "was killed by signal SIGTERM"
