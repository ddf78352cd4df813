"""KubernetesCluster: the ``Cluster`` port on the HTTP API of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Final

from headway.adapters.kubernetes.answers import check, check_event, unreachable
from headway.domain.cluster_objects import Change, ChangeType, Kind, Listing, Name, Object, name_of, uid_of
from headway.domain.errors import KindMissing, StaleWrite

if TYPE_CHECKING:
    import httpx2

MANAGER: Final = "headway"
"""The field manager of all that Headway applies."""
PAGE: Final = 500
"""Objects per answer to a list."""
WATCH_S: Final = 290
"""How long a watch is asked to last; then it goes on where it was."""
_TYPES: Final[Mapping[str, ChangeType]] = {
    "ADDED": "added", "MODIFIED": "modified", "DELETED": "deleted", "BOOKMARK": "bookmark",
}  # fmt: skip


class KubernetesCluster:
    """The objects of one namespace, or of all of them where ``namespace`` is None."""

    def __init__(self, http: httpx2.AsyncClient, namespace: str | None = None, *, manager: str = MANAGER) -> None:
        self._http = http
        self._namespace = namespace
        self._manager = manager

    async def listing(self, kind: Kind, labels: Mapping[str, str]) -> Listing:
        """Page by page, all of one resource version."""
        params = {"limit": str(PAGE), **_selector(labels)}
        found: list[Object] = []
        while True:
            answer = await self._ask("GET", _path(kind, self._namespace), params=params)
            found.extend(_typed(kind, item) for item in answer["items"])
            more = answer["metadata"].get("continue")
            if not more:
                return Listing(found, str(answer["metadata"].get("resourceVersion", "")))
            params["continue"] = more

    async def watch(self, kind: Kind, labels: Mapping[str, str], resource_version: str) -> AsyncGenerator[Change]:
        """With bookmarks, so that a quiet kind does not fall out of the server's memory."""
        import httpx2

        params = {
            "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S),
            "resourceVersion": resource_version, **_selector(labels),
        }  # fmt: skip
        timeout = httpx2.Timeout(self._http.timeout.connect, read=WATCH_S + 30)
        path = _path(kind, self._namespace)
        with unreachable():
            async with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                check(response, path)
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    check_event(event)
                    yield Change(_TYPES[event["type"]], _typed(kind, event["object"]))

    async def read(self, kind: Kind, name: Name) -> Object | None:
        """The object."""
        answer = await self._ask("GET", _path(kind, name.namespace, name.name), missing_is_none=True)
        return _typed(kind, answer) if answer else None

    async def apply(self, kind: Kind, item: Object, *, subresource: str = "") -> Object:
        """Forced: what Headway states, Headway owns."""
        metadata = {k: v for k, v in item["metadata"].items() if k not in ("resourceVersion", "managedFields")}
        stated = {**item, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        if subresource == "scale":
            stated |= {"apiVersion": "autoscaling/v1", "kind": "Scale"}
        name = name_of(item)
        path = _path(kind, name.namespace, name.name) + (f"/{subresource}" if subresource else "")
        answer = await self._ask(
            "PATCH",
            path,
            params={"fieldManager": self._manager, "force": "true"},
            body=stated,
            content_type="application/apply-patch+yaml",
        )
        return _typed(kind, answer)

    async def replace(self, kind: Kind, item: Object) -> Object:
        """By the object's own resource version."""
        stated = {**item, "apiVersion": kind.api_version, "kind": kind.kind}
        name = name_of(item)
        new = not item["metadata"].get("resourceVersion")
        path = _path(kind, name.namespace, "" if new else name.name)
        answer = await self._ask("POST" if new else "PUT", path, params={"fieldManager": self._manager}, body=stated)
        return _typed(kind, answer)

    async def delete(self, kind: Kind, name: Name, uid: str) -> None:
        """In the background, as kubectl does."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        path = _path(kind, name.namespace, name.name)
        try:
            await self._ask("DELETE", path, body=body, missing_is_none=True)
        except StaleWrite:
            # Either another object has the name now, or the server was at odds with itself.
            live = await self.read(kind, name)
            if live is not None and uid_of(live) == uid:
                raise

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        missing_is_none: bool = False,
    ) -> Any:
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if body is None else {"Content-Type": content_type}
        with unreachable():
            response = await self._http.request(method, path, params=params, content=content, headers=headers)
        try:
            check(response, path)
        except KindMissing:
            if missing_is_none and response.status_code == 404:
                return None
            raise
        with unreachable():
            return response.json()


def _typed(kind: Kind, item: dict[str, Any]) -> Object:
    """Items of a list do not say what they are."""
    return {**item, "apiVersion": kind.api_version, "kind": kind.kind}


def _selector(labels: Mapping[str, str]) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))} if labels else {}


def _path(kind: Kind, namespace: str | None, name: str = "") -> str:
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    inside = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return f"{root}{inside}/{kind.plural}" + (f"/{name}" if name else "")
