"""Commands that merge: plan, merge, push."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import HubmergeError, PlanError, SourceError
from ..typed import typed
from .elsewhere import HOURS, Hours, Where, merge_on, options
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
    from ..gguf.conversion import Conversion
    from ..hub.card import Card
    from ..recipe import Recipe as Value
    from ..stream.plan import Plan


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
            help="A recipe in mergekit's YAML format, or a search; or a merge of the Hub, of its own recipe.",
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
        _shown_plan(published, token, **how)
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
    _shown_plan(_recipe_in(file, strict), token, **how)


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
        out,
        push,
        public=public,
        name_private=name_private,
        token=token,
        overwrite=overwrite,
        shard_size=shard_size,
        ranged=stream,
        threads=threads,
        memory=memory,
        device=device,
        keep=[] if published else [Path(recipe)],
        gguf=gguf,
    )


def merge_or_push(
    recipe: "Value",
    out: Path | None,
    push: str | None,
    *,
    public: bool,
    name_private: bool = False,
    token: str | None,
    overwrite: bool = False,
    keep: Iterable[Path] = (),
    gguf: str | None = None,
    told: "Callable[[Card], Card] | None" = None,
    **how: Any,
) -> None:
    """Plans, shows the plan and merges, into a folder or onto the Hub; `gguf`: the format of a GGUF file beside the
    weights; `told`: what more its card says. `how` are further settings of `make_plan`."""
    require_one_place(out, push)
    if gguf is None:
        plan = _shown_plan(recipe, token, pushing=push is not None, **how)
        card = None if told is None else _told(plan, push, told)
        write_or_push(
            plan,
            out,
            push,
            public=public,
            name_private=name_private,
            token=token,
            overwrite=overwrite,
            keep=keep,
            card=card,
        )
        return
    if out is None:
        raise HubmergeError(
            f"--gguf writes a file beside the weights; give --out, and push the folder: {typed('push')}."
        )

    from ..gguf.conversion import plan_gguf, require_gguf
    from ..gguf.formats import find_format

    require_gguf(gguf)
    plan = _shown_plan(recipe, token, **how)
    require_gguf(gguf, plan)

    from ..hub.source import open_source
    from ..publish import card_of, with_gguf

    file = out / f"{out.resolve().name}-{find_format(gguf).name}.gguf"
    card = with_gguf(card_of(plan), file.name)
    write_or_push(
        plan,
        out,
        None,
        public=public,
        name_private=name_private,
        token=token,
        overwrite=overwrite,
        keep=keep,
        card=card,
    )
    write_as_gguf(plan_gguf(open_source(str(out)), gguf), file, overwrite)


def _told(plan: "Plan", push: str | None, told: "Callable[[Card], Card]") -> str:
    """The text of a card that says more than that of a merge."""
    from ..hub.card import render
    from ..publish import card_of

    return render(told(card_of(plan, push)))


def write_as_gguf(conversion: "Conversion", file: Path, overwrite: bool) -> None:
    """Writes a model as GGUF, reads it back, and says what to do with it; a file that is there stays, if it is that."""
    from .. import amounts
    from ..gguf.conversion import check, write_gguf
    from ..stream.journal import note_made
    from ..stream.manifest import MANIFEST
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    for remark in conversion.remarks:
        show_warning(remark)
    with progress_bars() as progress:
        if there := file.exists() and not overwrite:
            try:
                check(conversion, file, progress)
            except (PlanError, SourceError) as exc:
                raise PlanError(
                    f"{file} is there already, and is not this model in {conversion.format.name}; choose another "
                    "--out, or replace it with --overwrite."
                ) from exc
        else:
            write_gguf(conversion, file, progress)
    root = conversion.source.listing.root
    if root is not None and (root / MANIFEST).is_file() and root.samefile(file.parent):
        note_made(file)
    said = "\n{} [bold]{}[/] ({}), read back and compared. Run it: llama-cli -m {}"
    size = amounts.size(file.stat().st_size)
    console.print(marked(said, "Already there:" if there else "Written", file, size, file), soft_wrap=True)


def require_one_place(out: Path | None, push: str | None) -> None:
    """Raises `HubmergeError` unless just one of both says where the result goes."""
    if (out is None) == (push is None):
        raise HubmergeError(
            f"Give either --out FOLDER or --push ORG/NAME (a folder can be pushed with `{typed('push')}`)."
        )


def write_or_push(
    plan: "Plan",
    out: Path | None,
    push: str | None,
    *,
    public: bool,
    name_private: bool = False,
    token: str | None,
    overwrite: bool = False,
    keep: Iterable[Path] = (),
    card: str | None = None,
    made: str = "Merged",
    then: str | None = None,
) -> None:
    """Makes what was planned, into a folder or onto the Hub, with a `card` of its own; `made`: what is said of that,
    `then`: what to do with it, before its name, other than to talk to it."""
    from ..hub.auto_class import ANSWERING, auto_class
    from ..publish import merge, merge_to_hub, out_of_reach
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    answers = all(auto_class(component.config) in ANSWERING for component in plan.components)
    next_step = (None if answers else "") if then is None else then
    if push:
        show_warning(out_of_reach(plan.recipe.references))
    with progress_bars() as progress:
        if push:
            done = merge_to_hub(
                plan,
                push,
                token=token,
                private=not public,
                overwrite=overwrite,
                card=card,
                names_private=name_private,
                progress=progress,
            )
        else:
            assert out is not None
            done = merge(plan, out, token=token, overwrite=overwrite, keep=keep, card=card, progress=progress)
    if done.pushed:
        show_push(done.pushed, next_step)
        return
    if done.kept == len(plan.shards):
        said = marked("\nAlready {}: all that this makes is in [bold]{}[/], as it was written.", made.lower(), out)
    else:
        said = marked("\n{} into [bold]{}[/] in {} s.", made, out, f"{done.seconds:.1f}")
    console.print(said.append(f" {next_step}{out}" if next_step else ""), soft_wrap=True)


def _shown_plan(recipe: "Value", token: str | None, *, as_json: bool = False, **how: Any) -> "Plan":
    """The plan of a recipe, shown, without errors."""
    from ..methods import find_method

    find_method(recipe.merge_method)
    sources = opened(recipe.references, token)

    from ..publish import planned
    from ..terminal import show_json, show_plan
    from .told import of_plan

    plan = planned(recipe, sources=sources, token=token, **how)
    show_json(of_plan(plan)) if as_json else show_plan(plan)
    plan.require()
    return plan


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
