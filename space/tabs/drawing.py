"""Pictures of one or several models, for the same prompts and seeds, in the turn of whoever asked."""

import base64
import io
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmerge.errors import HubmergeError, Interrupted, SourceError, TaskError
from hubmerge.extras import require
from hubmerge.hub.auto_class import TO_IMAGE, task_of
from hubmerge.hub.pipeline import MODEL_INDEX, network
from hubmerge.recipe import Recipe

from ..state import PRODUCT, Owner, Page, product_job, products
from ..visitors.access import Token
from ..wording import short
from ..work.zero_gpu import fetched
from .answer import LONGEST_MESSAGE

MOST_STEPS = 100
SMALLEST, LARGEST = 8, 2048
"""Pixels of a side."""
MOST_MODELS, MOST_PICTURES = 8, 16
"""Of one question: models, and pictures of each."""
STRANGERS_STEPS, STRANGERS_SIDE, STRANGERS_PICTURES, STRANGERS_SECONDS = 50, 768, 4, 180.0
"""The same where strangers ask, and for how long all of a model's pictures may take."""
LONGEST_SEED = 2**53


@dataclass(frozen=True)
class Wish:
    """What the prompt box says, a field for each of its components.

    `prompts`: one a line. `seeds`: whole numbers, each prompt is drawn with each. `side`, `guidance`: None as the
    pipeline has it. `other`: one more model; `sources`: and those that each was made of, or that were chosen.
    """

    model: str | None
    other: str | None
    prompts: str
    negative: str | None
    seeds: str
    steps: float
    side: float | None
    guidance: float | None
    sources: bool


