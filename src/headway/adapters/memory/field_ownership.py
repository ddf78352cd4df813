"""Who owns which field of an object: server-side apply in small (KEP-555), for a cluster in memory.

A field is a path of steps: the key of a map, or ``[key=value]`` for an item of a list that is merged by a key. Other
lists are one value. What is here is what the objects that Headway makes need: the lists of :data:`MERGED`, no sets.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from headway.domain.cluster_drift import MERGED

Path = tuple[str, ...]

_UNOWNED: Final = frozenset({"apiVersion", "kind"})
_SERVERS_OWN: Final = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
)


def fields(item: Mapping[str, Any]) -> set[Path]:
    """Every field that the object states."""
    found: set[Path] = set()
    for key, value in item.items():
        if key == "metadata":
            stated = {name: part for name, part in value.items() if name not in _SERVERS_OWN}
            found.update(("metadata", *path) for path in _leaves("metadata", stated) if path)
        elif key not in _UNOWNED:
            found.update((key, *path) for path in _leaves(key, value))
    return found


def _leaves(key: str, value: Any) -> Iterator[Path]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from ((name, *rest) for rest in _leaves(name, part))
    elif key in MERGED and isinstance(value, Sequence) and value:
        for part in value:
            step = _step(key, part)
            yield (step,)
            yield from ((step, *rest) for rest in _leaves("", part))
    else:
        yield ()


def _step(key: str, item: Mapping[str, Any]) -> str:
    return f"[{MERGED[key]}={item.get(MERGED[key])}]"


def merged(live: Any, applied: Any, key: str = "") -> Any:
    """``live`` with every field that ``applied`` states."""
    if isinstance(live, Mapping) and isinstance(applied, Mapping):
        result = dict(live)
        for name, value in applied.items():
            result[name] = merged(live[name], value, name) if name in live else copy.deepcopy(value)
        return result
    if key in MERGED and isinstance(live, list) and isinstance(applied, list):
        result_list = list(live)
        places = {_step(key, item): index for index, item in enumerate(result_list)}
        for item in applied:
            index = places.get(_step(key, item))
            if index is None:
                result_list.append(copy.deepcopy(item))
            else:
                result_list[index] = merged(result_list[index], item)
        return result_list
    return copy.deepcopy(applied)


def without(item: Any, gone: set[Path]) -> Any:
    """``item`` without these fields; maps and lists that they leave empty vanish too."""
    result = copy.deepcopy(item)
    for path in sorted(gone, key=len, reverse=True):
        _remove(result, path)
    return result


def _remove(holder: Any, path: Path) -> None:
    step, rest = path[0], path[1:]
    if isinstance(holder, list):
        index = next((i for i, item in enumerate(holder) if any(_is(step, key, item) for key in MERGED)), None)
        if index is None:
            return
        if rest:
            _remove(holder[index], rest)
        else:
            del holder[index]
        return
    if not isinstance(holder, dict) or step not in holder:
        return
    if not rest:
        del holder[step]
        return
    _remove(holder[step], rest)
    if holder[step] in ({}, []):
        del holder[step]


def _is(step: str, key: str, item: Any) -> bool:
    return isinstance(item, Mapping) and _step(key, item) == step


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[Path]:
    """Fields of ``new`` that ``old`` lacks or has with another value: what an update owns from then on."""
    return {path for path in fields(new) if value_at(old, path) != value_at(new, path)}


def value_at(item: Any, path: Path) -> Any:
    """The value there; None when there is none."""
    for step in path:
        if isinstance(item, list):
            item = next((part for part in item if any(_is(step, key, part) for key in MERGED)), None)
        elif isinstance(item, Mapping):
            item = item.get(step)
        else:
            return None
    return item
