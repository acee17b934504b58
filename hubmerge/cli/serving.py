"""Commands that serve: hub, space and its deployment; and the demo and its models."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import HubError, HubmergeError, ResourceError
from ..typed import typed
from ..zoo import SEED
from .options import Memory, Port, Public, Token, app, into

if TYPE_CHECKING:
    from ..localhub import GeneratedModel, GeneratedPipeline

zoo = typer.Typer(help="The demo models: train them anew; and a benchmark of pictures.", no_args_is_help=True)
app.add_typer(zoo, name="zoo")
space = typer.Typer(invoke_without_command=True)
app.add_typer(space, name="space")


@app.command()
def hub(
    root: Annotated[Path, typer.Option(help="Where repositories are kept.")] = Path("hub"),
    port: Port = 8765,
    user: Annotated[list[str] | None, typer.Option(metavar="NAME:TOKEN", help="A user; repeat for more.")] = None,
    org: Annotated[
        list[str] | None, typer.Option(metavar="NAME:USER,USER", help="An organisation; repeatable.")
    ] = None,
    publish_demo: Annotated[bool, typer.Option("--demo", help="Publish the demo models on it.")] = False,
    sees: Annotated[bool, typer.Option("--vlm", help="With --demo: the models and pictures of `demo --vlm`.")] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    open_to_network: Annotated[
        bool, typer.Option("--open-to-network", help="With a --host that others reach: unencrypted, and no limits.")
    ] = False,
    address: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="What it is reached at beside --host; repeatable.")
    ] = None,
    application: Annotated[
        list[str] | None, typer.Option(metavar="ID=URL", help="Where an OAuth application may be sent; repeatable.")
    ] = None,
    generate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Three made-up models of a size, 1B to 671B; the paper's models: paper, sdxl."
        ),
    ] = None,
) -> None:
    """Serve a Hub of your own from a folder: offline, for demos, closed networks and tests."""
    from ..localhub import LocalHub, image_models, paper_models, siblings
    from ..terminal import marked
    from ..terminal import out as console

    users = dict(_pair(text, "--user", "NAME:TOKEN") for text in user or ["demo:hf_demo"])
    organizations = {
        name: members.split(",") for name, members in (_pair(t, "--org", "NAME:USER,USER") for t in org or [])
    }
    if sees:
        from ..extras import require

        if not publish_demo:
            raise HubmergeError("--vlm is of the demo's models: --demo --vlm publishes those that see.")
        require("PIL", "pyarrow")
    if open_to_network and not user:
        raise HubmergeError("A Hub that is open to the network needs users of its own: --user NAME:TOKEN.")
    applications: dict[str, list[str]] = {}
    for id, url in (_pair(text, "--application", "ID=URL", "=") for text in application or ()):
        applications.setdefault(id, []).append(url)
    name, token = next(iter(users.items()))
    if publish_demo:
        organizations.setdefault("hubmerge-demo", list(users))
    try:
        models: dict[str, GeneratedModel | GeneratedPipeline]
        if generate in ("paper", "sdxl"):
            models = {**(paper_models() if generate == "paper" else image_models())}
            organizations = {repo.partition("/")[0]: list(users) for repo in models} | organizations
        else:
            models = {f"{name}/{repo}": model for repo, model in (siblings(generate) if generate else {}).items()}
        server = LocalHub(
            root,
            users=users,
            organizations=organizations,
            port=port,
            host=host,
            open_to_network=open_to_network,
            addresses=address or (),
            applications=applications,
        )
        server.start()
    except HubError as exc:  # about what was given here, which no Hub was asked for
        raise ResourceError(str(exc)) from None
    try:
        if publish_demo:
            os.environ.update(server.environment(name))
            from ..zoo.publish import publish

            for repo_id in publish(server.endpoint, token, kind="vlm" if sees else "words").values():
                console.print(f"  {repo_id}")
        for repo, model in models.items():
            server.generate(repo, model, exist_ok=True)
            console.print(f"  {repo}")
        begun = "Hub of [bold]{}[/] at [bold]{}[/]; Ctrl-C stops it. A client's environment:"
        console.print(marked(begun, root, server.endpoint))
        for key, value in server.environment(name).items():
            console.print(f"  export {key}={value}")
        console.print(
            "It is no server for the internet: whoever holds a token is that user, tokens and files travel unencrypted,"
            " and nobody's calls are limited.",
            style="yellow" if open_to_network else "",
        )
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        server.stop()


@app.command()
def demo(
    out: Annotated[
        Path | None,
        into("Run folder; what was interrupted goes on. [default: runs/demo, paper, vlm, image]"),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="The paper's table in small: hours of searches.")] = False,
    vlm: Annotated[bool, typer.Option("--vlm", help="Models that see: a Japanese one, bred.")] = False,
    image: Annotated[bool, typer.Option("--image", help="Models that draw: a Japanese one, bred.")] = False,
    zoo_folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--zoo", help=f"A folder of `{typed('zoo train')}` for --vlm or --image; for --paper also several."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="With --paper: seeds of the searches.")] = "1,2,3",
    evaluations: Annotated[int, typer.Option(min=32, help="With --paper: candidates of each search.")] = 240,
    test: Annotated[int, typer.Option(min=20, max=600, help="With --paper: held-out problems.")] = 600,
    jobs: Annotated[int, typer.Option(min=1, help="With --paper: searches at a time, each on one thread.")] = 2,
    memory: Memory = None,
) -> None:
    """The whole product on tiny trained models: resolve, plan, merge, evolve, push, load back by Hub ID, chat."""
    from ..extras import require

    require("uvicorn", "evotorch", "matplotlib")
    from .. import demo

    if vlm or image:
        require("PIL", *(["pyarrow"] if vlm else ["diffusers"]))
        name, run = ("vlm", demo.vlm) if vlm else ("image", demo.image)
        if paper or (vlm and image) or len(zoo_folders or ()) > 1:
            raise HubmergeError(f"--{name} is a demo by itself, with one --zoo; leave out other demos and other --zoo.")
        run(out or Path(f"runs/{name}"), zoo=next(iter(zoo_folders or ()), None), memory=memory)
        return
    if not paper:
        demo.run(out or Path("runs/demo"), memory=memory)
        return
    try:
        numbers = list(dict.fromkeys(int(seed) for seed in seeds.split(",")))
    except ValueError:
        raise HubmergeError(f"--seeds must be whole numbers with commas between, got {seeds!r}.") from None
    demo.paper(out or Path("runs/paper"), zoo_folders or (), numbers, evaluations, test, jobs, memory)


@space.callback()
def serve(
    context: typer.Context,
    port: Port = 7860,
    demo: Annotated[bool, typer.Option("--demo", help="Start a local Hub with the demo models and use it.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Open the web app on this machine; or `deploy` it to a Space of your own."""
    if context.invoked_subcommand:
        return
    from ..extras import require

    require("gradio", "pandas")
    from ..demo import USER, demo_hub, space_examples

    if not demo:
        _launch_space(port, open_browser, None)
        return
    root = Path("runs/space-hub")
    with demo_hub(root) as hub:
        from ..terminal import out as console

        said = f"A Hub of your own at {hub.endpoint}, where you are the user {USER}; its files: {root}."
        console.print(said, soft_wrap=True)
        _launch_space(port, open_browser, space_examples())


