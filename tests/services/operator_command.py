"""The commands that touch a cluster, as processes, with a kubeconfig that names the faked API server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.services.kubernetes_api import KubernetesApi


def environment(api: KubernetesApi, scratch: Path) -> dict[str, str]:
    """With a kubeconfig of two contexts, of which the second is meant."""
    file = scratch / "kubeconfig"
    clusters = [{"name": "here", "cluster": {"server": api.url}}]
    contexts = [
        {"name": "elsewhere", "context": {"cluster": "nowhere", "user": "me"}},
        {"name": "prod", "context": {"cluster": "here", "user": "me"}},
    ]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [*clusters, {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": contexts,
        "users": [{"name": "me", "user": {"token": "x"}}],
        "current-context": "elsewhere",
    }
    file.write_text(json.dumps(document))
    return {**os.environ, "KUBECONFIG": str(file), "HOME": str(scratch)}


async def headway(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headway.cli.main", *arguments, env=env, stderr=asyncio.subprocess.PIPE
    )
