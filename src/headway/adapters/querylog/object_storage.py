"""Parts in object storage: any server that speaks S3, through obstore.

    s3://<bucket>/<prefix>/model=<model>/hour=<YYYY-MM-DDTHH>/<name>.parquet

An object is there as a whole or not at all. Several homes may share a prefix: their sources have names of their own,
and who may merge an hour is settled by a conditional put (``If-None-Match: *``). A server that does not honour that
is found out by trying; then only one home may compact into the prefix, and the log says so.

What is read is kept in a folder of this machine, up to ``cache_bytes``, longest unused first out. Endpoint, region
and credentials come from the usual ``AWS_…`` variables.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from headway.adapters.querylog.directory import Place, Stored, folder, parse_path
from headway.domain.errors import InvalidInput, MissingExtra

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, NotSupportedError
    from obstore.store import S3Store
except ImportError:  # an extra
    obstore = None  # type: ignore[assignment]

log = logging.getLogger("headway.querylog")

RETRIES: Final = 4
"""Of one request, with growing pauses."""
PROBE: Final = "conditional-put.probe"
_SPARED_S: Final = 600.0
"""What was asked for this recently is not removed from the cache: somebody may be about to open it."""
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class ObjectStorage:
    """A :class:`~.directory.Place` in a bucket. From any number of threads."""

    def __init__(self, url: str, cache: Path, *, cache_bytes: int) -> None:
        """``url`` is ``s3://bucket/prefix``. Raises ``InvalidInput``, ``MissingExtra``; asks nothing of the server."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise InvalidInput(f"{url!r} is no place for the query log", hint="s3://bucket/prefix")
        if obstore is None:
            raise MissingExtra("object storage needs obstore", hint="pip install 'headway[s3]'")
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": "5s",
                "timeout": "120s",
            },
            retry_config={"max_retries": RETRIES},
        )
        self._url = url
        self._cache = cache
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._conditional: bool | None = None
        self.scratch = cache / ".scratch"

    def __repr__(self) -> str:
        return f"ObjectStorage({self._url!r})"

    def files(self, model: str | None, first_hour: int | None = None, last_hour: int | None = None) -> list[Stored]:
        found: list[Stored] = []
        with self._asking():
            prefix = None if model is None else f"model={model}"
            # After all of the hour before. (SeaweedFS takes "after hour=x" for "after all of hour=x".)
            after = None if model is None or first_hour is None else f"{folder(model, first_hour - 1)}~"
            for objects in obstore.list(self._store, prefix, offset=after):
                for meta in objects:
                    parsed = parse_path(meta["path"])
                    if parsed is None or (first_hour is not None and parsed[1] < first_hour):
                        continue
                    if last_hour is not None and parsed[1] > last_hour:
                        if model is not None:
                            return found  # they come in the order of their names
                        continue
                    tag = meta["e_tag"] or meta["last_modified"].isoformat()
                    found.append(
                        Stored(model=parsed[0], hour=parsed[1], name=parsed[2], size=int(meta["size"]), tag=tag)
                    )
        return found

    def tail(self, stored: Stored, size: int) -> bytes:
        with self._asking():
            start = max(0, stored.size - size)
            return bytes(obstore.get_range(self._store, stored.path, start=start, end=stored.size))

    def local(self, stored: Stored) -> Path:
        path = self._cached(stored.path, stored.tag)
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.scratch / f"get-{secrets.token_hex(8)}"
        try:
            with self._asking(), draft.open("wb") as file:
                for chunk in obstore.get(self._store, stored.path):
                    file.write(chunk)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        self._evict()
        return path

    def again(self, stored: Stored) -> Path | None:
        self._cached(stored.path, stored.tag).unlink(missing_ok=True)
        return self.local(stored)

    def put(self, draft: Path, model: str, hour: int, name: str, *, new: bool) -> bool:
        path = f"{folder(model, hour)}/{name}"
        with self._asking():
            if new and self._is_conditional():
                try:
                    result = obstore.put(self._store, path, draft, mode="create")
                except AlreadyExistsError:
                    return False
            elif new and self._is_there(path):
                return False
            else:
                result = obstore.put(self._store, path, draft)
        if result["e_tag"]:
            os.replace(draft, self._cached(path, result["e_tag"]))
            self._evict()
        else:
            draft.unlink()
        return True

    def remove(self, stored: Stored) -> None:
        with self._asking(), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, stored.path)
        self._cached(stored.path, stored.tag).unlink(missing_ok=True)

    def beside(self, name: str) -> Place:
        url = f"{self._url.rstrip('/')}/{name}"
        return ObjectStorage(url, self._cache / name, cache_bytes=self._cache_bytes)

    @contextmanager
    def alone(self, stop: Callable[[], bool]) -> Iterator[None]:
        yield  # conditional puts do instead

    # -- the server --------------------------------------------------------------------------------

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except BaseError as error:
            text = next(iter(str(error).splitlines()), "")
            if isinstance(error, NotFoundError):
                raise FileNotFoundError(errno.ENOENT, text, self._url) from error
            raise OSError(errno.EIO, text, self._url) from error

    def _is_there(self, path: str) -> bool:
        try:
            obstore.head(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def _is_conditional(self) -> bool:
        """Whether the server honours ``If-None-Match``; found out once."""
        with self._lock:
            if self._conditional is None:
                self._conditional = self._try_conditional()
                if not self._conditional:
                    log.warning("%s has no conditional put: only one home may keep its query log there", self._url)
            return self._conditional

    def _try_conditional(self) -> bool:
        for _ in range(2):
            try:
                obstore.put(self._store, PROBE, b"made to see whether it can be made twice\n", mode="create")
            except AlreadyExistsError:
                return True
            except NotSupportedError:
                return False
        return False

    # -- the cache ---------------------------------------------------------------------------------

    def _cached(self, path: str, tag: str) -> Path:
        return self._cache / f"{hashlib.sha256(f'{path} {tag}'.encode()).hexdigest()[:40]}.parquet"

    def _evict(self) -> None:
        """Remove what was not used longest, down to ``cache_bytes``."""
        with self._lock:
            files: list[tuple[float, int, Path]] = []
            for path in self._cache.glob("*.parquet"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
            excess = sum(size for _, size, _ in files) - self._cache_bytes
            spared = time.time() - _SPARED_S
            for used_at, size, path in sorted(files):
                if excess <= 0 or used_at > spared:
                    return
                path.unlink(missing_ok=True)
                excess -= size
