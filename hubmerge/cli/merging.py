"""Commands that merge: plan, merge, push."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import HubmergeError
from ..typed import typed
from .elsewhere import HOURS, Hours, Where, merge_on, options
from .making import Goal, merge_or_push, shown_plan
from .options import (
    SHARD_SIZE,
    Device,
    Json,
    Memory,
    NamePrivate,
    Origin,
    Public,
    Push,
    Replace,
    ReplaceModel,
    ShardSize,
    Stream,
    Strict,
    Threads,
    Token,
    app,
    into,
    opened,
    show_push,
    show_warning,
    talks,
)

if TYPE_CHECKING:
    from ..recipe import Recipe as Value


_REPOSITORY = re.compile(r"[\w-][^/\s]*/[^/\s]+(?<!\.yaml)(?<!\.yml)(?<!\.json)")


def _published(named: str, token: str | None, strict: bool) -> "Value | None":
    """The recipe of the merge of the Hub, or in a folder, that is named in place of a recipe's file; None of a file."""
    if not os.path.isdir(named) and (os.path.exists(named) or not _REPOSITORY.fullmatch(named)):
        return None
    from ..published import read_published
    from ..reference import ModelRef

    return read_published(ModelRef.parse(named), token=token, strict=strict).to_merge()


def _recipe_in(file: Path, strict: bool) -> "Value":
    """The recipe in a file. Raises `RecipeError` for all at once that is wrong with it as it is written."""
    from ..recipe import FaultyRecipe
    from ..recipe import Recipe as Value
    from ..stream.settings import require_written

    try:
        recipe = Value.as_written(file, strict)
        told = () if recipe.forgiving else recipe.remarks
    except FaultyRecipe as exc:
        if exc.rest is None:
            raise
        recipe, told = exc.rest, tuple(str(exc).splitlines())
    require_written(recipe, told)
    return recipe


@app.command()
def plan(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe in mergekit's YAML format, or a search; or a published merge, planned by its own recipe.",
            show_default=False,
        ),
    ],
    origin: Origin = None,
    shard_size: ShardSize = SHARD_SIZE,
    stream: Stream = False,
    threads: Threads = None,
    memory: Memory = None,
    strict: Strict = False,
    as_json: Json = False,
    token: Token = None,
) -> None:
    """Show what a merge or a search would do, before a weight is downloaded: problems are named.

    Of a search the task and the tokenizers are read too, and a judge is asked whether it is there.
    """
    from ..documents import load_mappings
    from ..errors import RecipeError

    how: dict[str, Any] = {
        "as_json": as_json,
        "shard_size": shard_size,
        "ranged": stream,
        "threads": threads,
        "memory": memory,
    }
    published, file = _published(recipe, token, strict), Path(recipe)
    document = {} if published else load_mappings(file, "recipe", RecipeError)[0]
    if origin is not None and "task" not in document:
        raise RecipeError(f"{recipe} is no search, so nothing begins with {origin}; leave --from out.")
    if published is not None:
        shown_plan(published, token, **how)
        return
    if "experts" in document:
        raise RecipeError(f"{recipe} is of a mixture of experts; show it with: {typed(f'moe {recipe} --dry-run')}")
    if "task" in document:
        from ..evolve.search import Search

        search = Search.from_yaml(file)
        search = search.begun_with(origin) if origin is not None else search
        sources = opened(search.references, token)

        from ..evolve.plan import plan_search
        from ..terminal import show_json, show_search_plan
        from .told import of_search

        plan = plan_search(search, token=token, sources=sources, memory=memory)
        show_json(of_search(plan)) if as_json else show_search_plan(plan)
        plan.require()
        return
    shown_plan(_recipe_in(file, strict), token, **how)


@app.command()
def merge(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe in mergekit's YAML format, or a merge of the Hub, to be made again.", show_default=False
        ),
    ],
    out: Annotated[Path | None, into("Folder for the merged model.")] = None,
    push: Push = None,
    public: Public = False,
    name_private: NamePrivate = False,
    shard_size: ShardSize = SHARD_SIZE,
    stream: Stream = False,
    threads: Threads = None,
    memory: Memory = None,
    device: Device = "cpu",
    overwrite: ReplaceModel = False,
    gguf: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help=f"Write it as GGUF, too, beside the weights (Q8_0; see `{typed('gguf')}`)."),
    ] = None,
    strict: Strict = False,
    on: Where = None,
    hours: Hours = HOURS,
    token: Token = None,
) -> None:
    """Merge models as a recipe says, into a folder or straight onto the Hub.

    Interrupted, the same command goes on where it stopped.
    """
    published = _published(recipe, token, strict)
    read = published or _recipe_in(Path(recipe), strict)
    if on is not None:
        if push is None or out is not None or gguf is not None:
            raise HubmergeError(
                "What --on merges lies on a machine of the Hub: give --push ORG/NAME, and no --out or --gguf."
            )
        settings = {"shard_size": shard_size, "stream": stream, "threads": threads, "memory": memory, "device": device}
        words = options(
            push=push, public=public, name_private=name_private, overwrite=overwrite, strict=strict, **settings
        )
        merge_on(on, hours, read, recipe, words, token)
        return
    merge_or_push(
        read,
        Goal(out, push, public=public, name_private=name_private, overwrite=overwrite, token=token),
        shard_size=shard_size,
        ranged=stream,
        threads=threads,
        memory=memory,
        device=device,
        keep=[] if published else [Path(recipe)],
        gguf=gguf,
    )


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", show_default=False)],
    public: Public = False,
    name_private: NamePrivate = False,
    overwrite: Replace = False,
    token: Token = None,
) -> None:
    """Put a model folder on the Hub, in one commit; the repository is private unless --public. Of a search that is its
    winner.

    What `hubmerge verify` rejects of a merge is not sent. A folder that hubmerge did not make has nothing to verify.
    """
    from ..hub.push import push_folder
    from ..places import winner_of
    from ..publish import renamed, require_sound, warnings_before_push
    from ..terminal import progress_bars

    folder = winner_of(folder)
    for warning in warnings_before_push(folder):
        show_warning(warning)
    with progress_bars() as progress:
        edited = require_sound(folder, progress)
    show_warning(edited)
    with progress_bars() as progress:
        pushed = push_folder(
            folder,
            repo_id,
            token=token,
            private=not public,
            overwrite=overwrite,
            files=renamed(folder, repo_id),
            names_private=name_private,
            message="Upload with hubmerge",
            progress=progress,
        )
    show_push(pushed, None if talks(folder) else "")
