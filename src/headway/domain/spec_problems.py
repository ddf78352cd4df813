"""How a document is refused: where the problem is, what it is, and the nearest field that exists."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from headway.domain.errors import InvalidSpec, InvalidTraffic, Unsupported
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
_LATER = {
    ("scaling", "triggers"): "autoscaling triggers",
    ("scaling", "behavior"): "autoscaling behaviour",
    ("jobs",): "jobs",
}


def not_supported(data: object) -> None:
    """Raise :class:`Unsupported` for fields that later releases will know, rather than call them unknown."""
    spec = data.get("spec") if isinstance(data, dict) else None
    if not isinstance(spec, dict):
        return
    for path, what in _LATER.items():
        within: object = spec
        for key in path[:-1]:
            within = within.get(key) if isinstance(within, dict) else None
        if isinstance(within, dict) and path[-1] in within:
            raise Unsupported(
                f"{what} are not supported yet", where="spec." + ".".join(path), hint="leave the field out for now"
            )


def check_range(least: int, most: int | None) -> None:
    """Raise :class:`Unsupported` for a range of replicas, :class:`InvalidSpec` for one that is none."""
    if most is None or most == least:
        return
    where = "spec.scaling.maxReplicas"
    if most < least:
        raise InvalidSpec(f"must not be below minReplicas ({least})", where=where)
    raise Unsupported(
        "a range of replicas is not supported yet",
        where=where,
        hint=f"set it to minReplicas ({least}) or leave it out",
    )


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
        path = _dotted(item["loc"])
        if item["type"] == "extra_forbidden":
            problems.append((path, f"unknown field; {_nearest(root, item['loc'])}"))
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


def _nearest(root: type[BaseModel], loc: Sequence[int | str]) -> str:
    known = _fields_at(root, loc[:-1])
    close = difflib.get_close_matches(str(loc[-1])[:100], known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known fields: {', '.join(known)}"


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(f for name, f in model.model_fields.items() if part in (f.alias, name))
        inner = _model_in(field.annotation)
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
