"""What a load test asks beforehand: where the model is, and what to send it."""

from __future__ import annotations

from typing import Any

from headway.client.connection import GATEWAY, Connection
from headway.client.wire import json_of
from headway.domain.names import check_model_name, check_version_name
from headway.ports.load_generator import LoadTarget


class LoadCalls:
    """The part of :class:`headway.client.Client` that load tests use. Everything raises ``ModelNotFound``."""

    _connection: Connection

    def _gateway(self) -> str:
        raise NotImplementedError

    def sample(self, name: str, *, version: str | None = None) -> bytes:
        """The example request of ``version``, by default of the one with most of the traffic.

        Raises ``NotFound`` when it has none.
        """
        params = {"version": None if version is None else check_version_name(version)}
        return self._connection.raw(f"/v1/models/{check_model_name(name)}/sample", params)

    def signature(self, name: str) -> dict[str, Any]:
        """Inputs and outputs as a replica tells them, in the words of the Open Inference Protocol."""
        path = f"/models/{check_model_name(name)}/v2/models/{name}"
        found = json_of(self._connection.gateway(self._gateway(), "GET", path).content, GATEWAY)
        return dict(found) if isinstance(found, dict) else {}

    def load_target(self, name: str, *, version: str | None = None) -> LoadTarget:
        """Where requests of a load test go: the model's route at the gateway, or that of one version."""
        url = f"{self._gateway()}/models/{check_model_name(name)}"
        if version is not None:
            url += f"/versions/{check_version_name(version)}"
        place = self._connection.place
        return LoadTarget(name, url, place.token if place.token_for_gateway else None)
