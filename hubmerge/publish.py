"""A merge or the winner of a search, with its model card, into a folder or onto the Hub."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants

from .amounts import listed
from .documents import load_mapping, parse_object
from .errors import HubmergeError, SourceError
from .extract import EXTRACT
from .hub.card import Card, named, render
from .hub.holdings import DATASETS, Told
from .hub.markdown import fence
from .hub.notices import notices
from .hub.push import PushResult, Upload, push_folder
from .hub.user import is_private
from .places import SEARCH_FILE, folder_name
from .progress import Progress, silent
from .published import MERGEKIT, MERGEKIT_MOE, read_again
from .recipe import Recipe
from .reference import ModelRef
from .stream.manifest import MANIFEST, Manifest
from .stream.speaking import made, spoken_to

if TYPE_CHECKING:  # what follows brings torch, which takes seconds and a push does without
    from typing_extensions import Unpack

    from .evolve.result import EvolveResult
    from .hub.source import Source
    from .stream.executor import MergeResult
    from .stream.plan import Plan, Settings


_TEXTS = (".json", ".md", ".yaml", ".yml", ".txt", ".jinja")
_LARGEST = 2**20  # bytes of a file that people write


def out_of_reach(models: Iterable[ModelRef]) -> str | None:
    """A warning before a push that names the folders among `models`, which nobody else can get; None without any."""
    parts = [part for model in models for part in (model, model.lora) if part is not None]
    names = dict.fromkeys(folder_name(part.repo_id) for part in parts if part.is_folder)
    if not names:
        return None
    several = len(names) > 1
    return (
        f"{listed(list(names))} {'are folders' if several else 'is a folder'} of this machine, and nobody else can "
        f"get {'them' if several else 'it'} from what is pushed: card and recipe tell a name and a digest. For others "
        f"to make this model again, push {'them' if several else 'it'} too and name {'them' if several else 'it'} by "
        "Hub ID."
    )


def asked_out_of_reach(task: Mapping[str, Any]) -> str | None:
    """A warning before a push of what a search made, whose `task` needs files of this machine; None where it needs
    none."""
    from .evaluate.located import only_here  # a merge does without

    names = only_here(task)
    if not names:
        return None
    return (
        f"The search asks by {listed(names)}, which stays on this machine: nobody else can search again from what is "
        "pushed. For others to do that, put the examples into a dataset of the Hub and name that (`repo_id`)."
    )


def of_private(models: Iterable[ModelRef], token: str | None = None) -> str | None:
    """A warning before a push that all can see: it names those of `models` whose repositories are private; None
    without any. A repository of which the Hub does not say so is taken for public."""
    parts = [part for model in models for part in (model, model.lora) if part is not None]
    names = []
    for name in dict.fromkeys(part.repo_id for part in parts if not part.is_folder and not part.stage):
        with suppress(HubmergeError):
            names += [name] if is_private(name, token) else []
    if not names:
        return None
    them = "them" if len(names) > 1 else "it"
    return (
        f"{listed(names)} {'are' if len(names) > 1 else 'is'} private, and this push is public: everybody can read "
        f"in card and recipe that {'they are' if len(names) > 1 else 'it is'} there, and has weights that were made of "
        f"{them}. Make the push private, or {them} public."
    )


def warnings_before_push(folder: Path, *, public: bool = False, token: str | None = None) -> Iterator[str]:
    """What people should know before `folder` is pushed: models that it was made of and nobody else can get, private
    ones where the push is `public`, and files of their own that tell places of this machine."""
    with suppress(OSError, UnicodeDecodeError, HubmergeError):
        made = read_again(Manifest.parse((folder / MANIFEST).read_text(encoding="utf-8"), str(folder)).recipe)
        for warning in (out_of_reach(made.references), of_private(made.references, token) if public else None):
            if warning is not None:
                yield warning
    with suppress(OSError, HubmergeError, KeyError):
        task = load_mapping(folder / SEARCH_FILE, "search", SourceError)["task"]
        from .evaluate.task import task_document

        if (warning := asked_out_of_reach(task_document(task))) is not None:
            yield warning
    telling = []
    places = {os.path.expanduser("~"), os.path.abspath(folder), os.path.realpath(folder)} - {"/", "~"}
    for path in sorted(folder.glob("*")):
        with suppress(OSError):
            if path.suffix in _TEXTS and path.is_file() and path.stat().st_size <= _LARGEST:
                text = path.read_text(encoding="utf-8", errors="replace").replace("\\/", "/")
                telling += [path.name] if any(f"{place}/" in text or f'{place}"' in text for place in places) else []
    if telling:
        yield f"{listed(telling)} would tell everybody a place of this machine; edit that out first."


def require_sound(folder: Path, progress: Progress = silent) -> str | None:
    """Raises `SourceError` where `folder` is not what a merge of hubmerge wrote there (see `stream.verify`), or a
    GGUF file in it another model. Gives a remark on what was edited since, as people may.

    A folder without its manifest was made otherwise: nothing is known of it.
    """
    if (folder / MANIFEST).is_file():
        from .stream.verify import verify

        found = verify(ModelRef(os.path.realpath(folder)), progress=progress)
        found.require()
        if any(folder.glob("*.gguf")):
            from .gguf.beside import require_same

            require_same(Path(os.path.realpath(folder)), progress)
        return found.remark
    return None


def card_of(plan: "Plan", repo_id: str | None = None) -> Card:
    """The card of a merge that nobody has evaluated: parents, recipe, licence and how to make it again."""
    # Of a recipe in stages, the first model that any of its merges builds on.
    *before, last = plan.recipe.merges.values()
    merges = [last, *before]
    base = next((merge.base_model for merge in merges if merge.base_model and not merge.base_model.stage), None)
    card = Card(
        title="",
        sources=plan.sources,
        recipe_yaml=plan.recipe.to_yaml(),
        method=plan.methods[-1],
        before=(*(name for stage in plan.stages[:-1] for name in stage.methods), *plan.methods[:-1]),
        parts=tuple(name for name, _ in plan.stage.modules),
        carried_from=plan.stage.weights[-1].tokenizer.source if plan.stage.modules and plan.stage.carried else None,
        repo_id=repo_id,
        base_model=next((s.name for s in plan.sources if s.pinned == base), None),
        commands=_commands(plan, repo_id),
        made=made(plan),
        calibration=[
            (one.source.title, one.texts.source, one.texts.dataset, one.texts.examples, one.texts.tokens)
            for one in plan.statistics
        ],
        **spoken_to(plan.tokenizer),
    )
    if isinstance(plan.recipe, Recipe):
        written = plan.recipe.merges.values()
        merged = {ref for merge in written for ref in merge.merged}
        mixed = {ref for merge in written for ref in merge.mixed}
        block = plan.recipe.output.vocabulary
        card = replace(
            card,
            speakers=[source.name for source in plan.sources if source.pinned not in merged],
            copied={
                part: source
                for merge in written
                for part, ref in merge.copied.items()
                for source in plan.sources
                if source.pinned == ref
            },
            givers=[source.name for source in plan.sources if source.pinned in merged - mixed],
            transplanted=block is not None and block.transplant is not None,
        )
    else:
        card = replace(
            card,
            method=plan.recipe.merge_method,
            kind="mixture of experts",
        )
    return replace(card, title=repo_id.split("/")[-1] if repo_id else _title(card, plan))


def _commands(plan: "Plan", repo_id: str | None) -> tuple[str, ...]:
    """What makes it again, from its repository or from the recipe beside it."""
    if repo_id is not None:
        again = f"hubmerge reproduce {repo_id}"
        if isinstance(plan.recipe, Recipe):
            return f"hubmerge merge {repo_id} --out merged", again
        return (f"{again} --out merged",)
    command, out = ("merge", "merged") if isinstance(plan.recipe, Recipe) else (plan.recipe.merge_method, "mixture")
    return tuple(f"hubmerge {command} {name} --out {out}" for name in recipe_file(plan))


def recipe_file(plan: "Plan") -> dict[str, bytes]:
    """The recipe for the repository of what the plan makes, under the name that mergekit gives it; of what mergekit has
    no recipe for, nothing."""
    if plan.recipe.merge_method == EXTRACT:
        return {}
    return {MERGEKIT if isinstance(plan.recipe, Recipe) else MERGEKIT_MOE: plan.recipe.to_yaml().encode()}


def beside(plan: "Plan") -> dict[str, bytes]:
    """The recipe, and the licence texts and notices of the models, for the repository of what the plan makes."""
    return {**recipe_file(plan), **notices(plan.sources)}


def renamed(folder: Path, repo_id: str) -> dict[str, bytes]:
    """The card in `folder` in the name of the repository `repo_id`, and the manifest that knows it, by file.

    Nothing where there is no manifest, or the card is not the one that was written with it.
    """
    card, manifest = folder / "README.md", folder / MANIFEST
    with suppress(OSError, UnicodeDecodeError, HubmergeError):
        text = card.read_bytes().decode()
        return noted(manifest.read_text(encoding="utf-8"), text, named(text, repo_id))
    return {}


def recarded(folder: Path, card: str) -> dict[str, bytes]:
    """`card` in place of the one of what was merged into `folder`, and the manifest that knows it, by file."""
    before, manifest = (folder / "README.md").read_bytes().decode(), (folder / MANIFEST).read_text("utf-8")
    return {"README.md": card.encode(), **noted(manifest, before, card)}


def noted(manifest: str, before: str, card: str) -> dict[str, bytes]:
    """Card and manifest, by file, where a `card` takes the place of the one that the manifest knows; else nothing.

    Raises `SourceError` for a manifest that is none.
    """
    document: Any = parse_object(manifest, MANIFEST, SourceError)
    known = document.get("files")
    if not isinstance(known, dict) or known.get("README.md") != hashlib.sha256(before.encode()).hexdigest():
        return {}
    known["README.md"] = hashlib.sha256(card.encode()).hexdigest()
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return {"README.md": card.encode(), MANIFEST: text.encode()}


def with_gguf(card: Card, file: str) -> str:
    """The text of a card beside whose weights the same model lies as GGUF."""
    note = (
        f"## GGUF\n\n`{file}` is the same model as one file for llama.cpp, ollama and LM Studio:\n\n"
        f"{fence(f'llama-cli -m {file}', 'bash')}"
    )
    return render(replace(card, tags=(*card.tags, "gguf"), notes=(*card.notes, note)))


def _title(card: Card, plan: "Plan") -> str:
    """What a model without a name is called: what was done, to which models."""
    beside = (card.base_model, *card.speakers, *card.givers)
    named = [s for s in plan.sources if s.name not in beside] or list(plan.sources)
    names = listed([source.title.split("/")[-1] for source in named])
    if card.transplanted:
        return f"{names} with another tokenizer"
    return f"{f'{listed(plan.methods)} ' if card.kind == 'merge' else ''}{card.kind} of {names}"


def planned(
    recipe: Recipe,
    *,
    token: str | None = None,
    sources: "Mapping[ModelRef, Source] | None" = None,
    **settings: "Unpack[Settings]",
) -> "Plan":
    """The plan of a recipe, whether or not its methods need models measured; raises what `make_plan` does."""
    from .methods import find_method

    methods = [find_method(name) for merge in recipe.merges.values() for name in merge.methods]
    if any(method.statistic for method in methods):
        from .calibration import plan_recipe  # which runs models

        return plan_recipe(recipe, token=token, sources=sources, **settings)
    from .stream.plan import make_plan

    return make_plan(recipe, token=token, sources=sources, **settings)


def measured(plan: "Plan", progress: Progress = silent) -> "Plan":
    """The plan once all that its methods need to know of the models is measured. Raises what `Plan.require` does."""
    plan.require()
    if not plan.statistics:
        return plan
    from .calibration import measured

    return measured(plan, progress)


def merge(
    plan: "Plan | Recipe",
    out: Path,
    *,
    token: str | None = None,
    overwrite: bool = False,
    keep: Iterable[Path] = (),
    card: str | None = None,
    more: Mapping[str, bytes] | None = None,
    progress: Progress = silent,
) -> "MergeResult":
    """Merges into the folder `out`, with a model card beside the weights; `keep`: files that stay. `card`: the text of
    one, in place of that of a merge. `more`: other small files, by name.

    See `stream.executor.merge` for resuming and errors.
    """
    from .stream import executor

    plan = measured(planned(plan, token=token) if isinstance(plan, Recipe) else plan, progress)
    files = {"README.md": (card or render(card_of(plan))).encode(), **beside(plan), **(more or {})}
    keep = list(keep)
    kept = {os.path.realpath(path) for path in keep}  # a recipe that lies there already is the user's
    files = {name: content for name, content in files.items() if os.path.realpath(out / name) not in kept}
    return executor.merge(plan, out, token=token, overwrite=overwrite, keep=keep, files=files, progress=progress)


def merge_to_hub(
    plan: "Plan",
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    card: str | None = None,
    more: Mapping[str, bytes] | None = None,
    names_private: bool = False,
    progress: Progress = silent,
) -> "MergeResult":
    """Merges onto the Hub: each shard leaves when it is finished, one commit at the end makes the model visible.

    No more than one output shard lies on disk, in a folder of the Hub's cache that the plan names, so the same merge
    run again goes on there. `names_private`: a public card may name models that others cannot see.

    Raises what `stream.merge` and `hub.Upload` raise.
    """
    from .stream import executor

    plan = measured(plan, progress)
    work = Path(constants.HF_HOME) / "hubmerge" / f"{plan.key[:16]}"
    texts = [f"{DATASETS}{one.texts.dataset}" for one in plan.statistics if one.texts.dataset]
    told = Told(plan.recipe.to_dict(), (*hub_ids(plan.recipe.references), *texts), names_private)
    upload = Upload(repo_id, token=token, private=private, overwrite=overwrite, told=told)
    files = {"README.md": (card or render(card_of(plan, repo_id))).encode(), **beside(plan), **(more or {})}
    return executor.merge(plan, work, token=token, upload=upload, files=files, progress=progress)


def hub_ids(models: Iterable[ModelRef]) -> tuple[str, ...]:
    """The repositories of the Hub among `models` and their LoRAs."""
    parts = [part for model in models for part in (model, model.lora) if part is not None]
    return tuple(dict.fromkeys(part.repo_id for part in parts if not part.is_folder and not part.stage))


def push_result(
    result: "EvolveResult",
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    names_private: bool = False,
    progress: Progress = silent,
) -> PushResult:
    """Pushes the winner of a search under `repo_id`, its card rewritten to that name; see `hub.push_folder`.

    Raises `SourceError` where it is not what was merged any more.
    """
    from .evolve.result import card_for
    from .hub.source import parts_of

    require_sound(result.folder, progress)
    if names_private and not private and result.card.pictures is not None:
        # Private names may be told, but not what a private dataset holds.
        result = replace(result, card=replace(result.card, pictures=replace(result.card.pictures, prompts=())))
    return push_folder(
        result.folder,
        repo_id,
        token=token,
        private=private,
        overwrite=overwrite,
        files={**recarded(result.folder, card_for(result, repo_id)), **result.reported},
        names=[
            *(part.name for part in parts_of(result.card.sources) if part.commit is not None),
            *(f"{DATASETS}{row.dataset}" for row in result.card.evaluations if row.dataset),
        ],
        names_private=names_private,
        message="Upload the winner of a search with hubmerge",
        progress=progress,
    )
