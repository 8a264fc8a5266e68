"""The method's own settings, and those of its data, models, controls and scores.

"The paper" is arXiv 2303.14139 (its figure 2 and algorithm 1), "released" the authors' released code. Where that code
differs from the paper so that numbers move, there is a field named for what it does; `preset: as_released` sets them.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from minddiffuser.config.section import REPOSITORY, Count, Distinct, Penalty, Section

EMBEDDING = "embedding"  # dataset of CLIP's image embedding
LAYERS = (2, 4, 6, 8, 10, 12)  # "Linear-2" ... "Linear-12": the MLP outputs of CLIP's blocks 0 ... 5


def layer_name(number: int) -> str:
    """Name of the dataset of "Linear-<number>"."""
    return f"linear_{number:02d}"


def is_mask(roi: str) -> bool:
    """Tell whether an entry of `data.rois` is the path of a mask."""
    return roi.endswith((".nii", ".nii.gz"))


def mask_path(roi: str, subject: str) -> Path:
    """Give the file of a subject's mask."""
    return REPOSITORY / roi.replace("{subject}", subject)


def roi_name(roi: str) -> str:
    """Name an ROI in tables: as in `data.rois`, and a mask by its file, without the subject."""
    if not is_mask(roi):
        return roi
    return re.sub(r"\.nii(\.gz)?$", "", Path(roi).name).replace("{subject}", "").strip("._-") or "mask"


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Data(Section):
    """Which betas are read and how they become rows (the authors: 37 of NSD's 40 sessions, 11 ROIs)."""

    sessions: int = Field(default=37, ge=1, description="sessions used, or all where a subject has fewer")
    validation_rows: int = Field(
        default=0,
        ge=0,
        description="for choosing settings: the last n training images stand in for the test images, left out",
    )
    space: str = "func1pt8mm"
    betas: str = "betas_fithrf_GLMdenoise_RR"
    invalid_voxels: Literal["error", "zero"] = Field(
        default="error", description="voxels constant or NaN in a session: stop, or use their mean (released: zero)"
    )
    rois: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_tuple), Distinct] = Field(
        default=("VO", "V1", "V2", "V3", "V3ab", "PHC", "MT", "MST", "LO", "IPS", "hV4"),
        description="voxels: the authors' regions, nsdgeneral and other volumes, streams/ventral and other labels, or "
        "a mask (data/nsd_rois.py)",
    )

    @property
    def roi_names(self) -> tuple[str, ...]:
        """ROIs as tables name them."""
        return tuple(map(roi_name, self.rois))

    @model_validator(mode="after")
    def _masks_have_names_of_their_own(self) -> "Data":
        if len(set(self.roi_names)) < len(self.rois):
            raise ValueError(f"rois {', '.join(self.rois)}: two have the same name; rename one of the files")
        return self


class Models(Section):
    """The pretrained models: hub names, or paths relative to the repository."""

    stable_diffusion: str = Field(
        default="CompVis/stable-diffusion-v1-4", description="on the hub, a diffusers folder, or the file sd-v1-4.ckpt"
    )
    stable_diffusion_revision: str | None = Field(
        default="133a221b8aa7292a167afc5127cb63fb5005638b", description="commit on the hub"
    )
    clip: str = Field(default="ViT-B-32-quickgelu", description="guides stage 2 (open_clip name or local-dir:FOLDER)")
    clip_weights: str | None = "openai"
    scoring_clip: str = Field(default="ViT-L-14-quickgelu", description="scores, and nothing else")
    scoring_clip_weights: str | None = "openai"


class Semantic(Section):
    """The target c: the text encoder's last hidden state, averaged over captions."""

    max_length: int = Field(default=15, ge=3, description="tokens, with begin and end of text")
    n_captions: int = Field(default=5, ge=1)


class Detail(Section):
    """The target z: the autoencoder's latents."""

    image_size: int = Field(default=512, ge=8, multiple_of=8, description="pixels")
    posterior: Literal["mean", "sample"] = Field(default="mean", description="released: sample")


