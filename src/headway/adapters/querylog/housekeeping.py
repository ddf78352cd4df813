"""What compaction does with the parts themselves: merges those of a past hour, removes what is replaced or too old."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from headway.adapters.querylog.directory import Place, Stored
from headway.adapters.querylog.manifest import HOUR_NS, hour_of, is_live, merged_number
from headway.adapters.querylog.store import PartStore
from headway.domain.query_log import Retention

MERGE_AFTER_NS: Final = 600_000_000_000
"""An hour's parts are merged this long after its end: by then its last segments are closed."""
MERGE_MOST_BYTES: Final = 512 * 1024 * 1024
"""An hour of more than this is left as it is: its parts are not small."""
REPLACED_AGE_NS: Final = 300_000_000_000
"""What a merged file holds is removed this much later, for those who read it at that time."""
SCRATCH_AGE_NS: Final = HOUR_NS
_TRIES: Final = 5


def merge_hours(store: PartStore, model: str, horizon_ns: int, here: Collection[str], now_ns: int) -> int:
    """Merge each hour that ended long enough before ``horizon_ns``, the earliest time that may still get records.

    ``here`` are names of segments that exist: a part of one of those was left by a crash and will be made again.
    Returns how many hours were merged.
    """
    last_hour = hour_of(horizon_ns - MERGE_AFTER_NS) - 1
    merged = 0
    for hour in store.several(model, last_hour):
        for _ in range(_TRIES):
            choice = store.choices(model, hour, hour).get(hour)
            files = [] if choice is None else [c for c in choice.chosen if not _any_live(c.note.sources, here)]
            small = sum(chosen.file.size for chosen in files) <= MERGE_MOST_BYTES
            if choice is None or len(files) < 2 or not small or (choice.merged and choice.merged not in files):
                break
            if store.merge(model, hour, files, choice.next_number, now_ns):
                merged += 1
                break
    return merged


def _any_live(sources: Collection[str], here: Collection[str]) -> bool:
    return any(is_live(source, here) for source in sources)


def remove_replaced(store: PartStore, model: str, now_ns: int) -> int:
    """Remove files whose records a merged file has held for some minutes; how many."""
    removed = 0
    for choice in store.choices(model, whole=False).values():
        if not choice.replaced or choice.merged is None or now_ns - choice.merged.note.made_ns < REPLACED_AGE_NS:
            continue
        if not store.is_sound(choice.merged.file):
            continue
        for stored in choice.replaced:
            store.place.remove(stored)
            removed += 1
    return removed


def expire(place: Place, now_ns: int, retention: Retention) -> tuple[int, int]:
    """Remove whole hours, oldest first, that are past ``retention``; files and bytes removed.

    The size limit is of all models' parts together; segments that are being written come on top.
    """
    if retention.max_age_s is None and retention.max_bytes is None:
        return 0, 0
    hours: dict[int, list[Stored]] = {}
    for stored in place.files(None):
        hours.setdefault(stored.hour, []).append(stored)
    total = sum(stored.size for files in hours.values() for stored in files)
    removed, freed = 0, 0
    for hour, files in sorted(hours.items()):
        too_old = retention.max_age_s is not None and (hour + 1) * HOUR_NS <= now_ns - int(retention.max_age_s * 1e9)
        too_large = retention.max_bytes is not None and total - freed > retention.max_bytes
        if not too_old and not too_large:
            break
        # Parts that a merged file holds go before it, or they would count again for a moment.
        for stored in sorted(files, key=lambda stored: merged_number(stored.name) or 0):
            place.remove(stored)
            removed += 1
            freed += stored.size
    return removed, freed


def clean_scratch(scratch: Path, now_ns: int) -> None:
    """Remove what a crash left half written, and views that nobody needs any more."""
    for folder in (scratch, scratch / "views"):
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                path = folder / name
                with suppress(OSError):
                    if path.is_file() and now_ns - path.stat().st_mtime_ns > SCRATCH_AGE_NS:
                        path.unlink()
