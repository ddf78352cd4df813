"""HttpWebhookCaller: one POST, to an address that was looked at first.

The host's name is resolved once; all its addresses are judged, and the connection goes to the first of them by number,
with the name kept for TLS and the ``Host`` header. So a name that changes its mind between the look and the call leads
nowhere else (DNS rebinding), and proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import httpx

from headway import __version__
from headway.domain.webhooks import is_public
from headway.ports.webhook_caller import WebhookAnswer

TIMEOUT_S: Final = 10.0

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, at least one. Raises ``OSError``."""


async def system_addresses(host: str, port: int) -> list[str]:
    """As the system resolves them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class HttpWebhookCaller:
    """The ``WebhookCaller`` port. ``verify`` may be a path to certificates that are trusted, too."""

    def __init__(
        self, *, resolve: Resolve = system_addresses, timeout_s: float = TIMEOUT_S, verify: bool | str = True
    ) -> None:
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._verify = verify
        self._client: httpx.AsyncClient | None = None

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool = False
    ) -> WebhookAnswer:
        """See the port."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(httpx.URL(url), headers, body, allow_private)
        except TimeoutError:
            return WebhookAnswer(None, f"no answer within {self._timeout_s:g} s")
        except httpx.InvalidURL:
            return WebhookAnswer(None, "the URL cannot be called")
        except (httpx.HTTPError, OSError) as error:
            return WebhookAnswer(None, (str(error) or type(error).__name__)[:200])

    async def close(self) -> None:
        """See the port."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(
        self, url: httpx.URL, headers: Mapping[str, str], body: bytes, allow_private: bool
    ) -> WebhookAnswer:
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        if not addresses:
            return WebhookAnswer(None, f"{url.host} has no address")
        refused = [address for address in addresses if not is_public(address)]
        if refused and not allow_private:
            return WebhookAnswer(None, f"{url.host} leads to {refused[0]}, which is not a public address")
        if self._client is None:
            # No connection is kept: the next call may be judged otherwise.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=self._timeout_s, limits=limits, verify=self._verify
            )
        request = self._client.build_request(
            "POST",
            url.copy_with(host=addresses[0], port=port),
            headers={**headers, "host": url.netloc.decode("ascii"), "user-agent": f"headway/{__version__}"},
            content=body,
            extensions={"sni_hostname": url.host, "timeout": httpx.Timeout(self._timeout_s).as_dict()},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()  # whatever it says beyond the status
        return WebhookAnswer(response.status_code)
