"""What is scored, and by what: names, meanings and order of systems and metrics, for tables and the page."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

STAGE1, STAGE2, CEILING = "minddiffuser/stage1", "minddiffuser/stage2", "control/ceiling"
# On another dataset, Generic Object Decoding: the rival in its form without faults, and its controls.
CORRECTED, CONSTANT, PERMUTED = "semantic_brain_decoding/corrected", "control/constant_label", "control/permuted_labels"
PERFECT = "control/perfect_decoding"
STAND_IN = "_stand_in"  # ends the name of a metric whose network another one stands in for
ALL_SUBJECTS = "all"  # in place of a subject: the mean over subjects


@dataclass(frozen=True)
class System:
    """Something that is scored.

    Attributes
    ----------
    label, meaning : str
        For a table, and for whoever has not met it.
    kind : str
        "method"; "ablation": the method without one of its parts; "other": other systems, and other people's
        pictures; "control"; "bottleneck": stage 1 from a few numbers; "seed": stage 1 with other noise; "features":
        decoded features, without pictures.
    """

    label: str
    meaning: str
    kind: Literal["method", "ablation", "other", "control", "bottleneck", "seed", "features"]


@dataclass(frozen=True)
class Metric:
    """A number for each image.

    Attributes
    ----------
    label, meaning : str
    group : str
        Table that it belongs to, see `GROUPS` and `CONCEPT_GROUPS`.
    higher_is_better : bool
    among_own : bool
        Its candidates are the system's own pictures, so that systems with other images face another task.
    """

    label: str
    meaning: str
    group: str
    higher_is_better: bool = True
    among_own: bool = False


# Kinds that have a row in the tables of systems, in order, and their titles; after them those that have tables of
# their own.
TABULATED = {"method": "Methods", "ablation": "Ablations", "other": "Other systems", "control": "Controls"}
KINDS = (*TABULATED, "bottleneck", "seed", "features")

_TAKAGI = "Takagi & Nishimoto (CVPR 2023), Stable Diffusion from z and c by plain ridge regression: "
_OZCELIK = "Ozcelik et al. (IJCNN 2022), IC-GAN from decoded instance features: "

SYSTEMS = {
    STAGE1: System("stage 1", "decoded z and c, through Stable Diffusion: the method without CLIP guidance", "method"),
    STAGE2: System("stage 2", "stage 1, refined until its CLIP features match the decoded ones", "method"),
    "ablation/without_z": System("without z", "stage 2 from random latents in place of the decoded z", "ablation"),
    "ablation/without_c": System("without c", "stage 2 from a random embedding in place of the decoded c", "ablation"),
    "takagi/original": System(
        "Takagi, original", _TAKAGI + "as released, with a regression that loses the mean of every target", "other"
    ),
    "takagi/corrected": System(
        "Takagi, corrected", _TAKAGI + "targets centred, posterior mean, and noise levels that agree", "other"
    ),
    "takagi/minddiffuser": System(
        "Takagi, bundled",
        _TAKAGI
        + "the variant bundled with MindDiffuser: latents of 4 x 64 x 64, 15 tokens, all ROIs, pictures encoded "
        "again without mapping them back to [-1, 1], test voxels scaled by the test set's own statistics",
        "other",
    ),
    "ozcelik/original": System(
        "Ozcelik, original",
        _OZCELIK + "as published, the variance of decoded features restored with statistics of the test set",
        "other",
    ),
    "ozcelik/corrected": System(
        "Ozcelik, corrected", _OZCELIK + "with training statistics, and features brought to unit length", "other"
    ),
    "ozcelik/minddiffuser": System(
        "Ozcelik, bundled",
        _OZCELIK + "the variant bundled with MindDiffuser: another regression, noise at random, no dense vector; but "
        "with voxels and features of the same subject, where the authors mixed two",
        "other",
    ),
    CEILING: System("ceiling", "stage 1 from the stimulus' own z and c: what perfect decoding would reach", "control"),
    "control/nearest_training": System(
        "nearest training image", "the training image whose own z and c are most like the decoded ones", "control"
    ),
    "control/shuffled": System("shuffled", "stage 1 from the z and c decoded of another test image", "control"),
    "control/permuted": System(
        "permuted decoders", "stage 1 with decoders that were fitted to voxels of other images", "control"
    ),
    "control/random_training": System("random training image", "a training image, drawn by lot", "control"),
    "control/mean_image": System("mean image", "the mean of the training images, whatever was seen", "control"),
    "control/grey": System("grey", "uniform grey, whatever was seen", "control"),
}

_FERRANTE = "Ferrante et al. (arXiv 2212.06726), pictures by Stable Diffusion from decoded labels: "

# Those of Generic Object Decoding, which has other subjects and images: they never stand beside those above.
CONCEPT_SYSTEMS = {
    "semantic_brain_decoding/original": System(
        "Ferrante, original",
        _FERRANTE + "as released, with training and test trials scaled together, features that depend on the batch, "
        "stimuli among the images looked up, and variance restored with statistics of the test set",
        "other",
    ),
    CORRECTED: System("Ferrante, corrected", _FERRANTE + "without these faults", "other"),
    "semantic_brain_decoding/classifier": System(
        "Ferrante, classifier",
        _FERRANTE + "corrected, with labels of the network's own last layer in place of the nearest images' labels",
        "other",
    ),
    PERFECT: System(
        "perfect decoding",
        "the labels that the corrected form would give if it decoded the stimulus' features",
        "control",
    ),
    CONSTANT: System(
        "constant label", "whatever was seen, the one label that suits the training images best", "control"
    ),
    PERMUTED: System(
        "permuted labels",
        "labels that the corrected form decoded of the other test images: what chance gives",
        "control",
    ),
}

GROUPS = {
    "main": "PixCorr, two-dimensional SSIM, and the CLIP that did not guide stage 2",
    "more": "Other measures of likeness",
    "brain_diffuser": "The field's eight, as Brain-Diffuser computes them (at 425 and 224 pixels; SSIM by columns)",
    "mindeye": "The field's eight, as MindEye computes them (by way of 256 pixels; two-dimensional SSIM)",
    "features": "Decoded features, without pictures",
}
CONCEPT_GROUPS = {"concepts": "Decoded labels, before any picture is made of them"}

_TWO_WAY = "two-way identification of the stimulus by the reconstruction (chance .5): "
_DISTANCE = "correlation distance (lower is better): "
_EIGHT = {
    "alexnet_2": ("AlexNet(2)", _TWO_WAY + "AlexNet, second layer", True),
    "alexnet_5": ("AlexNet(5)", _TWO_WAY + "AlexNet, fifth layer", True),
    "inception": ("Inception", _TWO_WAY + "Inception-v3, average pool", True),
    "clip": ("CLIP", _TWO_WAY + "the CLIP that scores, image embedding", True),
    "efficientnet": ("EffNet-B ↓", _DISTANCE + "EfficientNet-B1, average pool", False),
    "swav": ("SwAV ↓", _DISTANCE + "SwAV's ResNet-50, average pool", False),
}

METRICS = {
    "pixcorr": Metric("PixCorr", "correlation of the pixels", "main"),
    "ssim": Metric(
        "SSIM", "local structure of the grey images; flat images score well, so read it beside the controls", "main"
    ),
    "clip_similarity": Metric("CLIP similarity", "cosine of the image embeddings", "main"),
    "clip_two_way": Metric(
        "CLIP two-way",
        "how often a reconstruction is more like its own stimulus than like another (chance .5)",
        "main",
    ),
    "ssim_columns": Metric(
        "SSIM by columns", "one-dimensional, as older scikit-image computed it; not comparable with SSIM", "more"
    ),
    "psnr": Metric("PSNR, dB", "peak signal-to-noise ratio", "more"),
    "lpips": Metric("LPIPS ↓", "learned perceptual distance (AlexNet); lower is better", "more", False),
    "clip_two_way_of_reconstruction": Metric(
        "CLIP two-way, reconstruction",
        "the other way: how often a stimulus is more like its own reconstruction than like another (chance .5)",
        "more",
        among_own=True,
    ),
    "clip_top_1": Metric(
        "CLIP top-1",
        "how often the stimulus is the first of n_way when looked for by its reconstruction (chance 1/n_way)",
        "more",
    ),
    **{
        f"{dialect}/{name}": metric
        for dialect, ssim in (("brain_diffuser", "ssim_columns"), ("mindeye", "ssim"))
        for name, metric in {
            "pixcorr": Metric("PixCorr", "correlation of the pixels", dialect),
            ssim: Metric("SSIM", "by columns" if ssim == "ssim_columns" else "two-dimensional", dialect),
            **{key: Metric(label, text, dialect, higher) for key, (label, text, higher) in _EIGHT.items()},
        }.items()
    },
    "feature_correlation": Metric("r", "correlation of decoded and true features of an image", "features"),
    "feature_ceiling": Metric(
        "noise ceiling of r",
        "what r would be, with these trials, if what endless trials decode to were the truth",
        "features",
    ),
    "feature_reliability": Metric("r of halves", "correlation of what halves of the trials decode to", "features"),
    "stimulus_from_brain": Metric(
        "stimulus from brain",
        "how often the stimulus is the first of n_way, looked for by decoded features",
        "features",
    ),
    "brain_from_stimulus": Metric(
        "brain from stimulus",
        "how often the decoded features are the first of n_way, looked for by the stimulus",
        "features",
    ),
    "feature_two_way": Metric("two-way", "stimulus from brain among two (chance .5)", "features"),
}  # fmt: skip

CONCEPT_METRICS = {
    "wup": Metric(
        "Wu-Palmer",
        "similarity in WordNet of the first label and the true category; 1 is the same, but labels at random are well "
        "above 0",
        "concepts",
    ),
    "wup_of_new": Metric(
        "Wu-Palmer of new",
        "the same, of images whose category is not among the labels: no training image and no label has it",
        "concepts",
    ),
    "wup_of_labels": Metric(
        "Wu-Palmer of all labels", "the same, mean over all labels decoded of an image", "concepts"
    ),
    "exact_class": Metric(
        "exact class",
        "whether the first label is the true category, of images whose category is among the labels",
        "concepts",
    ),
    "label_two_way": Metric(
        "label two-way",
        "how often the first label is nearer in WordNet to the true category than to that of another test image "
        "(chance .5)",
        "concepts",
    ),
}


def system(name: str) -> System:
    """Describe a system by its name.

    One of `SYSTEMS` or `CONCEPT_SYSTEMS`, `bottleneck/10`, `seed/1`, `others/NAME`, `features/c`, or
    `features/c@naive_split`.
    """
    if described := SYSTEMS.get(name) or CONCEPT_SYSTEMS.get(name):
        return described
    kind, _, rest = name.partition("/")
    if kind == "bottleneck":
        return System(f"{int(rest)} numbers", f"stage 1 from decoded z and c of rank {int(rest)}", "bottleneck")
    if kind == "seed":
        return System(f"seed {rest}", f"stage 1 with noise of seed {rest}", "seed")
    if kind == "features":
        target, _, split = rest.partition("@")
        meaning = "decoded features of the test images"
        if split:
            meaning = {
                "naive_split": "training images, each held out once at random; n counts clusters",
                "held_out_clusters": "training images, each held out with its whole cluster; n counts clusters",
            }[split]
        return System(f"{target}, {split.replace('_', ' ')}" if split else target, meaning, "features")
    return System(rest if kind == "others" else name, "scored from a folder of pictures", "other")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort systems by kind, inside one as in the dictionaries, and what is not there by folder, then number or name."""
    known = [*SYSTEMS, *CONCEPT_SYSTEMS]

    def place(name: str) -> tuple[int, int, str, int, str]:
        folder, _, rest = name.partition("/")
        number = int(rest) if rest.isdecimal() else -1
        return (
            KINDS.index(system(name).kind),
            known.index(name) if name in known else len(known),
            *(folder, number, rest),
        )

    return sorted(names, key=place)


def metric(name: str) -> Metric:
    """Describe a metric by its name; that of a stand-in says so."""
    described = {**METRICS, **CONCEPT_METRICS}[name.removesuffix(STAND_IN)]
    if not name.endswith(STAND_IN):
        return described
    meaning = described.meaning + "; a layer of the CLIP that scores stands in here"
    return replace(described, label=described.label + " (stand-in)", meaning=meaning)


def metrics_of(group: str, present: set[str]) -> list[str]:
    """Names of a group's metrics in order; those with a stand-in among the `present` are given as that."""
    names = [name for name, described in {**METRICS, **CONCEPT_METRICS}.items() if described.group == group]
    return [name + STAND_IN if name + STAND_IN in present else name for name in names]
