"""How pictures are made: the method's, its ablations', and the controls'."""

from data.recipes import prepared
from feature_decoding.recipes import decoded, permuted
from feature_extraction.recipes import STABLE_DIFFUSION, features
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe, pick

CONTROLS = "reconstruction/33_controls.py"
_GENERATOR = ("sampler", *STABLE_DIFFUSION)


def stage1(config: Config, subject: str) -> Recipe:
    """Recipe of stage 1."""
    settings = pick(config.experiment, "seed", *_GENERATOR)
    return _pictures(
        config, subject, "minddiffuser/stage1", "reconstruction/31_stage1.py", settings, *_decoded(config, subject)
    )


def stage2(config: Config, subject: str) -> Recipe:
    """Recipe of stage 2."""
    return _refined(config, subject, "minddiffuser/stage2", "reconstruction/32_stage2.py")


def ablation(config: Config, subject: str, left_out: str) -> Recipe:
    """Recipe of stage 2 without the decoded z, or c."""
    return _refined(config, subject, f"ablation/without_{left_out}", "reconstruction/34_ablations.py")


def control(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of a control, such as "control/ceiling", "bottleneck/10" or "seed/1"."""
    kind, _, which = name.partition("/")
    experiment = config.experiment
    generated = pick(experiment, "seed", *_GENERATOR)
    true = tuple(features(config, subject, family) for family in ("detail", "semantic"))
    ours = _decoded(config, subject)
    shown = pick(experiment, "detail.image_size")
    settings, inputs = {
        "ceiling": (generated, true),
        "shuffled": (generated, ours),
        "permuted": (generated, tuple(permuted(config, subject, family) for family in ("detail", "semantic"))),
        "nearest_training": (shown, (*ours, *true)),
        "random_training": (pick(experiment, "seed") | shown, (prepared(config, subject),)),
        "mean_image": (shown, (prepared(config, subject),)),
        "grey": (shown, (prepared(config, subject),)),
    }.get(which, ({}, ()))
    if kind == "bottleneck":
        settings, inputs = generated | {"rank": int(which)}, (*ours, *true)
    elif kind == "seed":
        settings, inputs = generated | {"noise": int(which)}, ours
    return _pictures(config, subject, name, CONTROLS, settings, *inputs)


def controls(config: Config) -> list[str]:
    """Names of all controls that the configuration asks for."""
    settings = config.experiment.controls
    kinds = ("ceiling", "shuffled", "permuted", "nearest_training", "random_training", "mean_image", "grey")
    return [
        *(f"control/{kind}" for kind in kinds),
        *(f"bottleneck/{rank}" for rank in settings.ranks),
        *(f"seed/{k}" for k in range(1, settings.n_seeds + 1)),
    ]


def systems(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the folders of all systems of this stage, by name; one for each sample of an image."""
    return {
        "minddiffuser/stage1": (stage1(config, subject),),
        "minddiffuser/stage2": (stage2(config, subject),),
        **{f"ablation/without_{part}": (ablation(config, subject, part),) for part in "zc"},
        **{name: (control(config, subject, name),) for name in controls(config)},
    }


def n_wanted(config: Config, name: str, n_test: int) -> int:
    """How many pictures a system should have: of all test images, or of the first that are refined."""
    experiment = config.experiment
    n_refined = min(experiment.guidance.n_images or n_test, n_test)
    if name.startswith("ablation/"):
        return min(experiment.controls.n_ablated or n_refined, n_refined)
    return n_refined if name == "minddiffuser/stage2" else n_test


def _decoded(config: Config, subject: str) -> tuple[Recipe, ...]:
    return decoded(config, subject, "detail"), decoded(config, subject, "semantic")


def _refined(config: Config, subject: str, name: str, script: str) -> Recipe:
    keys = ("seed", *_GENERATOR, "structural", "models.clip", "models.clip_weights", "guidance")
    settings = pick(config.experiment, *keys, leave_out=["guidance.n_images"])
    inputs = (*_decoded(config, subject), decoded(config, subject, "structural"))
    return _pictures(config, subject, name, script, settings, *inputs)


def _pictures(config: Config, subject: str, name: str, script: str, settings: dict, *inputs: Recipe) -> Recipe:
    return Recipe(config.folder(subject), f"reconstruction/{name}", subject, script, settings, inputs)
