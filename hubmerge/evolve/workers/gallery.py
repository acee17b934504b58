"""Pictures of the best candidate as a search grows: a strip each time that one is better than all before; and what the
winner drew beside others.

003-0.4312.png is the third such, and its score. A strip shows the first prompts of the search split, left to right.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import SearchError
from ...evaluate.drawing import Painter
from ...evaluate.score import Scores
from ...files import atomic, make_folder
from ..spaces.candidate import Contestant

PROMPTS = 4
"""Of a split, whose pictures are kept."""
MOST_BYTES = 500_000
"""Of a picture of pictures."""
_SIDES = (256, 192, 128, 96, 64)
"""Pixels of a picture in it, at most, the largest first."""
_LEAST = 128
"""Pixels that a smaller picture is enlarged to."""
_NAME = re.compile(r"(\d+)-(-?\d+\.\d+)\.png")


class Gallery:
    """The strips in a folder, which is made when there is a first one; those of an earlier start count. `tested`: who
    drew the test split, in the order that they were asked in, and the first prompts with their pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._best = max((score for score, _ in strips(folder)), default=float("-inf"))
        self.closed = False
        """Set once candidates are others than those of the search."""
        self.tested: list[tuple[Contestant, dict[str, Any]]] = []

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
        self._best = scores.score
        strip = _grid([list(kept.values())])
        make_folder(self._folder, SearchError)
        number = len(strips(self._folder)) + 1
        with atomic(self._folder / f"{number:03d}-{self._best:.4f}.png") as file:
            strip.save(file, "PNG")


def strips(folder: Path) -> list[tuple[float, Path]]:
    """The score of each strip and its file, in the order that they were written in."""
    found = [(match, path) for path in folder.glob("*.png") if (match := _NAME.fullmatch(path.name))]
    found.sort(key=lambda pair: int(pair[0][1]))
    return [(float(match[2]), path) for match, path in found]


def sheet(rows: Sequence[Sequence[Any]]) -> bytes:
    """A picture of pictures (of Pillow): a row each, all as long, as JPEG of `MOST_BYTES` at most."""
    content = b""
    for side in _SIDES:
        file = io.BytesIO()
        _grid([[_sized(one, side) for one in row] for row in rows]).save(file, "JPEG", quality=85, optimize=True)
        content = file.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def _sized(picture: Any, side: int) -> Any:
    """A picture that is as large as it may be, pixels of a small one drawn several times."""
    from PIL import Image

    longest = max(picture.size)
    if longest > side:
        picture = picture.copy()
        picture.thumbnail((side, side))
        return picture
    times = max(1, min(_LEAST, side) // longest)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _grid(rows: Sequence[Sequence[Any]]) -> Any:
    """Pictures beside and below one another."""
    from PIL import Image

    heights = [max(one.height for one in row) for row in rows]
    whole = Image.new("RGB", (max(sum(one.width for one in row) for row in rows), sum(heights)), "white")
    for number, row in enumerate(rows):
        left = 0
        for one in row:
            whole.paste(one, (left, sum(heights[:number])))
            left += one.width
    return whole
