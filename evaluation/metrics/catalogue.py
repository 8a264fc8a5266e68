"""Metrics of pictures: their names, meanings and groups, which every wing that scores pictures has in its catalogue."""

from evaluation.catalogue import Metric

GROUPS = {
    "main": "PixCorr, two-dimensional SSIM, and the CLIP that did not guide stage 2",
    "more": "Other measures of likeness",
    "brain_diffuser": "The field's eight, as Brain-Diffuser computes them (at 425 and 224 pixels; SSIM by columns)",
    "mindeye": "The field's eight, as MindEye computes them (by way of 256 pixels; two-dimensional SSIM)",
}

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
}  # fmt: skip
