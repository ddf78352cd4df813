"""Endpoints that say what runs here, in the words of each protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import headway
from headway.domain.errors import ModelNotFound
from headway.server.config import ServerConfig
from headway.server.execution import Execution
from headway.server.http import TEXT, Request, Response, json_response
from headway.server.model import InputKind
from headway.server.openapi import document
from headway.server.signature import declared

EXTENSIONS = ["binary_tensor_data"]


class Descriptions:
    """For one model."""

    def __init__(self, config: ServerConfig, execution: Execution, paths: Callable[[], Iterable[str]]) -> None:
        self._config = config
        self._execution = execution
        self._model = execution.model
        self._paths = paths

    def about(self, request: Request) -> Response:
        """``GET /``."""
        kind = self._model.kind
        return json_response(
            {
                "model": self._config.model,
                "version": self._config.version,
                "replica": self._config.replica_id,
                "server": f"headway {headway.__version__}",
                "input": InputKind.LISTS.value if kind is InputKind.ROWS else kind.value,
                "paths": sorted(self._paths()),
            }
        )

    def openapi(self, request: Request) -> Response:
        """``GET /openapi.json``."""
        signature = self._execution.signature or declared(self._model)
        return json_response(document(self._config, self._model.kind, signature))

    def version(self, request: Request) -> Response:
        """``GET /version``: MLflow servers answer with their version as text."""
        return Response(200, headway.__version__.encode(), TEXT)

    def server(self, request: Request) -> Response:
        """``GET /v2``."""
        return json_response({"name": "headway", "version": headway.__version__, "extensions": EXTENSIONS})

    def model(self, request: Request) -> Response:
        """``GET /v2/models/NAME``."""
        signature = self._execution.signature or declared(self._model)
        return json_response(
            {
                "name": self._config.model,
                "versions": [self._config.version],
                "platform": "headway_r" if self._model.kind is InputKind.R_FRAME else "headway_python",
                "inputs": [spec.to_dict() for spec in signature.inputs],
                "outputs": [spec.to_dict() for spec in signature.outputs],
            }
        )

    def repository(self, request: Request) -> Response:
        """``POST /v2/repository/index``: the one model there is."""
        return json_response(
            [{"name": self._config.model, "version": self._config.version, "state": "READY", "reason": ""}]
        )

    def other_model(self, path: bytes) -> ModelNotFound:
        """The error for ``/v2/models/…`` of a model or version that is not here."""
        return ModelNotFound(
            f"nothing at {path[:100].decode('latin-1')}",
            hint=f"this replica serves model {self._config.model}, version {self._config.version}",
        )
