"""The kinds of zoos: what each is shipped as, its repositories on a Hub, and the search that its demo runs."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import HubmergeError
from ..typed import typed
from .cards import DATASETS, NAMESPACE, REPOS

if TYPE_CHECKING:
    from ..evolve.search import Search

Kind = Literal["words", "vlm", "image"]
"""Models that read and write, those that see, and those that draw."""


def shipped(kind: Kind = "words") -> Path:
    """The folder of the zoo that comes with hubmerge."""
    return _room(kind) / "checkpoints"


def demo_search(kind: Kind = "words", namespace: str = NAMESPACE) -> "Search":
    """The search that the demo of a zoo runs, over models that are published as `namespace`'s."""
    from ..evolve.search import Search

    text = (_room(kind) / "demo.yaml").read_text(encoding="utf-8")
    return Search.from_yaml(text.replace(f"{NAMESPACE}/", f"{namespace}/"))


def repositories(kind: Kind) -> tuple[Mapping[str, str], Mapping[str, tuple[str, Callable[[Path], Path]]]]:
    """The names of a zoo's repositories: of each model; and of each data set, with what writes it into a folder."""
    if kind == "vlm":
        from .vlm import cards as seeing
        from .vlm import questions

        return seeing.REPOS, {"questions": (questions.NAME, questions.dataset_folder)}
    if kind == "image":
        from .image import cards as drawing
        from .image import prompts

        return drawing.REPOS, {"prompts": (prompts.NAME, prompts.dataset_folder)}
    from .word_problems import dataset_folder

    return REPOS, {lang: (repo, partial(dataset_folder, lang)) for lang, (repo, *_) in DATASETS.items()}


def require_zoo(folder: Path, kind: Literal["vlm", "image"]) -> None:
    """Raises `HubmergeError` where a folder is no zoo of a kind."""
    if missing := [name for name in repositories(kind)[0] if not (folder / name / "README.md").is_file()]:
        does, made = {"vlm": "sees", "image": "draws"}[kind], typed(f"zoo train --{kind} --out {folder}")
        raise HubmergeError(f"{folder} is no zoo that {does}: it lacks {', '.join(missing)}; `{made}` makes one.")


def _room(kind: Kind) -> Path:
    return Path(__file__).parent / ("" if kind == "words" else kind)
