"""The command line: parse, call, show. Run `hubmerge --help`."""

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import HubmergeError, Interrupted
from . import merging, searching, serving, talking  # noqa: F401 - each adds its commands
from .options import app

INTERRUPTED = Interrupted.exit_code


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"hubmerge {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 2 bad input, 3 Hub or network, 130 interrupted."""
    # Read when huggingface_hub is imported: one display of progress is enough, and ours counts the whole work.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from ..terminal import err

    try:
        app()
    except HubmergeError as exc:
        style = "yellow" if isinstance(exc, Interrupted) else "red"
        err.print(f"[{style}]hubmerge:[/] ", end="")
        err.print(str(exc), markup=False, highlight=False, soft_wrap=True)
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, SystemExit) as exc:
        # Typer makes exit code 130 of Ctrl-C, and says nothing.
        if isinstance(exc, SystemExit) and exc.code != INTERRUPTED:
            raise
        err.print("\n[yellow]hubmerge:[/] Interrupted; run the same command again to go on (evolve: with --resume).")
        sys.exit(INTERRUPTED)