class Structural(Section):
    """The target Z_CLIP: outputs of the first MLPs of the guiding CLIP, and how pictures are given to it."""

    layers: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = LAYERS
    normalisation: Literal["clip", "imagenet"] = Field(default="clip", description="released: imagenet")
    stimulus_resize: Literal["bicubic", "bilinear"] = Field(default="bicubic", description="released: bilinear")
    generated_resize: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = Field(default=True, description="released: false")


class Units(Section):
    """Which units of each CLIP layer are decoded: the share whose cross-validated correlation is highest."""

    keep: float = Field(default=0.25, gt=0, le=1)
    n_folds: int = Field(default=5, ge=2)
    method: Literal["ridge", "early_stopping"] = Field(
        default="ridge", description="released: early_stopping (himalaya's SparseGroupLassoCV at its defaults)"
    )
    alpha: float = Field(default=1000.0, gt=0, description="penalty of method ridge")


class Decoding(Section):
    """Ridge regression with voxel selection (FastL2LiR); alpha is not scaled by the number of rows."""

    alpha: float = Field(default=0.15, gt=0)
    n_voxels_semantic: int = Field(default=450, ge=1)
    n_voxels_detail: int = Field(default=3000, ge=1)
    n_voxels_structural: tuple[Count, ...] = Field(default=(350, 350, 350, 250, 250, 250), description="one a layer")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="whose mean and deviation scale the test voxels; released: test (transductive)"
    )
    restore_variance: Literal["none", "train"] = Field(
        default="none",
        description="train: besides what is decoded as published, divide standardised predictions by the deviation "
        "of cross-validated ones of training images (ours; minddiffuser/restored is made of it)",
    )
    restore_strength: float = Field(
        default=1.0, gt=0, le=1, description="power of that deviation: 1 restores all, .5 its square root"
    )
    restore_folds: int = Field(default=5, ge=2, description="folds of that cross-validation, each as long as a fit")


class Search(Section):
    """Grid for choosing the two settings of `Decoding` by cross-validation on training images; changes nothing."""

    n_voxels: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = (125, 250, 450, 850, 3000, 4000)
    alphas: Annotated[tuple[Penalty, ...], Field(min_length=1), Distinct] = (0.15, 100.0, 1000.0, 10000.0)
    n_folds: int = Field(default=5, ge=2)
    n_units: int = Field(default=200, ge=1, description="random outputs of each target")


Precision = Literal["float32", "tf32", "float16"]


class Sampler(Section):
    """The image-to-image pass: noise to one index of the schedule, denoise from another."""

    n_steps: int = Field(default=50, ge=2, description="steps of the whole DDIM schedule")
    noise_index: int = Field(default=37, ge=0, description="0-based index of the noise level; 37 is timestep 741")
    denoise_steps: int = Field(default=35, ge=1, description="last steps that are run; 35 are timesteps 681 ... 1")
    guidance_scale: float = Field(default=5.0, ge=0)
    solver: Literal["ddim", "dpm_solver_pp_2m"] = Field(
        default="ddim",
        description="paper: ddim; dpm_solver_pp_2m: DPM-Solver++ (2M), of second order, which needs fewer steps",
    )
    solver_steps: int | None = Field(
        default=None,
        ge=1,
        description="of dpm_solver_pp_2m: how many of the `denoise_steps` it takes, evenly spaced from the first on "
        "(None: all)",
    )
    precision: Precision = Field(
        default="float32",
        description="of U-Net and autoencoder; z, c and the loss are float32 (bfloat16: too coarse). tf32: float32, of "
        "which NVIDIA cards since Ampere multiply 10 bits of the fraction, in stage 2 also in CLIP, several times "
        "faster; elsewhere the same as float32",
    )

    @model_validator(mode="after")
    def _within_the_schedule(self) -> "Sampler":
        if self.noise_index >= self.n_steps or self.denoise_steps > self.n_steps:
            raise ValueError(
                f"noise_index {self.noise_index} must be below, and denoise_steps {self.denoise_steps} at most, "
                f"n_steps {self.n_steps}"
            )
        if self.solver_steps is not None and self.solver == "ddim":
            raise ValueError("solver_steps is of solver dpm_solver_pp_2m; with ddim lower n_steps")
        if self.solver_steps is not None and self.solver_steps > self.denoise_steps:
            raise ValueError(f"solver_steps {self.solver_steps} must be at most denoise_steps {self.denoise_steps}")
        return self


