"""How Mind-Animator's targets, decoded clips and films are made, in each of its forms.

Forms share what does not differ between them: with equal settings "change" has the same semantic decoder as
"corrected", which is trained once, in the folder of the first form that has it (`shared_form`).
"""

from typing import Any

from data.film_recipes import prepared
from feature_extraction.recipes import STABLE_DIFFUSION
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import MindAnimator, animator_form
from minddiffuser.recipe import Recipe, named, pick
from minddiffuser.store import DataError

_ROOT = "baselines/mind_animator"
_MODELS = (
    *("models.stable_diffusion", "models.stable_diffusion_revision", "models.clip", "models.clip_weights"),
    "seed",
)
SCRIPTS = {
    "semantic": f"{_ROOT}/21_semantic.py",
    "structure": f"{_ROOT}/22_structure.py",
    "motion": f"{_ROOT}/23_motion.py",
}
RECONSTRUCT, CONTROLS = f"{_ROOT}/31_reconstruct.py", f"{_ROOT}/32_controls.py"
# Controls that the autoencoder alone makes, of what 23_motion.py writes: their latents there.
OF_LATENTS = {
    "control/static": "static",
    "control/other_clip": "other_clip",
    "control/ridge_frames": "ridge",
    "control/mover": "mover",
    "control/moved": "moved",
    "control/mover_of_truth": "mover_of_truth",
    "control/nearest_training": "nearest_training",
    "control/mean_clip": "mean",
}
# What a decoder depends on, of the settings of a form.
_OF_ALL = ("voxels", "batch_size", "n_validation", "checkpoint", "network_seed")
_SETTINGS = {
    "semantic": (*_OF_ALL, "semantic", "sparsify", "max_length"),
    "structure": (*_OF_ALL, "clips", "structure", "sparsify"),
    "motion": (*_OF_ALL, "clips", "structure", "sparsify", "motion"),
}


def settings_of(config: Config) -> MindAnimator:
    """Give the settings of this system, for a configuration that has it.

    Raises
    ------
    DataError
        It has none.
    """
    settings = config.experiment.mind_animator
    if settings is None:
        raise DataError(f"the configuration {config.name} has no experiment.mind_animator")
    return settings


def clips(config: Config) -> Recipe:
    """Recipe of the targets of all clips, `films/features/clips.h5`."""
    return _features(config, "clips.h5", ("clips", "max_length"), {"posteriors": posteriors(config)})


def varied(config: Config) -> Recipe:
    """Recipe of the targets of training clips, varied for training, `films/features/varied.h5`."""
    own = settings_of(config).semantic
    settings = {"n_variations": own.n_variations, "eda": own.eda, "crops": crops(config)}
    keys = ("clips.frame_step", "clips.size", "clips.middle_frame", "max_length")
    return _features(config, "varied.h5", keys, settings)


def posteriors(config: Config) -> list[str]:
    """Name the kinds of latents: means, with which all forms are compared, and samples where a form is of them."""
    settings = settings_of(config)
    return sorted({"mean", *(animator_form(settings, form).clips.posterior for form in settings.forms)})


def crops(config: Config) -> list[str]:
    """Name the ways in which the forms crop the middle frames of training clips."""
    settings = settings_of(config)
    return sorted({animator_form(settings, form).semantic.crop for form in settings.forms})


def _features(config: Config, name: str, keys: tuple[str, ...], settings: dict[str, Any]) -> Recipe:
    settings = pick(config.experiment, *_MODELS, *(f"mind_animator.{key}" for key in keys)) | settings
    return Recipe(config.folder("films"), f"features/{name}", "films", f"{_ROOT}/11_features.py", settings)


def network_seed(config: Config) -> int:
    """Give the seed of what is random in the training of networks."""
    return config.experiment.seed + settings_of(config).network_seed


def shared_form(config: Config, form: str, decoder: str) -> str:
    """Name the first form whose decoder ("semantic", "structure" or "motion") has the settings of this form's."""
    settings = settings_of(config)
    return next(other for other in settings.forms if _of(settings, other, decoder) == _of(settings, form, decoder))


