"""How Mind-Animator's targets and decoded clips are made, in each of its forms.

Forms share what does not differ between them: with equal settings "change" has the same semantic decoder as
"corrected", which is trained once, in the folder of the first form that has it (`shared_form`).
"""

from typing import Any

from data.film_recipes import prepared
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
# What a decoder depends on, of the settings of a form.
_SETTINGS = {
    "semantic": ("voxels", "semantic", "sparsify", "max_length", "batch_size", "n_validation", "checkpoint"),
    "structure": ("voxels", "clips", "structure", "sparsify", "batch_size", "n_validation", "checkpoint"),
    "motion": ("voxels", "clips", "motion", "batch_size", "n_validation", "checkpoint"),
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
    return _features(config, "clips.h5", ("clips", "max_length"))


def varied(config: Config) -> Recipe:
    """Recipe of the targets of training clips, varied for training, `films/features/varied.h5`."""
    recipe = _features(config, "varied.h5", ("clips.frame_step", "clips.size", "clips.middle_frame", "max_length"))
    own = settings_of(config).semantic
    settings = {**recipe.settings, "n_variations": own.n_variations, "eda": own.eda}
    return Recipe(recipe.root, recipe.name, recipe.subject, recipe.made_by, settings)


def _features(config: Config, name: str, keys: tuple[str, ...]) -> Recipe:
    settings = pick(config.experiment, *_MODELS, *(f"mind_animator.{key}" for key in keys))
    settings |= {"forms": list(settings_of(config).forms)}  # which say which kinds of them there are
    return Recipe(config.folder("films"), f"features/{name}", "films", f"{_ROOT}/11_features.py", settings)


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


def _of(settings: MindAnimator, form: str, decoder: str) -> dict[str, Any]:
    own = animator_form(settings, form)
    found = {}
    for key in _SETTINGS[decoder]:
        found |= named(getattr(own, key), f"experiment.mind_animator.{key}")
    return found