class Guidance(Section):
    """Stage 2: refine z and c by gradient descent through the whole sampler, or by a way that costs less."""

    method: Literal["descent", "in_sampler", "before_sampler"] = Field(
        default="descent",
        description="paper: descent; in_sampler: one pass of the sampler, each step of which is steered by the loss of "
        "the clean picture that it predicts; before_sampler: descent in z through the autoencoder's decoder alone, and "
        "then one pass of the sampler",
    )
    gradient_steps: int | None = Field(
        default=None,
        ge=1,
        description="of descent: gradients pass the U-Net in the last so many denoising steps only (None: in all)",
    )
    steering: float = Field(
        default=0.2,
        gt=0,
        description="of in_sampler: size of the loss's part in each noise estimate, over the part of guidance by c",
    )
    repeats: int = Field(
        default=1,
        ge=1,
        description="of in_sampler: times that each step is taken, with noise added again between them (time travel)",
    )
    n_iterations: int = Field(
        default=300, ge=1, description="of descent and before_sampler; best_of_k draws as many pictures"
    )
    learning_rate: float = Field(default=0.01, gt=0)
    decay: float = Field(default=0.999, gt=0, le=1, description="learning rate at iteration k: rate * decay^(k+1)")
    schedule: Literal["exponential", "cosine"] = Field(
        default="exponential",
        description="exponential: by `decay`; cosine: to 0 at the last iteration, without `decay`",
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop an image after this many iterations without a lower loss (None: never)"
    )
    optimise: Literal["z_and_c", "z"] = Field(default="z_and_c", description="paper: both; released: z")
    loss: Literal["weighted", "sum", "variance_restored"] = Field(
        default="weighted",
        description="weighted: released; sum: the paper's algorithm 1; variance_restored: ours, in units of each "
        "feature's deviation, with targets whose variance is restored (decoding.restore_variance: train)",
    )
    layer_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(1.5, 1.2, 1, 1, 1, 1),
        description="one for each of structural.layers, of loss weighted; variance_restored: layers weigh the same",
    )
    latent_weight: float = Field(
        default=0.0,
        ge=0,
        description="of loss variance_restored: weight of the same loss between the sampler's final latents and "
        "the decoded z",
    )
    embedding_weight: float = Field(
        default=0.0, ge=0, le=1, description="share of the image-embedding term; 0 in the lab's run"
    )
    noise: Literal["fresh", "fixed"] = Field(
        default="fresh", description="new noise in each iteration, or stage 1's throughout"
    )
    result: Literal["lowest_loss", "last"] = Field(
        default="lowest_loss",
        description="of descent: whose picture is taken; in_sampler, before_sampler: the only one",
    )
    save_every: int = Field(
        default=10, ge=1, description="iterations between stored pictures, and states to resume from"
    )
    n_images: int | None = Field(default=None, ge=1, description="refine only the first test images (None: all)")

    @model_validator(mode="after")
    def _patience_needs_the_lowest_loss(self) -> "Guidance":
        if self.patience is not None and self.result == "last":
            raise ValueError("patience waits for a lower loss: it needs result: lowest_loss")
        return self

    @model_validator(mode="after")
    def _settings_of_descent(self) -> "Guidance":
        of_descent = {"patience": self.patience, "gradient_steps": self.gradient_steps}
        given = [name for name, value in of_descent.items() if value is not None]
        if given and self.method != "descent":
            raise ValueError(f"{given[0]} is of method descent, not of {self.method}: set it to null")
        return self

    @model_validator(mode="after")
    def _terms_of_the_loss(self) -> "Guidance":
        if self.latent_weight and self.loss != "variance_restored":
            raise ValueError(f"latent_weight is of loss variance_restored, not of {self.loss}: set it to 0")
        if self.embedding_weight and self.loss == "variance_restored":
            raise ValueError("embedding_weight is of loss weighted: set it to 0")
        return self


