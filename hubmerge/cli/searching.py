"""Commands that search and score: evolve, report, export, eval."""

import glob
import os
from contextlib import nullcontext, suppress
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import HubmergeError, NotFoundError
from ..guesses import guess
from ..typed import typed
from .elsewhere import HOURS, Hours, Where, evaluate_on, evolve_on, options
from .options import (
    Json,
    Memory,
    Model,
    NamePrivate,
    Origin,
    Public,
    Push,
    Replace,
    ReplaceModel,
    Token,
    app,
    into,
    opened,
    show_push,
    show_warning,
    talks,
)


def _tasks(begun: str) -> list[str]:
    """What `--task` may be that begins so: the built-in tasks, and files and folders here."""
    from ..evaluate.builtin import BUILTIN

    known = [name for name in BUILTIN if name.startswith(begun)]
    here = [f"{one}/" if os.path.isdir(one) else one for one in sorted(glob.glob(f"{glob.escape(begun)}*"))]
    return [*known, *(one for one in here if one.endswith(("/", ".yaml", ".yml")))]


Run = Annotated[Path, typer.Argument(help="The run folder of a search.", show_default=False)]


@app.command()
def evolve(
    search: Annotated[
        Path, typer.Argument(help="A search in YAML: models, genes, task, searcher.", show_default=False)
    ],
    out: Annotated[Path, into("Run folder: journal, curve, winner.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    origin: Origin = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also search at random and on a grid, with the same budget.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="End after the generation in which candidates have taken so long in all.")
    ] = None,
    actors: Annotated[int, typer.Option(min=1, help="Candidates evaluated at a time, each by a Ray actor.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs an actor, such as 1 or 0.5.")] = 0.0,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster: auto, or host:port.")] = None,
    memory: Memory = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            help="Copy the journal to this private dataset as it grows; with --resume, begin with what it holds.",
        ),
    ] = None,
    track: Annotated[
        str,
        typer.Option(
            help="Tell every evaluation to trackio, wandb or tensorboard as it comes; auto: to trackio, where that is "
            "installed; none: to nobody."
        ),
    ] = "auto",
    push: Push = None,
    public: Public = False,
    name_private: NamePrivate = False,
    overwrite: Replace = False,
    on: Where = None,
    hours: Hours = HOURS,
    token: Token = None,
) -> None:
    """Search for a better merge: candidates are built in memory, scored, and the winner is merged, tested and shown."""
    from ..evolve.records.folder import JOURNAL_FILE, small_files
    from ..evolve.records.journal import require_unused
    from ..evolve.search import Search
    from ..extras import require

    if on is None:
        require("evotorch", "ray", "matplotlib")
    spec = Search.from_yaml(search)
    spec = spec.begun_with(origin) if origin is not None else spec
    spec = spec.within(minutes) if minutes is not None else spec
    spec = spec.compared() if compare else spec
    if not resume:
        require_unused(out / JOURNAL_FILE)
    # A search that goes on opens its models at the commits that it began with.
    sources = None if resume else opened(spec.references, token)
    if on is not None:
        if track not in ("auto", "none"):
            raise HubmergeError(
                "--track is told by the machine that searches; with --on, read the run that comes back."
            )
        if address is not None:
            raise HubmergeError("--address names a cluster of yours, and --on a machine of the Hub; give one of them.")
        given = {"actors": actors if actors > 1 else None, "gpus": gpus, "memory": memory}
        words = options(**given, push=push, public=public, name_private=name_private, overwrite=overwrite)
        evolve_on(on, hours, spec, out, words, mirror, token)
        return

    from ..evolve.records.mirror import Mirror, fetch
    from ..evolve.run import evolve
    from ..evolve.workers.workers import Workers
    from ..terminal import marked, progress_bars, show_results
    from ..terminal import out as console

    if push:
        from ..hub.holdings import DATASETS, Told
        from ..publish import asked_out_of_reach, hub_ids, out_of_reach

        show_warning(out_of_reach(spec.references))
        show_warning(asked_out_of_reach(spec.task))
        if public:  # whoever may not name them is told before the search
            data = spec.task["examples"].get("repo_id")
            names = (*hub_ids(spec.references), *([f"{DATASETS}{data}"] if isinstance(data, str) else []))
            Told(None, names, name_private).require_seen()
    workers = Workers(actors, gpus, address, memory)
    if mirror and resume and not (out / JOURNAL_FILE).exists():
        with suppress(NotFoundError):  # the first of many starts by one command, on machines that come and go
            fetch(mirror, out, token=token)
            console.print(f"Going on with the run mirrored at {mirror}.")
    if resume and not (out / JOURNAL_FILE).exists():
        show_warning(f"{out} holds no search to go on with: a new one begins there.")
    copy = (
        Mirror(mirror, small_files(out), token=token, private=not public, overwrite=overwrite)
        if mirror
        else nullcontext()
    )
    how: dict[str, Any] = {"resume": resume, "token": token, "workers": workers, "track": track}
    with copy, progress_bars() as progress:
        result = evolve(spec, out, **how, sources=sources, progress=progress)
    if isinstance(copy, Mirror):
        console.print(copy.summary)
    show_results(result.rows, "Held-out test set", bool(result.card.languages))
    for remark in result.remarks:
        show_warning(remark)
    console.print(
        marked("\nWinner: [bold]{}[/]   recipe: {}   curve: {}", result.folder, out / "best.yaml", out / "curve.png"),
        soft_wrap=True,
    )
    console.print(f"Read all about it: {typed(f'report {out}')}", soft_wrap=True)
    if push:
        from ..publish import push_result

        with progress_bars() as progress:
            pushed = push_result(
                result,
                push,
                token=token,
                private=not public,
                overwrite=overwrite,
                names_private=name_private,
                progress=progress,
            )
        show_push(pushed, None if talks(result.folder) else "")


