"""Layers are the same bytes for the same files, and images the same documents for the same layers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from headway.adapters.oci.layers import Entry, entries_of, pack
from headway.domain.errors import InvalidBundle, InvalidName
from headway.domain.images import Descriptor, Layer, Reference, image_of, parse_reference


def tree(folder: Path, order: list[str]) -> Path:
    for name in order:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    (folder / "b.sh").chmod(0o700)
    (folder / "link").symlink_to("a/z.py")
    return folder


NAMES = ["a/z.py", "b.sh", "a/deep/x.py", "ä.txt"]


def test_what_was_packed_is_the_same_wherever_and_whenever(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one", NAMES), tree(tmp_path / "two" / "elsewhere", NAMES[::-1])
    os.utime(two / "b.sh", (7, 7))
    packed = []
    for folder in (one, two):
        target = io.BytesIO()
        packed.append((pack(entries_of(folder, "headway/x"), target), target.getvalue()))
    assert packed[0] == packed[1]
    found, content = packed[0]
    assert found.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert found.size == len(content)
    plain = gzip.decompress(content)
    assert found.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == sorted(members, key=str.encode)
    assert {m.uid for m in members.values()} == {m.mtime for m in members.values()} == {0}
    assert (members["headway/x/b.sh"].mode, members["headway/x/a/z.py"].mode) == (0o755, 0o644)
    assert members["headway/x/link"].linkname == "a/z.py"
    assert members["headway/x/a/deep"].isdir()


def test_folders_above_a_file_are_made_but_for_the_first(tmp_path: Path) -> None:
    target = io.BytesIO()
    pack([Entry("headway/bundle/a/b.py", b"x"), Entry("var/lib/headway", owner=65532)], target)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(target.getvalue()))) as tar:
        owners = {member.name: member.uid for member in tar}
    assert owners == {"headway/bundle": 0, "headway/bundle/a": 0, "headway/bundle/a/b.py": 0, "var/lib/headway": 65532}


def test_a_file_that_changed_since_it_was_hashed_is_noticed() -> None:
    with pytest.raises(InvalidBundle, match=r"model\.py.*changed"):
        pack([Entry("headway/bundle/model.py", b"now", sha256=hashlib.sha256(b"then").hexdigest())], io.BytesIO())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ghcr.io/acme/iris:v1", Reference("ghcr.io", "acme/iris", "v1")),
        ("localhost/x", Reference("localhost", "x")),
        ("127.0.0.1:5000/a/b__c:1.0", Reference("127.0.0.1:5000", "a/b__c", "1.0")),
        ("python:3.11-slim", Reference("registry-1.docker.io", "library/python", "3.11-slim")),
        ("docker.io/acme/x", Reference("registry-1.docker.io", "acme/x")),
        (f"r.io/x@sha256:{'a' * 64}", Reference("r.io", "x", None, f"sha256:{'a' * 64}")),
        (f"r.io/x:t@sha256:{'a' * 64}", Reference("r.io", "x", "t", f"sha256:{'a' * 64}")),
    ],
)
def test_names(text: str, found: Reference) -> None:
    assert parse_reference(text, "--base", registry="registry-1.docker.io") == found
    assert parse_reference(str(found), "--base") == found


@pytest.mark.parametrize(
    "text", ["", "Iris", "r.io/Iris", "r.io/", "r.io/x:", "r.io/x:a b", "r.io/x@sha256:12", "r.io/../x", "r.io/x@", "-"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_reference(text, "--push", registry="r.io")


def test_a_push_names_its_registry() -> None:
    with pytest.raises(InvalidName, match="names no registry"):
        parse_reference("acme/iris:v1", "--push")


def test_an_image_takes_from_its_base_what_is_not_of_its_program() -> None:
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    base = (Layer(Descriptor(kind, f"sha256:{'b' * 64}", 3), f"sha256:{'c' * 64}"),)
    added = (
        Layer(Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", f"sha256:{'d' * 64}", 4), "sha256:e", "code"),
    )
    config = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "config": {"Env": ["PATH=/bin", "A=1=2"], "Cmd": ["python3"], "Healthcheck": {}, "Labels": {"was": "there"}},
        "history": [{"created_by": "base"}],
    }
    image = image_of(config, base, added, {"Entrypoint": ["x"], "Env": {"A": "3"}}, {"title": "t"})
    document, manifest = json.loads(image.config), json.loads(image.manifest)
    assert document["config"] == {
        "Entrypoint": ["x"],
        "Env": ["PATH=/bin", "A=3"],
        "Labels": {"was": "there", "title": "t"},
    }
    assert (document["architecture"], document["variant"]) == ("arm64", "v8")
    assert document["rootfs"]["diff_ids"] == [f"sha256:{'c' * 64}", "sha256:e"]
    assert len(document["history"]) == 2
    assert [one["mediaType"] for one in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(image.config).hexdigest()}"
    assert image == image_of(config, base, added, {"Entrypoint": ["x"], "Env": {"A": "3"}}, {"title": "t"})
