"""What is made of models beside merges: a LoRA, a mixture of experts, a model with other tokens, a GGUF file.

A document says what: the recipe of an extraction or a transplant, a mixture, or {model, type} of a GGUF file.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hubmerge.documents import load_mapping
from hubmerge.errors import RecipeError, ResourceError
from hubmerge.experts.document import Moe
from hubmerge.experts.mixture import make_gates, plan_moe
from hubmerge.extract.adapter import Extraction, extract
from hubmerge.extract.asked import Estimate, estimate
from hubmerge.extract.card import render as render_lora
from hubmerge.gguf.card import render as render_gguf
from hubmerge.gguf.conversion import Conversion, file_name, plan_gguf, write_gguf
from hubmerge.gguf.pushed import push_gguf, require_no_model
from hubmerge.hub import open_source, render
from hubmerge.hub.holdings import Told
from hubmerge.hub.push import PushResult, Upload, push_folder
from hubmerge.progress import Event, Progress, silent
from hubmerge.publish import card_of, hub_ids, merge, recarded, require_sound
from hubmerge.published import read_again
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.manifest import MANIFEST
from hubmerge.stream.plan import Plan, pins_by

from ..limits import Limits
from ..visitors.access import Token
from ..wording import count, size
from .job import Runner, Work

Document = Mapping[str, Any]

TOOLS = ("extract", "moe", "transplant", "gguf")
"""The kinds of jobs."""
FILES = ("extract", "gguf")
"""Those that make a few files, which are fetched as they are; the others make a model that answers."""
_FOLDER, _KEPT = "model", "kept"


def plan_copy(document: Document, limits: Limits, token: Token, progress: Progress = silent) -> Plan:
    """The plan of a mixture or a transplant, from headers."""
    wanted = read_again(document)
    if isinstance(wanted, Moe):
        return limits.on_plan(plan_moe(wanted, token=token, memory=limits.memory, progress=progress))
    assert isinstance(wanted, Recipe)
    return limits.plan(wanted, token)


def plan_extract(document: Document, limits: Limits, token: Token) -> Estimate:
    """What an extraction takes, from headers. Raises `ResourceError` where that is over a limit."""
    found = estimate(Recipe.from_dict(document), token=token)
    limits.require_model(*found.sources, disk=found.disk)
    return found


def plan_file(document: Document, limits: Limits, token: Token) -> Conversion:
    """The GGUF file that is to be written, from headers. Raises `ResourceError` where it is over a limit."""
    source = open_source(str(document["model"]), token=token)
    conversion = plan_gguf(source, str(document["type"]))
    limits.require_model(source, disk=conversion.nbytes)
    return conversion


def run_copy(work: Work, limits: Limits, measures: bool) -> Mapping[str, Any]:
    """Makes a mixture or a transplant in the job's folder; run again there, it goes on where it stopped. `measures`:
    whether models may be run for its gates."""
    plan = plan_copy(work.spec["document"], limits, work.token, work.report)
    plan.require()
    if isinstance(plan.recipe, Moe) and plan.recipe.gate_mode == "hidden" and not measures:
        raise ResourceError(
            "The gate_mode hidden runs a model, which a page on ZeroGPU does not do; write cheap_embed or random."
        )
    make_gates(plan)
    done = merge(plan, work.folder / _FOLDER, token=work.token, progress=work.report)
    summary = f"{len(plan.tensors):,} tensors, {size(plan.output_bytes)}"
    return {"folder": str(done.folder), "recipe": plan.recipe.to_yaml(), "summary": summary}


def run_extract(work: Work, limits: Limits) -> Mapping[str, Any]:
    """Makes a LoRA in the job's folder; run again there, it goes on where it stopped."""
    found = plan_extract(work.spec["document"], limits, work.token)
    pins = pins_by({source.ref: source for source in found.sources})
    recipe = Recipe.from_dict(work.spec["document"]).with_pins(pins)
    extraction = _extraction(recipe, work.folder, limits, work.token, work.report)
    plan = extraction.plan
    plan.require()
    done = merge(plan, work.folder / _FOLDER, token=work.token, card=render_lora(extraction), progress=work.report)
    extraction.kept.forget_factors()
    summary = f"{count(plan.parameters)} parameters hold {extraction.energy:.1%} of what changed"
    return {"folder": str(done.folder), "recipe": recipe.to_yaml(), "summary": summary}