@app.command()
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="The HTML file; by default report.html in the run folder.")] = None,
    as_json: Json = False,
) -> None:
    """Write what a search did, finished or not, as one HTML page, and its pictures as PNG files.

    With --json nothing is written: the figures are printed.
    """
    if as_json:
        from ..terminal import show_json
        from .told import of_run

        show_json(of_run(run))
        return
    from ..evolve.report import write_report
    from ..terminal import marked
    from ..terminal import out as console

    console.print(
        marked("Report: [bold]{}[/]   pictures: {}", write_report(run, out), run / "report"),
        soft_wrap=True,
    )


@app.command()
def export(
    run: Run,
    candidate: Annotated[int, typer.Option(min=0, help="Its number in the journal.", show_default=False)],
    out: Annotated[Path | None, into("Folder for the model.")] = None,
    push: Push = None,
    public: Public = False,
    name_private: NamePrivate = False,
    overwrite: ReplaceModel = False,
    memory: Memory = None,
    token: Token = None,
) -> None:
    """Make a model of any candidate of a search, such as another point of its Pareto front."""
    from ..evolve.export import candidate_card, candidate_files, candidate_recipe
    from .making import Goal, merge_or_push

    recipe = candidate_recipe(run, candidate, token=token)
    told = partial(candidate_card, run, candidate)
    goal = Goal(out, push, public=public, name_private=name_private, overwrite=overwrite, token=token)
    merge_or_push(recipe, goal, memory=memory, told=told, more=candidate_files(run))


