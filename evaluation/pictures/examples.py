"""The picture of examples: for each subject some test images, and what was made of them."""

import io
from collections.abc import Sequence

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from evaluation.page.album import choose_examples
from evaluation.pictures.catalogue import CATALOGUE, CEILING, RESTORED, STAGE1, STAGE2
from evaluation.pictures.shown import SubjectResults

OTHERS = (RESTORED, "takagi/corrected", "ozcelik/corrected")  # shown where they are there
_TILE = 128  # pixels


def examples(subjects: Sequence[SubjectResults], scores: pd.DataFrame, n: int = 8) -> Image.Image:
    """Draw the picture of examples: for each subject the stimuli and, below, what was made of them.

    The `n` columns are chosen among the refined images, or all where none is refined.
    """
    gap, left, head, foot = 4, 92, 44, 34
    step = _TILE + gap
    others = [name for name in OTHERS if any(name in subject.pictures for subject in subjects)]
    rows = [None, STAGE1, STAGE2, *others, CEILING]
    block = head + len(rows) * step
    sheet = Image.new("RGB", (left + n * step + gap, len(subjects) * block + foot), "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    pixcorr = scores[(scores["system"] == STAGE1) & (scores["metric"] == "pixcorr")]
    for k, subject in enumerate(subjects):
        top = k * block + head
        draw.text((gap * 2, top - 34), subject.name, "black", font)
        refined = subject.pictures.get(STAGE2) or subject.pictures[STAGE1]
        of_subject = pixcorr[pixcorr["subject"] == subject.name].set_index("nsd_id")["value"]
        # Of a stage 1 that is not finished there may be fewer than were refined.
        chosen = choose_examples({i: of_subject[i] for i in refined if i in of_subject.index}, n)
        for column, nsd_id in enumerate(chosen):
            x = left + column * step
            draw.text((x, top - 17), f"NSD {nsd_id}", "#555555", small)
            for row, name in enumerate(rows):
                picture = subject.stimuli[nsd_id] if name is None else subject.pictures.get(name, {}).get(nsd_id)
                if picture is not None:
                    tile = Image.open(io.BytesIO(picture)).resize((_TILE, _TILE), Image.Resampling.NEAREST)
                    sheet.paste(tile, (x, top + row * step))
        for row, name in enumerate(rows):
            label = "stimulus" if name is None else CATALOGUE.system(name).label.replace(", ", ",\n")
            draw.text((gap * 2, top + row * step + _TILE // 2), label, "black", font, anchor="lm")
    caption = "Test images (those refined, if any) at evenly spaced quantiles of stage 1's PixCorr, from worst to best."
    draw.text((gap * 2, sheet.height - 22), caption, "#555555", small)
    return sheet