class RestoredGuidance(Guidance):
    """Stage 2's settings where decoded features have their variance restored: the same fields, other defaults."""

    n_iterations: int = Field(default=10, ge=1, description="and as many noises for best_of_k")
    learning_rate: float = Field(default=0.03, gt=0)
    schedule: Literal["exponential", "cosine"] = "cosine"
    loss: Literal["weighted", "sum", "variance_restored"] = "variance_restored"
    noise: Literal["fresh", "fixed"] = Field(default="fixed", description="of the descent; best_of_k's are fresh")
    result: Literal["lowest_loss", "last"] = "last"


class Restored(Section):
    """What is made of decoded features whose variance is restored (decoding.restore_variance: train); all of it ours.

    `minddiffuser/restored` is stage 1 of restored z and c. `minddiffuser/best_of_k` is the best by `guidance.loss` of
    as many noises as `guidance.n_iterations`, which costs as many U-Net calls as descending the loss.
    """

    guidance: RestoredGuidance = RestoredGuidance()
    stage2: bool = Field(
        default=False, description="also descend this loss from restored z and c: minddiffuser/restored_stage2"
    )


class Evaluation(Section):
    """Scores and their intervals."""

    image_size: int = Field(
        default=425, ge=16, description="pixels at which SSIM and PixCorr are computed; NSD's own size"
    )
    networks: Literal["imagenet", "scoring_clip"] = Field(
        default="imagenet",
        description="whose features the field's eight metrics compare: AlexNet, Inception-v3, EfficientNet-B1, SwAV "
        "and CLIP; or layers of the CLIP that scores (the miniature)",
    )
    n_way: int = Field(default=300, ge=2, description="candidates in retrieval (MindEye: 300; at most all test images)")
    n_bootstrap: int = Field(default=5000, ge=100, description="resamples of an interval")
    n_flips: int = Field(default=20000, ge=100, description="random flips of signs in a paired test")


class Controls(Section):
    """What is reconstructed besides, to know what scores are worth."""

    ranks: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Distinct] = Field(
        default=(0, 1, 3, 10, 30, 100), description="how many numbers of what was decoded reach the generator"
    )
    n_seeds: int = Field(default=3, ge=0, description="stage 1 with the noise of that many other seeds")
    n_ablated: int | None = Field(
        default=100, ge=1, description="ablations: the first images that stage 2 refines, for time (None: all of them)"
    )
    n_clusters: int = Field(
        default=40, ge=2, description="k-means clusters of training captions (Shirakawa et al.: 40)"
    )
    n_folds: int = Field(default=5, ge=2, description="folds in which clusters, or images, are held out")
    n_units: int = Field(default=200, ge=1, description="random outputs of a target that are decoded for it")


PRESETS: dict[str, dict[str, Any]] = {
    "as_released": {
        "data": {"invalid_voxels": "zero"},
        "detail": {"posterior": "sample"},
        "structural": {"normalisation": "imagenet", "stimulus_resize": "bilinear", "antialias": False},
        "units": {"method": "early_stopping"},
        "decoding": {"n_voxels_structural": (850,) * 6, "test_scaling": "test"},
        "guidance": {"optimise": "z", "result": "last"},
    },
    # The paper gives no voxel counts: these are of the decoders whose files the authors' reconstruction script opens.
    "as_loaded": {"decoding": {"n_voxels_semantic": 125, "n_voxels_detail": 4000}},
    # A fiftieth of the paper's operations, by benchmarks/stage2.py; docs/frontier.md has its quality on the miniature.
    "fast": {
        "sampler": {"solver": "dpm_solver_pp_2m", "solver_steps": 8},
        "guidance": {"n_iterations": 20, "schedule": "cosine", "learning_rate": 0.08},
    },
}
