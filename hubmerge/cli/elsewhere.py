"""`--on`: a command that runs on a machine of the Hub, is followed here, and whose result comes here."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from ..errors import HubmergeError
from .options import show_warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..evolve.search import Search
    from ..jobs.running import Jobs
    from ..jobs.script import Work
    from ..recipe import Recipe

Where = Annotated[
    str | None,
    typer.Option("--on", metavar="jobs:FLAVOR", help="Run it on a machine of the Hub, such as jobs:a10g-small."),
]
Hours = Annotated[float, typer.Option(help="With --on: the hours after which the machine is stopped.")]
HOURS = 6.0
_SIZES = ("memory", "shard_size")


def evolve_on(
    where: str, hours: float, search: "Search", out: Path, words: list[str], mirror: str | None, token: str | None
) -> None:
    """Searches in a job, and brings the run here; `words`: further options of the command."""
    from ..evolve.records.folder import FROM_FILE
    from ..evolve.records.learnt import open_learnt
    from ..jobs.asked import extras_of, mirror_of, require_on_hub, require_task_on_hub
    from ..jobs.fetched import fetch_run
    from ..jobs.running import Jobs
    from ..jobs.script import Work
    from ..terminal import marked, show_results
    from ..terminal import out as console

    require_on_hub(search.references)
    require_task_on_hub(search.task)
    files = {"search.yaml": search.to_yaml()}
    if (learnt := open_learnt(search, token=token)) is not None:  # the run that it begins with may be of this machine
        files = {"search.yaml": replace(search, origin=learnt.pinned).to_yaml(), FROM_FILE: learnt.to_json().decode()}
    jobs = Jobs(token)
    mirror = mirror_of(jobs.user, out, mirror)
    command = ["evolve", "search.yaml", "--out", "run", "--resume", "--mirror", mirror, *words]
    _run(jobs, Work(command, files, extras_of(search.task)), where, hours)
    results = fetch_run(mirror, out, token)
    show_results(results.rows, "Held-out test set", bool(results.task.get("language")))
    console.print(
        marked("\nWinner: [bold]{}[/]   run: {}   mirror: {}", out / "best.yaml", out, mirror), soft_wrap=True
    )


def merge_on(where: str, hours: float, recipe: "Recipe", named: str, words: list[str], token: str | None) -> None:
    """Merges in a job, which pushes the result; `named`: a recipe's file, or a published merge."""
    from ..jobs.asked import require_on_hub
    from ..jobs.running import Jobs
    from ..jobs.script import Work

    require_on_hub(recipe.references)
    if recipe.calibration is not None and recipe.calibration.dataset is None:
        raise HubmergeError("A job cannot read texts of this machine; put them into a dataset (calibration.dataset).")
    file = Path(named)
    text = file.read_text(encoding="utf-8") if file.is_file() else recipe.to_yaml() if file.is_dir() else None
    files = {} if text is None else {"recipe.yaml": text}
    _run(Jobs(token), Work(["merge", "recipe.yaml" if files else named, *words], files), where, hours)


def evaluate_on(
    where: str, hours: float, model: str, task: "Mapping[str, object]", words: list[str], token: str | None
) -> dict[str, Any]:
    """Scores a model in a job; `task`: its plain values. What `hubmerge eval --json` prints."""
    from ..jobs.asked import extras_of, require_on_hub, require_task_on_hub
    from ..jobs.fetched import fetch_printed
    from ..jobs.running import Jobs
    from ..jobs.script import Work
    from ..reference import ModelRef

    require_on_hub([ModelRef.parse(model)])
    require_task_on_hub(task)
    jobs = Jobs(token)
    files = {"task.yaml": yaml.safe_dump(dict(task), sort_keys=False, allow_unicode=True)}
    words = ["eval", model, "--task", "task.yaml", "--json", *words]
    work = Work(words, files, extras_of(task), saves=True)
    _run(jobs, work, where, hours)
    return fetch_printed(work, jobs.scripts, token)


def options(**given: object) -> list[str]:
    """The words of options by their names, as they are typed: none of what is None, False or 0; sizes as bytes."""
    words = []
    for name, value in given.items():
        if value:
            text = f"{value}B" if name in _SIZES else str(value)
            words.append([f"--{name.replace('_', '-')}", *([] if value is True else [text])])
    return [word for pair in words for word in pair]


def _run(jobs: "Jobs", work: "Work", where: str, hours: float) -> None:
    from ..jobs.asked import On
    from ..terminal import err, marked

    on = On.parse(where, hours)
    sent = jobs.send(work, on)
    if sent.again:
        show_warning(f"A job that does just this is under way already, and followed: {sent.id}.")
    at_most = f", at {sent.price}" if sent.price else ""
    began = "Following" if sent.again else f"Sent to {on.flavor}, for {on.hours:g} hours at most{at_most}"
    err.print(marked("{}: [bold]{}[/]", began, sent.url), soft_wrap=True)
    err.print("What it prints comes here as soon as it has a machine; Ctrl-C leaves it running.", style="dim")
    jobs.follow(sent, lambda line: err.print(line, soft_wrap=True))
