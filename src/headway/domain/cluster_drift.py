"""Whether an object in a cluster still says what Headway wants it to say.

Server-side apply keeps the fields of others apart, so only wanted fields are looked at. Two things are not drift:
fields that the server or somebody else added, and quantities written in another way (``1000m`` and ``1``).
A field that is no longer wanted leaves no trace among the wanted ones; the digest of what was applied, kept as an
annotation on the object, tells of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from headway.domain.cluster_objects import Object

APPLIED: Final = "headway.dev/applied"
"""Annotation: the digest of what was applied."""

MERGED: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ownerReferences": "uid",
    "conditions": "type",
}
"""Lists to which others may add items, by the field that tells items apart; all others are one value."""
_SUFFIXES: Final[Mapping[str, Decimal]] = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip
_QUANTITIES: Final = frozenset({"limits", "requests", "sizeLimit", "averageValue", "value"})


def stamped(item: Object) -> dict[str, Any]:
    """``item`` with the digest of itself as an annotation; one that has it already stays as it is."""
    metadata = dict(item["metadata"])
    others = {name: text for name, text in (metadata.get("annotations") or {}).items() if name != APPLIED}
    bare = {**item, "metadata": {**metadata, "annotations": others}}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    metadata["annotations"] = {**others, APPLIED: hashlib.sha256(text.encode()).hexdigest()[:16]}
    return {**item, "metadata": metadata}


def says(live: Any, wanted: Any, key: str = "", *, quantity: bool = False) -> bool:
    """Whether ``live`` has every wanted field with the wanted value."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        quantity = quantity or key in _QUANTITIES
        return all(
            says(live.get(name), value, name, quantity=quantity or name in _QUANTITIES)
            for name, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return _list_says(live or (), wanted, key)
    # The server leaves out text that is empty.
    if live == wanted or (wanted == "" and live is None):
        return True
    return quantity and _amount(live) is not None and _amount(live) == _amount(wanted)


def _list_says(live: Any, wanted: Sequence[Any], key: str) -> bool:
    if not isinstance(live, Sequence) or isinstance(live, str):
        return False
    if key in MERGED:
        found = {item.get(MERGED[key]): item for item in live if isinstance(item, Mapping)}
        return all(item[MERGED[key]] in found and says(found[item[MERGED[key]]], item) for item in wanted)
    return len(live) == len(wanted) and all(says(a, b, key) for a, b in zip(live, wanted, strict=True))


def _amount(value: Any) -> Decimal | None:
    """A Kubernetes quantity as a number; None when it is none."""
    text = str(value)
    digits = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        return None
