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
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.catalogue import ALL_SUBJECTS
from evaluation.page.album import Album
from minddiffuser.config import REPOSITORY, Config

EVALUATION = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "diffusers", "transformers", "open_clip_torch", "scikit-image")


@dataclass(frozen=True)
class Section:
    """What the page shows of one dataset.

    Attributes
    ----------
    header, body : Markup
        The paragraphs at the head of the page, where this is the first section; and the section.
    is_simulated : bool
    links : list of (id, text)
        For the bar of navigation.
    n_images : dict of subject to int
        Test images.
    settings : dict
        How it was scored.
    fingerprints : dict of subject to list of (system, number of pictures or "", fingerprint)
    choices : list of str
        Subjects to choose from, by buttons.
    style, script : str
    data : dict
        For the script.
    """

    header: Markup
    body: Markup
    is_simulated: bool
    links: list[tuple[str, str]]
    n_images: dict[str, int]
    settings: dict[str, Any]
    fingerprints: dict[str, list[tuple[str, int | str, str]]]
    choices: Sequence[str] = ()
    style: str = ""
    script: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def page(config: Config, sections: Sequence[Section], album: Album) -> str:
    """Build the HTML page.

    Parameters
    ----------
    config : Config
    sections : sequence of Section
        At least one.
    album : Album
        The pictures that scripts of the sections ask for.

    Returns
    -------
    str
    """
    here, data = EVALUATION / "page", {key: value for section in sections for key, value in section.data.items()}
    style = [(here / "page.css").read_text(), *(section.style for section in sections)]
    script = [(here / "page.js").read_text(), *(section.script for section in sections)]
    return render(
        "page/page.html.j2",
        config=config,
        sections=sections,
        settings=_yaml(config.model_dump(mode="json", include={"name", "preset", "experiment"})),
        scoring=_yaml(next((section.settings for section in sections if section.settings), {})),
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        bibtex=_bibtex(),
        style=Markup("".join(style)),
        script=Markup('"use strict";\n(() => {\n' + "\n".join(script) + "})();\n"),
        data=Markup(_json(data)),
        blocks=album.blocks(),
    )


def render(template: str, **content: Any) -> Markup:
    """Fill a template, named by its path in `evaluation/`."""
    environment = Environment(loader=FileSystemLoader(EVALUATION), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, p=_p_value, base64=lambda picture: base64.b64encode(picture).decode())
    environment.globals["all_subjects"] = ALL_SUBJECTS
    return Markup(environment.get_template(template).render(**content))


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
