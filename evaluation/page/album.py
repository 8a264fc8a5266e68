"""Pictures on the page: small, each stored once, and chosen by rule."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL = 128  # pixels: 982 photographs of seven kinds make some 30 MB a subject


def thumbnail(image: Image.Image) -> bytes:
    """Encode a picture as WebP of at most 128 pixels a side; small ones, up to 64, are kept exactly."""
    scale = min(THUMBNAIL / max(image.size), 1)
    if scale < 1:
        size = round(image.width * scale), round(image.height * scale)
        image = image.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if max(image.size) <= THUMBNAIL // 2:
        image.save(content, "webp", lossless=True, method=1, quality=20)  # of the search, not of the picture
    else:
        image.save(content, "webp", quality=85)
    return content.getvalue()


def thumbnails(ids: np.ndarray, images: np.ndarray) -> dict[int, bytes]:
    """Thumbnails of pictures, uint8 (n, height, width, 3), by id."""
    return {int(key): thumbnail(Image.fromarray(image)) for key, image in zip(ids, images, strict=True)}


@dataclass(frozen=True)
class Strip:
    """A few test images, chosen by rule, with what some systems made of them: thumbnails."""

    subject: str
    rule: str  # how the images were chosen
    images: list[str]  # what each is called
    rows: list[tuple[str, list[bytes | None]]]  # label, and a picture for each image


class Album:
    """Pictures as base64, each once, in blocks; a picture is known by its number over all blocks."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._starts: dict[str, int] = {}

    def add(self, block: str, picture: bytes | None) -> int | None:
        """Put a picture, if it is one, into the newest block, unless there is one like it; return its number."""
        if picture is None:
            return None
        self._starts.setdefault(block, len(self._numbers))
        return self._numbers.setdefault(picture, len(self._numbers))

    def blocks(self) -> Iterable[tuple[str, int, str]]:
        """Yield the name of each block, the number of its first picture, and its lines."""
        pictures = list(self._numbers)
        stops = [*self._starts.values(), len(pictures)][1:]
        for (block, start), stop in zip(self._starts.items(), stops, strict=True):
            yield block, start, "\n".join(base64.b64encode(picture).decode() for picture in pictures[start:stop])


def choose_examples(scores: dict[int, float], n: int) -> list[int]:
    """Choose by rule: the images at evenly spaced quantiles of the score, from the worst to the best; `n`, or all."""
    ranked = sorted(scores, key=lambda key: (scores[key], key))
    return [ranked[place] for place in evenly_spaced(len(ranked), n)]


def evenly_spaced(n: int, n_chosen: int) -> list[int]:
    """At most `n_chosen` of the numbers below `n`, first and last included."""
    return np.linspace(0, n - 1, min(n, n_chosen)).round().astype(int).tolist()


def as_png(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    png = io.BytesIO()
    image.save(png, "png", optimize=True)
    return png.getvalue()
