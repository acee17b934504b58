"""What the commands share: the app they belong to, and the options that several take."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..amounts import parse_size
from ..errors import HubmergeError
from ..typed import typed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..hub.push import PushResult
    from ..hub.source import Source
    from ..reference import ModelRef

app = typer.Typer(
    help="Merge and evolve models of the Hugging Face Hub: pick by ID, stream, search, push.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _bytes(text: str | int) -> int:
    if isinstance(text, int):  # a default
        return text
    try:
        return parse_size(text)
    except HubmergeError as exc:
        raise typer.BadParameter(str(exc)) from None  # which option it is, typer says


def folder(text: "str | Path") -> "Path":
    """A folder to write into, as an option names it: seen to be one before anything is read for it."""
    from pathlib import Path

    from ..files import require_makeable

    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a folder (. is the one that you are in).")
    try:
        require_makeable(Path(text), HubmergeError)
    except HubmergeError as exc:
        raise typer.BadParameter(str(exc)) from None
    return Path(text)


def into(text: str) -> Any:
    """An option, explained by `text`, that names a folder to write into."""
    return typer.Option(metavar="DIR", parser=folder, help=text, show_default=False)


SHARD_SIZE = 5 * 10**9

Model = Annotated[
    str,
    typer.Argument(
        help="A Hub ID (org/name@revision) or a folder, or one of them with a LoRA on top (org/name+org/lora).",
        show_default=False,
    ),
]
Token = Annotated[str | None, typer.Option(help="Hub token; by default that of `hf auth login` or HF_TOKEN.")]
Push = Annotated[str | None, typer.Option(metavar="ORG/NAME", help="Create this repository and push the result to it.")]
Public = Annotated[
    bool, typer.Option("--public", help="Make a repository created by the push public, or push into a public one.")
]
NamePrivate = Annotated[
    bool, typer.Option("--name-private", help="With --public: card and recipe may name models that only you can see.")
]
Replace = Annotated[
    bool, typer.Option("--overwrite", help="Push over what others put there, or over the model of another merge.")
]
ReplaceModel = Annotated[bool, typer.Option("--overwrite", help="Replace a model in --out, or what --push finds.")]
ShardSize = Annotated[
    int,
    typer.Option(metavar="SIZE", parser=_bytes, show_default="5GB", help="Largest output file, such as 500MB or 2GB."),
]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Read weights straight from the Hub, tensor by tensor; no file of theirs is kept."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Tensors merged at a time; by default one a core.")]
Memory = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=_bytes,
        envvar="HUBMERGE_MEMORY",
        help="Memory to take at most, such as 200MB or 2GiB, beside what Python and its libraries need.",
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="RUN", help="An earlier run to begin with: its folder, or the dataset it is mirrored at."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse what the recipe holds that nothing reads, instead of leaving it out.")
]
Device = Annotated[str, typer.Option(help="cpu (the same bytes on every run), cuda, mps, or auto.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]


def opened(references: "Iterable[ModelRef]", token: str | None) -> "dict[ModelRef, Source]":
    """Models, opened. What most often stops a command, one that is not there, is found so before torch is imported,
    which takes seconds."""
    from ..hub.source import open_source

    return {ref: open_source(ref, token=token) for ref in references}


def show_warning(warning: str | None) -> None:
    """Shows a warning, where there is one."""
    from ..terminal import err, marked

    if warning is not None:
        err.print(marked("[yellow]warning:[/] {}", warning), soft_wrap=True)


def talks(folder: "Path") -> bool:
    """Whether the model in a folder answers in words, which an adapter alone does not."""
    from ..hub.auto_class import ANSWERING, auto_class
    from ..hub.lora import is_adapter
    from ..hub.source import open_source

    if is_adapter([path.name for path in folder.iterdir()]):
        return False
    return auto_class(open_source(folder).config) in ANSWERING


def show_push(pushed: "PushResult", then: str | None = None) -> None:
    """Says where a model was pushed to, and what to do with it `then`, before its name; by default, chat."""
    from ..terminal import marked, out

    if pushed.hidden:
        show_warning(
            f"{pushed.repo_id} was private before and stays so; its settings on the Hub make it public, for all to see."
        )
    if then is None:
        then = f"Talk to it: {typed('chat')} "
    out.print(
        marked(
            "\nPushed: [bold]{}[/] at commit {}. {}", pushed.page, pushed.commit[:8], then and then + pushed.repo_id
        ),
        soft_wrap=True,  # an address broken over two lines cannot be clicked
    )
