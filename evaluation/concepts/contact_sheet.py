"""The picture of examples: some test images of one subject, each with the pictures of its labels beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from data import god
from evaluation.concepts.catalogue import CORRECTED
from evaluation.concepts.decoded import Decoded, has_pictures, image_name
from evaluation.page.album import as_png, choose_examples
from evaluation.scores import Key, place_of
from minddiffuser.config import Config
from reconstruction import folder

N_EXAMPLES = 6


def examples(config: Config, decoded: Mapping[Key, Decoded], tables: Mapping[str, pd.DataFrame]) -> bytes | None:
    """Draw the picture, of the first subject with pictures of the corrected form, as PNG; None where there is none."""
    subject = next((s for s, name in decoded if name == CORRECTED and has_pictures(config, s, name)), None)
    if subject is None:
        return None
    samples = folder.sample_folders(place_of(config, subject, CORRECTED))
    pictures = [dict(zip(*folder.read(sample), strict=True)) for sample in samples]
    scores = tables["scores"].query("subject == @subject and system == @CORRECTED")
    ranked_by = "wup" if "wup" in set(scores["metric"]) else "clip_similarity"
    value_of = scores[scores["metric"] == ranked_by].set_index("image")["value"]
    chosen = choose_examples({key: value_of[image_name(key)] for key in pictures[0]}, N_EXAMPLES)
    found = decoded[subject, CORRECTED]
    file_of = dict(zip(found.ids, found.files, strict=True))
    stimuli = god.read_pictures(config.god / "images" / "test", [file_of[key] for key in chosen])
    labels = tables["labels"].query("subject == @subject and system == @CORRECTED")
    return as_png(contact_sheet(labels, dict(zip(chosen, stimuli, strict=True)), pictures))


def contact_sheet(
    labels: pd.DataFrame, stimuli: Mapping[int, np.ndarray], pictures: Sequence[Mapping[int, np.ndarray]]
) -> Image.Image:
    """Draw `stimuli` by id, in their order, each with the pictures of its labels, by rank; of the last may be none."""
    tile, gap, head, foot = 144, 10, 30, 44
    x_of = [gap + k * (tile + gap) + (2 * gap if k else 0) for k in range(len(pictures) + 1)]
    step = tile + foot
    sheet = Image.new("RGB", (x_of[-1] + tile + gap, head + len(stimuli) * step + 26), "white")
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(12)
    heads = ["stimulus", *(f"label {rank + 1}" for rank in range(len(pictures)))]
    for x, text in zip(x_of, heads, strict=True):
        draw.text((x, 8), text, "black", font)

    def show(picture: np.ndarray, x: int, y: int, text: str, below: str) -> None:
        how = Image.Resampling.LANCZOS if picture.shape[1] > tile else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(picture).resize((tile, tile), how), (x, y))
        draw.text((x, y + tile + 3), _fit(text, small, tile), "black", small)
        draw.text((x, y + tile + 18), below, "#555555", small)

    for row, (key, stimulus) in enumerate(stimuli.items()):
        y, of_image = head + row * step, labels[labels["image"] == image_name(key)]
        show(stimulus, x_of[0], y, of_image["true_label"].iloc[0], "true category")
        for x, of_rank, label in zip(x_of[1:], pictures, of_image.to_dict("records"), strict=False):
            similarity = "" if np.isnan(label["wup"]) else f"Wu-Palmer {label['wup']:.2f}"
            show(of_rank[key], x, y, label["label"], similarity)
    rule = "test images at evenly spaced quantiles of the score, from worst to best"
    draw.text((gap, sheet.height - 20), f"{labels['subject'].iloc[0]}, {rule}", "#555555", small)
    return sheet


def _fit(text: str, font: Any, width: int) -> str:
    """Shorten a label to a width in pixels: first to its first name, then anywhere."""
    if font.getlength(text) > width:
        text = text.partition(",")[0]
    while font.getlength(text) > width:
        text = f"{text.rstrip('…')[:-1]}…"
    return text
