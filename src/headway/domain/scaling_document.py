"""``spec.scaling`` on its own: as plain data, or as a file that holds it alone or within a whole document.

It is checked by the rules of the whole document. ``where`` counts from what was given: ``scaling.triggers[0].target``
of plain data, ``policy.yaml:4:7: triggers[0].target`` of a file.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.domain.errors import InvalidInput, InvalidSpec
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import API_VERSION, KIND, parse
from headway.domain.spec_document import read_as

_NAME = "any"
_RESOURCES = {"cpu": "1", "memory": "1Gi"}
"""Whether a version states what triggers refer to is seen when the section meets the versions."""
_WHOLE = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class ScalingFile:
    """What a file says; ``model``: whom it says it of, if it does."""

    scaling: Scaling
    model: str | None


def parse_scaling(data: object) -> Scaling:
    """From plain data. Raises ``InvalidSpec``."""
    return _section(data, "scaling")


def read_scaling(text: str, source: str) -> ScalingFile:
    """From a file's text, YAML or JSON: the section, the section under ``scaling:``, or a whole document.

    Raises as :func:`parse_scaling`; ``InvalidSpec`` for a document that says nothing of scaling.
    """
    return read_as(_from_file, text, source)


def _from_file(data: object) -> ScalingFile:
    assert isinstance(data, dict)  # the reader takes no other document
    if any(key in data for key in _WHOLE):
        document = parse(data)
        if "scaling" not in document.spec.model_fields_set:
            raise InvalidSpec("the document says nothing of scaling", where="spec", hint="it needs spec.scaling")
        return ScalingFile(document.spec.scaling, document.metadata.name)
    if set(data) == {"scaling"}:
        return ScalingFile(_section(data["scaling"], "scaling"), None)
    return ScalingFile(_section(data, ""), None)


def _section(data: object, root: str) -> Scaling:
    spec = {"resources": _RESOURCES, "scaling": data}
    whole = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": _NAME}, "spec": spec}
    try:
        return parse(whole).spec.scaling
    except InvalidInput as error:
        problems = [
            {**problem, "where": _under(root, problem["where"])} for problem in error.details.get("problems", ())
        ]
        details = {**error.details, "problems": problems} if problems else error.details
        message = error.message.replace("spec.scaling.", f"{root}." if root else "")
        raise type(error)(message, where=_under(root, error.where or ""), hint=error.hint, details=details) from None


def _under(root: str, where: str) -> str:
    inside = where.removeprefix("spec.scaling")
    return f"{root}{inside}".lstrip(".") or "document"