@app.command("eval")
def evaluate(
    model: Model,
    task: Annotated[
        str,
        typer.Option(
            help="A built-in task (gsm8k, mgsm-ja, ...) or a task in YAML.", show_default=False, autocompletion=_tasks
        ),
    ],
    split: Annotated[str, typer.Option(help="search, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many examples, always the same.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Print this many questions with the model's answers.")] = 0,
    pictures: Annotated[
        Path | None, typer.Option(help="A folder for the pictures that are drawn, as PNG files.", show_default=False)
    ] = None,
    memory: Memory = None,
    as_json: Json = False,
    on: Where = None,
    hours: Hours = HOURS,
    token: Token = None,
) -> None:
    """Score a model on a task, with the number of examples and a 95% interval."""
    from ..evaluate.task import SPLITS, load_task, task_document
    from ..hub.source import open_source
    from ..reference import ModelRef
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    if split not in SPLITS:
        raise HubmergeError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}{guess(split, SPLITS)}.")
    path = Path(task)
    is_file = path.suffix in (".yaml", ".yml") or os.path.isfile(path)
    loaded = load_task(path if is_file else task, token=token, counts={split: limit} if limit else None)
    if not loaded.split(split):
        raise HubmergeError(f"Task {loaded.name} has no {split} examples; choose another --split.")
    if show and (as_json or on):
        raise HubmergeError("--show prints answers for people; leave it out with --json and --on.")
    if pictures is not None and (loaded.draw is None or on):
        raise HubmergeError("--pictures keeps what a pipeline draws here; leave it out with other tasks and --on.")
    source = open_source(ModelRef.parse(model), token=token)  # before torch is imported, which takes seconds
    if on is not None:
        words = options(split=split, limit=limit, memory=memory)
        told = evaluate_on(on, hours, model, task_document(path if is_file else task), words, token)
        _show_score(told, as_json, loaded.language is not None)
        return

    from ..evaluate import placement
    from ..evaluate.bred import without_bred
    from ..evaluate.drawing import keep_in
    from ..evaluate.measurement import Measurement
    from ..evaluate.models import load_model, load_processor
    from ..evaluate.pipelines import load_painter
    from ..evaluate.score import evaluate as score
    from ..evaluate.table import Row
    from ..stream.carried import Carried

    left_out = 0
    if split == "test":
        loaded, left_out = without_bred(loaded, source)
    if left_out:
        whole = left_out + len(loaded.test)
        show_warning(
            f"The search that {model} comes from asked {left_out} of these {whole} questions: they are left out."
        )
    examples = loaded.split(split)
    reader = load_processor(Carried(source)) if loaded.sees else None  # what is blind has none: said at once
    with progress_bars() as progress:
        if loaded.draw is None:
            network, tokenizer = load_model(source, token=token, memory=memory, progress=progress)
        else:
            network, tokenizer = load_painter(source, loaded.draw, progress), None
            network.keep = None if pictures is None else keep_in(pictures)
    if loaded.draw is None:
        show_warning(placement.told(network))
    if reader is not None:
        tokenizer = reader
    with progress_bars() as progress:
        scores = score(network, tokenizer, examples, loaded, memory=memory, progress=progress)
    for example, output, right in list(zip(examples, scores.outputs, scores.correct, strict=True))[:show]:
        verdict, style = ("right", "green") if right else ("wrong", "red")
        said = marked("[dim]Q[/] {}\n[dim]A[/] {}\n  ", example.prompt, output)
        console.print(said.append(f"{verdict}; expected: {example.answer}", style=style))
    if scores.ungraded:
        show_warning(f"{scores.ungraded} of {scores.n} answers got no grade, and count as 0.")
    row = Row.of(model, Measurement.of(scores, loaded, split), None)
    told = {"task": loaded.name, "split": split, "left_out": left_out}
    told |= {"seconds": round(scores.seconds, 3), **asdict(row)}
    _show_score(told, as_json, loaded.language is not None)


def _show_score(told: dict[str, Any], as_json: bool, spoken: bool) -> None:
    """Shows the score of one model, told as `--json` prints it."""
    from ..evaluate.table import Row
    from ..terminal import show_json, show_results

    if as_json:
        show_json(told)
        return
    row = Row(**{field.name: told[field.name] for field in fields(Row)})
    show_results([row], f"{told['task']}, {told['split']} split, {told['seconds']:.1f} s", spoken)
