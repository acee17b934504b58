"""Commands that tell what a model is and was made of: verify, reproduce, card, tree."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, Memory, Model, Token, app, into


@app.command()
def verify(
    model: Model,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Also merge it again from its recipe, in memory, and compare.")
    ] = False,
    memory: Memory = None,
    as_json: Json = False,
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
    from ..terminal import progress_bars, show_json, show_verification
    from .told import of_verification

    with progress_bars() as progress:
        result = verify(
            ModelRef.parse(model),
            token=token,
            recompute=recompute,
            read=read_again,
            plan=plan_again,
            memory=memory,
            progress=progress,
        )
    show_json(of_verification(result)) if as_json else show_verification(result)
    result.require()


@app.command()
def reproduce(
    model: Model,
    out: Annotated[
        Path | None,
        into("Keep what is merged in this folder; else it is only hashed."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in --out.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or mps; by default the kind that it was merged on.")
    ] = None,
    memory: Memory = None,
    as_json: Json = False,
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
    from ..terminal import progress_bars, show_json, show_reproduction
    from .told import of_reproduction

    with progress_bars() as progress:
        how: dict[str, Any] = {"device": device, "memory": memory, "progress": progress}
        result = reproduce(ref, token=token, out=out, overwrite=overwrite, **how)
    show_json(of_reproduction(result)) if as_json else show_reproduction(result)
    result.require()


@app.command()
def card(
    model: Annotated[
        str,
        typer.Argument(
            help="A recipe that is not merged yet, a folder with a merge or a search, or a merge of the Hub.",
            show_default=False,
        ),
    ],
    repo: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="The repository that it is to be pushed to.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put it in the place of the card in the folder, or on the Hub.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --write: also over a card that somebody changed.")
    ] = False,
    token: Token = None,
) -> None:
    """Show the card of a merge, before it is merged or pushed, or made anew from its recipe.

    Nothing is merged: parents are read by their headers alone.
    """
    from ..errors import RecipeError
    from ..reference import ModelRef
    from ..terminal import marked
    from ..terminal import out as console

    file = Path(model)
    is_file = file.is_file() or file.suffix in (".yaml", ".yml")
    if is_file and write:
        raise RecipeError(f"{model} is a recipe, which has no card to replace; merge it first.")
    from ..cards import card_again, card_before, write_card

    if is_file:
        console.print(card_before(file, repo, token=token), end="", soft_wrap=True)
        return
    ref = ModelRef.parse(model)
    text = card_again(ref, repo, token=token)
    if not write:
        console.print(text, end="", soft_wrap=True)
        return
    said = write_card(ref, text, token=token, overwrite=overwrite)
    console.print(marked("Written: [bold]{}[/]", said), soft_wrap=True)


@app.command()
def tree(
    models: Annotated[
        list[str], typer.Argument(metavar="ORG/NAME...", help="Models of the Hub, or folders.", show_default=False)
    ],
    as_json: Json = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw it into this SVG file.", show_default=False)
    ] = None,
    cards_only: Annotated[
        bool, typer.Option("--cards-only", help="Believe what cards say; look at no weights.")
    ] = False,
    token: Token = None,
) -> None:
    """Show what models come from, up to the roots; of several, their common ancestors and the base that fits them.

    Cards are compared with a few numbers of the weights, read by range: a wrong one is doubted, and the parent of a
    model that names none is looked for.
    """
    from ..drawn import drawn, write_drawn
    from ..files import require_ending
    from ..lineage.tree import trace
    from ..terminal import progress_bars, show_json, show_tree

    if svg is not None:
        require_ending(svg, "SVG", ".svg")  # before models are read

    with progress_bars() as progress:
        found = trace(models, token=token, look=not cards_only, progress=progress)
    if svg is not None:
        title = f"What {' and '.join(models)} {'come' if models[1:] else 'comes'} from"
        write_drawn(svg, drawn(partial(show_tree, found), title))
    if as_json:
        show_json(found.to_dict())
    else:
        show_tree(found)
