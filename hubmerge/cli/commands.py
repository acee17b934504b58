"""The whole command line, as one app."""

from typing import Annotated

import typer

from .. import __version__
from . import deriving, merging, registering, searching, serving, talking, telling  # noqa: F401 - each adds its commands
from .options import app as app


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"hubmerge {__version__}")
        raise typer.Exit
