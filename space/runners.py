"""The work behind the buttons: each runner takes a job's spec and returns what the page shows when it is done."""

from collections.abc import Mapping
from typing import Any

from hubmerge.hub import push_folder
from hubmerge.recipe import Recipe
from hubmerge.stream import make_plan, merge

from .jobs import Runner, Work
from .wording import size


def run_merge(work: Work) -> Mapping[str, Any]:
    """Merges `spec["recipe"]` into the job's folder; run again there, it goes on where it stopped."""
    plan = make_plan(Recipe.from_yaml(work.spec["recipe"]), token=work.token)
    plan.require()
    result = merge(plan, work.folder / "model", token=work.token, progress=work.report)
    return {
        "folder": str(result.folder),
        "recipe": plan.recipe.to_yaml(),
        "summary": f"{len(plan.tensors):,} tensors, {size(plan.output_bytes)}",
        "sha256": dict(result.tensors),
    }


def run_publish(work: Work) -> Mapping[str, Any]:
    """Pushes `spec["folder"]` to `spec["repo_id"]` as one commit."""
    spec = work.spec
    done = push_folder(
        spec["folder"],
        spec["repo_id"],
        token=work.token,
        private=spec["private"],
        message="Upload with the hubmerge Space",
        progress=work.report,
    )
    return {"repo_id": done.repo_id, "commit": done.commit, "url": done.url, "summary": f"published to {done.repo_id}"}


RUNNERS: Mapping[str, Runner] = {"merge": run_merge, "publish": run_publish}
