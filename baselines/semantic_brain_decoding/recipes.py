"""How Semantic Brain Decoding is made, in each of its forms.

Two of its inputs are no results of this project: ImageNet's pictures and the recordings. What is made of them carries
their hashes. A later stage, which does not read them, takes the hash that its input carries.
"""

from pathlib import Path
from typing import Any

from minddiffuser.config import Config
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding, concept_form
from minddiffuser.recipe import Recipe, named, pick
from minddiffuser.store import lineage_in, open_arrays

_ROOT = "baselines/semantic_brain_decoding"
BANK, DECODE, GENERATE = f"{_ROOT}/14_bank.py", f"{_ROOT}/29_decode_labels.py", f"{_ROOT}/39_generate.py"
RECORDING, IMAGES, CLASSES = "hash of the recording", "hash of ImageNet's file names", "hash of ImageNet's classes"
_OF_PICTURES = ("prompt", "n_steps", "guidance_scale", "safety_checker")


def settings_of(config: Config) -> SemanticBrainDecoding:
    """Give the settings of this rival, for a configuration that has it."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    return settings


def bank(config: Config, hashes: dict[str, str] | None = None) -> Recipe:
    """Recipe of the bank of ImageNet's features, `bank/<network>.h5`."""
    settings, name = settings_of(config), f"bank/{settings_of(config).network}.h5"
    keys = [f"semantic_brain_decoding.{key}" for key in ("network", "image_size", "bank_per_class")]
    made_from = pick(config.experiment, "seed", *keys)
    if settings.network == "scoring_clip":
        made_from |= pick(config.experiment, "models.scoring_clip", "models.scoring_clip_weights")
    made_from |= _hashes(config.folder(), name, (IMAGES, CLASSES)) if hashes is None else hashes
    return Recipe(config.folder(), name, "ImageNet", BANK, made_from)


def labels(config: Config, subject: str, form: str, recording: str | None = None) -> Recipe:
    """Recipe of the labels that one form decodes, `semantic_brain_decoding/decoded/<form>.h5`."""
    not_used = {"forms", "subjects", "n_pictures", *_OF_PICTURES}
    settings = concept_form(settings_of(config), form)
    name = f"semantic_brain_decoding/decoded/{form}.h5"
    made_from = pick(config.experiment, "seed")
    for key in sorted(set(type(settings).model_fields) - not_used):
        made_from |= named(getattr(settings, key), f"experiment.semantic_brain_decoding.{key}")
    root = config.folder(subject)
    made_from |= _hashes(root, name, (RECORDING,)) if recording is None else {RECORDING: recording}
    return Recipe(root, name, subject, DECODE, made_from, (bank(config),))


def pictures(config: Config, subject: str, form: str, rank: int = 0) -> Recipe:
    """Recipe of the pictures of the labels of one rank, counted from 0."""
    place = f"reconstruction/semantic_brain_decoding/{form}" + (f"/sample_{rank + 1}" if rank else "")
    settings = _of_pictures(config) | {"rank": rank}
    return Recipe(config.folder(subject), place, subject, GENERATE, settings, (labels(config, subject, form),))


def constant(config: Config, subject: str, wnid: str, label: str) -> Recipe:
    """Recipe of the pictures of one label for all images."""
    settings = _of_pictures(config) | {"wnid": wnid, "label": label}
    return Recipe(config.folder(subject), "reconstruction/control/constant_label", subject, GENERATE, settings)


def systems(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the folders of pictures of all forms, by name of the system; one for each label of an image."""
    settings = settings_of(config)
    return {
        f"semantic_brain_decoding/{form}": tuple(
            pictures(config, subject, form, rank) for rank in range(settings.n_pictures)
        )
        for form in settings.forms
    }


def _of_pictures(config: Config) -> dict[str, Any]:
    own = [f"semantic_brain_decoding.{key}" for key in _OF_PICTURES]
    return pick(config.experiment, "seed", *own, "models.stable_diffusion", "models.stable_diffusion_revision")


def _hashes(root: Path, name: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Read hashes of what a file was made of; none where it is absent, which whoever opens it is told."""
    if not (root / name).is_file():
        return {}
    with open_arrays(root / name, "") as file:
        own = lineage_in(file).get(name, {})
        return {key: own[key] for key in keys if key in own}
