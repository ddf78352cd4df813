"""How a document is refused: where the problem is, what it is, and the nearest field that exists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from headway.domain.errors import InvalidSpec, InvalidTraffic
from headway.domain.routing_table import WEIGHT_TOTAL

MOST_PROBLEMS = 20
_WORDS = {
    "missing": "this field is required",
    "string_type": "must be a string (quote numbers and words such as yes)",
    "string_unicode": "must be valid Unicode text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "invalid_key": "field names must be strings",
}
_TAGLESS = "union_tag_not_found"
_UNKNOWN_TAG = "union_tag_invalid"


def check_weights(split: Sequence[tuple[str, int]]) -> None:
    """Raise :class:`InvalidTraffic` unless every version is named once and the weights sum to 100."""
    seen: set[str] = set()
    for position, (version, _) in enumerate(split):
        if version in seen:
            raise InvalidTraffic(f"{version} is named twice", where=f"spec.traffic[{position}].version")
        seen.add(version)
    total = sum(weight for _, weight in split)
    if total != WEIGHT_TOTAL:
        raise InvalidTraffic(f"the weights sum to {total}, not {WEIGHT_TOTAL}", where="spec.traffic")


def refusal(error: ValidationError, root: type[BaseModel]) -> InvalidSpec:
    """One :class:`InvalidSpec` for everything pydantic found, the first problem in front."""
    problems: list[tuple[str, str]] = []
    for item in error.errors(include_url=False, include_input=False)[:MOST_PROBLEMS]:
        # One walk through the types finds out which parts of the place are tags, not fields, and what is known there.
        loc, holder = _walk(root, item["loc"])
        path = _dotted(loc)
        if item["type"] == "extra_forbidden":
            problems.append((path, f"unknown field; {_nearest(str(loc[-1]), _fields(holder))}"))
        elif item["type"] == _TAGLESS:
            problems.append((f"{path}.type", "this field is required"))
        elif item["type"] == _UNKNOWN_TAG:
            problems.append((f"{path}.type", _unknown_type(item["ctx"])))
        else:
            problems.append((path, _WORDS.get(item["type"]) or _plain(item["msg"])))
    where, message = problems[0]
    if len(problems) > 1:
        message = "; ".join([message, *(f"{path}: {text}" for path, text in problems[1:])])
    details = {"problems": [{"where": path, "message": text} for path, text in problems]}
    return InvalidSpec(message, where=where, details=details)


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _dotted(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:100]}"
    return text.lstrip(".") or "document"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known fields: {', '.join(known)}"


def _unknown_type(context: Mapping[str, Any]) -> str:
    known = re.findall(r"'([^']*)'", context["expected_tags"])
    tag = str(context["tag"])[:40]
    close = difflib.get_close_matches(tag, known, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"unknown type {tag!r}; {meant}known types: {', '.join(known)}"


def _fields(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _walk(root: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[int | str], type[BaseModel] | None]:
    """``loc`` without the tags of unions in it, and the model that holds its last part."""
    place: list[int | str] = []
    holder: type[BaseModel] | None = root
    models: list[type[BaseModel]] = [root]
    for part in loc:
        if isinstance(part, int):
            place.append(part)
            continue
        tagged = [model for model in models if len(models) > 1 and part in _tags(model)]
        if tagged:
            models = tagged
            continue
        place.append(part)
        holder = models[0] if models else None
        field = (
            next((f for name, f in holder.model_fields.items() if part in (f.alias, name)), None) if holder else None
        )
        models = _models_in(field.annotation) if field is not None else []
    return place, holder


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field is not None else ()


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
