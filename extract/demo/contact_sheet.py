"""Draw many faces into one picture, with one row per emotion.

write_contact_sheet(Path("contact_sheet.png"))
python -m dissectdb.extract.demo.contact_sheet  # writes contact_sheet.png beside this file
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dissectdb.extract.demo.faces import CLASSES, draw
from dissectdb.extract.demo.render import SIZE

SCALE = 2  # pixels of the sheet per pixel of a face
GAP, MARGIN = 4, 78  # pixels between faces, and to the left of them for the emotion's name


def write_contact_sheet(path: Path, columns: int = 12, seed: int = 0) -> None:
    """Write a grey PNG with the first `columns` faces of each emotion that this seed gives. None is picked by hand."""
    faces = draw(columns * 40, seed)
    step = SIZE * SCALE + GAP
    sheet = Image.new("L", (MARGIN + columns * step, len(CLASSES) * step + GAP), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, emotion in enumerate(CLASSES):
        top = GAP + row * step
        pen.text((MARGIN - 8, top + step // 2 - GAP), emotion, fill=40, font=font, anchor="rm")
        for column, at in enumerate(np.flatnonzero(faces.emotions == row)[:columns]):
            tile = Image.fromarray(faces.pixels[at]).resize((SIZE * SCALE,) * 2, Image.Resampling.BICUBIC)
            sheet.paste(tile, (MARGIN + column * step, top))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    write_contact_sheet(Path(__file__).with_name("contact_sheet.png"))
