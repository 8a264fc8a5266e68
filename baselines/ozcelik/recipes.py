"""How Ozcelik et al.'s method is made, in each of its forms."""

from data.recipes import prepared
from minddiffuser.config import Config
from minddiffuser.config.ozcelik import Ozcelik, ozcelik_form
from minddiffuser.recipe import Recipe, pick

DECODE, RECONSTRUCT = "baselines/ozcelik/37_decode_ozcelik.py", "baselines/ozcelik/38_reconstruct_ozcelik.py"
_MODELS = ("ozcelik.generator", "ozcelik.instance_encoder")


def forms(config: Config) -> dict[str, Ozcelik]:
    """Give the settings of each form that the configuration asks for."""
    settings = config.experiment.ozcelik
    return {name: ozcelik_form(settings, name) for name in settings.forms} if settings else {}


def instances(config: Config, subject: str) -> Recipe:
    """Recipe of the instance features of all images, `ozcelik/instance.h5`."""
    settings, inputs = pick(config.experiment, *_MODELS), (prepared(config, subject),)
    return Recipe(config.folder(subject), "ozcelik/instance.h5", subject, DECODE, settings, inputs, "all")


def inversion(config: Config, subject: str) -> Recipe:
    """Recipe of the noise and dense vectors of the training images, `ozcelik/inversion.h5`."""
    settings = pick(config.experiment, *_MODELS, "ozcelik.inversion_steps", "ozcelik.inversion_rate")
    inputs = (prepared(config, subject),)
    return Recipe(config.folder(subject), "ozcelik/inversion.h5", subject, DECODE, settings, inputs, "training")


def decoder(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of the decoder of a form with voxel selection, `ozcelik/decoders/<name>.h5`."""
    settings = pick(config.experiment, "decoding.alpha") | _of_form(forms(config)[name], "n_voxels", "n_training")
    inputs = (prepared(config, subject), instances(config, subject))
    return Recipe(config.folder(subject), f"ozcelik/decoders/{name}.h5", subject, DECODE, settings, inputs)


def decoded(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of what is decoded in one form, `ozcelik/decoded/<name>.h5`."""
    form = forms(config)[name]
    keys = ["decoder", "restore_variance", "unit_length", "noise", "n_training", "test_scaling"]
    inputs = [prepared(config, subject), instances(config, subject)]
    if form.decoder == "voxel_selection":
        inputs.append(decoder(config, subject, name))
    else:
        keys.append("alpha_instance")
    if form.noise == "decoded":
        keys += ["alpha_noise", "alpha_dense"]
        inputs.append(inversion(config, subject))
    settings = pick(config.experiment, "seed") | _of_form(form, *keys)
    root = config.folder(subject)
    return Recipe(root, f"ozcelik/decoded/{name}.h5", subject, DECODE, settings, tuple(inputs), "test")


def pictures(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of the pictures of one form."""
    settings, inputs = pick(config.experiment, "ozcelik.generator"), (decoded(config, subject, name),)
    return Recipe(config.folder(subject), f"reconstruction/ozcelik/{name}", subject, RECONSTRUCT, settings, inputs)


def systems(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the folders of all forms, by name of the system."""
    return {f"ozcelik/{name}": (pictures(config, subject, name),) for name in forms(config)}


def _of_form(form: Ozcelik, *keys: str) -> dict:
    return {f"experiment.ozcelik.{key}": getattr(form, key) for key in keys}
