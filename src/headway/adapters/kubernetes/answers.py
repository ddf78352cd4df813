"""What an API server's refusals mean (the Status kind of the API conventions), as errors of Headway."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headway.domain.errors import (
    ClusterFailed,
    ClusterForbidden,
    ClusterRefused,
    HeadwayError,
    KindMissing,
    StaleWrite,
    WatchExpired,
)

if TYPE_CHECKING:
    import httpx2

_ERRORS: Mapping[int, type[HeadwayError]] = {
    400: ClusterRefused,
    401: ClusterForbidden,
    403: ClusterForbidden,
    404: KindMissing,
    409: StaleWrite,
    410: WatchExpired,
    413: ClusterRefused,
    422: ClusterRefused,
}


@contextlib.contextmanager
def unreachable() -> Iterator[None]:
    """Failures of the way to the server, and answers that are no JSON, become ``ClusterFailed``."""
    import httpx2

    try:
        yield
    except httpx2.HTTPError as error:
        raise ClusterFailed(f"the API server does not answer: {str(error) or type(error).__name__}") from error
    except ValueError as error:
        raise ClusterFailed(f"the API server's answer is no JSON: {error}") from error


def check(response: httpx2.Response, path: str) -> None:
    """Raise what an answer that is no success means."""
    if response.is_success:
        return
    try:
        status = response.json()
    except ValueError:
        status = {"message": response.text[:200]}
    if not isinstance(status, Mapping):
        status = {}
    header = response.headers.get("Retry-After", "")
    after_s = int(header) if header.isdigit() else None
    raise _error(response.status_code, status, path, after_s)


def check_event(event: Mapping[str, Any]) -> None:
    """Raise what an ERROR event of a watch means."""
    if event["type"] == "ERROR":
        status = event["object"]
        raise _error(int(status.get("code", 500)), status, "watch", None)


def _error(code: int, status: Mapping[str, Any], path: str, after_s: int | None) -> HeadwayError:
    details = status.get("details") or {}
    after_s = after_s or details.get("retryAfterSeconds")
    message = str(status.get("message") or json.dumps(status))[:2000]
    kind = _ERRORS.get(code, ClusterFailed)
    if code == 404 and details.get("kind") == "namespaces":
        kind = ClusterRefused
    return kind(
        f"the API server answers {code}: {message}",
        where=path,
        details={"retry_after_s": after_s} if after_s else None,
    )
