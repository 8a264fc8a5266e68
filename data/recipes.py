"""How the rows of a subject are made."""

import hashlib
from typing import Any

from minddiffuser.config import Config
from minddiffuser.config.method import is_mask, mask_path
from minddiffuser.recipe import Recipe, pick
from minddiffuser.store import DataError


def prepared(config: Config, subject: str) -> Recipe:
    """Recipe of the rows of voxels, `prepared.h5`; raises DataError where a mask of `data.rois` is missing."""
    script = "data/02_prepare_subject.py"
    settings = pick(config.experiment, "data") | _masks(config, subject)
    return Recipe(config.folder(subject), "prepared.h5", subject, script, settings)


def _masks(config: Config, subject: str) -> dict[str, Any]:
    """Hash the masks of `data.rois`: another mask under the same name makes other rows."""
    found = {}
    for roi in filter(is_mask, config.experiment.data.rois):
        path = mask_path(roi, subject)
        if not path.is_file():
            raise DataError(f"the mask of {subject} is missing: expected {path}", "correct experiment.data.rois", path)
        found[f"data.rois {roi}"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found