def run_file(work: Work, limits: Limits) -> Mapping[str, Any]:
    """Writes a GGUF file into the job's folder, and reads it back."""
    conversion = plan_file(work.spec["document"], limits, work.token)
    name = file_name(conversion)
    file = work.folder / _FOLDER / name
    nbytes = write_gguf(conversion, file, work.report)
    # Shown before it has a name on the Hub.
    card = render_gguf(conversion, name.removesuffix(".gguf"), [name])
    file.with_name("README.md").write_text(card, encoding="utf-8")
    document = {"model": str(conversion.source.pinned), "type": conversion.format.name}
    summary = f"{name}, {size(nbytes)}, read back and compared"
    return {"folder": str(file.parent), "document": document, "summary": summary}


def publish(kind: str, spec: Mapping[str, Any], limits: Limits, token: Token, how: Mapping[str, Any]) -> PushResult:
    """Pushes what a job of this kind made, as one commit, its card under the name that it gets; `how`: as of
    `push_folder`."""
    folder, repo_id = Path(spec["folder"]), str(spec["repo_id"])
    if kind not in FILES:
        require_sound(folder)
        plan = plan_copy(load_mapping(spec["recipe"], "recipe", RecipeError), Limits(), token)
        made = "mixture of experts" if kind == "moe" else "model"
        files = recarded(folder, render(card_of(plan, repo_id)))
        return push_folder(
            folder, repo_id, token=token, files=files, message=f"Upload a {made} made with hubmerge", **how
        )
    progress: Progress = how["progress"]
    if kind == "gguf":  # it has no manifest, and may lie beside a model
        model = ModelRef.parse(str(spec["document"]["model"]))
        told = Told(None, hub_ids([model]), how["names_private"], is_model=False)
    else:
        told = Told.read((folder / MANIFEST).read_text("utf-8"), (), how["names_private"])
    upload = Upload(repo_id, token=token, private=how["private"], overwrite=how["overwrite"], told=told)
    upload.start()
    if kind == "gguf":
        require_no_model(upload)
        conversion = plan_file(spec["document"], Limits(), token)
        return push_gguf(conversion, folder / file_name(conversion), upload, progress)
    require_sound(folder)
    extraction = _extraction(Recipe.from_text(spec["recipe"]), folder.parent, limits, token, progress)
    files = recarded(folder, render_lora(extraction, repo_id))
    files_here = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    done, total = 0, sum(path.stat().st_size for path in files_here)
    for path in files_here:
        progress(Event("push", done, total, "B", path.name))
        upload.add(path.name, files.get(path.name, path))
        done += path.stat().st_size
    progress(Event("push", total, total, "B", "commit"))
    return upload.commit("Upload a LoRA extracted with hubmerge")


def runners_of_tools(limits: Limits, measures: bool) -> Mapping[str, Runner]:
    """The runner of each kind of job."""
    copy = partial(run_copy, limits=limits, measures=measures)
    return {
        "extract": partial(run_extract, limits=limits),
        "moe": copy,
        "transplant": copy,
        "gguf": partial(run_file, limits=limits),
    }


def _extraction(recipe: Recipe, folder: Path, limits: Limits, token: Token, progress: Progress) -> Extraction:
    """The extraction of a recipe whose models are pinned; what was factored of it before is known still."""
    return extract(recipe, token=token, work=folder / _KEPT, memory=limits.memory, progress=progress)
