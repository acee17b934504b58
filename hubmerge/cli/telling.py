"""Commands that tell what a model is and was made of: verify, reproduce."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Model, ReplaceModel, Token, app


@app.command()
def verify(
    model: Model,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Also merge it again from its recipe, in memory, and compare.")
    ] = False,
    token: Token = None,
) -> None:
    """Check every tensor and small file of a merged model against the sha256 that its merge noted; of the Hub nothing
    is kept.

    The card may be edited; so may the chat template and how answers are written, which is said.
    """
    from ..planning import plan_again
    from ..published import read_again
    from ..reference import ModelRef
    from ..stream.verify import verify
    from ..terminal import progress_bars, show_verification

    with progress_bars() as progress:
        result = verify(
            ModelRef.parse(model),
            token=token,
            recompute=recompute,
            read=read_again,
            plan=plan_again,
            progress=progress,
        )
    show_verification(result)
    result.require()


@app.command()
def reproduce(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(help="Keep what is merged in this folder; else it is only hashed.", show_default=False),
    ] = None,
    overwrite: ReplaceModel = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; by default the kind that it was merged on.")
    ] = None,
    token: Token = None,
) -> None:
    """Merge a published model again, from its repository alone, and compare every tensor: identical, or not.

    Parents and result are read from the Hub by range, and nothing is kept without --out.
    """
    from ..published import read_published
    from ..reference import ModelRef

    ref = ModelRef.parse(model)
    read_published(ref, token=token)  # before torch is imported, which takes seconds

    from ..reproduce import reproduce
    from ..terminal import progress_bars, show_reproduction

    with progress_bars() as progress:
        result = reproduce(ref, token=token, out=out, overwrite=overwrite, device=device, progress=progress)
    show_reproduction(result)
    result.require()
