"""TargetClient: what a model at a URL says of itself, where there is no control API to ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from headway.client.wire import error_of, json_of
from headway.domain.errors import GatewayFailed, NotFound

MODEL: Final = "the model"


class TargetClient:
    """The model at ``url``, below which its paths come: ``predict``, ``v2/models/NAME``. Close it."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout_s, headers=headers)

    def __enter__(self) -> TargetClient:
        return self

    def __exit__(self, *failure: object) -> None:
        self._http.close()

    def sample(self, name: str, *, version: str | None = None) -> bytes:
        """A model does not hand out its sample. Raises ``NotFound``."""
        raise NotFound(f"{name} at {self._url} hands out no sample")

    def signature(self, name: str) -> Mapping[str, Any]:
        """Inputs and outputs, in the words of the Open Inference Protocol; empty when it does not tell them."""
        answer = self._ask("GET", f"v2/models/{name}")
        found = json_of(answer.content, MODEL) if answer.status_code < 400 else {}
        return found if isinstance(found, Mapping) else {}

    def predict(self, name: str, body: bytes, *, version: str | None = None) -> bytes:
        """Its answer to ``body``. Raises the error that it tells of, and ``GatewayFailed`` when nothing answers."""
        answer = self._ask("POST", "predict", body)
        if answer.status_code >= 400:
            raise error_of(answer.status_code, answer.content, MODEL)
        return answer.content

    def _ask(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            return self._http.request(method, f"{self._url}/{path}", content=body, headers=headers)
        except httpx.HTTPError as error:
            raise GatewayFailed(
                f"nothing answers at {self._url}: {str(error) or type(error).__name__}",
                hint="the model has to run (no traffic: no Service), and its NetworkPolicy to let the load test in",
            ) from None
