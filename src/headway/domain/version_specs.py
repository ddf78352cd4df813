"""The typed spec of a version, read once: control loops ask for it in every round, and a version never changes."""

from __future__ import annotations

from typing import Any, Final

from headway.domain.deployments import Version
from headway.domain.spec import VersionSpec

_MOST: Final = 10_000
_known: Final[dict[str, tuple[dict[str, Any], VersionSpec]]] = {}


def spec_of(version: Version) -> VersionSpec:
    """``version.spec`` as a :class:`VersionSpec`, which is frozen and may be shared."""
    found = _known.get(version.digest)
    if found is not None and (found[0] is version.spec or found[0] == version.spec):
        return found[1]
    spec = VersionSpec.model_validate(version.spec)
    if len(_known) >= _MOST:
        _known.clear()
    _known[version.digest] = (version.spec, spec)
    return spec
