"""How far the gateway's lines were compacted: ``<gateway>/taken.json``, replaced as a whole.

Lines before ``offset`` are in parts, those from there on are read from ``gateway.log``. The step that counts, of
compacting lines, is the replacement of this file: before it, readers take the lines from the log and ignore parts
made of lines from ``offset`` on (``live_name``); ``taking`` says up to where they are being made, so that whoever
repeats it after a crash makes the same ones.

``token`` stands for one life of the log file: another file, or one that was cut, gets another.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from headway.adapters.querylog.directory import locked, sync_folder
from headway.adapters.querylog.manifest import GATEWAY
from headway.domain.errors import StorageFailed

LOG_NAME: Final = "gateway.log"
MARK_NAME: Final = "taken.json"
_MARK_LOCK: Final = ".taken.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayMark:
    """See the module's text."""

    token: str = ""
    """Empty: there is no log."""
    inode: int = 0
    offset: int = 0
    taking: int | None = None
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By process id of the gateway, as text: the highest ``line`` before ``offset``, and how many lines there were.

    See ``gateway_tail.LineCounts``."""
    single: tuple[str, ...] = ()
    """Of the last lines before ``offset`` those whose second copy had not come; see ``gateway_tail.Copies``."""

    @property
    def stream(self) -> str:
        """Of the records that lines are."""
        return f"{GATEWAY}{self.token}"

    @property
    def live_name(self) -> str:
        """For ``PartStore.parts``: lines from here on are read elsewhere."""
        return f"{GATEWAY}{self.token}@{self.offset}"


def current_mark(gateway_root: Path) -> GatewayMark:
    """The mark of the log that is there now. Raises ``OSError`` or ``StorageFailed``.

    A log that has none yet, or has taken the place of another, gets one that says that nothing was taken.
    """
    status = _log_status(gateway_root)
    if status is None:
        return GatewayMark()
    mark = _read(gateway_root)
    if mark is not None and _fits(mark, status):
        return mark
    with locked(gateway_root / _MARK_LOCK, lambda: False):
        mark, status = _read(gateway_root), _log_status(gateway_root)
        if status is None:
            return GatewayMark()
        if mark is None or not _fits(mark, status):
            mark = GatewayMark(token=secrets.token_hex(6), inode=status.st_ino)
            _write(gateway_root, mark)
        return mark


def advance(gateway_root: Path, before: GatewayMark, after: GatewayMark) -> bool:
    """Put ``after`` in place of ``before``; False when something else is there by now."""
    with locked(gateway_root / _MARK_LOCK, lambda: False):
        if _read(gateway_root) != before:
            return False
        _write(gateway_root, after)
        return True


def renewed(mark: GatewayMark) -> GatewayMark:
    """For the same file, cut to nothing."""
    return replace(mark, token=secrets.token_hex(6), offset=0, taking=None)


def _fits(mark: GatewayMark, status: os.stat_result) -> bool:
    return mark.inode == status.st_ino and mark.offset <= status.st_size


def _log_status(gateway_root: Path) -> os.stat_result | None:
    try:
        return (gateway_root / LOG_NAME).stat()
    except FileNotFoundError:
        return None


def _read(gateway_root: Path) -> GatewayMark | None:
    path = gateway_root / MARK_NAME
    try:
        value = json.loads(path.read_bytes())
        counted = {str(pid): (int(line), int(lines)) for pid, (line, lines) in value["counted"].items()}
        taking = None if value["taking"] is None else int(value["taking"])
        return GatewayMark(
            token=str(value["token"]),
            inode=int(value["inode"]),
            offset=int(value["offset"]),
            taking=taking,
            counted=counted,
            single=tuple(str(digest) for digest in value.get("single", ())),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageFailed(
            f"the mark of the gateway's log cannot be read: {error}",
            where=str(path),
            hint="restore it, or remove it to have all of the gateway's lines that are left counted once more",
        ) from error


def _write(gateway_root: Path, mark: GatewayMark) -> None:
    draft = gateway_root / f".{MARK_NAME}.draft"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(mark), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, gateway_root / MARK_NAME)
    sync_folder(gateway_root)
