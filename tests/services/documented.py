"""The triggers that the documentation shows, to be tried on real services."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import TypeAdapter

from headway.domain.scaling_spec import ExternalTriggerSpec, TriggerSpec
from scripts.check_docs import ROOT
from tests.docs.blocks import blocks

PAGE = ROOT / "docs" / "how-to" / "scale-by-an-outside-signal.md"
AnyTrigger = TypeVar("AnyTrigger", bound=ExternalTriggerSpec)


def documented(kind: type[AnyTrigger]) -> AnyTrigger:
    """The one trigger of that kind on the page about outside signals."""
    shown = [
        TypeAdapter[object](TriggerSpec).validate_python(trigger)
        for block in blocks("yaml", of=[PAGE])
        for trigger in yaml.safe_load(block.code)["spec"]["scaling"]["triggers"]
    ]
    (found,) = (trigger for trigger in shown if isinstance(trigger, kind))
    return found
