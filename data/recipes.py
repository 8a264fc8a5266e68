"""How the rows of a subject are made."""

from minddiffuser.config import Config
from minddiffuser.recipe import Recipe, pick


def prepared(config: Config, subject: str) -> Recipe:
    """Recipe of the rows of voxels, `prepared.h5`."""
    script = "data/02_prepare_subject.py"
    return Recipe(config.folder(subject), "prepared.h5", subject, script, pick(config.experiment, "data"))
