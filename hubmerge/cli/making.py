"""What the commands do that make a model: its plan is shown, and it goes into a folder, onto the Hub or into GGUF."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HubmergeError, PlanError, SourceError
from ..typed import typed
from .options import opened, show_push, show_warning

if TYPE_CHECKING:
    from ..gguf.conversion import Conversion
    from ..hub.card import Card
    from ..recipe import Recipe
    from ..stream.plan import Plan


@dataclass(frozen=True)
class Goal:
    """Where a result goes, a folder or a repository, and how. Raises `HubmergeError` unless it is just one of both."""

    out: Path | None
    push: str | None
    _: KW_ONLY
    public: bool
    name_private: bool
    overwrite: bool
    token: str | None

    def __post_init__(self) -> None:
        if (self.out is None) == (self.push is None):
            raise HubmergeError(
                f"Give either --out FOLDER or --push ORG/NAME (a folder can be pushed with `{typed('push')}`)."
            )


def merge_or_push(
    recipe: "Recipe",
    goal: Goal,
    *,
    keep: Iterable[Path] = (),
    gguf: str | None = None,
    told: "Callable[[Card], Card] | None" = None,
    more: Mapping[str, bytes] | None = None,
    **how: Any,
) -> None:
    """Plans, shows the plan and merges; `gguf`: the format of a GGUF file beside the weights; `told`: what more its
    card says, `more`: small files beside. `how` are further settings of `make_plan`."""
    if gguf is not None:
        file = _gguf_in(goal.out, gguf)
    plan = shown_plan(recipe, goal.token, pushing=goal.push is not None, **how)
    card = None
    if gguf is not None:
        from ..gguf.conversion import plan_gguf, require_gguf
        from ..hub.source import open_source
        from ..publish import card_of, with_gguf

        require_gguf(gguf, plan)
        card = with_gguf(card_of(plan), file.name)
    elif told is not None:
        from ..hub.card import render
        from ..publish import card_of

        card = render(told(card_of(plan, goal.push)))
    write_or_push(plan, goal, keep=keep, card=card, more=more)
    if gguf is not None:
        write_as_gguf(plan_gguf(open_source(str(file.parent)), gguf), file, goal.overwrite)


def _gguf_in(out: Path | None, gguf: str) -> Path:
    """The file of this format beside the weights in `out`. Raises `HubmergeError` where that is no folder's name, or
    the format none."""
    if out is None:
        raise HubmergeError(
            f"--gguf writes a file beside the weights; give --out, and push the folder: {typed('push')}."
        )
    from ..gguf.conversion import require_gguf
    from ..gguf.formats import find_format

    require_gguf(gguf)
    return out / f"{out.resolve().name}-{find_format(gguf).name}.gguf"


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


def write_or_push(
    plan: "Plan",
    goal: Goal,
    *,
    keep: Iterable[Path] = (),
    card: str | None = None,
    more: Mapping[str, bytes] | None = None,
    made: str = "Merged",
    then: str | None = None,
) -> None:
    """Makes what was planned, with a `card` of its own; `made`: what is said of that, `then`: what to do with it,
    before its name, other than to talk to it. Files in `keep` are not written over."""
    from ..hub.auto_class import ANSWERING, auto_class
    from ..publish import merge, merge_to_hub, out_of_reach
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    answers = all(auto_class(component.config) in ANSWERING for component in plan.components)
    next_step = (None if answers else "") if then is None else then
    if goal.push:
        show_warning(out_of_reach(plan.recipe.references))
    with progress_bars() as progress:
        if goal.push:
            done = merge_to_hub(
                plan,
                goal.push,
                token=goal.token,
                private=not goal.public,
                overwrite=goal.overwrite,
                card=card,
                more=more,
                names_private=goal.name_private,
                progress=progress,
            )
        else:
            assert goal.out is not None
            done = merge(
                plan,
                goal.out,
                token=goal.token,
                overwrite=goal.overwrite,
                keep=keep,
                card=card,
                more=more,
                progress=progress,
            )
    if done.pushed:
        show_push(done.pushed, next_step)
        return
    if done.kept == len(plan.shards):
        said = marked("\nAlready {}: all that this makes is in [bold]{}[/], as it was written.", made.lower(), goal.out)
    else:
        said = marked("\n{} into [bold]{}[/] in {} s.", made, goal.out, f"{done.seconds:.1f}")
    console.print(said.append(f" {next_step}{goal.out}" if next_step else ""), soft_wrap=True)


def shown_plan(recipe: "Recipe", token: str | None, *, as_json: bool = False, **how: Any) -> "Plan":
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
