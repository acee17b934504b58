"""A contact sheet of ja-vlm-bench: small pictures with their questions and answers, for people to look at."""

import io
from collections.abc import Sequence
from textwrap import wrap

from .canvas import INKS, SCALE, SIZE, font
from .painter import paint
from .rows import ASKED, Row

SHADES = 128
_SHRUNK = 3  # from the canvas, which is larger than a picture
_WIDTH, _LINE, _LINES = SIZE * SCALE // _SHRUNK + 7, 14, 6


def contact_sheet(rows: Sequence[Row], columns: int = 10) -> bytes:
    """A PNG of the pictures of `rows`, each with its Japanese questions and answers below."""
    from PIL import Image, ImageDraw

    shown = [rows[start : start + ASKED] for start in range(0, len(rows), ASKED)]
    height = _WIDTH + _LINE * _LINES
    sheet = Image.new("RGB", (columns * _WIDTH, -(-len(shown) // columns) * height), INKS["W"])
    draw = ImageDraw.Draw(sheet)
    draw.fontmode = "1"  # without grey edges, which would be half of the file
    for number, asked in enumerate(shown):
        x, y = number % columns * _WIDTH, number // columns * height
        sheet.paste(paint(asked[0].scene).image.reduce(_SHRUNK), (x, y))
        lines = [line for row in asked for line in wrap(f"{row.question} {row.answer}", 13)]
        for place, line in enumerate(lines[:_LINES]):
            draw.text((x, y + _WIDTH - 4 + _LINE * place), line, INKS["K"], font(11))
    file = io.BytesIO()
    sheet.quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
