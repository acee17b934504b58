"""The command line: parse, call, show. Run `hubmerge --help`."""

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .errors import HubmergeError, Interrupted

if TYPE_CHECKING:
    from .hub.push import PushResult

app = typer.Typer(
    help="Merge and evolve models of the Hugging Face Hub: pick by ID, stream, search, push.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo = typer.Typer(help="The demo models: train them anew.", no_args_is_help=True)
app.add_typer(zoo, name="zoo")

GIGABYTE = 10**9
INTERRUPTED = Interrupted.exit_code

Recipe = Annotated[Path, typer.Argument(help="A recipe in mergekit's YAML format.", show_default=False)]
Model = Annotated[str, typer.Argument(help="A Hub ID (org/name@revision) or a folder.", show_default=False)]
Token = Annotated[str | None, typer.Option(help="Hub token; by default that of `hf auth login` or HF_TOKEN.")]
Push = Annotated[str | None, typer.Option(metavar="ORG/NAME", help="Create this repository and push the result to it.")]
Public = Annotated[bool, typer.Option("--public", help="Make a repository created by the push public.")]
ShardSize = Annotated[float, typer.Option(metavar="GB", min=0.001, help="Largest output file, in GB.")]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Read weights straight from the Hub, tensor by tensor; no file of theirs is kept."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Tensors merged at a time; by default one a core.")]
Device = Annotated[str, typer.Option(help="cpu (the same bytes on every run), cuda, mps, or auto.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]


@app.command()
def plan(
    recipe: Recipe,
    shard_size: ShardSize = 5.0,
    stream: Stream = False,
    threads: Threads = None,
    token: Token = None,
) -> None:
    """Show what a merge would do, from headers alone: nothing is downloaded, problems are named."""
    from .recipe import Recipe as Value
    from .stream.plan import make_plan
    from .terminal import show_plan

    size = int(shard_size * GIGABYTE)
    result = make_plan(Value.from_yaml(recipe), token=token, shard_size=size, ranged=stream, threads=threads)
    show_plan(result)
    result.require()


@app.command()
def merge(
    recipe: Recipe,
    out: Annotated[Path | None, typer.Option(help="Folder for the merged model.", show_default=False)] = None,
    push: Push = None,
    public: Public = False,
    shard_size: ShardSize = 5.0,
    stream: Stream = False,
    threads: Threads = None,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is already in --out.")] = False,
    token: Token = None,
) -> None:
    """Merge models as a recipe says, into a folder or straight onto the Hub.

    Interrupted, the same command goes on where it stopped.
    """
    from .publish import merge_to_folder, merge_to_hub
    from .recipe import Recipe as Value
    from .stream.plan import make_plan
    from .terminal import out as console
    from .terminal import progress_bars, show_plan

    if (out is None) == (push is None):
        raise HubmergeError(
            "Give either --out FOLDER or --push ORG/NAME (a folder can be pushed with `hubmerge push`)."
        )
    size = int(shard_size * GIGABYTE)
    plan = make_plan(
        Value.from_yaml(recipe),
        token=token,
        shard_size=size,
        pushing=push is not None,
        ranged=stream,
        threads=threads,
        device=device,
    )
    show_plan(plan)
    plan.require()
    with progress_bars() as progress:
        if push:
            done = merge_to_hub(plan, push, token=token, private=not public, progress=progress)
        else:
            assert out is not None
            done = merge_to_folder(plan, out, token=token, overwrite=overwrite, progress=progress)
    if done.pushed:
        _show_push(done.pushed)
    else:
        console.print(f"\nMerged into [bold]{out}[/] in {done.seconds:.1f} s. Talk to it: hubmerge chat {out}")


@app.command()
def evolve(
    search: Annotated[
        Path, typer.Argument(help="A search in YAML: models, genes, task, searcher.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Run folder: journal, curve, winner.", show_default=False)],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    push: Push = None,
    public: Public = False,
    token: Token = None,
) -> None:
    """Search for a better merge: candidates are built in memory, scored, and the winner is merged, tested and shown."""
    from .evolve.run import evolve
    from .evolve.search import Search
    from .terminal import out as console
    from .terminal import progress_bars, show_results

    with progress_bars() as progress:
        result = evolve(Search.from_yaml(search), out, resume=resume, token=token, progress=progress)
    show_results(result.rows, "Held-out test set")
    console.print(f"\nWinner: [bold]{result.folder}[/]   recipe: {out / 'best.yaml'}   curve: {out / 'curve.png'}")
    if push:
        from .publish import push_result

        with progress_bars() as progress:
            _show_push(push_result(result, push, token=token, private=not public, progress=progress))


@app.command("eval")
def evaluate(
    model: Model,
    task: Annotated[str, typer.Option(help="A built-in task or a task in YAML.", show_default=False)],
    split: Annotated[str, typer.Option(help="search, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many examples (fixed by a seed).")] = None,
    show: Annotated[int, typer.Option(min=0, help="Print this many questions with the model's answers.")] = 0,
    token: Token = None,
) -> None:
    """Score a model on a task, with the number of examples and a 95% interval."""
    from .evaluate.models import load_model
    from .evaluate.score import evaluate as score
    from .evaluate.task import SPLITS, load_task
    from .evolve.results import Row
    from .terminal import out as console
    from .terminal import progress_bars, show_results

    if split not in SPLITS:
        raise HubmergeError(f"--split must be one of {', '.join(SPLITS)}, got {split!r}.")
    path = Path(task)
    is_file = path.suffix in (".yaml", ".yml") or path.is_file()
    loaded = load_task(path if is_file else task, token=token, counts={split: limit} if limit else None)
    examples = loaded.split(split)
    if not examples:
        raise HubmergeError(f"Task {loaded.name} has no {split} examples; choose another --split.")
    network, tokenizer = load_model(model, token=token)
    with progress_bars() as progress:
        scores = score(network, tokenizer, examples, loaded, progress=progress)
    for example, output, right in list(zip(examples, scores.outputs, scores.correct, strict=True))[:show]:
        console.print(
            f"[dim]Q[/] {example.prompt}\n[dim]A[/] {output}  [{'green' if right else 'red'}]{example.answer}[/]"
        )
    show_results([Row.of(model, scores, None)], f"{loaded.name}, {split} split, {scores.seconds:.1f} s")


@app.command()
def chat(
    model: Model,
    prompt: Annotated[str | None, typer.Option(help="Answer this one message and stop.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512,
    token: Token = None,
) -> None:
    """Talk to a model: from the Hub, a folder, or just merged."""
    from .evaluate.generation import stream_chat
    from .evaluate.models import load_model
    from .terminal import out as console

    network, tokenizer = load_model(model, token=token)
    messages = [{"role": "system", "content": system}] if system else []

    def answer(text: str) -> None:
        messages.append({"role": "user", "content": text})
        pieces = []
        for piece in stream_chat(network, tokenizer, messages, max_new_tokens=max_new_tokens, temperature=temperature):
            pieces.append(piece)
            console.print(piece, end="", markup=False, highlight=False)
        console.print()
        messages.append({"role": "assistant", "content": "".join(pieces)})

    if prompt is not None:
        answer(prompt)
        return
    console.print(f"[dim]{model} - an empty line or Ctrl-D ends the chat[/]")
    while True:
        try:
            text = console.input("[cyan]> [/]").strip()
        except EOFError:
            break
        if not text:
            break
        answer(text)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", show_default=False)],
    public: Public = False,
    token: Token = None,
) -> None:
    """Put a model folder on the Hub, in one commit; the repository is private unless --public."""
    _push(folder, repo_id, public, token)


@app.command()
def verify(
    model: Model,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Also merge it again from its recipe, in memory, and compare.")
    ] = False,
    token: Token = None,
) -> None:
    """Check every tensor of a merged model against the sha256 that its merge noted; on the Hub nothing is kept."""
    from .recipe import ModelRef
    from .stream.verify import verify
    from .terminal import progress_bars, show_verification

    with progress_bars() as progress:
        result = verify(ModelRef.parse(model), token=token, recompute=recompute, progress=progress)
    show_verification(result)
    result.require()


@app.command()
def hub(
    root: Annotated[Path, typer.Option(help="Where repositories are kept.")] = Path("hub"),
    port: Port = 8765,
    user: Annotated[list[str] | None, typer.Option(metavar="NAME:TOKEN", help="A user; repeat for more.")] = None,
    org: Annotated[
        list[str] | None, typer.Option(metavar="NAME:USER,USER", help="An organisation; repeatable.")
    ] = None,
    publish_demo: Annotated[bool, typer.Option("--demo", help="Publish the demo models on it.")] = False,
    generate: Annotated[str | None, typer.Option(metavar="SIZE", help="Three made-up Llamas: 1B, 3B, 8B, 70B.")] = None,
) -> None:
    """Serve a Hub of your own from a folder: offline, for demos, closed networks and tests."""
    from .localhub import LocalHub, siblings
    from .terminal import out as console

    users = dict(_pair(text, "--user", "NAME:TOKEN") for text in user or ["demo:hf_demo"])
    organizations = {
        name: members.split(",") for name, members in (_pair(t, "--org", "NAME:USER,USER") for t in org or [])
    }
    name, token = next(iter(users.items()))
    if publish_demo:
        organizations.setdefault("hubmerge-demo", list(users))
    server = LocalHub(root, users=users, organizations=organizations, port=port)
    server.start()
    try:
        if publish_demo:
            os.environ.update(server.environment(name))
            from .zoo.publish import publish

            for repo_id in publish(server.endpoint, token).values():
                console.print(f"  {repo_id}")
        for repo, model in siblings(generate).items() if generate else ():
            server.generate(f"{name}/{repo}", model, exist_ok=True)
            console.print(f"  {name}/{repo}")
        console.print(f"Hub of [bold]{root}[/] at [bold]{server.endpoint}[/]; Ctrl-C stops it. A client's environment:")
        for key, value in server.environment(name).items():
            console.print(f"  export {key}={value}", highlight=False)
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        server.stop()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder; a demo that was interrupted goes on.")] = Path("runs/demo"),
) -> None:
    """The whole product on tiny trained models: resolve, plan, merge, evolve, push, load back by Hub ID, chat."""
    from .demo import run

    run(out)


@app.command()
def space(
    port: Port = 7860,
    demo: Annotated[bool, typer.Option("--demo", help="Start a local Hub with the demo models and use it.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Open the web app on this machine."""
    from .demo import demo_hub, space_examples

    if not demo:
        _launch_space(port, open_browser, None)
        return
    with demo_hub(Path("runs/space-hub")):
        _launch_space(port, open_browser, space_examples())


@zoo.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Seed of data and weights.")] = 0,
) -> None:
    """Train the demo's base, math expert and Japanese expert from scratch."""
    from .terminal import progress_bars
    from .zoo.train import train_zoo

    with progress_bars() as progress:
        train_zoo(out, seed=seed, progress=progress)


def _launch_space(port: int, open_browser: bool, examples: dict | None) -> None:
    try:
        from .space.app import launch  # type: ignore[import-not-found]  # in a wheel the Space's folder is ours
    except ModuleNotFoundError:
        from space.app import launch
    launch(port=port, open_browser=open_browser, examples=examples)


def _push(folder: Path, repo_id: str, public: bool, token: str | None) -> None:
    from .hub.push import push_folder
    from .terminal import progress_bars

    with progress_bars() as progress:
        pushed = push_folder(
            folder, repo_id, token=token, private=not public, message="Upload with hubmerge", progress=progress
        )
    _show_push(pushed)


def _show_push(pushed: "PushResult") -> None:
    from .terminal import out

    out.print(
        f"\nPushed: [bold]{pushed.url}[/] at commit {pushed.commit[:8]}. Talk to it: hubmerge chat {pushed.repo_id}"
    )


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    left, colon, right = text.partition(":")
    if not (left and colon and right):
        raise HubmergeError(f"{option} must be {form}, got {left!r} alone.")
    return left, right


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"hubmerge {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 2 bad input, 3 Hub or network, 130 interrupted."""
    # Read when huggingface_hub is imported: one display of progress is enough, and ours counts the whole work.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from .terminal import err

    try:
        app()
    except HubmergeError as exc:
        style = "yellow" if isinstance(exc, Interrupted) else "red"
        err.print(f"[{style}]hubmerge:[/] ", end="")
        err.print(str(exc), markup=False, highlight=False, soft_wrap=True)
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, SystemExit) as exc:
        # Typer makes exit code 130 of Ctrl-C, and says nothing.
        if isinstance(exc, SystemExit) and exc.code != INTERRUPTED:
            raise
        err.print("\n[yellow]hubmerge:[/] Interrupted; run the same command again to go on (evolve: with --resume).")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
