"""How the rows of a subject of CC2017 are made."""

from minddiffuser.config import Config
from minddiffuser.recipe import Recipe, pick


def prepared(config: Config, subject: str) -> Recipe:
    """Recipe of the rows of vertices, `prepared.h5`."""
    experiment = config.experiment
    keys = (f"mind_animator.{key}" for key in ("voxels", "forms", "n_validation"))
    settings = pick(experiment, *keys)
    own = f"experiment.mind_animator.voxels.exclude.{subject}"
    of_others = [key for key in settings if ".exclude." in key and key != own]
    for key in of_others:
        del settings[key]
    return Recipe(config.folder(subject), "prepared.h5", subject, "data/05_prepare_films.py", settings)
