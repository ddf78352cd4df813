"""The commands put together, and the one place that turns every failure into an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

import typer

from headway.cli import events, lifecycle, models, output, publish, tokens, traffic
from headway.domain.errors import HeadwayError, InvalidInput

app = typer.Typer(
    name="headway",
    help="Publish a model as a production REST API and keep it fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (publish, models, traffic, lifecycle, events):
    room.register(app)
app.add_typer(tokens.app, name="token")


def run(args: list[str]) -> int:
    """Run the command in ``args``; the exit code. Nothing but a bug of ours raises."""
    as_json = _asks_for_json(args)
    output.reset(output.Format.JSON if as_json else output.Format.TEXT)
    command = typer.main.get_command(app)
    try:
        # Typer prints its own refusals, for people; for programs they take the form of all other errors.
        result = command.main(args, prog_name="headway", standalone_mode=not as_json)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except typer.TyperException as error:
        output.print_error(InvalidInput(error.format_message(), hint="headway --help"))
        return InvalidInput.exit_code
    except HeadwayError as error:
        output.print_error(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("HEADWAY_DEBUG"):
            traceback.print_exc()
        note = "this is a fault of Headway; HEADWAY_DEBUG=1 shows where"
        output.print_error(HeadwayError(f"{type(error).__name__}: {error}", hint=note))
        return HeadwayError.exit_code
    return result if isinstance(result, int) else 0


def _asks_for_json(args: Sequence[str]) -> bool:
    """Known before the options are read, since reading them can fail."""
    joined = " ".join(args).replace("=", " ")
    return re.search(r"(^| )(-o ?|--output )json( |$)", joined) is not None
