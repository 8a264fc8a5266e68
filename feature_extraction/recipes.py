"""How the three targets are made: of which images, with which models."""

from data import recipes
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe, pick

STABLE_DIFFUSION = ("models.stable_diffusion", "models.stable_diffusion_revision")
SCRIPTS = {"semantic": "11_semantic.py", "detail": "12_detail.py", "structural": "13_structural.py"}


def features(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of the targets of all images, `features/<family>.h5`; family is "semantic", "detail" or "structural"."""
    experiment = config.experiment
    if family == "semantic":
        settings = pick(experiment, "semantic", *STABLE_DIFFUSION)
    elif family == "detail":
        drawn = ["seed"] if experiment.detail.posterior == "sample" else []
        settings = pick(experiment, "detail", *STABLE_DIFFUSION, *drawn)
    else:  # how generated pictures are resized does not change the targets
        keys = ("structural", "models.clip", "models.clip_weights")
        settings = pick(experiment, *keys, leave_out=["structural.generated_resize"])
    return Recipe(
        config.folder(subject),
        f"features/{family}.h5",
        subject,
        f"feature_extraction/{SCRIPTS[family]}",
        settings,
        (recipes.prepared(config, subject),),
        "all",
    )
