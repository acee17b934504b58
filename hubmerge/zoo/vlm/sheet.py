"""A picture of pictures: what each model answers about a few of them."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..pictures.canvas import INKS, font

if TYPE_CHECKING:
    from ...evaluate.examples import Example

_SIDE, _LINE, _WIDTH, _COLUMNS = 112, 19, 640, 2
_RIGHT, _WRONG = INKS["D"], INKS["R"]


def answer_sheet(examples: "Sequence[Example]", answers: Mapping[str, Sequence[str]]) -> bytes:
    """A PNG: each example's picture and question, and beside them the answers by model, green where they are right."""
    from PIL import Image, ImageDraw

    from ...evaluate.metrics import exact_match

    height = max(_SIDE, _LINE * (len(answers) + 1)) + 14
    rows = -(-len(examples) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _WIDTH, rows * height), INKS["W"])
    drawing = ImageDraw.Draw(sheet)
    drawing.fontmode = "1"  # without grey edges, which would be half of the file
    for number, example in enumerate(examples):
        x, y = number % _COLUMNS * _WIDTH + 6, number // _COLUMNS * height + 7
        assert example.image is not None
        sheet.paste(example.image.load().resize((_SIDE, _SIDE)), (x, y))
        drawing.text((x + _SIDE + 10, y), example.prompt, INKS["K"], font(14))
        for line, (model, said) in enumerate(answers.items(), 1):
            ink = _RIGHT if exact_match(said[number], example.answer) else _WRONG
            drawing.text((x + _SIDE + 10, y + _LINE * line), model, INKS["A"], font(13))
            drawing.text((x + _SIDE + 130, y + _LINE * line), said[number], ink, font(13))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
