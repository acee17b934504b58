"""The card of a merge, seen before anything is pushed, and written anew."""

import re
from pathlib import Path

import yaml

from .documents import load_mappings
from .errors import PlanError, RecipeError, RefusedError
from .evolve.records.folder import RESULTS_FILE
from .evolve.result import card_for, read_result
from .experts.document import Moe, is_moe
from .extract import EXTRACT
from .files import write_file
from .hub.card import named, render
from .hub.listing import list_files
from .hub.push import Upload
from .planning import plan_only
from .publish import card_of, noted, with_gguf
from .published import read_published
from .recipe import Recipe
from .reference import ModelRef
from .stream.manifest import MANIFEST

_CARD = "README.md"
_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
_RESULTS = re.compile(r"^## Results\n.*?(?=^## )", re.DOTALL | re.MULTILINE)


def card_before(file: Path, repo_id: str | None = None, *, token: str | None = None) -> str:
    """The card of what the recipe in a file will make, in `repo_id` if it is to be pushed there: of headers alone.

    Raises `RecipeError` for what is no recipe, and what planning does.
    """
    moe = is_moe(load_mappings(file, "recipe", RecipeError)[0])
    plan = plan_only(Moe.from_yaml(file) if moe else Recipe.from_yaml(file), token=token)
    plan.require()
    return render(card_of(plan, repo_id))


def card_again(ref: ModelRef, repo_id: str | None = None, *, token: str | None = None) -> str:
    """The card of a published merge, made anew from the recipe in its repository or folder; of the folder of a search,
    that of its winner. `repo_id`: where it is to lie, in place of the repository that it lies in.

    Scores that the card there tells stay as they are told. Of a LoRA that was extracted the card stays whole. Raises
    what reading the recipe and planning do.
    """
    if ref.is_folder and (Path(ref.repo_id) / RESULTS_FILE).is_file():
        result = read_result(Path(ref.repo_id), token=token)
        return render(result.card) if repo_id is None else card_for(result, repo_id)
    published = read_published(ref, token=token)
    repo_id = repo_id or (None if published.listing.root else ref.repo_id)
    there = published.listing.read_text(_CARD) or ""
    if published.recipe.merge_method == EXTRACT:
        return there if repo_id is None else named(there, repo_id)
    plan = plan_only(published.recipe, token=token)
    plan.require()
    card = card_of(plan, repo_id)
    file = next((name for name in published.listing.files if name.endswith(".gguf")), None)
    text = render(card) if file is None else with_gguf(card, file)
    return _with_scores(text, there if repo_id is None else named(there, repo_id))


def write_card(ref: ModelRef, card: str, *, token: str | None = None, overwrite: bool = False) -> str:
    """Puts the card into the folder or repository, and its hash into the manifest; says where.

    Raises `PlanError` or `RefusedError` where the card there was changed by somebody since it was written, unless
    `overwrite`.
    """
    listing = list_files(ref, token)
    before, manifest = listing.read_text(_CARD) or "", listing.read_text(MANIFEST) or "{}"
    files = noted(manifest, before, card)
    if not files and not overwrite:
        raise (PlanError if listing.root else RefusedError)(
            f"{_CARD} of {listing.name} is not the one that was written with it; replace it with --overwrite."
        )
    files |= {_CARD: card.encode()}
    if listing.root is not None:
        for name, content in files.items():
            write_file(listing.root / name, content)
        return str(listing.root / _CARD)
    upload = Upload(ref.repo_id, token=token, private=False, overwrite=overwrite)
    upload.start()
    upload.add_all(files)
    return upload.commit("Write the card anew with hubmerge").page


def _with_scores(card: str, there: str) -> str:
    """A card with the scores that the one `there` tells, where it tells any."""
    results, front = _RESULTS.search(there), _FRONT.match(there)
    if results is None or front is None:
        return card
    scores = (yaml.safe_load(front[1]) or {}).get("model-index")
    said = yaml.safe_dump({"model-index": scores}, sort_keys=False, allow_unicode=True) if scores else ""
    head, end, rest = card.partition("\n---\n")
    at = rest.index("## Use it\n")
    return f"{head}\n{said.rstrip()}".rstrip() + end + rest[:at] + results[0] + rest[at:]