@space.command()
def deploy(
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", show_default=False)],
    public: Annotated[
        bool, typer.Option("--public/--private", help="Of a Space created by this; one that exists keeps its own.")
    ] = False,
    hardware: Annotated[
        str | None, typer.Option(help="cpu-basic, zero-a10g, t4-small, ... as the Hub names it.", show_default=False)
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A public setting, such as HUBMERGE_SPACE_MAX_MINUTES=30; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and send nothing.")] = False,
    token: Token = None,
) -> None:
    """Make a Space of the web app, or bring one made so up to date; a repository of anything else is left alone."""
    from ..deploy import deploy, space_files
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    variables = dict(_pair(text, "--variable", "NAME=VALUE", "=") for text in variable or ())
    if dry_run:
        files = {name: path.stat().st_size for name, path in space_files().items()}
        for name, size in files.items():
            console.print(f"{size:>9,}  {name}")
        console.print(f"{sum(files.values()):>9,}  bytes in {len(files)} files for {repo_id}; nothing was sent.")
        return
    with progress_bars() as progress:
        done = deploy(
            repo_id,
            token=token,
            private=not public,
            hardware=hardware,
            variables=variables,
            progress=progress,
        )
    console.print(marked("Deployed at commit {}: [bold]{}[/]", done.commit[:8], done.page), soft_wrap=True)


@zoo.command()
def train(
    out: Annotated[Path, into("Folder for the checkpoints.")],
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of data and weights.")] = SEED,
    vlm: Annotated[bool, typer.Option("--vlm", help="The models of `demo --vlm`.")] = False,
    image: Annotated[bool, typer.Option("--image", help="The models of `demo --image`.")] = False,
) -> None:
    """Train the demo's base and its experts from scratch.

    Interrupted, the same command goes on with the model that it was at.
    """
    from ..terminal import progress_bars

    if image:
        from ..extras import require

        if vlm:
            raise HubmergeError("--vlm and --image are two zoos; train one after the other.")
        require("PIL", "diffusers")
        from ..zoo.image.train import train_image_zoo

        with progress_bars() as progress:
            train_image_zoo(out, seed=seed, progress=progress)
        return
    if vlm:
        from ..extras import require

        require("PIL", "pyarrow")
        from ..zoo.vlm.train import train_vlm_zoo

        with progress_bars() as progress:
            train_vlm_zoo(out, seed=seed, progress=progress)
        return
    from ..zoo.train import train_zoo

    with progress_bars() as progress:
        train_zoo(out, seed=seed, progress=progress)


@zoo.command()
def bench(
    out: Annotated[Path | None, into("Folder for the dataset.")] = None,
    push: Annotated[str | None, typer.Option(metavar="ORG/NAME", help="Put it into this dataset repository.")] = None,
    public: Public = False,
    token: Token = None,
) -> None:
    """Draw ja-vlm-bench: pictures with questions in Japanese and English, for models that see."""
    from ..terminal import marked, progress_bars
    from ..terminal import out as console
    from ..zoo.pictures.bench import publish_bench, write_bench

    if public and push is None:
        raise HubmergeError("--public goes with --push; leave it out.")
    if push is not None and out is None:
        with progress_bars() as progress:
            console.print(marked("Pushed: [bold]{}[/]", publish_bench(push, token, progress=progress, public=public)))
        return
    if out is None or push is not None:
        raise HubmergeError("Give one of --out DIR and --push ORG/NAME: where the dataset should be.")
    with progress_bars() as progress:
        made = write_bench(out, progress=progress)
    for split, nbytes in made.nbytes.items():
        console.print(f"  {split:<10} {made.pictures[split]:>6,} pictures {nbytes:>12,} bytes")
    every = made.baselines[-1]
    console.print(f"Without the picture: blind {every.blind:.1%}, other pictures {every.other_pictures:.1%}.")


def _launch_space(port: int, open_browser: bool, examples: dict[str, Any] | None) -> None:
    try:
        from ..space.app import launch  # in a wheel the Space's folder is ours
    except ModuleNotFoundError as exc:
        if exc.name != "hubmerge.space":
            raise
        from space.app import launch
    launch(port=port, open_browser=open_browser, examples=examples)


def _pair(text: str, option: str, form: str, sign: str = ":") -> tuple[str, str]:
    left, _, right = text.partition(sign)
    if not (left and right):
        raise HubmergeError(f"{option} must be {form}, got {left!r} alone.")
    return left, right
