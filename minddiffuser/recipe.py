"""What a result is made of: its settings and, through its inputs, all the settings before it.

Every file or folder that a stage makes has a recipe, which follows from the configuration alone. It is written into the
result, and whoever reads the result compares it with the recipe that the present configuration gives: so that what was
made with other settings, however far upstream, is never taken for what is asked for.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

Images = Literal["all", "test", "training"]


@dataclass(frozen=True)
class Recipe:
    """How one file, or one folder of pictures, is made for one subject.

    Attributes
    ----------
    root : Path
        The subject's folder.
    name : str
        Where the result is in it, such as "decoded/detail.h5".
    subject : str
    made_by : str
        The script.
    settings : mapping of str to anything that JSON has
        By their names in the configuration (`pick`); and what else sets one result apart from its like.
    inputs : tuple of Recipe
        Of what it is made from.
    images : "all", "test", "training" or None
        Which of the images of `prepared.h5` its rows are, in that order; None: its rows are not images.
    """

    root: Path
    name: str
    subject: str
    made_by: str
    settings: Mapping[str, Any]
    inputs: tuple["Recipe", ...] = ()
    images: Images | None = None

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.root / self.name

    @cached_property
    def lineage(self) -> dict[str, dict[str, Any]]:
        """Settings of the result and of all that it is made from, by name, as they are read from JSON."""
        found: dict[str, dict[str, Any]] = {}
        for recipe in self.inputs:
            found.update(recipe.lineage)
        found[self.name] = json.loads(json.dumps(dict(self.settings), default=str))
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the subject and of the lineage."""
        text = json.dumps([self.subject, self.lineage], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def ancestors(self) -> Iterable["Recipe"]:
        """Yield the recipes of all that it is made from; one that serves several inputs comes several times."""
        for recipe in self.inputs:
            yield recipe
            yield from recipe.ancestors()

    def differences(self, found: Mapping[str, Mapping[str, Any]]) -> str:
        """Say in which settings another lineage differs, the earliest stage first; empty where it does not."""
        texts: dict[str, None] = {}  # in order, each once: decoders of several layers share settings
        for name, settings in self.lineage.items():
            if name not in found:
                texts[f"it was not made from {name}"] = None
                continue
            for key in {**found[name], **settings}:
                was, now = (values.get(key, "absent") for values in (found[name], settings))
                if was != now:
                    texts[f"{key} was {was}, is {now}"] = None
        texts.update({f"it was made from {name}": None for name in found if name not in self.lineage})
        return "; ".join(texts)


def pick(experiment: BaseModel, *keys: str, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Give settings by their full names.

    Parameters
    ----------
    experiment : Experiment
    keys : str
        Sections or values below `experiment`, such as "data" or "decoding.alpha".
    leave_out : iterable of str
        Full names, such as "guidance.n_images", that a section is taken without.

    Returns
    -------
    dict
        Such as {"experiment.decoding.alpha": 0.15}.
    """
    found: dict[str, Any] = {}
    for key in keys:
        value: Any = experiment
        for part in key.split("."):
            value = getattr(value, part)
        found.update(named(value, f"experiment.{key}"))
    for key in leave_out:
        del found[f"experiment.{key}"]
    return found


def named(value: Any, name: str) -> dict[str, Any]:
    """Give the values of a section by their full names; a plain value by its own."""
    value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if not isinstance(value, dict):
        return {name: value}
    return {long: item for key, below in value.items() for long, item in named(below, f"{name}.{key}").items()}
