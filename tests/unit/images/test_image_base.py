"""What a base is found to hold, and what is refused."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path

import msgspec
import pytest

from headway.adapters.oci import parents
from headway.adapters.oci.build import ImageBuilder, Order, Packages, server_files
from headway.adapters.oci.dockerfile import write_context
from headway.adapters.oci.layers import Entry
from headway.adapters.oci.output import write_layout
from headway.adapters.oci.parents import ParentImage
from headway.adapters.oci.store import BlobStore
from headway.domain.errors import Conflict, DigestMismatch, ImageNotFound, InvalidInput, Unsupported
from headway.domain.images import Image, Platform
from headway.server.container import container_config


def archive(path: Path, *names: str, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = 4
            tar.addfile(header, io.BytesIO(b"file"))
    return path


def based(path: Path, store: BlobStore) -> ParentImage:
    read = parents.from_layout if path.is_dir() else parents.from_archive
    return asyncio.run(read(path, Platform(), store))


@pytest.mark.parametrize(
    ("names", "python", "version", "libc", "r"),
    [
        (["usr/bin/python3.12", "usr/local/bin/python3.11"], "/usr/local/bin/python3.11", "3.11", "gnu", False),
        (["./usr/bin/python3.9", "./usr/bin/python3.13"], "/usr/bin/python3.13", "3.13", "gnu", False),
        (
            ["usr/bin/python3.12", "lib/ld-musl-x86_64.so.1", "usr/bin/Rscript"],
            "/usr/bin/python3.12",
            "3.12",
            "musl",
            True,
        ),
    ],
)
def test_what_a_base_holds(tmp_path: Path, names: list[str], python: str, version: str, libc: str, r: bool) -> None:
    store = BlobStore(tmp_path / "store")
    plain = based(archive(tmp_path / "root.tar", *names), store)
    assert (plain.python, plain.python_version, plain.libc, plain.has_r) == (python, version, libc, r)
    packed = based(archive(tmp_path / "root.tar.gz", *names, mode="w:gz"), store)
    assert packed.layers == plain.layers


@pytest.mark.parametrize("names", [[], ["usr/bin/python3.10"], ["usr/bin/python3"], ["home/python3.12"]])
def test_a_base_without_a_python_that_will_do_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(Unsupported, match="the base has"):
        based(archive(tmp_path / "root.tar", "etc/passwd", *names), BlobStore(tmp_path / "store"))


@pytest.mark.parametrize("names", [["oci-layout", "index.json"], ["manifest.json"]])
def test_an_archive_of_an_image_is_no_file_system(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InvalidInput, match="of an image"):
        based(archive(tmp_path / "root.tar", *names), BlobStore(tmp_path / "store"))


def test_what_is_no_archive_and_no_layout(tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(b"hello" * 1000)
    for path in (tmp_path / "root.tar", tmp_path):
        with pytest.raises(InvalidInput):
            based(path, BlobStore(tmp_path / "store"))


def order(tmp_path: Path, **changes: object) -> Order:
    (tmp_path / "model.py").write_text("def predict(X): ...")
    fields: dict[str, object] = {
        "model": "echo",
        "folder": tmp_path,
        "digest": "d" * 64,
        "bundle_digest": "b" * 64,
        "files": (Entry("headway/bundle/model.py", tmp_path / "model.py"),),
        "server": {"options": {"workers": 2}, "sample": "one.json"},
        "env": {"A": 'x"$y', "PYTHONPATH": "/mine"},
        "in_r": False,
    }
    return Order(**{**fields, **changes})  # type: ignore[arg-type]


def built(tmp_path: Path, store: BlobStore, base: ParentImage, what: Order | None = None) -> Image:
    async def install(folder: Path, note: object) -> None:
        (folder / "six").mkdir(parents=True)
        (folder / "six" / "__init__.py").write_text("x = {'b', 'a'}")

    packages = Packages("six==1\n", "any", install)
    return asyncio.run(ImageBuilder(store).build(what or order(tmp_path), base, packages, lambda *_: None))


def test_an_image_on_an_image_and_damage(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    first = built(tmp_path, store, based(archive(tmp_path / "root.tar", "usr/bin/python3.11"), store))
    layout = tmp_path / "layout"
    write_layout(first, store, layout, "v1")
    write_layout(first, store, layout, "v1")
    other = BlobStore(tmp_path / "other")
    base = based(layout, other)
    assert base.digest == first.digest
    assert len(base.layers) == 4
    second = built(tmp_path, other, base)
    assert len(second.layers) == 7
    assert second.layers[4:] == first.layers[1:]

    blob = layout / "blobs" / first.layers[-1].blob.digest.replace(":", "/")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        based(layout, BlobStore(tmp_path / "third"))
    blob.unlink()
    with pytest.raises(InvalidInput, match="lacks"):
        based(layout, BlobStore(tmp_path / "third"))
    with pytest.raises(ImageNotFound, match="linux/arm64"):
        asyncio.run(parents.from_layout(layout, Platform("arm64"), store))
    with pytest.raises(Conflict):
        write_layout(first, store, tmp_path, "v1")


def test_a_model_in_r_needs_a_base_with_r(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    base = based(archive(tmp_path / "root.tar", "usr/bin/python3.11"), store)
    with pytest.raises(Unsupported, match="no Rscript"):
        built(tmp_path, store, base, order(tmp_path, in_r=True))


def test_the_model_server_is_whole_and_nothing_else() -> None:
    paths = {entry.path for entry in server_files()}
    assert {"__init__.py", "jobs.py", "server/boot.py", "domain/errors.py"} <= paths
    assert {path.partition("/")[0] for path in paths} == {"__init__.py", "jobs.py", "server", "domain"}


def test_a_build_context_for_others(tmp_path: Path) -> None:
    folder = tmp_path / "context"
    lock = "six==1 \\\n    --hash=sha256:aa\nmsgspec==2\n"
    written = write_context(order(tmp_path), "python:3.11-slim", lock, folder)
    assert written == ["Dockerfile", "bundle", "model.json", "requirements-more.lock", "requirements.lock", "server"]
    text = (folder / "Dockerfile").read_text()
    assert text.splitlines()[1] == "FROM python:3.11-slim"
    assert 'A="x\\"\\$y"' in text
    assert 'PYTHONPATH="/headway/server:/headway/packages:/mine"' in text
    assert 'ENTRYPOINT ["python3", "-m", "headway.server", "--container", "/headway/model.json"]' in text
    assert (folder / "requirements.lock").read_text() == "six==1 \\\n    --hash=sha256:aa\n"
    assert (folder / "requirements-more.lock").read_text() == "msgspec==2\n"
    assert (folder / "bundle" / "model.py").is_file()
    assert (folder / "server" / "headway" / "server" / "__main__.py").is_file()
    with pytest.raises(Conflict):
        write_context(order(tmp_path), "python:3.11-slim", lock, folder)


def test_a_container_says_what_only_it_knows(tmp_path: Path) -> None:
    baked = order(tmp_path).config()
    plain = container_config({}, "host-1", baked)
    assert (plain.replica_id, plain.version, plain.listen) == ("host-1", "image", "tcp:0.0.0.0:8080")
    assert (plain.bundle_path, plain.options.workers, plain.sample) == ("/headway/bundle", 2, "one.json")
    assert plain.latency_counts, "who scales from afar asks for them"
    env = {"HEADWAY_REPLICA": "pod-1", "HEADWAY_SERVER_CONFIG": json.dumps({"version": "v3", "drain_delay_s": 2.0})}
    told = container_config(env, "host-1", baked)
    assert (told.replica_id, told.version, told.drain_delay_s, told.options.workers) == ("pod-1", "v3", 2.0, 2)
    for wrong in ("{", "[]", '{"no_such": 1}', '{"listen": 7}'):
        with pytest.raises((msgspec.MsgspecError, ValueError)):
            container_config({"HEADWAY_SERVER_CONFIG": wrong}, "host-1", baked)