@dataclass(frozen=True)
class Asked:
    """A wish that may be drawn."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    how: dict[str, Any]
    seconds: float | None


@dataclass(frozen=True)
class Drawing:
    """A picture that was drawn, a PNG file in base64: of which model, and the line under it."""

    model: str
    caption: str
    content: str

    @property
    def picture(self) -> Any:
        """It, as Pillow has it."""
        from PIL import Image

        return Image.open(io.BytesIO(base64.b64decode(self.content)))

    @property
    def address(self) -> str:
        """An address that holds it."""
        return f"data:image/png;base64,{self.content}"


def asked(wish: Wish, on_space: bool) -> Asked:
    """What a wish asks for. Raises `TaskError` where that is nothing, or more than may be drawn at once."""
    prompts = tuple(filter(None, map(str.strip, wish.prompts.splitlines())))
    if not prompts:
        raise TaskError("Say what to draw: one prompt a line.")
    longest = max(map(len, (*prompts, wish.negative or "")))
    if longest > LONGEST_MESSAGE:
        raise TaskError(f"The prompt has {longest:,} characters; at most {LONGEST_MESSAGE:,} are sent.")
    seeds = tuple(dict.fromkeys(map(_seed, wish.seeds.replace(",", " ").split())))
    if not seeds:
        raise TaskError("Give a seed, or several, as in: 1, 2.")
    most = STRANGERS_PICTURES if on_space else MOST_PICTURES
    if len(prompts) * len(seeds) > most:
        raise TaskError(
            f"{len(prompts)} prompts with {len(seeds)} seeds are {len(prompts) * len(seeds)} pictures of a model; at "
            f"most {most} are drawn at once on this page."
        )
    steps = _whole(wish.steps, "Steps", 1, STRANGERS_STEPS if on_space else MOST_STEPS)
    side = None
    if wish.side:
        side = _whole(wish.side, "The side of a picture", SMALLEST, STRANGERS_SIDE if on_space else LARGEST)
        if side % 8:
            raise TaskError(f"The side of a picture must be a multiple of 8 pixels, got {side}.")
    if wish.guidance is not None and not 0 <= wish.guidance <= 100:
        raise TaskError(f"Guidance must be from 0 to 100, got {wish.guidance:g}.")
    how = {
        "steps": steps,
        "side": side,
        "guidance": wish.guidance,
        "negative": (wish.negative or "").strip() or None,
        "most_side": STRANGERS_SIDE if on_space else None,
    }
    return Asked(prompts, seeds, how, STRANGERS_SECONDS if on_space else None)


def models_of(page: Page, owner: Owner, wish: Wish, chosen: list[str]) -> list[str]:
    """The models that a wish is about: its own first; `chosen`: those of the Pick tab."""
    if not wish.model:
        raise TaskError("Choose a model that draws first.")
    named = [wish.model, *([wish.other] if wish.other else [])]
    if wish.sources:
        made = [name for name in named if name.startswith(PRODUCT)]
        for name in made:
            recipe = Recipe.from_text(str(product_job(page.jobs, owner, name).result["recipe"]))
            # What draws is a whole pipeline, of which a part may be named, or only a part of another copied.
            named += [str(ref) for ref in recipe.mixed if not ref.stage]
        named += [] if made else chosen
    named = list(dict.fromkeys(named))
    if len(named) > MOST_MODELS:
        raise TaskError(f"These are {len(named)} models; at most {MOST_MODELS} draw at once.")
    return named


def draws(page: Page, owner: Owner, model: str | None, token: Token) -> bool:
    """Whether a model makes pictures of words: a pipeline, or a part of one."""
    if not model:
        return False
    try:
        if model.startswith(PRODUCT):
            return (Path(str(product_job(page.jobs, owner, model).result["folder"])) / MODEL_INDEX).is_file()
        config = page.open(model, token).config
    except HubmergeError:
        return False
    return network(config, None) == "" and task_of(config) == TO_IMAGE


def drawings(
    page: Page, owner: Owner, models: list[str], wish: Asked, token: Token, halt: threading.Event
) -> Generator[tuple[list[Drawing], str], None, None]:
    """What is drawn so far, model after model, and a line that says what is under way."""
    require("diffusers")
    person, made, told = owner.person or owner, list[Drawing](), list[str]()
    names = dict(products(page.jobs, owner, answering=True))
    labels = {value: label for label, value in names.items()}
    with page.turns.asking(person):
        for model in models:
            label = labels.get(model) or short(model)
            yield made, f"{label}: being read"
            try:
                for drawing, line in _of_one(page, owner, model, label, wish, token, halt):
                    made = [*made, drawing] if drawing else made
                    yield made, line
            except Interrupted:
                yield made, "Stopped."
                return
            except HubmergeError as error:
                told.append(f"{label}: {error}")  # the others may draw
    yield made, "\n".join(told)


def _of_one(
    page: Page, owner: Owner, model: str, label: str, wish: Asked, token: Token, halt: threading.Event
) -> Iterator[tuple[Drawing | None, str]]:
    """Each picture of a model as it is drawn, and what is said meanwhile."""
    if model.startswith(PRODUCT):
        ref = str(product_job(page.jobs, owner, model).result["folder"])
    else:
        # Opening checks this visitor's rights, also where all files are on this machine.
        source = page.open(model, token)
        page.settings.limits.require_model(source)
        if network(source.config, source.ref.component) is None:
            raise SourceError(f"{model} is no pipeline, so it draws nothing.")
        ref = str(fetched(source))
    pairs = [(prompt, seed) for prompt in wish.prompts for seed in wish.seeds]
    number = 0
    with page.turns.of(owner.person or owner, halt), page.studios.one(ref) as studio:
        request: dict[str, Any] = {"prompts": wish.prompts, "seeds": wish.seeds, **wish.how}
        with closing(studio.ask("draw", ref, halt.is_set, wish.seconds, **request)) as answers:
            for answer in answers:
                if "step" in answer:
                    yield None, f"{label}: picture {number + 1} of {len(pairs)}, step {answer['step']}"
                    continue
                prompt, seed = pairs[number]
                number += 1
                yield Drawing(model, f"{label} · {prompt} · seed {seed}", answer["picture"]), label


def paced(pieces: Iterator[Any], pause: float, clock: Callable[[], float] = time.monotonic) -> Iterator[Any]:
    """Those of `pieces` that come `pause` seconds after the one before, and the last."""
    shown, last, is_shown = float("-inf"), None, True
    for last in pieces:
        is_shown = clock() - shown >= pause
        if is_shown:
            shown = clock()
            yield last
    if not is_shown:
        yield last


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= LONGEST_SEED):
        raise TaskError(f"A seed is a whole number from 0 to {LONGEST_SEED:,}, not {text[:40]!r}.")
    return int(text)


def _whole(value: float, what: str, low: int, high: int) -> int:
    if value != int(value) or not low <= value <= high:
        raise TaskError(f"{what} must be a whole number from {low} to {high:,} on this page, got {value:g}.")
    return int(value)
