"""How Takagi & Nishimoto's method is made, in each of its forms."""

from data.recipes import prepared
from feature_decoding.recipes import FAMILIES
from feature_extraction.recipes import STABLE_DIFFUSION, features
from minddiffuser.config import Config
from minddiffuser.config.takagi import Takagi, takagi_form
from minddiffuser.recipe import Recipe, named, pick

DECODE, RECONSTRUCT = "baselines/takagi/35_decode_takagi.py", "baselines/takagi/36_reconstruct_takagi.py"
STREAMS = ("early", "ventral")  # z is decoded from the first, c from the second


def forms(config: Config) -> dict[str, Takagi]:
    """Give the settings of each form that the configuration asks for."""
    settings = config.experiment.takagi
    return {name: takagi_form(config.experiment.sampler, settings, name) for name in settings.forms} if settings else {}


def trials(config: Config, subject: str) -> Recipe:
    """Recipe of the single trials, `takagi/trials.h5`."""
    settings = pick(config.experiment, "data", leave_out=["data.rois"]) | {"streams": STREAMS}
    inputs = (prepared(config, subject),)
    return Recipe(config.folder(subject), "takagi/trials.h5", subject, DECODE, settings, inputs, "all")


def targets(config: Config, subject: str) -> Recipe:
    """Recipe of z and c in the sizes of this method, `takagi/features.h5`."""
    own = [f"takagi.{name}" for name in ("image_share", "max_length")]
    keys = ("detail.image_size", "semantic.n_captions", "seed", *own, *STABLE_DIFFUSION)
    inputs = (prepared(config, subject),)
    settings = pick(config.experiment, *keys)
    return Recipe(config.folder(subject), "takagi/features.h5", subject, DECODE, settings, inputs, "all")


def decoder(config: Config, subject: str, form: Takagi, family: str) -> Recipe:
    """Recipe of a decoder with voxel selection, `takagi/decoders/<family>.h5`."""
    key = f"n_voxels_{family}"
    settings = pick(config.experiment, "decoding.alpha") | _of_form(form, key)
    inputs = (prepared(config, subject), features(config, subject, family))
    return Recipe(config.folder(subject), f"takagi/decoders/{family}.h5", subject, DECODE, settings, inputs)


def decoded(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of the decoded z and c of one form, `takagi/decoded/<name>.h5`."""
    form = forms(config)[name]
    if form.decoder == "voxel_selection":
        settings = _of_form(form, "decoder", "test_scaling")
        inputs = tuple(decoder(config, subject, form, family) for family in FAMILIES)
    else:
        settings = _of_form(form, "decoder", "center_targets", "alphas", "posterior")
        if form.restore_variance == "train":
            settings |= _of_form(form, "restore_variance") | pick(config.experiment, "seed")  # of the folds
        inputs = (trials(config, subject), targets(config, subject))
    return Recipe(config.folder(subject), f"takagi/decoded/{name}.h5", subject, DECODE, settings, inputs, "test")


def pictures(config: Config, subject: str, name: str, sample: int = 1) -> Recipe:
    """Recipe of the pictures of one form, or of a sample of them, counted from 1."""
    settings = pick(config.experiment, "seed", "detail.image_size", *STABLE_DIFFUSION) | {"sample": sample}
    settings |= _of_form(forms(config)[name], "sampler", "encoded_range", "posterior")
    place = f"reconstruction/takagi/{name}" + (f"/sample_{sample}" if sample > 1 else "")
    return Recipe(config.folder(subject), place, subject, RECONSTRUCT, settings, (decoded(config, subject, name),))


def systems(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the folders of all forms, by name of the system; one for each sample of an image."""
    return {
        f"takagi/{name}": tuple(pictures(config, subject, name, k + 1) for k in range(form.n_samples))
        for name, form in forms(config).items()
    }


def _of_form(form: Takagi, *keys: str) -> dict:
    return {k: v for key in keys for k, v in named(getattr(form, key), f"experiment.takagi.{key}").items()}
