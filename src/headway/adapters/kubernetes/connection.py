"""How a cluster is reached: kubeconfig and context, or the service account of the pod that this runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.domain.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import httpx2

TIMEOUT_S = 15.0
"""For an answer; a watch is silent for as long as nothing happens."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An HTTP client that is signed in at the API server, and the namespace that the context names."""

    http: httpx2.AsyncClient
    namespace: str
    server: str


def connect(context: str | None = None) -> Connection:
    """The cluster of ``context`` (None: the kubeconfig's current one, or the pod's own).

    ``KUBECONFIG`` names the file, as for kubectl. Raises ``InvalidInput`` when there is no such context or no
    configuration at all, ``MissingExtra`` without ``headway[kubernetes]``.
    """
    try:
        import httpx2
        from lightkube.config.client_adapter import AsyncClient, ConnectionParams
        from lightkube.config.kubeconfig import KubeConfig
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise MissingExtra(
            "talking to a cluster needs more packages", hint="pip install 'headway[kubernetes]'"
        ) from error
    try:
        config = KubeConfig.from_env().get(context)
        if config is None:
            raise ConfigError("the kubeconfig names no current context")
        params = ConnectionParams(timeout=httpx2.Timeout(TIMEOUT_S))
        return Connection(AsyncClient(config, params), config.namespace, config.cluster.server)
    except (ConfigError, OSError) as error:
        raise InvalidInput(
            f"no way to the cluster: {error}",
            where=f"context {context}" if context else "kubeconfig",
            hint="kubectl config get-contexts shows the contexts there are; KUBECONFIG names the file",
        ) from error
