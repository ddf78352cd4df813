"""Documents as YAML that the reader of documents reads as the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml


def as_yaml(documents: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """``documents`` as one file, led by ``notes`` as comments."""
    head = "".join(f"# {' '.join(note.split())}\n" for note in notes)
    text: str = yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return head + text


class _Plain(yaml.SafeDumper):
    """Writes what the reader of documents takes: no anchors, and quotes around text that could be taken otherwise."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*", text) is not None
    known = text.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain and not known else '"')


_Plain.add_representer(str, _text)
