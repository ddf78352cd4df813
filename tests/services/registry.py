"""A real registry of images, Debian's ``docker-registry``, that wants a name and a password; and a base to build on."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.leaks import make_scratch, remove_scratch
from tests.services.base_image import make_base
from tests.services.process import ServiceProcess, listens
from tests.waiting import PortPicker

USER, PASSWORD = "headway", "s3cr3t-of-the-service"
_HTPASSWD = "headway:$2b$04$F.bbw9l65K.GMRe1JyoHx.XhDgilEZc9dNDXGDEs9yzP25VRcG8PK"  # bcrypt
_CONFIG = """\
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
auth:
  htpasswd: {{realm: tests, path: {htpasswd}}}
"""


class RegistryService(ServiceProcess):
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def docker_config(self, folder: Path, password: str = PASSWORD) -> str:
        """A folder for ``DOCKER_CONFIG``, as ``docker login`` leaves it."""
        folder.mkdir(parents=True, exist_ok=True)
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        return str(folder)


@pytest.fixture(scope="session")
def registry_service(
    require_service: Callable[[str, object], None], free_port: PortPicker
) -> Iterator[RegistryService]:
    binary = shutil.which("docker-registry")
    require_service("a registry (docker-registry)", binary)
    service = RegistryService("docker-registry")
    service.port = port = free_port()
    folder = service.folder
    (folder / "htpasswd").write_text(_HTPASSWD + "\n")
    (folder / "config.yml").write_text(_CONFIG.format(root=folder / "blobs", port=port, htpasswd=folder / "htpasswd"))

    def answers() -> bool:
        return listens(port) and httpx.get(f"http://{service.host}/v2/", trust_env=False).status_code == 401

    try:
        service.run([str(binary), "serve", folder / "config.yml"], answers)
        yield service
    finally:
        service.remove()


@pytest.fixture(scope="session")
def base_archive() -> Iterator[Path]:
    """A file system with this Python, for ``--base``."""
    folder = make_scratch()
    yield make_base(folder / "root.tar")
    remove_scratch(folder)
