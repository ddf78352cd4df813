"""What commands about a cluster's objects share: options, and how objects are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from headway.cli.output import emit_json, is_json

PANEL = "Kubernetes"
Documents = Annotated[
    list[Path],
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="A ModelDeployment or ScalingPolicy; repeatable. Several of one model are its versions, in order.",
    ),
]
InNamespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Default: as the document says, else default."),
]


Context = Annotated[
    str | None,
    typer.Option(
        metavar="CONTEXT",
        help="Of the kubeconfig. Default: headway --context, HEADWAY_CONTEXT, else its current.",
    ),
]


def emit_objects(objects: Sequence[dict[str, Any]]) -> None:
    """Objects on standard output: a stream of YAML documents, or a JSON list."""
    if is_json():
        emit_json(objects)
        return
    sys.stdout.write(yaml_stream(objects))
    sys.stdout.flush()


def yaml_stream(objects: Sequence[dict[str, Any]]) -> str:
    """The same as text: one document per object, every field written out where it stands."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Without anchors, which people have to look up and some readers refuse."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    documents = [
        yaml.dump(one, Dumper=Plain, sort_keys=False, default_flow_style=False, allow_unicode=True, width=4096)
        for one in objects
    ]
    return "---\n".join(documents)
