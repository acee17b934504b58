"""Pictures of the best candidate as a search grows: a strip each time that one is better than all before.

003-0.4312.png is the third such, and its score. A strip shows the first prompts of the search split, left to right.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import SearchError
from ...evaluate.drawing import Painter
from ...evaluate.score import Scores
from ...files import atomic, make_folder

PROMPTS = 4
"""Of the search split, whose pictures are kept."""
_NAME = re.compile(r"(\d+)-(-?\d+\.\d+)\.png")


class Gallery:
    """The strips in a folder, which is made when there is a first one; those of an earlier start count."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._best = max((score for score, _ in strips(folder)), default=float("-inf"))
        self.closed = False
        """Set once candidates are others than those of the search."""

    @contextmanager
    def watching(self, painter: Painter) -> Iterator[dict[str, Any]]:
        """While it lasts, the first picture of each prompt that is drawn is kept in what it gives."""
        kept: dict[str, Any] = {}

        def keep(example: Any, seed: int, picture: Any) -> None:
            if len(kept) < PROMPTS:
                kept.setdefault(example.prompt, picture)

        painter.keep, before = keep, painter.keep
        try:
            yield kept
        finally:
            painter.keep = before

    def show(self, scores: Scores, asked: int, kept: dict[str, Any]) -> None:
        """Writes a strip, where all of the examples that were `asked` are scored, better than ever before."""
        if self.closed or not kept or scores.n < asked or scores.score <= self._best:
            return
        from PIL import Image

        self._best = scores.score
        pictures = list(kept.values())
        strip = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)), "white")
        left = 0
        for one in pictures:
            strip.paste(one, (left, 0))
            left += one.width
        make_folder(self._folder, SearchError)
        number = len(strips(self._folder)) + 1
        with atomic(self._folder / f"{number:03d}-{self._best:.4f}.png") as file:
            strip.save(file, "PNG")


def strips(folder: Path) -> list[tuple[float, Path]]:
    """The score of each strip and its file, in the order that they were written in."""
    found = [(match, path) for path in folder.glob("*.png") if (match := _NAME.fullmatch(path.name))]
    found.sort(key=lambda pair: int(pair[0][1]))
    return [(float(match[2]), path) for match, path in found]
