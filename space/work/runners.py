"""The work behind the buttons: each runner takes a job's spec and returns what the page shows when it is done."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hubmerge.errors import ResourceError
from hubmerge.evolve.result import read_result
from hubmerge.evolve.search import Search
from hubmerge.hub import push_folder, render
from hubmerge.publish import card_of, merge, planned, push_result, recarded, require_sound
from hubmerge.recipe import Recipe

from ..limits import Limits
from ..wording import duration, size
from .job import Runner, Work
from .tools import TOOLS, publish, runners_of_tools
from .zero_gpu import ZeroGpu

RUN_FOLDER = "evolved"
"""The folder of a search inside its job's; it titles the card until the model is published under a name."""
JOURNAL = f"{RUN_FOLDER}/journal.jsonl"
"""Where a search writes every evaluation, inside its job's folder."""


def run_merge(work: Work, limits: Limits, gpu: ZeroGpu | None = None) -> Mapping[str, Any]:
    """Merges `spec["recipe"]` into the job's folder, once models are measured; run again there, it goes on where it
    stopped."""
    plan = limits.plan(Recipe.from_text(work.spec["recipe"]), work.token)
    plan.require()
    if gpu is not None and not all(one.is_here for one in plan.statistics):
        raise ResourceError(
            f"{plan.recipe.merge_method} runs models to measure them, which a page on ZeroGPU does not do; choose "
            "another method, or run your own copy on other hardware."
        )
    done = merge(plan, work.folder / "model", token=work.token, progress=work.report)
    return {
        "folder": str(done.folder),
        "recipe": plan.recipe.to_yaml(),
        "summary": f"{len(plan.tensors):,} tensors, {size(plan.output_bytes)}",
    }


def run_evolve(work: Work, limits: Limits, gpu: ZeroGpu | None = None) -> Mapping[str, Any]:
    """Runs `spec["search"]` in the job's folder, or goes on with what is there."""
    from hubmerge.evolve.run import evolve  # brings EvoTorch and Ray, which a page without a search does without
    from hubmerge.evolve.workers.workers import Workers

    search = Search.from_dict(work.spec["search"])
    limits.require_search(search, work.token)
    folder, resume = work.folder / RUN_FOLDER, work.resume
    if gpu is not None:
        gpu.search(search, folder, resume=resume, token=work.token, progress=work.report)
        resume = True
    workers = Workers(memory=limits.memory)
    done = evolve(search, folder, resume=resume, token=work.token, workers=workers, progress=work.report)
    rows = [{name: value for name, value in asdict(row).items() if name != "values"} for row in done.rows]
    return {
        "folder": str(done.folder),
        "recipe": done.recipe.to_yaml(),
        "rows": rows,
        "remarks": list(done.remarks),
        "summary": f"{done.facts['evaluations']:,} candidates in {duration(done.seconds)}",
    }


def run_publish(work: Work, limits: Limits) -> Mapping[str, Any]:
    """Pushes what another job made to `spec["repo_id"]` as one commit, its card under that name."""
    spec, repo_id = work.spec, work.spec["repo_id"]
    folder = Path(spec["folder"])
    how: dict[str, Any] = {"private": spec["private"], "overwrite": spec.get("overwrite", False)}
    how |= {"progress": work.report, "names_private": spec.get("name_private", False)}
    shared = {"token": work.token, **how}
    if spec["kind"] == "evolve":
        result = read_result(folder.parent, Search.from_dict(spec["search"]), token=work.token)
        done = push_result(result, repo_id, **shared)
    elif spec["kind"] in TOOLS:
        done = publish(spec["kind"], spec, limits, work.token, how)
    else:
        plan = planned(Recipe.from_text(spec["recipe"]), token=work.token)
        require_sound(folder)
        files = recarded(folder, render(card_of(plan, repo_id)))
        done = push_folder(folder, repo_id, files=files, message="Upload a merge made with hubmerge", **shared)
    return {"repo_id": done.repo_id, "commit": done.commit, "url": done.url, "summary": f"published to {done.repo_id}"}


def runners(limits: Limits, gpu: ZeroGpu | None = None) -> Mapping[str, Runner]:
    """The runner of each kind of job, on a page with these limits."""
    return {
        "merge": partial(run_merge, limits=limits, gpu=gpu),
        "evolve": partial(run_evolve, limits=limits, gpu=gpu),
        "publish": partial(run_publish, limits=limits),
        **runners_of_tools(limits, measures=gpu is None),
    }
