"""How pictures are made: the method's, its ablations', and the controls'."""

from collections.abc import Callable

from data.recipes import prepared
from feature_decoding import recipes as decoding
from feature_extraction.recipes import STABLE_DIFFUSION, features
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe, pick

CONTROLS, STAGE2 = "reconstruction/33_controls.py", "reconstruction/32_stage2.py"
_GENERATOR = ("sampler", *STABLE_DIFFUSION)


def stage1(config: Config, subject: str) -> Recipe:
    """Recipe of stage 1."""
    settings = pick(config.experiment, "seed", *_GENERATOR)
    return _pictures(
        config, subject, "minddiffuser/stage1", "reconstruction/31_stage1.py", settings, *_decoded(config, subject)
    )


def restored(config: Config, subject: str) -> Recipe:
    """Recipe of stage 1 from z and c whose variance is restored."""
    settings, script = pick(config.experiment, "seed", *_GENERATOR), "reconstruction/31_stage1.py"
    inputs = _decoded(config, subject, decoding.restored)
    return _pictures(config, subject, "minddiffuser/restored", script, settings, *inputs)


def stage2(config: Config, subject: str) -> Recipe:
    """Recipe of stage 2."""
    return _refined(config, subject, "minddiffuser/stage2", STAGE2)


def best_of_k(config: Config, subject: str) -> Recipe:
    """Recipe of the best of several noises, from restored z and c."""
    return _refined(config, subject, "minddiffuser/best_of_k", STAGE2, "restored.guidance")


def restored_stage2(config: Config, subject: str) -> Recipe:
    """Recipe of stage 2 from restored z and c."""
    return _refined(config, subject, "minddiffuser/restored_stage2", STAGE2, "restored.guidance")


def ablation(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of stage 2 without a part of it, such as "without_z"."""
    guidance = "restored.guidance" if name.startswith("restored_") else "guidance"
    return _refined(config, subject, f"ablation/{name}", "reconstruction/34_ablations.py", guidance)


def ablations(config: Config) -> list[str]:
    """Names of all ablations that the configuration asks for."""
    of_ours = ["restored_other_targets"] if _restores(config) and config.experiment.restored.stage2 else []
    return ["without_z", "without_c", "best_of_k", "other_targets", *of_ours]


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
        "permuted": (generated, tuple(decoding.permuted(config, subject, family) for family in ("detail", "semantic"))),
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
    found = {"minddiffuser/stage1": stage1(config, subject), "minddiffuser/stage2": stage2(config, subject)}
    if _restores(config):
        found |= {"minddiffuser/restored": restored(config, subject)}
        found |= {"minddiffuser/best_of_k": best_of_k(config, subject)}
        if config.experiment.restored.stage2:
            found |= {"minddiffuser/restored_stage2": restored_stage2(config, subject)}
    found |= {f"ablation/{name}": ablation(config, subject, name) for name in ablations(config)}
    found |= {name: control(config, subject, name) for name in controls(config)}
    return {name: (recipe,) for name, recipe in found.items()}


def n_wanted(config: Config, name: str, n_test: int) -> int:
    """How many pictures a system should have: of all test images, or of the first that are refined."""
    experiment = config.experiment
    refined = {
        "minddiffuser/stage2": experiment.guidance.n_images,
        "minddiffuser/best_of_k": experiment.restored.guidance.n_images,
        "minddiffuser/restored_stage2": experiment.restored.guidance.n_images,
    }
    if name.startswith("ablation/"):
        limits = (experiment.guidance.n_images, experiment.controls.n_ablated)
        return min(n_test, *(limit or n_test for limit in limits))
    return min(refined.get(name) or n_test, n_test)


def _restores(config: Config) -> bool:
    return config.experiment.decoding.restore_variance == "train"


def _decoded(config: Config, subject: str, of: Callable[..., Recipe] = decoding.decoded) -> tuple[Recipe, ...]:
    return of(config, subject, "detail"), of(config, subject, "semantic")


def _refined(config: Config, subject: str, name: str, script: str, guidance: str = "guidance") -> Recipe:
    keys = ("seed", *_GENERATOR, "structural", "models.clip", "models.clip_weights", guidance)
    settings = pick(config.experiment, *keys, leave_out=[f"{guidance}.n_images"])
    ours = guidance == "restored.guidance"
    of = config.experiment.restored.guidance if ours else config.experiment.guidance
    inputs = list(_decoded(config, subject, decoding.restored if ours else decoding.decoded))
    if of.loss == "variance_restored":
        inputs += [decoding.restored(config, subject, family) for family in ("structural", "detail")]
    else:
        inputs.append(decoding.decoded(config, subject, "structural"))
    return _pictures(config, subject, name, script, settings, *inputs)


def _pictures(config: Config, subject: str, name: str, script: str, settings: dict, *inputs: Recipe) -> Recipe:
    return Recipe(config.folder(subject), f"reconstruction/{name}", subject, script, settings, inputs)
