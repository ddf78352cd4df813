"""Connection: requests to the control API and the gateway, with every fault as an error of the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import httpx
from pydantic import BaseModel

from headway import __version__
from headway.client.discovery import START, Place, is_local
from headway.client.wire import error_of, json_of
from headway.domain.errors import ControlUnreachable, DeadlineExceeded, GatewayFailed, HeadwayError

CONTROL: Final = "the control API"
GATEWAY: Final = "the gateway"
ANSWER_S: Final = 60.0
"""The control API answers as soon as a wish is durable."""
UPLOAD_S: Final = 900.0
"""After the last byte of a bundle its files are made durable before the answer comes."""
PREDICT_S: Final = 3_700.0
"""Above the longest time limit a model can have (1 h): the gateway is the one to say that it is over."""


class Connection:
    """Requests to the place that ``find`` tells of. For one thread at a time; ``close`` it."""

    def __init__(self, find: Callable[[], Place], transport: httpx.BaseTransport | None = None) -> None:
        self._find = find
        self.place = place = find()
        headers = {"User-Agent": f"headway/{__version__}"}
        if place.token is not None:
            headers["Authorization"] = f"Bearer {place.token}"
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=5.0),
            transport=transport,
            # A proxy of the environment cannot reach this machine's loopback.
            trust_env=not is_local(place.control_url),
        )

    def close(self) -> None:
        """Close the connections; a second call changes nothing."""
        self._http.close()

    def find_again(self) -> None:
        """After the other side was lost: a control plane that was restarted may listen elsewhere."""
        with suppress(HeadwayError):
            found = self._find()
            if found.token == self.place.token:
                self.place = found

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON that the control API answers. Raises the error it tells of, or ``ControlUnreachable``."""
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
        with self._faults():
            answer = self._http.request(method, self._control(path), json=content, params=_given(params))
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, CONTROL)
        return json_of(answer.content, CONTROL)

    def found(self, path: str) -> bool:
        """``HEAD``: whether there is something at ``path``."""
        with self._faults():
            answer = self._http.head(self._control(path))
        if answer.status_code == 404:
            return False
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, CONTROL)
        return True

    def upload(self, path: str, chunks: Iterator[bytes], size: int) -> None:
        """``PUT`` an archive of ``size`` bytes."""
        headers = {"Content-Type": "application/gzip", "Content-Length": str(size)}
        with self._faults():
            answer = self._http.put(
                self._control(path), content=chunks, headers=headers, timeout=httpx.Timeout(UPLOAD_S, connect=5.0)
            )
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, CONTROL)

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """The body of an answer as it comes. Raises ``DeadlineExceeded`` after ``silence_s`` without any of it."""
        timeout = httpx.Timeout(ANSWER_S, connect=5.0, read=silence_s)
        with (
            self._faults(),
            self._http.stream(
                "GET", self._control(path), params=_given(params), headers=dict(headers or {}), timeout=timeout
            ) as answer,
        ):
            if not answer.is_success:
                raise error_of(answer.status_code, answer.read(), CONTROL)
            yield answer.iter_bytes()

    def raw(self, path: str, params: Mapping[str, Any] | None = None) -> bytes:
        """The bytes that the control API answers to ``GET``. Raises as :meth:`ask`."""
        with self._faults():
            answer = self._http.get(self._control(path), params=_given(params))
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, CONTROL)
        return answer.content

    def predict(self, gateway_url: str, path: str, body: bytes, content_type: str) -> bytes:
        """The body that a model answers through the gateway. Raises the error told of, or ``GatewayFailed``."""
        headers = {"Content-Type": content_type}
        return self.gateway(gateway_url, "POST", path, headers=headers, content=body, timeout_s=PREDICT_S).content

    def gateway(
        self,
        gateway_url: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float = ANSWER_S,
    ) -> httpx.Response:
        """What the gateway answers. Raises the error told of, ``DeadlineExceeded``, or ``GatewayFailed``."""
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        with self._gateway_faults(gateway_url, timeout_s):
            answer = self._http.send(self._to_gateway(method, gateway_url + path, params, headers, content, timeout))
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, GATEWAY)
        return answer

    @contextmanager
    def gateway_stream(
        self, gateway_url: str, path: str, headers: Mapping[str, str], silence_s: float
    ) -> Iterator[Iterator[bytes]]:
        """As :meth:`stream`, through the gateway; errors as :meth:`gateway`."""
        timeout = httpx.Timeout(ANSWER_S, connect=5.0, read=silence_s)
        with self._gateway_faults(gateway_url, silence_s):
            request = self._to_gateway("GET", gateway_url + path, None, headers, None, timeout)
            answer = self._http.send(request, stream=True)
            try:
                if not answer.is_success:
                    raise error_of(answer.status_code, answer.read(), GATEWAY)
                yield answer.iter_bytes()
            finally:
                answer.close()

    def _to_gateway(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        timeout: httpx.Timeout,
    ) -> httpx.Request:
        request = self._http.build_request(
            method, url, params=_given(params) or None, headers=dict(headers or {}), content=content, timeout=timeout
        )
        if not self.place.token_for_gateway:
            request.headers.pop("Authorization", None)
        return request

    @contextmanager
    def _gateway_faults(self, gateway_url: str, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except httpx.ReadTimeout:
            raise DeadlineExceeded(f"{GATEWAY} did not answer within {timeout_s:.0f} s") from None
        except httpx.TransportError as error:
            raise GatewayFailed(
                f"{GATEWAY} at {gateway_url} does not answer: {_said(error)}", hint="headway info tells how it is"
            ) from None

    def _control(self, path: str) -> str:
        return self.place.control_url + path

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except httpx.ReadTimeout:
            raise DeadlineExceeded(f"{CONTROL} at {self.place.control_url} has been silent for too long") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._unreachable("nothing answers", error)
        except httpx.TransportError as error:
            self._unreachable("the connection broke off", error)
        except httpx.HTTPError as error:
            raise HeadwayError(f"{CONTROL} answered in a way that cannot be read: {_said(error)}") from error

    def _unreachable(self, what: str, error: Exception) -> NoReturn:
        local = is_local(self.place.control_url)
        raise ControlUnreachable(
            f"{what} at {self.place.control_url}: {_said(error)}",
            hint=START if local else "check HEADWAY_URL and the network",
        ) from None


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (params or {}).items() if value is not None}


def _said(error: Exception) -> str:
    return str(error)[:300] or type(error).__name__
