"""One registry, by the OCI distribution specification 1.1: pull, push, digests checked, tokens fetched when wanted.

Requests that change nothing are sent again when the connection breaks or the registry stumbles, and so are uploads,
from their start: a blob is named by its content, so a second one can do no harm.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from headway import __version__
from headway.adapters.oci.credentials import Credentials
from headway.adapters.oci.store import BlobStore, Checking
from headway.domain.errors import DigestMismatch, Forbidden, ImageNotFound, RegistryFailed, Unauthenticated
from headway.domain.images import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, digest_of

ACCEPT: Final = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
TRIES: Final = 3
PAUSE_S: Final = 0.5
_CHUNK: Final = 256 * 1024
_PARAMETER = re.compile(r'([a-zA-Z]+)="([^"]*)"')
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?")
Counted = Callable[[int], None]
"""Told of bytes as they go over the line."""


class Registry:
    """``async with``. ``plain_http``: without TLS, which loopback registries are always spoken to."""

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        plain_http: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.host = host
        scheme = "http" if plain_http or _LOOPBACK.fullmatch(host) else "https"
        self._base = f"{scheme}://{host}/v2/"
        self._credentials = credentials
        self._authorization: dict[str, str] = {}
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(60.0, connect=15.0),
            follow_redirects=True,
            headers={"user-agent": f"headway/{__version__}"},
        )

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    # -- pull ----------------------------------------------------------------------------------------

    async def manifest(self, repository: str, version: str) -> tuple[str, bytes]:
        """Media type and content of the manifest, or index, with this tag or digest. Raises ``ImageNotFound``."""
        scope = f"repository:{repository}:pull"
        answer = await self._send("GET", f"{repository}/manifests/{version}", scope, headers={"accept": ACCEPT})
        if answer.status_code == 404:
            raise ImageNotFound(f"{self.host} has no image {repository} with {version}", hint="is the name right?")
        self._check(answer, 200)
        content = answer.content
        if len(content) > MAX_MANIFEST_BYTES:
            raise RegistryFailed(f"the manifest of {repository} has {len(content)} bytes", where=self.host)
        promised = version if version.startswith("sha256:") else answer.headers.get("docker-content-digest")
        if promised and promised.startswith("sha256:") and promised != (found := digest_of(content)):
            raise DigestMismatch(f"{promised} was asked for, what came is {found}", where=f"{self.host}/{repository}")
        return answer.headers.get("content-type", MANIFEST).partition(";")[0].strip(), content

    async def fetch(self, repository: str, blob: Descriptor, store: BlobStore, counted: Counted) -> None:
        """Have the blob in ``store``. Raises ``DigestMismatch``, ``RegistryFailed``."""
        if store.has(blob.digest):
            counted(blob.size)
            return
        url, scope = f"{repository}/blobs/{blob.digest}", f"repository:{repository}:pull"

        async def take() -> None:
            with store.incoming() as (draft, file):
                checked, told = Checking(file, blob.digest, blob.size, f"{self.host}/{repository}"), 0
                try:
                    answer = await self._send("GET", url, scope, headers={"accept-encoding": "identity"}, stream=True)
                    try:
                        if answer.status_code != 200:
                            await answer.aread()
                        self._check(answer, 200)
                        async for data in answer.aiter_raw(_CHUNK):
                            checked.write(data)
                            told += len(data)
                            counted(len(data))
                    finally:
                        await answer.aclose()
                    checked.finish()
                except BaseException as error:
                    counted(-told)
                    if isinstance(error, httpx.HTTPError):
                        what = f"{self.host} broke off: {str(error) or type(error).__name__}"
                        raise RegistryFailed(what, again=True) from error
                    raise
                file.close()
                store.keep(draft, blob.digest)

        await self._again(take)

    # -- push ----------------------------------------------------------------------------------------

    async def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository has it."""
        answer = await self._send("HEAD", f"{repository}/blobs/{digest}", _push_scope(repository))
        if answer.status_code not in (200, 404):
            self._check(answer, 200)
        return answer.status_code == 200

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Have a blob of another repository of this registry without sending it; whether that could be done."""
        scope = f"{_push_scope(repository)} repository:{source}:pull"
        answer = await self._send(
            "POST", f"{repository}/blobs/uploads/", scope, params={"mount": digest, "from": source}
        )
        if answer.status_code == 202:  # the registry would rather be sent it; that upload is not gone on with
            await self._send("DELETE", self._location(answer), scope)
            return False
        return answer.status_code == 201

    async def upload(self, repository: str, blob: Descriptor, source: Path, counted: Counted) -> None:
        """Send the blob. Raises ``RegistryFailed``, ``Unauthenticated``, ``Forbidden``."""
        scope = _push_scope(repository)

        async def send() -> None:
            begun = await self._send("POST", f"{repository}/blobs/uploads/", scope)
            self._check(begun, 202)
            sent = _Sent(source, counted)
            try:
                headers = {"content-type": "application/octet-stream", "content-length": str(blob.size)}
                where = self._location(begun)
                put = await self._send(
                    "PUT", where, scope, params={"digest": blob.digest}, headers=headers, content=sent.chunks()
                )
                self._check(put, 201)
            except BaseException:
                counted(-sent.bytes)
                raise

        await self._again(send)

    async def put_manifest(self, repository: str, version: str, manifest: bytes) -> None:
        """Name the image; all its blobs must be there."""
        headers = {"content-type": MANIFEST}
        url = f"{repository}/manifests/{version}"
        self._check(await self._send("PUT", url, _push_scope(repository), headers=headers, content=manifest), 201)

    # -- requests ------------------------------------------------------------------------------------

    def _location(self, answer: httpx.Response) -> str:
        """Where an upload goes on: another address of the registry's choice, perhaps without the host."""
        location = answer.headers.get("location")
        if not location:
            raise RegistryFailed(f"{self.host} says not where to upload to")
        return urljoin(str(answer.url), str(location))

    async def _again(self, act: Callable[[], Any]) -> None:
        for left in reversed(range(TRIES)):
            try:
                await act()
                return
            except RegistryFailed as error:
                if not left or not error.again:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def _send(
        self,
        method: str,
        url: str,
        scope: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Any answer but 401 and 5xx. A body that cannot be sent twice is sent only with an authorization at hand."""
        # What an upload's address already asks for stays: the registry keeps its state there.
        where = str(httpx.URL(urljoin(self._base, url)).copy_merge_params(params or {}))
        tries = 1 if content is not None and not isinstance(content, bytes) else TRIES
        asked_for_token = False
        while True:
            given = dict(headers or {})
            if (
                self._authorization.get(scope)
                and httpx.URL(where).netloc.decode() == httpx.URL(self._base).netloc.decode()
            ):
                given["authorization"] = self._authorization[scope]
            request = self._client.build_request(method, where, headers=given, content=content)
            try:
                answer = await self._client.send(request, stream=stream)
            except httpx.HTTPError as error:
                tries -= 1
                if tries <= 0:
                    raise RegistryFailed(
                        f"{self.host} cannot be reached: {str(error) or type(error).__name__}",
                        hint="is the registry's address right, and does it run?",
                        again=True,
                    ) from error
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status_code == 401 and not asked_for_token:
                await answer.aread()
                asked_for_token = True
                self._authorization[scope] = await self._authorize(answer, scope)
                if content is not None and not isinstance(content, bytes):
                    raise RegistryFailed(f"{self.host} wants to know who sends", again=True)
                continue
            if answer.status_code in (401, 403):
                await answer.aread()
                raise self._refused(answer)
            if answer.status_code >= 500 or answer.status_code == 429:
                await answer.aread()
                tries -= 1
                if tries <= 0:
                    raise RegistryFailed(f"{self.host} answered {answer.status_code} {_said(answer)}", again=True)
                await asyncio.sleep(PAUSE_S)
                continue
            return answer

    async def _authorize(self, answer: httpx.Response, scope: str) -> str:
        """What to say from now on. Sources: RFC 7617; Docker's token authentication, which registries share."""
        challenge = answer.headers.get("www-authenticate", "")
        kind, _, rest = challenge.partition(" ")
        stated = dict(_PARAMETER.findall(rest))
        if kind.lower() == "basic":
            if self._credentials is None or self._credentials.identity_token:
                raise self._refused(answer)
            return self._basic()
        if kind.lower() != "bearer" or not stated.get("realm"):
            raise self._refused(answer)
        service = {"service": stated["service"]} if stated.get("service") else {}
        token = await self._token(stated["realm"], service, scope.split(" "))
        return f"Bearer {token}"

    async def _token(self, realm: str, service: Mapping[str, str], scopes: list[str]) -> str:
        known = self._credentials
        try:
            if known is not None and known.identity_token:
                form = {"grant_type": "refresh_token", "refresh_token": known.identity_token, "client_id": "headway"}
                answer = await self._client.post(realm, data={**form, **service, "scope": " ".join(scopes)})
            else:
                headers = {} if known is None else {"authorization": self._basic()}
                query: list[tuple[str, str | int | float | bool | None]] = [*service.items()]
                query += [("scope", one) for one in scopes]
                answer = await self._client.get(realm, params=query, headers=headers)
            found = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryFailed(f"{self.host}: no token from {realm}: {str(error) or type(error).__name__}") from error
        token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
        if not token:
            raise self._refused(answer)
        return str(token)

    def _basic(self) -> str:
        known = self._credentials or Credentials()
        return "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode()

    def _refused(self, answer: httpx.Response) -> Unauthenticated | Forbidden:
        said = _said(answer)
        if answer.status_code == 403:
            return Forbidden(f"{self.host} does not allow it: {said or 403}", hint="may this user do that there?")
        who = "the name or password that docker login has left is not accepted" if self._credentials else "who are you?"
        return Unauthenticated(f"{self.host} refused: {said or who}", hint=f"docker login {self.host}")

    def _check(self, answer: httpx.Response, wanted: int) -> None:
        if answer.status_code != wanted:
            raise RegistryFailed(
                f"{self.host} answered {answer.status_code} {_said(answer)}".strip(), where=str(answer.request.url.path)
            )


class _Sent:
    """A file on its way."""

    def __init__(self, source: Path, counted: Counted) -> None:
        self._source = source
        self._counted = counted
        self.bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        with self._source.open("rb") as file:
            while data := file.read(_CHUNK):
                yield data
                self.bytes += len(data)
                self._counted(len(data))


def _push_scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _said(answer: httpx.Response) -> str:
    """The registry's own words, if it has any."""
    try:
        errors = answer.json()["errors"]
        return "; ".join(f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors)[:300]
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        return ""
