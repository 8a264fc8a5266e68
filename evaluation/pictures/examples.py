"""Pictures of a few test images and of what was made of them: examples of each subject, a strip, and a card."""

import io
import textwrap
from collections.abc import Sequence

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from evaluation.page.album import Strip, choose_examples
from evaluation.page.shell import Claim
from evaluation.pictures.catalogue import CATALOGUE, CEILING, RESTORED, STAGE1, STAGE2
from evaluation.pictures.comparison import label
from evaluation.pictures.shown import SubjectResults
from evaluation.pictures.verdict import IDENTIFICATION, method_of

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
        of_subject = pixcorr[pixcorr["subject"] == subject.name].set_index("stimulus_id")["value"]
        # Of a stage 1 that is not finished there may be fewer than were refined.
        chosen = choose_examples({i: of_subject[i] for i in refined if i in of_subject.index}, n)
        for column, stimulus_id in enumerate(chosen):
            x = left + column * step
            draw.text((x, top - 17), f"NSD {stimulus_id}", "#555555", small)
            for row, name in enumerate(rows):
                picture = (
                    subject.stimuli[stimulus_id] if name is None else subject.pictures.get(name, {}).get(stimulus_id)
                )
                if picture is not None:
                    tile = Image.open(io.BytesIO(picture)).resize((_TILE, _TILE), Image.Resampling.NEAREST)
                    sheet.paste(tile, (x, top + row * step))
        for row, name in enumerate(rows):
            label = "stimulus" if name is None else CATALOGUE.system(name).label.replace(", ", ",\n")
            draw.text((gap * 2, top + row * step + _TILE // 2), label, "black", font, anchor="lm")
    caption = "Test images (those refined, if any) at evenly spaced quantiles of stage 1's PixCorr, from worst to best."
    draw.text((gap * 2, sheet.height - 22), caption, "#555555", small)
    return sheet


def spread_by_rule(subject: SubjectResults, scores: pd.DataFrame, n: int) -> list[int]:
    """Choose test images at evenly spaced quantiles of the method's CLIP two-way, from the best to the worst."""
    name = method_of(subject.pictures)
    of_subject = scores[(scores["subject"] == subject.name) & (scores["system"] == name)]
    value_of = of_subject[of_subject["metric"] == IDENTIFICATION].set_index("stimulus_id")["value"]
    return choose_examples({i: value_of[i] for i in subject.pictures[name] if i in value_of.index}, n)[::-1]


def strip(subject: SubjectResults, scores: pd.DataFrame, rival: str | None, n: int = 6) -> Strip:
    """Gather a few test images with what the method, ours, the best rival and perfect decoding made of them."""
    chosen, name = spread_by_rule(subject, scores, n), method_of(subject.pictures)
    rows: list[tuple[str, list[bytes | None]]] = [("stimulus", [subject.stimuli[i] for i in chosen])]
    made_by = {system: subject.pictures.get(system) for system in filter(None, (name, RESTORED, rival, CEILING))}
    rows += [(label(system), [made.get(i) for i in chosen]) for system, made in made_by.items() if made]
    refined = "refined " if name == STAGE2 else ""
    rule = (
        f"The {refined}test images of {subject.name} at evenly spaced quantiles of the CLIP two-way of "
        f"{label(name)}, from the best to the worst."
    )
    return Strip(subject.name, rule, [f"NSD {i}" for i in chosen], rows)


def card(shown: Strip, verdict: Sequence[Claim], is_simulated: bool) -> Image.Image:
    """Draw the strip beside the verdict, 1280 x 640: for a README, a talk, or a link's preview."""
    sheet = Image.new("RGB", (1280, 640), "white")
    draw = ImageDraw.Draw(sheet)
    big, font, small = (ImageFont.load_default(size) for size in (34, 17, 13))
    gap, head = 4, 14
    tile = min((sheet.height - 2 * head - 22) // len(shown.rows) - gap, 128)
    left = sheet.width - head - len(shown.images) * (tile + gap)
    for row, (name, pictures) in enumerate(shown.rows):
        y = head + row * (tile + gap)
        text = "\n".join(textwrap.wrap(name.replace(", ", ",\n"), 16, replace_whitespace=False))
        draw.text((left - 12, y + tile // 2), text, "black", font, anchor="rm", align="right")
        for column, picture in enumerate(pictures):
            if picture is not None:
                made = Image.open(io.BytesIO(picture)).resize((tile, tile), Image.Resampling.NEAREST)
                sheet.paste(made, (left + column * (tile + gap), y))
    caption = f"{len(shown.images)} test images, chosen by rule, from the best to the worst."
    draw.text((left, sheet.height - 22), caption, "#555555", small)
    draw.text((28, 24), "MindDiffuser", "black", big)
    what = "simulated fMRI, small models" if is_simulated else "Natural Scenes Dataset"
    draw.text((28, 72), f"Seen images from brain activity\n({what})", "#555555", font)
    y, width = 136, left - 150  # beside the labels
    for claim in verdict:
        for text, colour, of_text, height in ((claim.title, "#1857a8", font, 23), (claim.text, "black", small, 18)):
            for line in textwrap.wrap(text, int(width / of_text.getlength("n"))):
                if y < sheet.height - 24:
                    draw.text((28, y), line, colour, of_text)
                y += height
        y += 9
    return sheet
