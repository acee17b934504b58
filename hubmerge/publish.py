"""A merge or the winner of a search, with its model card, into a folder or onto the Hub."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants

from .hub.card import Card, render
from .hub.push import PushResult, Upload, push_folder
from .progress import Progress, silent
from .stream.executor import MergeResult, merge
from .stream.plan import Plan

if TYPE_CHECKING:
    from .evolve.run import EvolveResult


def card_of(plan: Plan, repo_id: str | None = None) -> Card:
    """The card of a merge that nobody has evaluated: parents, recipe, licence and how to make it again."""
    base = plan.recipe.base_model
    names = [source.name.split("/")[-1] for source in plan.sources if source.name != (base and base.bare)]
    return Card(
        title=repo_id.split("/")[-1] if repo_id else f"{plan.method.name} merge of {' and '.join(names)}",
        sources=plan.sources,
        recipe_yaml=plan.recipe.to_yaml(),
        method=plan.method.name,
        repo_id=repo_id,
        base_model=next((s.name for s in plan.sources if base and s.name == base.bare), None),
        commands=("hubmerge merge recipe.yaml --out merged",),
    )


def merge_to_folder(
    plan: Plan,
    out: Path,
    *,
    token: str | None = None,
    overwrite: bool = False,
    keep: Iterable[Path] = (),
    progress: Progress = silent,
) -> MergeResult:
    """Merges into `out` with a README.md beside the weights; `keep`: files that stay.

    See `stream.merge` for resuming and errors.
    """
    files = {"README.md": render(card_of(plan)).encode()}
    return merge(plan, out, token=token, overwrite=overwrite, keep=keep, files=files, progress=progress)


def merge_to_hub(
    plan: Plan,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MergeResult:
    """Merges onto the Hub: each shard leaves when it is finished, one commit at the end makes the model visible.

    No more than one output shard lies on disk, in a folder of the Hub's cache that the plan names, so the same merge
    run again goes on there. Raises what `stream.merge` and `hub.Upload` raise.
    """
    work = Path(constants.HF_HOME) / "hubmerge" / f"{plan.key[:16]}"
    upload = Upload(repo_id, token=token, private=private, overwrite=overwrite)
    files = {"README.md": render(card_of(plan, repo_id)).encode()}
    return merge(plan, work, token=token, upload=upload, files=files, progress=progress)


def push_result(
    result: "EvolveResult",
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PushResult:
    """Pushes the winner of a search under `repo_id`, its card rewritten to that name; see `hub.push_folder`."""
    from .evolve.run import card_for  # brings EvoTorch and Ray, which a plain merge does without

    return push_folder(
        result.folder,
        repo_id,
        token=token,
        private=private,
        overwrite=overwrite,
        files={"README.md": card_for(result, repo_id).encode()},
        message="Upload the winner of a search with hubmerge",
        progress=progress,
    )
