"""The application without sockets: requests go in as objects, answers come back as futures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from headway.server.app import Application
from headway.server.config import ServerConfig, ServerOptions
from headway.server.execution import Execution
from headway.server.http import Request, Response
from headway.server.model import LoadedModel
from headway.server.query_log import QueryLogWriter
from headway.server.shadow import ShadowSender


class Asker:
    """A peer that waits for one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def settle(self, request: Request, response: Response) -> None:
        assert not self.answer.done(), "answered twice"
        self.answer.set_result(response)

    def charge(self, request: Request, size: int) -> None:
        """There is no budget here."""


class Bench:
    """One application around ``subject`` (a model object or function); make it inside a running loop."""

    def __init__(
        self,
        subject: Any,
        *,
        shadow: ShadowSender | None = None,
        query_log: QueryLogWriter | None = None,
        **options: Any,
    ) -> None:
        self.config = ServerConfig(
            replica_id="iris-v1-bcdfg",
            model="iris",
            version="v1",
            digest="0" * 64,
            bundle_path=str(Path(__file__).parent),
            listen="unix:/nowhere",
            options=ServerOptions(**options),
        )
        loaded = isinstance(subject, LoadedModel)
        self.model = subject if loaded else LoadedModel(subject, Path(__file__).parent, name="Subject")
        self.app = Application(self.config, Execution(self.model), asyncio.get_running_loop(), shadow, query_log)

    def send(
        self, body: bytes | object = b"", path: str = "/predict", method: str | None = None, **headers: str
    ) -> tuple[Request, asyncio.Future[Response]]:
        """The request and its answer to come; ``content_type="text/csv"`` sets a header."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        asker = Asker()
        verb = method or ("POST" if raw else "GET")
        target, _, query = path.partition("?")
        request = Request(verb.encode(), target.encode(), raw, fields, asker, perf_counter_ns(), query=query.encode())
        response = self.app.handle(request)
        if response is not None:
            asker.settle(request, response)
        return request, asker.answer

    async def ask(
        self, body: bytes | object = b"", path: str = "/predict", method: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded JSON (or text) of the answer."""
        _, answer = self.send(body, path, method, **headers)
        return read(await answer)

    async def predict(self, body: bytes | object, **headers: str) -> Any:
        """The predictions; fails on any other status than 200."""
        status, answer = await self.ask(body, **headers)
        assert status == 200, answer
        return answer["predictions"]

    async def error(self, body: bytes | object, path: str = "/predict", **headers: str) -> dict[str, Any]:
        """The error of an answer, with its ``status`` added."""
        status, answer = await self.ask(body, path, **headers)
        assert set(answer) == {"error"}, answer
        return {"status": status, **answer["error"]}


def read(response: Response) -> tuple[int, Any]:
    """Status and decoded body."""
    if response.content_type == b"application/json":
        return response.status, json.loads(response.body, parse_constant=_not_json)
    return response.status, response.body.decode()


def _not_json(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")
