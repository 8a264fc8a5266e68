"""What is scored of the Natural Scenes Dataset, and by what: names, meanings and order, and pairs that are compared."""

from collections.abc import Sequence

from evaluation.catalogue import TABULATED, Catalogue, Metric, System
from evaluation.metrics import catalogue as of_pictures

STAGE1, STAGE2 = "minddiffuser/stage1", "minddiffuser/stage2"
CEILING, SHUFFLED, NEAREST = "control/ceiling", "control/shuffled", "control/nearest_training"
RESTORED, BEST_OF_K, RESTORED_STAGE2 = (f"minddiffuser/{name}" for name in ("restored", "best_of_k", "restored_stage2"))
RIVALS = ("takagi", "ozcelik")
SPLITS = ("naive_split", "held_out_clusters")  # of training images whose features are decoded while held out
# "bottleneck": stage 1 from a few numbers; "seed": stage 1 with other noise; "features": decoded, without pictures.
KINDS = (*TABULATED, "bottleneck", "seed", "features")

_TAKAGI = "Takagi & Nishimoto (CVPR 2023), Stable Diffusion from z and c by plain ridge regression: "
_OZCELIK = "Ozcelik et al. (IJCNN 2022), IC-GAN from decoded instance features: "

SYSTEMS = {
    STAGE1: System("stage 1", "decoded z and c, through Stable Diffusion: the method without CLIP guidance", "method"),
    STAGE2: System("stage 2", "stage 1, refined until its CLIP features match the decoded ones", "method"),
    RESTORED: System(
        "restored", "stage 1 from z and c whose variance, which regression takes away, is restored; ours", "method"
    ),
    BEST_OF_K: System(
        "restored, best of K", "of restored pictures from K noises the one whose features match best; ours", "method"
    ),
    RESTORED_STAGE2: System(
        "restored stage 2", "restored, refined until its features match the restored ones; ours", "method"
    ),
    "ablation/without_z": System("without z", "stage 2 from random latents in place of the decoded z", "ablation"),
    "ablation/without_c": System("without c", "stage 2 from a random embedding in place of the decoded c", "ablation"),
    "ablation/best_of_k": System(
        "stage 2, best of K",
        "not descending stage 2's loss, but the lowest of as many noises as iterations",
        "ablation",
    ),
    "ablation/other_targets": System(
        "targets of another image", "stage 2 with the Z_CLIP that was decoded of another test image", "ablation"
    ),
    "ablation/restored_other_targets": System(
        "restored stage 2, targets of another image",
        "restored stage 2 with what was decoded of another test image",
        "ablation",
    ),
    "takagi/original": System(
        "Takagi, original", _TAKAGI + "as released, with a regression that loses the mean of every target", "other"
    ),
    "takagi/corrected": System(
        "Takagi, corrected", _TAKAGI + "targets centred, posterior mean, and noise levels that agree", "other"
    ),
    "takagi/restored": System("Takagi, restored", _TAKAGI + "corrected, and the variance of z and c restored", "other"),
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
    NEAREST: System(
        "nearest training image", "the training image whose own z and c are most like the decoded ones", "control"
    ),
    SHUFFLED: System("shuffled", "stage 1 from the z and c decoded of another test image", "control"),
    "control/permuted": System(
        "permuted decoders", "stage 1 with decoders that were fitted to voxels of other images", "control"
    ),
    "control/random_training": System("random training image", "a training image, drawn by lot", "control"),
    "control/mean_image": System("mean image", "the mean of the training images, whatever was seen", "control"),
    "control/grey": System("grey", "uniform grey, whatever was seen", "control"),
}

GROUPS = {
    **of_pictures.GROUPS,
    "losses": "Can descending stage 2's loss help? Only where the true stimulus has a lower one than stage 1's picture",
    "features": "Decoded features, without pictures",
}
METRICS = {
    **of_pictures.METRICS,
    "loss_stage1": Metric("loss of stage 1 ↓", "stage 2's loss of stage 1's picture", "losses", False),
    "loss_result": Metric("loss of the result ↓", "the same of the system's picture", "losses", False),
    "loss_truth": Metric("loss of the stimulus ↓", "the same of what was seen; no method knows it", "losses", False),
    "truth_is_lower": Metric(
        "stimulus below stage 1", "share of images whose stimulus has a lower loss than stage 1's picture", "losses"
    ),
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


def _describe(name: str) -> System:
    """Describe `bottleneck/10`, `seed/1`, `others/NAME`, `features/c`, or `features/c@naive_split`."""
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


CATALOGUE = Catalogue(
    title="Natural Scenes Dataset",
    script="evaluation/41_score.py",
    folder="evaluation",
    subjects_of=lambda experiment: experiment.subjects,
    systems=SYSTEMS,
    metrics=METRICS,
    groups=GROUPS,
    kinds=KINDS,
    describe=_describe,
)


def pairs_of(systems: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that are compared: stages and ours with one another and the controls, rivals as corrected and released."""
    of_kind = {kind: [name for name in systems if CATALOGUE.system(name).kind == kind] for kind in TABULATED}
    controls = [name for name in of_kind["control"] if name != CEILING]
    return [
        (STAGE2, STAGE1),
        *((STAGE2, name) for name in (*of_kind["ablation"], *of_kind["other"], *controls)),
        (RESTORED, STAGE1),
        (RESTORED, STAGE2),
        (RESTORED, "takagi/restored"),
        (BEST_OF_K, RESTORED),
        (RESTORED_STAGE2, RESTORED),
        (RESTORED_STAGE2, BEST_OF_K),
        (RESTORED_STAGE2, "ablation/restored_other_targets"),
        *((f"{rival}/corrected", f"{rival}/original") for rival in RIVALS),
        ("takagi/restored", "takagi/corrected"),
        *((STAGE1, name) for name in controls),
        *((RESTORED, name) for name in controls),
        (CEILING, STAGE1),
        (CEILING, STAGE2),
        (CEILING, RESTORED),
        *((f"features/{target}@{SPLITS[0]}", f"features/{target}@{SPLITS[1]}") for target in ("c", "z")),
    ]
