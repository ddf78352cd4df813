"""Environments made by the real uv, and by one that hangs, dies and lies."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headway.adapters.local.environments import UvEnvironments, server_pins
from headway.adapters.local.requirements import pins
from headway.domain.errors import EnvironmentFailed, StorageFailed
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio
FOUR = "six==1.17.0\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "requirements.txt").write_text(FOUR)
    return folder


@pytest.fixture
def fake_uv(tmp_path: Path) -> Callable[[str], str]:
    """Makes a uv out of a shell script; ``$1 $2`` are what it is asked to do. ``uv venv`` works in all of them."""

    def make(script: str) -> str:
        path = tmp_path / "uv"
        venv = 'if [ "$1" = venv ]; then mkdir -p "$2/bin"; ln -s /bin/true "$2/bin/python"; exit 0; fi\n'
        path.write_text(f'#!/bin/sh\necho "$1 $2" >> {tmp_path / "calls"}\n{venv}{script}\n')
        path.chmod(0o755)
        return str(path)

    return make


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    return [line.split("/")[0].strip() for line in path.read_text().splitlines()] if path.exists() else []


def ignore(_: str) -> None:
    return


@pytest.mark.needs_network
async def test_the_model_server_can_run_in_it_and_the_requirement_is_there(tmp_path: Path, bundle: Path) -> None:
    notes: list[str] = []
    found = await UvEnvironments(tmp_path / "environments").ensure(bundle, notes.append)
    code = "import httptools, msgspec, uvloop, six, sys; print(*sys.version_info[:3], six.__version__)"
    printed = await asyncio.to_thread(subprocess.check_output, [found.python, "-c", code], text=True)
    assert printed.split() == [*map(str, sys.version_info[:3]), "1.17.0"]
    assert notes[0] == "resolving requirements"
    assert "installing 4 packages" in notes
    lock = pins((Path(found.python).parents[1] / "requirements.lock").read_text())
    assert {f"{name}=={version}" for name, (version, _) in lock.items()} == {*server_pins(), "six==1.17.0"}


@pytest.mark.needs_network
async def test_what_was_made_is_used_again_without_uv(tmp_path: Path, bundle: Path) -> None:
    root = tmp_path / "environments"
    first = await UvEnvironments(root).ensure(bundle, ignore)
    before = {p: p.lstat().st_mtime_ns for p in root.rglob("*")}
    second = await UvEnvironments(root, uv="/nonexistent/uv").ensure(bundle, ignore)
    assert (second.python, second.lock_digest, second.cached) == (first.python, first.lock_digest, True)
    assert {p: p.lstat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.needs_network
async def test_included_files_count_and_comments_only_resolve_again(tmp_path: Path, bundle: Path) -> None:
    environments = UvEnvironments(tmp_path / "environments")
    first = await environments.ensure(bundle, ignore)
    (bundle / "requirements.txt").write_text("# a comment\n-r more/base.txt\n")
    (bundle / "more").mkdir()
    (bundle / "more/base.txt").write_text(FOUR)
    same = await environments.ensure(bundle, ignore)
    assert (same.lock_digest, same.cached) == (first.lock_digest, True)
    (bundle / "more/base.txt").write_text(FOUR + "iniconfig==2.0.0\n")
    other = await environments.ensure(bundle, ignore)
    assert other.lock_digest != first.lock_digest


@pytest.mark.needs_network
async def test_an_environment_without_its_mark_is_made_anew(tmp_path: Path, bundle: Path) -> None:
    environments = UvEnvironments(tmp_path / "environments")
    first = await environments.ensure(bundle, ignore)
    folder = Path(first.python).parents[1]
    (folder / "complete").unlink()
    (folder / "half").write_text("")
    again = await environments.ensure(bundle, ignore)
    assert (again.python, again.cached) == (first.python, False)
    assert not (folder / "half").exists()


@pytest.mark.needs_network
async def test_an_environment_whose_interpreter_is_gone_is_made_anew(tmp_path: Path, bundle: Path) -> None:
    environments = UvEnvironments(tmp_path / "environments")
    first = await environments.ensure(bundle, ignore)
    Path(first.python).unlink()
    Path(first.python).symlink_to("/nonexistent/python")
    again = await environments.ensure(bundle, ignore)
    assert again.cached is False
    assert os.access(again.python, os.X_OK)


@pytest.mark.needs_network
async def test_a_requirement_that_the_model_server_needs_otherwise(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # a narrow terminal does not break what is read from uv
    (bundle / "requirements.txt").write_text("six\nmsgspec==0.18.0\n")
    with pytest.raises(EnvironmentFailed, match=r"msgspec==0\.18\.0") as failure:
        await UvEnvironments(tmp_path / "environments").ensure(bundle, ignore)
    assert failure.value.where == "requirements.txt:2"
    assert "model server" in (failure.value.hint or "")


@pytest.mark.needs_network
async def test_a_syntax_error_is_named_with_its_line(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    (bundle / "requirements.txt").write_text("# ünï\n\n-r base.txt\n")
    (bundle / "base.txt").write_text("# é\nsix\n\npandas >> 2\n")
    with pytest.raises(EnvironmentFailed, match="pandas >> 2") as failure:
        await UvEnvironments(tmp_path / "environments").ensure(bundle, ignore)
    assert failure.value.where == "base.txt:4"


async def test_an_index_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, bundle: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    address = f"127.0.0.1:{free_port()}/simple"
    (bundle / "requirements.txt").write_text(f"--index-url https://me:hunter2@{address}\nsix\n")
    notes: list[str] = []
    with pytest.raises(EnvironmentFailed, match="cannot be reached") as failure:
        await UvEnvironments(tmp_path / "environments").ensure(bundle, notes.append)
    assert address in failure.value.message
    assert "hunter2" not in json.dumps([failure.value.to_dict(), notes])


async def test_passwords_in_what_uv_prints_go_no_further(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = "echo 'Downloading https://me:hunter2@x.example/a' >&2; echo 'error: https://me:hunter2@x/b' >&2; exit 2"
    notes: list[str] = []
    with pytest.raises(EnvironmentFailed, match=r"https://\*\*\*\*@x/b") as failure:
        await UvEnvironments(tmp_path / "environments", uv=fake_uv(script)).ensure(bundle, notes.append)
    assert "downloading https://****@x.example/a" in notes
    assert "hunter2" not in json.dumps([failure.value.to_dict(), notes])


async def test_a_lock_that_disagrees_with_the_model_server(tmp_path: Path, bundle: Path) -> None:
    (bundle / "requirements.lock").write_text("six==1.17.0\nMsgSpec==0.1\n")
    with pytest.raises(EnvironmentFailed, match=r"msgspec==0\.1") as failure:
        await UvEnvironments(tmp_path / "environments", uv="/nonexistent/uv").ensure(bundle, ignore)
    assert failure.value.where == "requirements.lock:2"


async def test_the_lock_gets_what_the_model_server_needs(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    (bundle / "requirements.lock").write_text("six==1.17.0\n")
    environments = UvEnvironments(tmp_path / "environments", uv=fake_uv('cp "$3" ' + str(tmp_path / "installed")))
    await environments.ensure(bundle, ignore)
    installed = pins((tmp_path / "installed").read_text())
    assert {f"{name}=={version}" for name, (version, _) in installed.items()} == {*server_pins(), "six==1.17.0"}
    assert calls(tmp_path) == ["venv", "pip sync"]


async def test_options_of_the_requirements_hold_for_the_installation_too(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    (bundle / "requirements.txt").write_text("--extra-index-url https://x.example/simple\n--no-binary=six\nsix\n")
    script = f'if [ "$2" = compile ]; then echo six==1.17.0; else cp "$3" {tmp_path / "installed"}; fi'
    await UvEnvironments(tmp_path / "environments", uv=fake_uv(script)).ensure(bundle, ignore)
    lines = (tmp_path / "installed").read_text().splitlines()
    assert lines[1:] == ["--extra-index-url https://x.example/simple", "--no-binary six", "six==1.17.0"]


async def test_one_build_serves_all_who_ask_and_each_hears_of_it(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    environments = UvEnvironments(tmp_path / "environments", uv=fake_uv("echo 'Downloading x' >&2; echo six==1"))
    heard: list[list[str]] = [[], [], []]
    found = await asyncio.gather(*(environments.ensure(bundle, notes.append) for notes in heard))
    assert calls(tmp_path) == ["pip compile", "venv", "pip sync"]
    assert len({e.lock_digest for e in found}) == 1
    assert all("downloading x" in notes and "installing 1 packages" in notes for notes in heard)


async def test_a_build_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait"
    environments = UvEnvironments(tmp_path / "environments", uv=fake_uv(script), timeout_s=3.0)
    with pytest.raises(EnvironmentFailed, match=r"after 3 s"):
        await environments.ensure(bundle, ignore)
    await eventually(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())), what="the sleep is gone")


async def test_a_cancelled_installation_leaves_nothing(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = f'if [ "$2" = sync ]; then echo $$ > {tmp_path / "pid"}; exec sleep 600; fi'
    root = tmp_path / "environments"
    task = asyncio.create_task(UvEnvironments(root, uv=fake_uv(script)).ensure(bundle, ignore))
    await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert [p for p in root.iterdir() if p.is_dir() and p.name != "locks"] == []


async def test_a_failed_installation_leaves_nothing_and_tells_the_end_of_the_output(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = 'if [ "$2" = sync ]; then yes line | head -100000 >&2; echo "error: odd thing" >&2; exit 2; fi'
    root = tmp_path / "environments"
    with pytest.raises(EnvironmentFailed, match="odd thing") as failure:
        await UvEnvironments(root, uv=fake_uv(script)).ensure(bundle, ignore)
    assert len(failure.value.details["output"]) <= 8_000
    assert [p for p in root.iterdir() if p.is_dir() and p.name != "locks"] == []


async def test_output_without_end_and_without_lines_is_bounded(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = "head -c 30000000 /dev/zero | tr '\\0' x >&2; echo; echo 'error: end' >&2; exit 2"
    with pytest.raises(EnvironmentFailed) as failure:
        await UvEnvironments(tmp_path / "environments", uv=fake_uv(script)).ensure(bundle, ignore)
    assert len(json.dumps(failure.value.to_dict())) < 20_000


async def test_the_process_gets_no_input_no_token_and_no_foreign_interpreter(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_TOKEN", "hw_secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("UV_INDEX_STRATEGY", "kept")
    await UvEnvironments(tmp_path / "environments", uv=fake_uv(f"cat; env > {tmp_path / 'env'}")).ensure(bundle, ignore)
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert environment["UV_INDEX_STRATEGY"] == "kept"
    assert not {"HEADWAY_TOKEN", "PYTHONPATH"} & environment.keys()


async def test_a_build_of_another_process_is_waited_for(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    root = tmp_path / "environments"
    environments = UvEnvironments(root, uv=fake_uv("echo six==1.17.0"))
    first = await environments.ensure(bundle, ignore)
    folder = Path(first.python).parents[1]
    (folder / "complete").unlink()
    held = os.open(folder.with_suffix(".building"), os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    notes: list[str] = []
    task = asyncio.create_task(environments.ensure(bundle, notes.append))
    await eventually(lambda: any("waiting" in note for note in notes))
    (folder / "complete").write_text("{}")
    os.close(held)
    assert (await task).cached is True
    assert calls(tmp_path) == ["pip compile", "venv", "pip sync"]


async def test_uv_keeps_the_lock_when_its_parent_is_killed(
    tmp_path: Path, bundle: Path, fake_uv: Callable[[str], str]
) -> None:
    script = f'if [ "$2" = sync ]; then echo $$ > {tmp_path / "pid"}; exec sleep 600; fi; echo six==1.17.0'
    root = tmp_path / "environments"
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from headway.adapters.local.environments import UvEnvironments\n"
        "asyncio.run(UvEnvironments(Path(sys.argv[1]), uv=sys.argv[2]).ensure(Path(sys.argv[3]), print))"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not talked to
        [sys.executable, "-c", code, root, fake_uv(script), bundle], stdout=subprocess.DEVNULL
    )
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    orphan = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    notes: list[str] = []
    task = asyncio.create_task(UvEnvironments(root, uv=fake_uv("")).ensure(bundle, notes.append))
    try:
        await eventually(lambda: any("waiting" in note for note in notes))
    finally:
        os.kill(orphan, signal.SIGKILL)
    assert (await task).cached is False


async def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed):
        await UvEnvironments(tmp_path / "file" / "environments").ensure(bundle, ignore)
