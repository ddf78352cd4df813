"""The commands put together, and the one place that turns every failure into an exit code."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence

import typer

from headway.cli import (
    autoscale,
    build,
    compare,
    convert,
    events,
    explain,
    job_server,
    jobs,
    kube,
    lifecycle,
    loadtest,
    models,
    operator,
    output,
    payloads,
    place,
    plan,
    publish,
    query_log,
    reference,
    simulate,
    tokens,
    traffic,
    worker,
)
from headway.cli.exit_codes import ABORTED
from headway.domain.errors import HeadwayError, InvalidInput, StorageFailed

app = typer.Typer(
    name="headway",
    help="Publish a model as a production REST API and keep it fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    lifecycle,
    worker,
    publish,
    build,
    convert,
    models,
    jobs,
    query_log,
    payloads,
    compare,
    loadtest,
    plan,
    simulate,
    events,
    traffic,
    autoscale,
    explain,
    kube,
    operator,
    job_server,
    tokens,
    reference,
):
    room.register(app)
app.callback()(place.options)
place.guard(app)


def run(args: list[str]) -> int:
    """Run the command in ``args``; the exit code. Nothing raises, and no failure is a traceback."""
    output.reset(output.Format.JSON if _asks_for_json(args) else output.Format.TEXT)
    command = typer.main.get_command(app)
    try:
        result = command.main(args, prog_name="headway", standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except typer.Abort:
        output.note("nothing was done")
        return ABORTED
    except typer.TyperException as refused:
        return _refuse(refused)
    except HeadwayError as error:
        output.print_error(error)
        return error.exit_code
    except Exception as error:
        return _own_up(error)
    return result if isinstance(result, int) else 0


def _refuse(refused: typer.TyperException) -> int:
    """Arguments that fit no command. Without any, Typer has shown the help already."""
    context = getattr(refused, "ctx", None)
    message = refused.format_message().strip()
    if message:
        hint = f"{context.command_path if context is not None else 'headway'} --help"
        output.print_error(InvalidInput(message, hint=hint))
    return InvalidInput.exit_code


def _own_up(error: Exception) -> int:
    """What the tree of errors did not foresee."""
    if os.environ.get("HEADWAY_DEBUG"):
        traceback.print_exc()
    told: HeadwayError
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename is not None else ""
        told = StorageFailed(f"{what}{error.strerror or error}", hint="HEADWAY_DEBUG=1 shows where")
    else:
        hint = "this is a fault of Headway; HEADWAY_DEBUG=1 shows where"
        told = HeadwayError(f"{type(error).__name__}: {error}", hint=hint)
    output.print_error(told)
    return told.exit_code


def _asks_for_json(args: Sequence[str]) -> bool:
    """Known before the options are read, since reading them can fail."""
    joined = " ".join(args).replace("=", " ")
    return re.search(r"(^| )(-o ?|--output )json( |$)", joined) is not None