def decoded(config: Config, subject: str, form: str, decoder: str) -> Recipe:
    """Recipe of what a form's decoder ("semantic", "structure" or "motion") makes of the test clips."""
    form = shared_form(config, form, decoder)
    made_from = {**pick(config.experiment, "seed"), **_of(settings_of(config), form, decoder)}
    inputs = [prepared(config, subject), clips(config)]
    if decoder == "semantic":
        inputs.append(varied(config))
    if decoder == "motion":
        inputs.append(decoded(config, subject, form, "structure"))
    name = f"decoded/{form}/{decoder}.h5"
    return Recipe(config.folder(subject), name, subject, SCRIPTS[decoder], made_from, tuple(inputs), "test")


def retrieval(config: Config, subject: str) -> Recipe:
    """Recipe of the record of the retrieval's table, `retrieval.json`."""
    forms = settings_of(config).forms
    inputs = {shared_form(config, form, "semantic"): decoded(config, subject, form, "semantic") for form in forms}
    return Recipe(
        config.folder(subject), "retrieval.json", subject, f"{_ROOT}/24_retrieval.py", {}, tuple(inputs.values())
    )


def maps(config: Config, subject: str) -> Recipe:
    """Recipe of the record of the maps of the cortex, in `maps/`."""
    settings, forms = pick(config.experiment, "seed", "evaluation.n_bootstrap"), settings_of(config).forms
    inputs = {(shared_form(config, form, decoder), decoder): None for decoder in SCRIPTS for form in forms}
    made = tuple(decoded(config, subject, form, decoder) for form, decoder in inputs)
    return Recipe(config.folder(subject), "maps/maps.json", subject, f"{_ROOT}/25_maps.py", settings, made)


def films(config: Config, subject: str, form: str) -> Recipe:
    """Recipe of a form's films, `reconstruction/mind_animator/<form>`."""
    inputs = decoded(config, subject, form, "semantic"), decoded(config, subject, form, "motion")
    return _films(config, subject, f"mind_animator/{form}", RECONSTRUCT, _generator(config, form), *inputs)


def sampled_forms(config: Config) -> list[str]:
    """List the forms whose films Stable Diffusion makes."""
    settings = settings_of(config)
    return [form for form in settings.forms if form in settings.sampled]


def control(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of the films of a control, such as "control/ceiling" or "no_generator/corrected"."""
    form = form_of_control(config, name)
    if name == "control/ceiling":
        return _films(config, subject, name, CONTROLS, _generator(config, form), clips(config))
    settings = pick(config.experiment, *STABLE_DIFFUSION, "mind_animator.video.precision")
    if name == "control/true_latents":
        return _films(config, subject, name, CONTROLS, settings, clips(config))
    return _films(config, subject, name, CONTROLS, settings, decoded(config, subject, form, "motion"))


def form_of_control(config: Config, name: str) -> str:
    """Name the form that a control is of: "corrected" where it is not in the name, or else the first of all."""
    kind, _, which = name.partition("/")
    forms = settings_of(config).forms
    return which if kind == "no_generator" else "corrected" if "corrected" in forms else forms[0]


def controls(config: Config) -> list[str]:
    """Names of all controls, in order."""
    without = [f"no_generator/{form}" for form in settings_of(config).forms]
    return ["control/ceiling", "control/true_latents", *without, *OF_LATENTS]


def systems(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the folders of all films, by name of the system."""
    found = {f"mind_animator/{form}": (films(config, subject, form),) for form in sampled_forms(config)}
    return found | {name: (control(config, subject, name),) for name in controls(config)}


def _generator(config: Config, form: str) -> dict[str, Any]:
    own = animator_form(settings_of(config), form).video
    return pick(config.experiment, "seed", *STABLE_DIFFUSION) | named(own, "experiment.mind_animator.video")


def _films(config: Config, subject: str, name: str, script: str, settings: dict, *inputs: Recipe) -> Recipe:
    return Recipe(config.folder(subject), f"reconstruction/{name}", subject, script, settings, inputs)


def _of(settings: MindAnimator, form: str, decoder: str) -> dict[str, Any]:
    own = animator_form(settings, form)
    found = {}
    for key in _SETTINGS[decoder]:
        found |= named(getattr(own, key), f"experiment.mind_animator.{key}")
    return found
