"""What a replica's process is started with, and where its files and its socket are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import headway
from headway.adapters.local import memory_limit
from headway.adapters.local.launch import Launcher
from headway.adapters.local.records import KEPT_GONE, ReplicaFolder, ReplicaFolders, ReplicaRecord
from headway.adapters.local.sockets import MAX_PATH_BYTES, replica_socket, run_dir_for
from headway.domain.errors import HeadwayError, InvalidSpec
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Failure, Probe, Probes, ReplicaSpec
from headway.server.config import ServerOptions, read_config

PROBE = Probe("/health/ready")


def spec(**changes: object) -> ReplicaSpec:
    plain = ReplicaSpec(
        replica_id="iris-v1-bcdfg",
        model="iris",
        version="v1",
        digest="0" * 64,
        bundle_path="/bundles/x",
        python="/env/bin/python",
        entrypoint="model:Iris",
        probes=Probes(PROBE, PROBE, PROBE),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def launcher(home: Path, **inherited: str) -> Launcher:
    return Launcher(home, inherited, "unix:/run/gateway.sock", str(home / "segments"))


@pytest.fixture
def folder(tmp_path: Path) -> ReplicaFolder:
    folder = ReplicaFolders(tmp_path).of("iris-v1-bcdfg")
    folder.create()
    return folder


def test_secrets_of_the_control_plane_are_not_inherited(tmp_path: Path) -> None:
    env = launcher(
        tmp_path,
        PATH="/bin",
        HOME="/h",
        LC_ALL="C",
        HEADWAY_TOKEN="hw_x",
        AWS_SECRET_ACCESS_KEY="s",
        PYTHONPATH="/evil",
    ).environment(spec())
    assert env == {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(tmp_path / "lib" / headway.__version__),
        "HEADWAY_HOME": str(tmp_path),
        "HEADWAY_REPLICA": "iris-v1-bcdfg",
    }


def test_where_r_and_its_libraries_are_is_inherited(tmp_path: Path) -> None:
    told = {"HEADWAY_RSCRIPT": "/opt/R/bin/Rscript", "R_LIBS": "/a", "R_LIBS_SITE": "/b", "R_LIBS_USER": "/c"}
    env = launcher(tmp_path, **told, R_PROFILE="/other").environment(spec())
    assert {name: env[name] for name in told} == told
    assert "R_PROFILE" not in env


@pytest.mark.parametrize(("cpu", "threads"), [(100, "1"), (1000, "1"), (1001, "2"), (4000, "4"), (None, None)])
def test_thread_pools_have_the_size_of_the_cpu_share(tmp_path: Path, cpu: int | None, threads: str | None) -> None:
    env = launcher(tmp_path).environment(spec(cpu_millicores=cpu))
    assert {env.get(n) for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {threads}


@pytest.mark.parametrize(("cpu", "workers", "threads"), [(4000, 4, "1"), (4000, 3, "2"), (500, 2, "1")])
def test_workers_share_the_cpu_share(tmp_path: Path, cpu: int, workers: int, threads: str) -> None:
    env = launcher(tmp_path).environment(spec(cpu_millicores=cpu, server={"workers": workers}))
    assert env["OMP_NUM_THREADS"] == threads


def test_the_spec_has_the_last_word_but_for_what_identifies_the_replica(tmp_path: Path) -> None:
    wished = {"OMP_NUM_THREADS": "7", "PATH": "/mine", "HEADWAY_REPLICA": "x", "HEADWAY_HOME": "y", "PYTHONPATH": "/p"}
    env = launcher(tmp_path, PATH="/bin").environment(spec(cpu_millicores=1000, env=wished))
    assert (env["OMP_NUM_THREADS"], env["PATH"]) == ("7", "/mine")
    assert (env["HEADWAY_REPLICA"], env["HEADWAY_HOME"]) == ("iris-v1-bcdfg", str(tmp_path))
    assert env["PYTHONPATH"] == f"{tmp_path}/lib/{headway.__version__}:/p"


def test_the_library_holds_headway_alone_and_follows_a_move(tmp_path: Path) -> None:
    start = launcher(tmp_path)
    start.prepare()
    start.prepare()
    link = start.library / "headway"
    assert [entry.name for entry in start.library.iterdir()] == ["headway"]
    assert link.resolve() == Path(headway.__file__).parent.resolve()
    link.unlink()
    link.symlink_to("/gone")
    start.prepare()
    assert link.resolve() == Path(headway.__file__).parent.resolve()


def test_orders_are_the_model_servers_config(tmp_path: Path, folder: ReplicaFolder) -> None:
    server = {"max_batch_size": 8, "timeout_s": 5, "workers": 2, "sample": "sample.json", "metrics_compat": "seldon"}
    record = ReplicaRecord(spec=spec(server=server), socket=str(tmp_path / "r.sock"))
    for leftover in (folder.failure, folder.stack, tmp_path / "r.sock"):
        leftover.touch()
    argv = launcher(tmp_path).write_orders(folder, record)
    assert argv == ["/env/bin/python", "-m", "headway.server", str(folder.config)]
    config = read_config(folder.config)
    assert config.options == ServerOptions(max_batch_size=8, timeout_s=5.0, workers=2)
    assert (config.metrics_compat, config.worker_hang_s) == ("seldon", 31.0)
    assert (config.sample, config.entrypoint, config.listen) == ("sample.json", "model:Iris", f"unix:{tmp_path}/r.sock")
    assert (config.log_file, config.shadow_gateway) == (str(folder.log), "unix:/run/gateway.sock")
    assert config.query_log_dir == str(tmp_path / "segments")
    assert not any(p.exists() for p in (folder.failure, folder.stack, tmp_path / "r.sock"))


def test_a_workers_orders_name_the_job_server_and_one_process(tmp_path: Path, folder: ReplicaFolder) -> None:
    worker = spec(role="work", server={"workers": 4}, cpu_millicores=4000, termination_grace_s=600.0)
    start = replace(launcher(tmp_path), job_server="unix:/run/jobs.sock")
    start.write_orders(folder, ReplicaRecord(spec=worker, socket=str(tmp_path / "r.sock"), restarts=2))
    config = read_config(folder.config)
    assert (config.job_server, config.worker_name, config.job_grace_s) == (
        "unix:/run/jobs.sock",
        "iris-v1-bcdfg.2",
        600,
    )
    assert config.options.workers == 1
    assert start.environment(worker)["OMP_NUM_THREADS"] == "4"
    start.write_orders(folder, ReplicaRecord(spec=spec(), socket=str(tmp_path / "r.sock")))
    assert read_config(folder.config).job_server is None
    with pytest.raises(InvalidSpec, match="no job server"):
        launcher(tmp_path).write_orders(folder, ReplicaRecord(spec=worker, socket="s"))


@pytest.mark.parametrize(
    "server", [{"max_batchsize": 8}, {"max_queue": "many"}, {"sample": 3}, {"metrics_compat": "x"}]
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, folder: ReplicaFolder, server: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        launcher(tmp_path).write_orders(folder, ReplicaRecord(spec=spec(server=server), socket="s"))
    assert caught.value.where == "spec.server"


def test_a_record_reads_as_it_was_written(folder: ReplicaFolder) -> None:
    record = ReplicaRecord(
        spec=spec(server={"max_queue": 3}, env={"A": "1"}, memory_bytes=5),
        socket="/s",
        phase=ReplicaPhase.BACKOFF,
        restarts=3,
        crash_score=2.5,
        failure=Failure("load_failed", "no", where="model.py:1"),
    )
    folder.save(record)
    assert folder.load() == record
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_record_that_cannot_be_read_says_so(folder: ReplicaFolder) -> None:
    assert folder.load() is None
    (folder.path / "record.json").write_text('{"spec": 3}')
    with pytest.raises(HeadwayError, match="iris-v1-bcdfg"):
        folder.load()


def test_only_safe_names_become_folders(tmp_path: Path) -> None:
    folders = ReplicaFolders(tmp_path)
    for bad in ("", "..", "../x", "a/b", "A", "a\n", "-a", "x" * 64):
        assert folders.find(bad) is None
        with pytest.raises(HeadwayError):
            folders.of(bad)


def test_folders_of_the_gone_are_kept_for_a_while(tmp_path: Path) -> None:
    folders = ReplicaFolders(tmp_path)
    for model in ("iris", "cat"):
        for number in range(KEPT_GONE + 2):
            folder = folders.of(f"{model}-v1-{number}")
            folder.create()
            folders.retire(folder, model)
    left = [f.replica_id for f in folders.all()]
    assert left == [f"{model}-v1-{n}" for model in ("cat", "iris") for n in range(2, KEPT_GONE + 2)]
    folders.revive(folders.of("iris-v1-2"), "iris")
    for number in range(10, 10 + KEPT_GONE):
        folder = folders.of(f"iris-v1-{number}")
        folder.create()
        folders.retire(folder, "iris")
    assert folders.find("iris-v1-2") is not None
    assert folders.find("iris-v1-3") is None


def test_sockets_fit_however_deep_the_home_is(scratch: Path) -> None:
    near = run_dir_for(scratch)
    deep = scratch / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    far = run_dir_for(deep)
    try:
        for folder in (near, far):
            path = replica_socket(folder, "x" * 57)
            assert len(os.fsencode(path)) < MAX_PATH_BYTES
            assert folder.stat().st_mode & 0o777 == 0o700
        assert far == run_dir_for(deep)
        assert near == scratch / "run"
        assert far.parent == Path("/tmp")
        with pytest.raises(HeadwayError, match="too long"):
            replica_socket(deep, "iris-v1-bcdfg")
    finally:
        far.rmdir()


def test_a_replica_keeps_its_socket_and_shares_it_with_nobody(tmp_path: Path) -> None:
    assert replica_socket(tmp_path, "a") == replica_socket(tmp_path, "a")
    assert replica_socket(tmp_path, "a") != replica_socket(tmp_path, "b")


def test_a_run_folder_that_is_a_link_is_refused(scratch: Path) -> None:
    (scratch / "run").symlink_to(scratch)
    with pytest.raises(HeadwayError, match="not a folder of this user"):
        run_dir_for(scratch)


def test_the_backstop_lies_above_the_limit() -> None:
    assert memory_limit.data_limit(512 * memory_limit.MIB) == 2048 * memory_limit.MIB
    assert memory_limit.mebibytes(612 * memory_limit.MIB) == "612 MiB"
