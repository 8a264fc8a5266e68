"""How decoders and what they decode are made."""

from data.recipes import prepared
from feature_extraction.recipes import features
from minddiffuser.config import Config
from minddiffuser.config.method import EMBEDDING, layer_name
from minddiffuser.recipe import Recipe, pick

SCRIPTS = {"semantic": "22_semantic.py", "detail": "23_detail.py", "structural": "24_structural.py"}
CONTROLS = "feature_decoding/28_controls.py"
FAMILIES = {"semantic": "c", "detail": "z"}  # of which controls are made, and the arrays in their files


def units(config: Config, subject: str) -> Recipe:
    """Recipe of the units of each CLIP layer that are decoded, `decoders/units.h5`."""
    inputs = (prepared(config, subject), features(config, subject, "structural"))
    settings = pick(config.experiment, "units")
    return Recipe(
        config.folder(subject), "decoders/units.h5", subject, "feature_decoding/21_select_units.py", settings, inputs
    )


def n_voxels(config: Config) -> dict[str, tuple[str, int]]:
    """Of each decoder the setting that says how many voxels an output has, and its value.

    Decoders are "semantic", "detail", the layers such as "linear_02", and "embedding" where it is decoded.
    """
    decoding = config.experiment.decoding
    found = {family: (f"n_voxels_{family}", getattr(decoding, f"n_voxels_{family}")) for family in FAMILIES}
    for k, number in enumerate(config.experiment.structural.layers):
        found[layer_name(number)] = (f"n_voxels_structural[{k}]", decoding.n_voxels_structural[k])
    if config.experiment.guidance.embedding_weight:
        found[EMBEDDING] = ("n_voxels_structural (its largest)", max(decoding.n_voxels_structural))
    return found


def names_of(config: Config, family: str) -> list[str]:
    """Names of the decoders of a family: of "structural" one for each layer."""
    return [family] if family in FAMILIES else [name for name in n_voxels(config) if name not in FAMILIES]


def decoder(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of a fitted decoder, `decoders/<name>.h5`."""
    family = name if name in FAMILIES else "structural"
    key, value = n_voxels(config)[name]
    settings = pick(config.experiment, "decoding.alpha") | {f"experiment.decoding.{key}": value}
    inputs = [prepared(config, subject), features(config, subject, family)]
    if family == "structural":
        inputs.append(units(config, subject))
    script = f"feature_decoding/{SCRIPTS[family]}"
    return Recipe(config.folder(subject), f"decoders/{name}.h5", subject, script, settings, tuple(inputs))


def spread(config: Config, subject: str, name: str) -> Recipe:
    """Recipe of the spread of a decoder's cross-validated predictions, `decoders/spread/<name>.h5`."""
    of = decoder(config, subject, name)
    settings = {**of.settings, **pick(config.experiment, "seed", "decoding.restore_folds")}
    return Recipe(of.root, f"decoders/spread/{name}.h5", subject, of.made_by, settings, of.inputs)


def restored(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of what is decoded of the test images with its variance restored, `decoded/restored/<family>.h5`."""
    of, names = decoded(config, subject, family), names_of(config, family)
    settings = {**of.settings, **pick(config.experiment, "decoding.restore_variance", "decoding.restore_strength")}
    inputs = (*of.inputs, *(spread(config, subject, name) for name in names if name != EMBEDDING))
    return Recipe(of.root, f"decoded/restored/{family}.h5", subject, of.made_by, settings, inputs, "test")


def decoded(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of what is decoded of the test images, `decoded/<family>.h5`."""
    inputs = tuple(decoder(config, subject, name) for name in names_of(config, family))
    settings = pick(config.experiment, "decoding.test_scaling")
    script = f"feature_decoding/{SCRIPTS[family]}"
    return Recipe(config.folder(subject), f"decoded/{family}.h5", subject, script, settings, inputs, "test")


def permuted_decoder(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of a decoder that is fitted to permuted images, `decoders/permuted/<family>.h5`."""
    of = decoder(config, subject, family)
    settings = {**of.settings, **pick(config.experiment, "seed")}
    return Recipe(of.root, f"decoders/permuted/{family}.h5", subject, CONTROLS, settings, of.inputs)


def permuted(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of what is decoded of the test images by such a decoder, `decoded/permuted/<family>.h5`."""
    inputs = (permuted_decoder(config, subject, family),)
    settings = pick(config.experiment, "decoding.test_scaling")
    root = config.folder(subject)
    return Recipe(root, f"decoded/permuted/{family}.h5", subject, CONTROLS, settings, inputs, "test")


def halves(config: Config, subject: str, family: str) -> Recipe:
    """Recipe of what is decoded of halves of the test images' trials, `decoded/halves/<family>.h5`."""
    inputs = (decoder(config, subject, family),)
    settings = pick(config.experiment, "decoding.test_scaling")
    root = config.folder(subject)
    return Recipe(root, f"decoded/halves/{family}.h5", subject, CONTROLS, settings, inputs, "test")


def splits(config: Config, subject: str) -> Recipe:
    """Recipe of the scores of training images that are held out, `decoded/splits.h5`."""
    counts = [f"decoding.n_voxels_{family}" for family in FAMILIES]
    own = [f"controls.{name}" for name in ("n_clusters", "n_folds", "n_units")]
    settings = pick(config.experiment, "seed", "decoding.alpha", *counts, *own)
    inputs = (prepared(config, subject), *(features(config, subject, family) for family in FAMILIES))
    return Recipe(config.folder(subject), "decoded/splits.h5", subject, CONTROLS, settings, inputs, "training")


def accuracy(config: Config, subject: str) -> Recipe:
    """Recipe of the table of how well targets are decoded, `decoded/accuracy.csv`."""
    inputs = tuple(decoded(config, subject, family) for family in SCRIPTS)
    if config.experiment.decoding.restore_variance == "train":
        inputs += tuple(restored(config, subject, family) for family in SCRIPTS)
    settings = pick(config.experiment, "units.alpha")
    script = "feature_decoding/25_accuracy.py"
    return Recipe(config.folder(subject), "decoded/accuracy.json", subject, script, settings, inputs)


def search(config: Config, subject: str) -> Recipe:
    """Recipe of the table and figure of the search for settings, `decoders/search.csv` and `.png`."""
    inputs = (*(features(config, subject, family) for family in SCRIPTS), units(config, subject))
    settings = pick(config.experiment, "search", "seed")
    script = "feature_decoding/26_search.py"
    return Recipe(config.folder(subject), "decoders/search.json", subject, script, settings, inputs)


def maps(config: Config, subject: str) -> Recipe:
    """Recipe of the maps of the brain, in `maps/`."""
    inputs = tuple(decoder(config, subject, name) for name in n_voxels(config) if name != EMBEDDING)
    script, settings = "feature_decoding/27_weight_maps.py", pick(config.experiment, "seed", "evaluation.n_bootstrap")
    return Recipe(config.folder(subject), "maps/maps.json", subject, script, settings, inputs)
