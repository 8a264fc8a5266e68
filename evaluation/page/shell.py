"""The page of results: one HTML page that needs nothing else, with a section for each dataset that has scores.

It is the same bytes for the same inputs. A wing renders its section by a template of its own, and brings the style and
the script that only it needs. Pictures are lines of base64 that the script decodes when they come into view, so that
thousands of them cost nothing before; equal pictures are stored once.
"""

import base64
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.catalogue import ALL_SUBJECTS
from evaluation.page.album import Album, Strip
from minddiffuser.config import REPOSITORY, Config

EVALUATION = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "diffusers", "transformers", "open_clip_torch", "scikit-image")


class Claim(NamedTuple):
    """A line of the verdict."""

    title: str
    text: str
    link: str  # id of the part of the page that has its evidence


@dataclass(frozen=True)
class Section:
    """What the page shows of one dataset.

    The folder of its wing, in `evaluation/`, has the templates header.html.j2, for the head of the page, where this is
    the first section, and section.html.j2, and the style, section.css. The first section's verdict, strip and methods
    are those of the page.
    """

    folder: str
    title: str  # of the dataset
    links: list[tuple[str, str]]  # ids and texts, in the bar where this is the first section; else there is one of them
    content: dict[str, Any]  # what section.html.j2 shows; it also has `config` and `is_first`
    is_simulated: bool
    n_images: dict[str, int]  # test images of each subject
    settings: dict[str, Any]  # how it was scored
    fingerprints: dict[str, list[tuple[str, int | str, str]]]  # by subject: system, number of pictures or "", hash
    verdict: Sequence[Claim]
    absent: Sequence[tuple[str, str]] = ()  # what a reader may miss, and why it is not there
    strip: Strip | None = None
    methods: str = ""  # a paragraph for a paper
    heading: str = "Images reconstructed from brain activity"  # of the page, where this is the first section
    unit: str = "test images"  # what there are so many of
    choices: Sequence[str] = ()  # subjects to choose from, by buttons
    scripts: tuple[str, ...] = ()  # files in the folder
    data: dict[str, Any] = field(default_factory=dict)  # for the scripts


def page(
    config: Config, sections: Sequence[Section], album: Album, absent: Sequence[tuple[str, str]] = (), light: int = 0
) -> str:
    """Build the HTML page, of one section or more; the album has the pictures that their scripts ask for.

    `absent` has what is absent besides what the sections name; `light` is the number of test images of a subject that a
    light page shows, or 0 of a whole one.
    """
    environment = Environment(loader=FileSystemLoader(EVALUATION), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, p=_p_value, base64=lambda picture: base64.b64encode(picture).decode())
    environment.globals.update(all_subjects=ALL_SUBJECTS, config=config, light=light)

    def render(template: str, **content: Any) -> Markup:
        return Markup(environment.get_template(template).render(**content))

    def read(files: Sequence[str]) -> str:
        return "\n".join((EVALUATION / file).read_text() for file in files)

    style = ["page/page.css", *(f"{section.folder}/section.css" for section in sections)]
    scripts = ["page/page.js", *(f"{section.folder}/{name}" for section in sections for name in section.scripts)]
    data = {key: value for section in sections for key, value in section.data.items()} | {"light": light}
    return render(
        "page/page.html.j2",
        sections=sections,
        header=render(f"{sections[0].folder}/header.html.j2"),
        absent=[*(pair for section in sections for pair in section.absent), *absent],
        bodies=[
            render(f"{section.folder}/section.html.j2", is_first=section is sections[0], **section.content)
            for section in sections
        ],
        settings=_yaml(config.model_dump(mode="json", include={"name", "preset", "experiment"})),
        scoring=_yaml(next((section.settings for section in sections if section.settings), {})),
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        bibtex=_bibtex(),
        style=Markup(read(style)),
        script=Markup(read(scripts)),
        data=Markup(_json(data)),
        blocks=album.blocks(),
    )


def _bibtex() -> str:
    """BibTeX of the paper, from CITATION.cff."""
    paper = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["preferred-citation"]
    fields = {
        "title": f"{{{paper['title']}}}",
        "author": " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]),
        "booktitle": paper["collection-title"],
        "year": paper["year"],
        "pages": f"{paper['start']}--{paper['end']}",
        "publisher": paper["publisher"]["name"],
        "doi": paper["doi"],
        "eprint": paper["identifiers"][0]["value"].removeprefix("arXiv:"),
        "archiveprefix": "arXiv",
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@inproceedings{{lu2023minddiffuser,\n{lines}}}"


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _json(content: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: no "<" in it can end it, or open a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _number(value: float, signed: bool = False) -> str:
    """Three decimals, two from ten on; the script formats in the same way."""
    digits = 3 if abs(value) < 9.9995 else 2
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _p_value(value: float) -> str:
    if np.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
