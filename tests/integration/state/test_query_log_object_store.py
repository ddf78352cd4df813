"""Parts in object storage, on a real server: SeaweedFS with its S3 gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from headway.adapters.querylog import object_storage
from headway.adapters.querylog.housekeeping import REPLACED_AGE_NS
from headway.adapters.querylog.manifest import HOUR_NS, merged_name, part_name
from headway.adapters.querylog.store import PartStore
from headway.domain.errors import InvalidInput, MissingExtra, StorageFailed
from headway.domain.query_log import CompactionReport, Retention
from tests.integration.state.query_log_home import (
    HOUR0,
    KEEP,
    LATER,
    MINUTE,
    MODEL,
    START,
    Home,
    expected,
    run,
    spread,
)
from tests.waiting import PortPicker, wait_until

SOON = START + MINUTE
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    free_port: PortPicker,
    require_service: Callable[[str, object], None],
) -> Iterator[str]:
    """The endpoint of a server that keeps nothing but what these tests put there."""
    binary = shutil.which("weed", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    require_service("SeaweedFS (weed)", binary)
    assert binary is not None
    identity = {"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}
    for _ in range(3):  # a port may be taken between its choice and its use
        folder = tmp_path_factory.mktemp("weed")
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = {name: free_port() for name in PORTS}
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command(binary, folder, ports), stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or answers(endpoint), timeout_s=60)  # noqa: B023
            if process.poll() is None:
                yield endpoint
                return
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)
    pytest.fail((folder / "log").read_text()[-3000:])


def command(binary: str, folder: Path, ports: dict[str, int]) -> list[str]:
    return [
        binary,
        f"-logdir={folder}",
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        "-volume.max=100",
        "-filer",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.config={folder}/s3.json",
        f"-s3.localSocket={folder}/s3.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
    ]


def answers(endpoint: str) -> bool:
    """It can be written to, which takes longer than answering at all; then the bucket is there and can be listed."""
    with contextlib.suppress(obstore.exceptions.BaseError):
        store = S3Store(
            "records",
            endpoint=endpoint,
            access_key_id="key",
            secret_access_key="secret",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        obstore.put(store, "ready", b"")
        return bool(obstore.list(store).collect())
    return False


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of this test's own; where it is and who may go there is in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return f"s3://records/{secrets.token_hex(6)}/log"


@pytest.fixture
def home(url: str, tmp_path: Path) -> Home:
    return home_at(url, tmp_path / "one")


def home_at(url: str, root: Path) -> Home:
    return Home(root, PartStore.object_storage(url, root / "cache"))


def test_segments_become_objects(home: Home, tmp_path: Path, url: str) -> None:
    home.segment("iris-v1-a.0", 0, spread(6, start_ns=START + HOUR_NS - 3 * 10**9))
    home.segment("oak-v1-a.0", 0, spread(2), model="oak")
    assert home.compact(SOON) == CompactionReport(segments=2, records=8)
    assert home.seen() == expected("iris-v1-a.0", 6)
    assert home.names(HOUR0) == home.names(HOUR0 + 1) == [part_name("iris-v1-a.0-0")]
    assert set(run(home.store.sizes())) == {"iris", "oak"}

    another = home_at(url, tmp_path / "two")
    assert another.part_records() == home.part_records()
    assert len(run(another.store.parts(MODEL, START, START + HOUR_NS))) == 1
    assert len(run(another.store.parts(MODEL, START + HOUR_NS, START + 2 * HOUR_NS))) == 1
    assert run(another.store.parts(MODEL, START + 2 * HOUR_NS, START + 9 * HOUR_NS)) == []
    assert [account.next_seq for account in run(another.store.accounts(MODEL)).accounts] == [6]


def test_a_crash_before_the_segment_is_gone_changes_nothing(home: Home) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(4))
    data = path.read_bytes()
    home.segment("iris-v1-b.0", 0, spread(4))
    home.compact(SOON)
    live = home.live()
    path.write_bytes(data)
    everything = expected("iris-v1-a.0", 4) + expected("iris-v1-b.0", 4)
    assert home.seen() == everything
    home.compact(LATER)
    assert home.seen() == everything
    path.write_bytes(data)
    assert home.seen() == everything
    home.compact(LATER + REPLACED_AGE_NS)
    assert home.names() == [merged_name(1)]
    assert home.seen() == everything
    assert home.parts(live | {"iris-v1-a.0-0"}) == expected("iris-v1-b.0", 4)


def test_claims_and_lines(home: Home) -> None:
    home.segment("iris-v1-a.0", 0, spread(2), request_ids=["given-up", "fine"])
    place = home.line(1, START, status=504, server="iris-v1-a", ends="sH", request_id="given-up")
    home.compact(LATER)
    home.compact(LATER)
    (gateway,) = {stream for stream, _ in home.parts()} - {"iris-v1-a.0"}
    assert home.parts() == sorted([("iris-v1-a.0", 1), (gateway, place)])


def test_retention(home: Home) -> None:
    for hour in range(3):
        home.segment("iris-v1-a.0", hour, [START + hour * HOUR_NS], first=hour)
    home.compact(SOON)
    report = home.compact(START + 3 * HOUR_NS, Retention(max_age_s=3600))
    assert report.expired_files == 2
    assert home.parts() == [("iris-v1-a.0", 2)]
    home.compact(START + 3 * HOUR_NS, Retention(max_bytes=0))
    assert run(home.store.sizes()) == {}


def test_homes_that_share_a_place_merge_the_same_hour_at_once(url: str, tmp_path: Path) -> None:
    homes = [home_at(url, tmp_path / name) for name in ("one", "two", "three")]
    everything = []
    for number, home in enumerate(homes):
        for replica in range(2):
            stream = f"iris-v1-{number}{replica}.0"
            home.segment(stream, 0, spread(5))
            everything += expected(stream, 5)
        home.compact(SOON)
    everything.sort()
    looks = []

    async def look(done: asyncio.Event) -> None:
        while not done.is_set():
            looks.append(await asyncio.to_thread(homes[0].seen) == everything)

    async def work() -> None:
        done = asyncio.Event()
        reader = asyncio.create_task(look(done))
        try:
            for now_ns in (LATER, LATER + REPLACED_AGE_NS):
                await asyncio.gather(*(home.compaction().run(now_ns, KEEP) for home in homes))
        finally:
            done.set()
            await reader

    run(work())
    assert looks
    assert all(looks)
    for home in homes:
        assert home.parts() == everything
        assert home.names() == [merged_name(1)]


def test_who_is_beaten_to_a_number_starts_from_what_won(url: str, tmp_path: Path) -> None:
    one, two = (home_at(url, tmp_path / name) for name in ("one", "two"))
    for home, replica in ((one, "a"), (two, "b")):
        home.segment(f"iris-v1-{replica}.0", 0, spread(3))
        home.compact(SOON)
    choice = two.store.choices(MODEL)[HOUR0]
    one.compact(LATER)
    assert not two.store.merge(MODEL, HOUR0, choice.chosen, choice.next_number, LATER)
    assert len(two.parts()) == 6
    one.segment("iris-v1-c.0", 0, spread(3))
    one.compact(LATER)
    assert merged_name(2) in two.names()
    assert len(two.parts()) == 9


WORKER = """
import asyncio, sys
from pathlib import Path
from headway.adapters.querylog.compaction import Compaction
from headway.adapters.querylog.store import PartStore
from headway.domain.query_log import Retention
root, url, now_ns = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = PartStore.object_storage(url, root / "cache")
asyncio.run(Compaction(root / "segments", root / "gateway", store).run(now_ns, Retention()))
"""


def test_two_processes_of_one_home(home: Home, url: str) -> None:
    everything = []
    for replica in "abc":
        home.segment(f"iris-v1-{replica}.0", 0, spread(5, 1000 * 10**9))
        everything += expected(f"iris-v1-{replica}.0", 5)
    command = [sys.executable, "-c", WORKER, str(home.root), url, str(START + 4 * HOUR_NS)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    try:
        while any(process.poll() is None for process in processes):
            assert home.seen() == everything
    finally:
        codes = [process.wait() for process in processes]
    assert codes == [0, 0]
    assert home.parts() == everything
    assert not list(home.segments.glob("*/*.hwq"))


def test_a_server_without_conditional_put_is_told_apart(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put = obstore.put

    def overwrite(store: Any, path: str, file: Any, *, mode: str | None = None) -> Any:
        return put(store, path, file)

    monkeypatch.setattr(obstore, "put", overwrite)
    for replica in "ab":
        home.segment(f"iris-v1-{replica}.0", 0, spread(3))
    with caplog.at_level(logging.WARNING):
        home.compact(LATER)
    assert "only one home may keep its query log there" in caplog.text
    assert merged_name(1) in home.names()
    assert len(home.parts()) == 6
    assert not home.store.place.put(home.root / "cache" / "none", MODEL, HOUR0, merged_name(1), new=True)


def test_what_was_read_is_kept_up_to_a_size(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = home_at(url, tmp_path / "one")
    for hour in range(4):
        home.segment("iris-v1-a.0", hour, [START + hour * HOUR_NS], first=hour)
    home.compact(SOON)
    size = max(stored.size for stored in home.store.place.files(None))
    cache = tmp_path / "cache"
    reader = Home(tmp_path / "reader", PartStore.object_storage(url, cache, cache_bytes=2 * size))
    assert len(reader.parts()) == 4
    assert len(list(cache.glob("*.parquet"))) == 4, "what is in use stays, whatever it takes"
    for path in cache.glob("*.parquet"):
        os.utime(path, (0, 0))
    reader.store.place.put(next(cache.glob("*.parquet")), "oak", HOUR0, part_name("x-0"), new=False)
    assert len(list(cache.glob("*.parquet"))) == 2
    assert len(reader.parts()) == 4


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_left_out(home: Home, url: str, tmp_path: Path) -> None:
    for replica in "ab":
        home.segment(f"iris-v1-{replica}.0", 0, spread(3))
    home.compact(SOON)
    for path in (home.root / "cache").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-9] + b"?" + path.read_bytes()[-8:])
    assert len(home_at(url, home.root).parts()) == 6

    stored = home.store.place.files(MODEL)[0]
    data = bytearray(home.store.place.local(stored).read_bytes())
    data[20] ^= 1
    draft = tmp_path / "draft"
    draft.write_bytes(data)
    home.store.place.put(draft, MODEL, stored.hour, stored.name, new=False)
    left = expected(f"iris-v1-{'b' if 'a.0' in stored.name else 'a'}.0", 3)
    assert home.parts() == left
    home.compact(LATER)
    assert home.parts() == left
    assert home.store.choices(MODEL)[HOUR0].damaged[0].name == stored.name


def test_nothing_is_lost_while_the_server_is_away(
    home: Home, url: str, tmp_path: Path, free_port: PortPicker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home.segment("iris-v1-a.0", 0, spread(3))
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        patched.setattr(object_storage, "RETRIES", 0)
        away = home_at(url, home.root)
        with pytest.raises(StorageFailed, match="query log could not be read or written"):
            away.compact(SOON)
        with pytest.raises(StorageFailed):
            away.parts()
    assert path.exists()
    assert not list((home.root / "cache" / ".scratch").glob("*"))
    home.compact(SOON)
    assert home.parts() == expected("iris-v1-a.0", 3)


@pytest.mark.parametrize("wrong", ["http://bucket/x", "s3://", "s3:///x", "records", "s3://b/x?y=1"])
def test_what_is_no_place_is_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no place for the query log"):
        PartStore.object_storage(wrong, tmp_path)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "obstore", None)
    with pytest.raises(MissingExtra, match=r"headway\[s3\]"):
        PartStore.object_storage("s3://bucket", tmp_path)
