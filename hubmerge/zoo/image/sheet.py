"""A picture of pictures: a row for each model, a column for each prompt."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ..pictures.canvas import INKS, font
from .drawn import SIDE

_SIZE, _GAP, _MARGIN, _HEAD = 2 * SIDE, 4, 330, 44
"""Pixels: of a picture's side, between pictures, left of them and above."""
_LINE = 5
"""Signs of a prompt in a line over a picture."""


def picture_sheet(pictures: Mapping[str, Sequence[tuple[str, Any]]]) -> bytes:
    """A PNG: each model's pictures (of Pillow) of the same prompts; the prompts of the last row stand above."""
    from PIL import Image, ImageDraw

    prompts = [prompt for prompt, _ in [*pictures.values()][-1]]
    width, height = _MARGIN + len(prompts) * (_SIZE + _GAP), _HEAD + len(pictures) * (_SIZE + _GAP)
    sheet = Image.new("RGB", (width, height), INKS["W"])
    drawing = ImageDraw.Draw(sheet)
    for column, prompt in enumerate(prompts):
        for line in range(0, len(prompt), _LINE):
            at = (_MARGIN + column * (_SIZE + _GAP), 4 + 18 * line // _LINE)
            drawing.text(at, prompt[line : line + _LINE], INKS["K"], font(12))
    for row, (name, drawn) in enumerate(pictures.items()):
        y = _HEAD + row * (_SIZE + _GAP)
        drawing.text((6, y + _SIZE // 2 - 8), name, INKS["K"], font(13))
        for column, (_, picture) in enumerate(drawn):
            large = picture.resize((_SIZE, _SIZE), Image.Resampling.NEAREST)
            sheet.paste(large, (_MARGIN + column * (_SIZE + _GAP), y))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
