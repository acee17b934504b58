"""Things that a picture can show: what they are called, how they are counted, how they are drawn.

They are listed in `culture.txt` and `daily.txt`: names, then a drawing. That is lines of text, painted in order in a
box of 100 x 100 units, y down; `canvas` reads them:
`p INK x,y ...` a polygon, `e INK x0,y0 x1,y1` an ellipse, `r INK x0,y0 x1,y1` a rectangle, each with an outline; the
same in capitals without; `l INK width x,y ...` a line; `t INK size x,y text` a text around a point.
Inks are in `canvas.INKS`; `*` is the thing's own colour, `+` a darker one.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Thing:
    """A thing: its Japanese and English names (one, several), its counter word, and its drawing.

    One that has any colour (`paintable`) is drawn with `*`; others look the same in every picture.
    """

    ja: str
    en: str
    many: str
    counter: str
    drawing: str

    @property
    def paintable(self) -> bool:
        return " *" in self.drawing


def _read(name: str) -> dict[str, Thing]:
    things = {}
    for block in (Path(__file__).parent / name).read_text(encoding="utf-8").strip().split("\n\n"):
        head, drawing = block.split("\n", 1)
        ja, en, many, counter = head.split(" | ")
        things[en] = Thing(ja, en, many, counter, drawing)
    return things


THINGS = _read("culture.txt") | _read("daily.txt")
"""Every thing by its English name, in a fixed order."""

PAINTABLE = tuple(name for name, thing in THINGS.items() if thing.paintable)
COUNTED = (
    *("apple", "mandarin", "banana", "strawberry", "fish", "tulip", "star", "carrot", "eggplant", "rice ball"),
    *("daruma", "book", "butterfly", "umbrella", "cat", "crab", "cherry blossom", "peach", "car", "paper lantern"),
)
"""Those that are told apart when they are small."""
GOODS = (
    *("apple", "mandarin", "banana", "strawberry", "fish", "carrot", "eggplant", "rice ball", "peach"),
    *("bunch of grapes", "watermelon", "octopus", "crab", "sushi", "dango", "daikon radish"),
)
"""Those that a shop of food sells."""
