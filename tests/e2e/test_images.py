"""``headway build`` on a real registry: what is pushed is a sound image, the same for the same model, and it serves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.installation import Installation
from tests.services.registry import PASSWORD, USER, RegistryService
from tests.waiting import PortPicker, wait_until

pytestmark = [pytest.mark.needs_network, pytest.mark.timeout(600)]

CODE = """
import six

def predict(X: list, features_names=None):
    return [["{word}", *row] for row in X]
"""
BUILD_S = 240.0


@pytest.fixture
def builder(scratch: Path, free_port: PortPicker, registry_service: RegistryService) -> Installation:
    """A home that nothing runs in, logged in at the registry."""
    config = registry_service.docker_config(scratch / "docker")
    return Installation(scratch, free_port, DOCKER_CONFIG=config)


@pytest.fixture
def skopeo(require_service: Callable[[str, object], None], scratch: Path) -> Callable[..., str]:
    binary = shutil.which("skopeo")
    require_service("skopeo", binary)

    def run(command: str, *arguments: str) -> str:
        options = ["--insecure-policy", "--tmpdir", str(scratch), command]
        return subprocess.run(
            [str(binary), *options, *arguments], check=True, capture_output=True, text=True, timeout=120
        ).stdout

    return run


def write(folder: Path, word: str = "hello") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE.format(word=word))
    (folder / "requirements.txt").write_text("six\n")
    (folder / "sample.json").write_text("[[1]]")
    return folder


def build(builder: Installation, folder: Path, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = builder.ok(
        "build", str(folder), "--name", "echo", "-o", "json", *options, timeout_s=BUILD_S
    ).json()
    return found


@pytest.fixture
def serving(free_port: PortPicker) -> Iterator[Callable[[Path, dict[str, Any]], tuple[psutil.Popen, str]]]:
    """Run an unpacked image as a container engine would, save for the walls of a container."""
    started: list[psutil.Popen] = []

    def run(root: Path, config: dict[str, Any]) -> tuple[psutil.Popen, str]:
        port = free_port()
        env = dict(line.split("=", 1) for line in config["Env"])
        env["HEADWAY_SERVER_CONFIG"] = json.dumps({"listen": f"tcp:127.0.0.1:{port}", "version": "v7"})
        env["HEADWAY_REPLICA"] = "echo-v7-pod"
        user = config["User"]
        process = psutil.Popen(
            [
                str(shutil.which("chroot", path="/usr/sbin:/sbin")),
                f"--userspec={user}",
                str(root),
                *config["Entrypoint"],
            ],
            env={"PATH": "/usr/bin:/bin", **env},
            stdin=subprocess.DEVNULL,
        )
        started.append(process)
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            assert process.poll() is None, f"it ended with {process.poll()}"
            try:
                return httpx.get(f"{url}/health/status", trust_env=False, timeout=10).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(ready, 120, what="the model server answers")
        return process, url

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def unpack(layout: Path, root: Path) -> dict[str, Any]:
    """What a container engine does with the layers, by the image specification; the config."""
    index = json.loads((layout / "index.json").read_text())
    blob = layout / "blobs"
    manifest = json.loads((blob / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(blob / layer["digest"].replace(":", "/")) as tar:
            tar.extractall(root, filter="fully_trusted")
    config: dict[str, Any] = json.loads((blob / manifest["config"]["digest"].replace(":", "/")).read_text())["config"]
    return config


@pytest.mark.skipif(os.getuid() != 0, reason="chroot is root's")
def test_what_is_pushed_serves(
    builder: Installation,
    registry_service: RegistryService,
    base_archive: Path,
    skopeo: Callable[..., str],
    serving: Callable[[Path, dict[str, Any]], tuple[psutil.Popen, str]],
) -> None:
    host = registry_service.host
    pushed = build(
        builder, write(builder.scratch / "one"), "--base", str(base_archive), "--push", f"{host}/acme/echo:v1"
    )
    assert pushed["pushed"]["uploaded"] == pushed["pushed"]["uploaded"] > 0
    seen = json.loads(
        skopeo("inspect", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", f"docker://{host}/acme/echo:v1")
    )
    assert seen["Digest"] == pushed["digest"]
    assert seen["Labels"]["dev.headway.version-digest"] == pushed["version_digest"]
    assert seen["Labels"]["org.opencontainers.image.title"] == "echo"

    layout, root = builder.scratch / "layout", builder.scratch / "root"
    source = f"docker://{host}/acme/echo:v1"
    skopeo("copy", "--src-tls-verify=false", "--src-creds", f"{USER}:{PASSWORD}", source, f"oci:{layout}")
    config = unpack(layout, root)
    assert config["User"] == "65532:65532"
    assert (root / "var/lib/headway").stat().st_uid == 65532
    process, url = serving(root, config)
    answer = httpx.post(f"{url}/predict", json=[["w"]], trust_env=False, timeout=30)
    assert answer.json()["predictions"] == [["hello", "w"]]
    assert answer.headers["x-headway-version"] == "v7"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_the_same_model_is_the_same_image_and_a_change_of_code_uploads_its_layer(
    builder: Installation, free_port: PortPicker, registry_service: RegistryService, base_archive: Path
) -> None:
    host, base = registry_service.host, ["--base", str(base_archive)]
    first = build(builder, write(builder.scratch / "one"), *base, "--push", f"{host}/acme/again:v1")

    # Another home, so that nothing is remembered; another folder; other times; as a file this time.
    other = Installation(builder.scratch / "elsewhere", free_port)
    other.scratch.mkdir(exist_ok=True)
    for name in ("home", "tmp"):
        (other.scratch / name).mkdir(exist_ok=True)
    again = write(other.scratch / "a" / "long" / "path")
    os.utime(again / "model.py", (1, 1))
    archive = other.scratch / "image.tar"
    second = build(other, again, *base, "--to", str(archive))
    assert second["digest"] == first["digest"]
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert index["manifests"][0]["digest"] == first["digest"]

    changed = write(builder.scratch / "changed", "goodbye")
    third = build(builder, changed, *base, "--push", f"{host}/acme/again:v2")
    assert third["digest"] != first["digest"]
    differ = [a["title"] for a, b in zip(third["layers"], first["layers"], strict=True) if a != b]
    assert differ == ["code"]
    assert third["pushed"]["uploaded_blobs"] == 2  # the code, and the image's config
    assert third["pushed"]["uploaded"] < 20_000

    # On an image of the same registry: what it has already is not sent again.
    based = build(builder, changed, "--base", f"{host}/acme/again@{first['digest']}", "--push", f"{host}/acme/based:v1")
    assert based["base"]["digest"] == first["digest"]
    assert based["pushed"]["mounted"] > 0.9 * first["size_bytes"]
    assert based["pushed"]["uploaded_blobs"] < 5
    once_more = build(builder, changed, *base, "--push", f"{host}/acme/again:v2")
    assert once_more["pushed"]["uploaded"] == 0


def test_what_cannot_be_done_is_said(
    builder: Installation, registry_service: RegistryService, base_archive: Path, free_port: PortPicker
) -> None:
    host = registry_service.host
    folder = write(builder.scratch / "one")

    def refused(*options: str, code: int, words: str, **env: str) -> None:
        outcome = builder.run("build", str(folder), "--name", "echo", *options, env=env, timeout_s=BUILD_S)
        assert outcome.code == code, str(outcome)
        assert words in outcome.text, str(outcome)
        assert PASSWORD not in outcome.text
        assert "Traceback" not in outcome.text

    refused("--base", f"{host}/no/such:v1", "--to", "x", code=3, words="has no image no/such")
    wrong = {"DOCKER_CONFIG": registry_service.docker_config(builder.scratch / "wrong", "not-it")}
    refused("--base", f"{host}/no/such:v1", "--to", "x", code=4, words="docker login", **wrong)
    refused("--base", f"127.0.0.1:{free_port()}/python:3.11", "--to", "x", code=9, words="cannot be reached")
    anonymous = {"DOCKER_CONFIG": str(builder.scratch / "nobody")}
    refused("--base", str(base_archive), "--push", f"{host}/acme/x:v1", code=4, words="refused", **anonymous)
    (folder / "model.py").rename(folder / "model.R")
    refused("--base", str(base_archive), "--to", "x", code=6, words="no Rscript")
    left = [path.name for path in (builder.home / "images").rglob(".*")]
    assert left == []
