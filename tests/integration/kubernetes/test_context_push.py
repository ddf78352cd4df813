"""``headway --context … deploy DIR --push``: from a folder to an image in a real registry, pinned in the resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT
from tests.services.context_world import contexts
from tests.services.model_world import GATEWAY, IRIS
from tests.services.registry import RegistryService

pytestmark = [pytest.mark.anyio, pytest.mark.needs_network, pytest.mark.timeout(600)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write(folder: Path, word: str) -> None:
    """A model in a folder beside its document, which says where."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "model.py").write_text(f"def predict(X: list, features_names=None):\n    return [{word!r}]\n")
    document: dict[str, Any] = {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "iris"},
        "spec": {"model": {"path": "code"}, "kubernetes": {"route": GATEWAY}},
    }
    (folder / "headway.yaml").write_text(json.dumps(document))


async def test_a_folder_becomes_an_image_and_the_image_a_version(
    scratch: Path, registry_service: RegistryService, base_archive: Path
) -> None:
    login = registry_service.docker_config(scratch / "docker")
    target = f"{registry_service.host}/iris"
    folder = scratch / "iris"
    write(folder, "one")
    async with contexts(scratch) as world:

        async def deploy(*options: str) -> Any:
            arguments = ("--context", "prod", "deploy", str(folder), *options, "-o", "json")
            return await world.run(*arguments, DOCKER_CONFIG=login)

        push = ("--push", target, "--base", str(base_archive))
        said = await deploy(*push)
        assert said.code == 0, said.err
        first = said.json
        assert first["image"].startswith(f"{target}@sha256:")
        resource = world.api.cluster.find(MODEL_DEPLOYMENT, IRIS)
        assert resource is not None
        # What the document says of the folder is in the image now.
        assert resource["spec"] == {"kubernetes": {"route": GATEWAY, "image": first["image"]}}
        assert (await deploy(*push)).json["unchanged"]

        write(folder, "two")
        said = await deploy(*push, "--canary", "20%")
        assert (said.code, said.json["version"]) == (0, "v2"), said.err
        assert said.json["image"] != first["image"]
        view = (await world.prod("status", "iris", "-o", "json")).json
        assert [arm["weight"] for arm in view["live"]] == [80, 20]

        # Without --push there is no image to be had, and the path means nothing.
        said = await deploy()
        assert (said.code, "--push" in said.error["hint"]) == (2, True)
        said = await world.prod("apply", "-f", str(folder / "headway.yaml"), "-o", "json")
        assert (said.code, said.error["code"]) == (6, "unsupported")
        assert "spec.model.path" in said.err
        said = await deploy("--base", str(base_archive))
        assert (said.code, said.error["where"]) == (2, "--base")
    said = await world.run("deploy", str(folder), "--push", target, "-o", "json")
    assert (said.code, said.error["where"]) == (2, "--push")
