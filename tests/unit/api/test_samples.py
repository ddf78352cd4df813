"""The sample of a version over REST."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.api.world import make_world


def test_the_sample_is_the_file_that_the_spec_names_else_sample_json(tmp_path: Path) -> None:
    async def check() -> None:
        world = await make_world()
        world.bundles.place = lambda digest: tmp_path  # type: ignore[method-assign]
        await world.deploy()
        async with world.client() as client:
            answer = await client.get("/v1/models/iris/sample")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            (tmp_path / "sample.json").write_bytes(b"[[1, 2]]")
            answer = await client.get("/v1/models/iris/sample", params={"version": "v1"})
            assert (answer.status_code, answer.content) == (200, b"[[1, 2]]")
            (tmp_path / "sample.json").write_bytes(b" " * (16 * 1024 * 1024 + 1))
            assert (await client.get("/v1/models/iris/sample")).status_code == 413
            assert (await client.get("/v1/models/iris/sample", params={"version": "v9"})).status_code == 404

    asyncio.run(check())
