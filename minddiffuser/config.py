"""Configuration: one YAML file an experiment, checked in full before anything heavy starts.

`experiment` holds what changes results and enters the fingerprints of the files made with it; `execution` holds
how it is run. Every default stands here once, with its unit and source: "specification" is the paper (arXiv
2303.14139) as read with the authors' released code. What the authors' code does differently, and moves
numbers, is a field named for what it does; `preset: as_released` sets them. See `PRESETS` for the others.
"""

import codecs
import difflib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

REPOSITORY = Path(__file__).parents[1]
EMBEDDING = "embedding"  # dataset of CLIP's image embedding
LAYERS = (2, 4, 6, 8, 10, 12)  # "Linear-2" ... "Linear-12": the MLP outputs of CLIP's blocks 0 ... 5


def layer_name(number: int) -> str:
    """Name of the dataset of "Linear-<number>"."""
    return f"linear_{number:02d}"


class ConfigError(Exception):
    """The configuration is wrong; the message names the file, the key, the value and the nearest valid key."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: given more than once")
    return values


def _folder_name(name: str) -> str:
    if name in ("", ".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in name) or name != name.strip():
        raise ValueError(f"{name!r} is to be the name of a folder: without / or \\, not empty, and not .. or .")
    return name


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("a path is expected")
    return value


Name = Annotated[str, AfterValidator(_folder_name)]  # a folder of results is called so
Place = Annotated[Path, BeforeValidator(_path)]
Count = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(gt=0)]
Distinct = AfterValidator(_distinct)  # each of them is run, or written, by itself


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    """Which betas are read and how they become rows (specification: 37 of 40 sessions, 11 ROIs)."""

    sessions: int = Field(default=37, ge=1, description="sessions used; the later ones are left out")
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
    rois: Annotated[tuple[str, ...], Field(min_length=1), Distinct] = (
        "VO", "V1", "V2", "V3", "V3ab", "PHC", "MT", "MST", "LO", "IPS", "hV4",
    )  # fmt: skip


class Miniature(_Section):
    """Size of the simulated NSD (real NSD: 1000 shared, 9000 own, 40 sessions, ROI scale 1)."""

    n_shared: int = Field(default=110, ge=2)
    n_own: int = Field(default=1050, ge=2)
    sessions: int = Field(default=40, ge=1, description="sessions recorded, of which data.sessions are used")
    roi_scale: float = Field(default=0.2, gt=0, le=1, description="voxels, as a share of those of NSD's subject 1")


class MiniatureGod(_Section):
    """Size of the simulated Generic Object Decoding, and of the ImageNet beside it.

    The real one: 150 training categories of 8 images, 50 test categories of one image, 35 and 10 repetitions.
    """

    n_training: int = Field(default=24, ge=2, description="training images of a category, each shown once")
    n_test: int = Field(default=2, ge=1, description="test images of a category")
    n_repetitions: int = Field(default=16, ge=1, description="of each test image")
    n_imagery: int = Field(default=2, ge=0, description="times that each test image is imagined")
    n_bank: int = Field(default=60, ge=1, description="ImageNet's images of a class, besides those of the experiment")
    roi_scale: float = Field(default=0.5, gt=0, le=1, description="voxels, as a share of those of Subject1")


class Models(_Section):
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


class Semantic(_Section):
    """The target c: the text encoder's last hidden state, averaged over captions."""

    max_length: int = Field(default=15, ge=3, description="tokens, with begin and end of text")
    n_captions: int = Field(default=5, ge=1)


class Detail(_Section):
    """The target z: the autoencoder's latents."""

    image_size: int = Field(default=512, ge=8, multiple_of=8, description="pixels")
    posterior: Literal["mean", "sample"] = Field(default="mean", description="released: sample")


class Structural(_Section):
    """The target Z_CLIP: outputs of the first MLPs of the guiding CLIP, and how pictures are given to it."""

    layers: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = LAYERS
    normalisation: Literal["clip", "imagenet"] = Field(default="clip", description="released: imagenet")
    stimulus_resize: Literal["bicubic", "bilinear"] = Field(default="bicubic", description="released: bilinear")
    generated_resize: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = Field(default=True, description="released: false")


class Units(_Section):
    """Which units of each CLIP layer are decoded: the share whose cross-validated correlation is highest."""

    keep: float = Field(default=0.25, gt=0, le=1)
    n_folds: int = Field(default=5, ge=2)
    method: Literal["ridge", "early_stopping"] = Field(
        default="ridge", description="released: early_stopping (himalaya's SparseGroupLassoCV at its defaults)"
    )
    alpha: float = Field(default=1000.0, gt=0, description="penalty of method ridge")


class Decoding(_Section):
    """Ridge regression with voxel selection (FastL2LiR); alpha is not scaled by the number of rows."""

    alpha: float = Field(default=0.15, gt=0)
    n_voxels_semantic: int = Field(default=450, ge=1)
    n_voxels_detail: int = Field(default=3000, ge=1)
    n_voxels_structural: tuple[Count, ...] = Field(default=(350, 350, 350, 250, 250, 250), description="one a layer")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="whose mean and deviation scale the test voxels; released: test (transductive)"
    )


class Search(_Section):
    """Grid for choosing the two settings of `Decoding` by cross-validation on training images; changes nothing."""

    n_voxels: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = (125, 250, 450, 850, 3000, 4000)
    alphas: Annotated[tuple[Penalty, ...], Field(min_length=1), Distinct] = (0.15, 100.0, 1000.0, 10000.0)
    n_folds: int = Field(default=5, ge=2)
    n_units: int = Field(default=200, ge=1, description="random outputs of each target")


Precision = Literal["float32", "tf32", "float16"]


class Sampler(_Section):
    """The image-to-image pass: noise to one index of the schedule, denoise from another."""

    n_steps: int = Field(default=50, ge=2, description="steps of the whole DDIM schedule")
    noise_index: int = Field(default=37, ge=0, description="0-based index of the noise level; 37 is timestep 741")
    denoise_steps: int = Field(default=35, ge=1, description="last steps that are run; 35 are timesteps 681 ... 1")
    guidance_scale: float = Field(default=5.0, ge=0)
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
        return self


class Guidance(_Section):
    """Stage 2: refine z and c by gradient descent through the whole sampler."""

    n_iterations: int = Field(default=300, ge=1)
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
    loss: Literal["weighted", "sum"] = Field(
        default="weighted", description="weighted: released; sum: the paper's algorithm 1"
    )
    layer_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(1.5, 1.2, 1, 1, 1, 1), description="one for each of structural.layers"
    )
    embedding_weight: float = Field(
        default=0.0, ge=0, le=1, description="share of the image-embedding term; 0 in the lab's run"
    )
    noise: Literal["fresh", "fixed"] = Field(
        default="fresh", description="new noise in each iteration, or stage 1's throughout"
    )
    result: Literal["lowest_loss", "last"] = "lowest_loss"
    save_every: int = Field(
        default=10, ge=1, description="iterations between stored pictures, and states to resume from"
    )
    n_images: int | None = Field(default=None, ge=1, description="refine only the first test images (None: all)")

    @model_validator(mode="after")
    def _patience_needs_the_lowest_loss(self) -> "Guidance":
        if self.patience is not None and self.result == "last":
            raise ValueError("patience waits for a lower loss: it needs result: lowest_loss")
        return self


class Evaluation(_Section):
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


class Controls(_Section):
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


class Takagi(_Section):
    """The rival of Takagi & Nishimoto (CVPR 2023), in the forms of `TAKAGI_FORMS`; defaults are of "corrected"."""

    forms: Annotated[tuple[Literal["original", "corrected", "minddiffuser"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "minddiffuser",
    )  # fmt: skip
    decoder: Literal["ridge_cv", "voxel_selection"] = Field(
        default="ridge_cv",
        description="z from voxels of the stream `early` and c from `ventral`, single trials; as bundled: "
        "voxel_selection, both from the voxels, and with the decoders, of MindDiffuser",
    )
    center_targets: bool = Field(default=True, description="released: false, without an intercept either")
    alphas: Annotated[tuple[Penalty, ...], Field(min_length=1), Distinct] = Field(
        default=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), description="of which each output gets its own"
    )
    n_voxels_semantic: int = Field(default=250, ge=1, description="of decoder voxel_selection")
    n_voxels_detail: int = Field(default=4000, ge=1, description="of decoder voxel_selection")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="of decoder voxel_selection; as bundled: test"
    )
    image_share: float = Field(
        default=0.625,
        gt=0,
        le=1,
        description="size of the pictures that z is of: 320 of detail.image_size's 512; voxel_selection: all",
    )
    max_length: int | None = Field(
        default=None,
        ge=3,
        description="tokens of c (None: all that the encoder has, 77); voxel_selection: those of semantic",
    )
    posterior: Literal["mean", "sample"] = Field(
        default="mean", description="released: sample; as bundled: sample, when encoding again"
    )
    encoded_range: Literal["model", "unit"] = Field(
        default="model", description="what is encoded again: [-1, 1], or [0, 1] (as bundled: unit)"
    )
    sampler: Sampler = Field(
        default=Sampler(n_steps=50, noise_index=39, denoise_steps=40, guidance_scale=5.0),
        description="strength .8 of 50 steps; released: noise_index 40, one step noisier than denoising takes it to be",
    )
    n_samples: int = Field(default=5, ge=1, description="of each image; as bundled: 1")

    @model_validator(mode="after")
    def _with_a_noisier_step(self) -> "Takagi":
        if self.sampler.denoise_steps >= self.sampler.n_steps:
            raise ValueError(
                f"denoise_steps {self.sampler.denoise_steps} must be below n_steps {self.sampler.n_steps}: the form "
                "`original` starts one step noisier"
            )
        return self


class Ozcelik(_Section):
    """The rival of Ozcelik et al. (IJCNN 2022), in the forms of `OZCELIK_FORMS`; defaults are of "corrected"."""

    forms: Annotated[tuple[Literal["original", "corrected", "minddiffuser"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "minddiffuser",
    )  # fmt: skip
    generator: str = Field(
        default="models/icgan_biggan_imagenet_res256", description="folder of IC-GAN's public checkpoint"
    )
    instance_encoder: str = Field(
        default="swav_resnet50", description="SwAV's network, or a transformers folder with a ResNet"
    )
    decoder: Literal["ridge", "voxel_selection"] = Field(default="ridge", description="as bundled: voxel_selection")
    alpha_instance: float = Field(default=500.0, gt=0)
    alpha_noise: float = Field(default=1.0, gt=0)
    alpha_dense: float = Field(default=100.0, gt=0)
    restore_variance: Literal["train", "test", "none"] = Field(
        default="train",
        description="whose predictions' statistics bring decoded instance features to the training images' mean and "
        "deviation; released: test (transductive); as bundled: none",
    )
    unit_length: bool = Field(default=True, description="bring them to length 1; released: false; as bundled: false")
    noise: Literal["decoded", "random"] = Field(
        default="decoded", description="decoded noise and dense vectors, or fresh noise alone; as bundled: random"
    )
    n_voxels: int = Field(default=200, ge=1, description="of decoder voxel_selection")
    n_training: int | None = Field(
        default=None, ge=2, description="first training images (None: all; as bundled: 8000)"
    )
    test_scaling: Literal["train", "test"] = Field(default="train", description="of test voxels; as bundled: test")
    inversion_steps: int = Field(default=200, ge=1, description="to find the noise and dense vectors of a picture")
    inversion_rate: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _held_out_by_the_same_regression(self) -> "Ozcelik":
        if self.decoder == "voxel_selection" and self.restore_variance == "train":
            raise ValueError("restore_variance: train is of decoder: ridge; set it to test or none")
        return self


class SemanticBrainDecoding(_Section):
    """The rival of Ferrante et al. (arXiv 2212.06726), in the forms of `CONCEPT_FORMS`; defaults are of "corrected".

    It has data of its own: Generic Object Decoding (Horikawa & Kamitani 2017).
    """

    forms: Annotated[tuple[Literal["original", "corrected", "classifier"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "classifier",
    )  # fmt: skip
    subjects: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] = Field(
        default=("Subject1", "Subject2", "Subject3", "Subject4", "Subject5"), description="as their files are called"
    )
    roi: str = "ROI_VC"
    run_grouping: Literal["by_type", "as_released"] = Field(
        default="by_type",
        description="which trials are scaled together: a run (of tests: all images); released: as_released, runs "
        "of equal number of training, test and imagery",
    )
    network: Literal["resnet50", "scoring_clip"] = Field(
        default="resnet50",
        description="whose pooled features are decoded (resnet50: torchvision's first weights)",
    )
    image_size: int = Field(default=224, ge=32, description="pixels, of the shorter side")
    batch_norm: Literal["evaluation", "training"] = Field(
        default="evaluation",
        description="statistics of the stimuli's features; released: training, those of a batch of 64 images",
    )
    bank_per_class: int = Field(default=500, ge=1, description="ImageNet images of each class in the bank, at random")
    bank_has_stimuli: bool = Field(
        default=False, description="may the bank have the very images of the experiment; released: true"
    )
    training_rows: Literal["all", "split"] = Field(
        default="all", description="trials to fit on; released: split, nine tenths, the others only for errors"
    )
    alpha: float = Field(default=1000.0, gt=0)
    restore_variance: Literal["train", "test", "none"] = Field(
        default="train",
        description="whose predictions' statistics bring decoded features to the training images' mean and deviation: "
        "of held-out training trials, for as many trials as were averaged; released: test (transductive)",
    )
    labels: Literal["neighbours", "classifier"] = Field(
        default="neighbours", description="nearest in the bank, or first by the network's own last layer"
    )
    n_labels: int = Field(default=5, ge=1, description="of each image; the first is what is scored")
    n_pictures: int = Field(default=5, ge=1, description="of each image: one of each of its first labels")
    prompt: str = "An image of a {label}"
    n_steps: int = Field(default=50, ge=2, description="of Stable Diffusion's PNDM sampler")
    guidance_scale: float = Field(default=7.5, ge=0)
    safety_checker: bool = Field(
        default=False, description="make pictures black that Stable Diffusion's checker flags, as the authors did"
    )

    @model_validator(mode="after")
    def _pictures_of_labels(self) -> "SemanticBrainDecoding":
        if self.prompt.replace("{label}", "").count("{") or "{label}" not in self.prompt:
            raise ValueError(f"prompt {self.prompt!r} must have {{label}}, and nothing else in braces")
        if self.n_pictures > self.n_labels:
            raise ValueError(f"n_pictures {self.n_pictures} must be at most n_labels {self.n_labels}")
        return self


class Experiment(_Section):
    """All that changes results."""

    subjects: Annotated[tuple[Name, ...], Distinct] = Field(
        default=("subj01",), description="of NSD; none where only semantic_brain_decoding is run"
    )
    seed: int = 42
    miniature: Miniature | None = Field(
        default=None, description="what miniature/01_make_miniature.py makes; absent for real NSD"
    )
    data: Data = Data()
    models: Models = Models()
    semantic: Semantic = Semantic()
    detail: Detail = Detail()
    structural: Structural = Structural()
    units: Units = Units()
    decoding: Decoding = Decoding()
    search: Search = Search()
    sampler: Sampler = Sampler()
    guidance: Guidance = Guidance()
    evaluation: Evaluation = Evaluation()
    controls: Controls = Controls()
    takagi: Takagi | None = Field(default=Takagi(), description="null: not run")
    ozcelik: Ozcelik | None = Field(default=Ozcelik(), description="null: not run; needs IC-GAN's weights")
    miniature_god: MiniatureGod | None = Field(
        default=None, description="what miniature/03_make_god.py makes; absent for the real dataset"
    )
    semantic_brain_decoding: SemanticBrainDecoding | None = Field(
        default=None, description="null: not run; needs Generic Object Decoding and ImageNet"
    )

    @model_validator(mode="after")
    def _of_somebody(self) -> "Experiment":
        if not self.subjects and self.semantic_brain_decoding is None:
            raise ValueError("subjects are empty, and semantic_brain_decoding is null: nothing would be run")
        return self

    @model_validator(mode="after")
    def _one_number_a_layer(self) -> "Experiment":
        n_layers = len(self.structural.layers)
        for name, values in (
            ("decoding.n_voxels_structural", self.decoding.n_voxels_structural),
            ("guidance.layer_weights", self.guidance.layer_weights),
        ):
            if len(values) != n_layers:
                raise ValueError(
                    f"{name} has {len(values)} numbers for {n_layers} structural.layers: one each is needed"
                )
        return self


class BatchSize(_Section):
    """Images at a time, by kind of work: as many as a card of 24 GB holds at the real size, and somewhat fewer.

    A plain number in its place is for all kinds. Results do not depend on it.
    """

    encode: int = Field(
        default=4,
        ge=1,
        description="stimuli through encoders (11 to 14, 29, 35, and 37's instances): the autoencoder takes up to "
        "2.5 GB a picture of 512 pixels in float32",
    )
    generate: int = Field(
        default=4,
        ge=1,
        description="pictures without gradients (31, 33, 36, 38, 39): 4.3 GB of weights in float32, and up to 2.5 GB a "
        "picture in the autoencoder's decoder",
    )
    refine: int = Field(
        default=1,
        ge=1,
        description="pictures with gradients (32, 34, and 37's inversion): those of one guided call of the U-Net, of "
        "one block of the decoder, and of CLIP, some 10 GB a picture where checkpoint_steps is true",
    )
    score: int = Field(
        default=16,
        ge=1,
        description="pictures through the networks that score (40, 41): up to .5 GB a picture in LPIPS",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_number_for_all(cls, value: Any) -> Any:
        if type(value) is int and value < 1:
            raise ValueError(f"{value} images at a time: at least 1 is needed")
        return dict.fromkeys(cls.model_fields, value) if type(value) is int else value


class Execution(_Section):
    """How it is run; nothing here enters a fingerprint."""

    nsd: Place = Field(
        default=Path("nsd"), description="folder with nsddata, nsddata_betas, nsddata_stimuli and COCO's annotations"
    )
    god: Place = Field(
        default=Path("god"),
        description="Generic Object Decoding: Subject1.h5 ..., imageID_*.csv, images/*",
    )
    imagenet: Place = Field(default=Path("imagenet"), description="ILSVRC 2012's training images, a folder a class")
    wordnet: Place | None = Field(
        default=None,
        description="folder with data.noun (None: what `make wordnet` unpacked, or /usr/share/wordnet of Debian's "
        "wordnet-base)",
    )
    runs: Place = Path("runs")
    torch_hub: Place | None = Field(
        default=None, description="folder of torch.hub with the networks that score (None: ~/.cache/torch/hub)"
    )
    device: str = "cpu"
    batch_size: BatchSize = BatchSize()
    checkpoint_steps: bool = Field(
        default=True, description="recompute each denoising step in the backward pass, for memory"
    )
    compile: bool = Field(default=False, description="compile the U-Net (torch.compile): minutes once, then faster")


class Config(_Section):
    """One experiment."""

    name: Name
    preset: Literal["as_released", "as_loaded", "fast"] | None = None
    experiment: Experiment = Experiment()
    execution: Execution = Execution()

    def folder(self, subject: str | None = None) -> Path:
        """Folder of the experiment's results, or of one subject's."""
        folder = REPOSITORY / self.execution.runs / self.name
        return folder / subject if subject else folder

    @property
    def nsd(self) -> Path:
        """Root of the Natural Scenes Dataset."""
        return REPOSITORY / self.execution.nsd

    @property
    def god(self) -> Path:
        """Root of Generic Object Decoding."""
        return REPOSITORY / self.execution.god

    @property
    def wordnet(self) -> Path:
        """Folder of WordNet."""
        if self.execution.wordnet is not None:
            return REPOSITORY / self.execution.wordnet
        unpacked = REPOSITORY / "models" / "wordnet" / "usr" / "share" / "wordnet"
        return unpacked if unpacked.is_dir() else Path("/usr/share/wordnet")


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
    # About an eighth of the U-Net calls: in the proportions that benchmarks/fast_settings.py chose on the miniature.
    # Noise at timestep 721 (741 by default), denoising from 681 as by default.
    "fast": {
        "sampler": {"n_steps": 25, "noise_index": 18, "denoise_steps": 18},
        "guidance": {"n_iterations": 75, "schedule": "cosine", "learning_rate": 0.04},
    },
}

# What sets the forms of the rivals apart; everything else is as the configuration says. "original" is what the authors
# of each released, "minddiffuser" what MindDiffuser's authors compared with.
TAKAGI_FORMS: dict[str, dict[str, Any]] = {
    "original": {"center_targets": False, "posterior": "sample"},
    "corrected": {},
    "minddiffuser": {
        "decoder": "voxel_selection",
        "test_scaling": "test",
        "encoded_range": "unit",
        "posterior": "sample",
        "n_samples": 1,
    },
}
OZCELIK_FORMS: dict[str, dict[str, Any]] = {
    "original": {"restore_variance": "test", "unit_length": False},
    "corrected": {},
    "minddiffuser": {
        "decoder": "voxel_selection",
        "restore_variance": "none",
        "unit_length": False,
        "noise": "random",
        "n_training": 8000,
        "test_scaling": "test",
    },
}

CONCEPT_FORMS: dict[str, dict[str, Any]] = {
    "original": {
        "run_grouping": "as_released",
        "batch_norm": "training",
        "bank_has_stimuli": True,
        "training_rows": "split",
        "restore_variance": "test",
    },
    "corrected": {},
    "classifier": {"labels": "classifier"},
}


def takagi_form(experiment: Experiment, settings: Takagi, form: str) -> Takagi:
    """Give the settings of a form of Takagi's method, some of which depend on others of the experiment."""
    changes = dict(TAKAGI_FORMS[form])
    if form == "original":  # CompVis' script counts steps, and takes the noise level after the last of them
        changes["sampler"] = settings.sampler.model_copy(update={"noise_index": settings.sampler.denoise_steps})
    if form == "minddiffuser":
        changes["sampler"] = experiment.sampler
    return settings.model_copy(update=changes)


def ozcelik_form(settings: Ozcelik, form: str) -> Ozcelik:
    """Give the settings of a form of Ozcelik's method."""
    return settings.model_copy(update=OZCELIK_FORMS[form])


def concept_form(settings: SemanticBrainDecoding, form: str) -> SemanticBrainDecoding:
    """Give the settings of a form of Semantic Brain Decoding."""
    return settings.model_copy(update=CONCEPT_FORMS[form])


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : Path
        YAML file. Values in it win over those of its `preset`, which win over the defaults.
    overrides : list of str
        `section.key=value` settings that win over the file, such as `experiment.guidance.n_iterations=5`. Where the
        key is of a text, the value is taken as it stands; elsewhere it is YAML.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key or value in it is not valid.
    """
    try:
        values = _parse_yaml(_read_text(path))
    except OSError as error:
        known = ", ".join(sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "configs").glob("*.yaml")))
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}); there are {known}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}")
    values = _sections(Config, values or {}, f"{path}: ")
    for override in overrides or []:
        _override(values, override)
    preset = values.get("preset")
    values["experiment"] = _merged(
        PRESETS.get(preset, {}) if isinstance(preset, str) else {}, values.get("experiment", {})
    )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, overrides or [], item) for item in error.errors())) from error


def _read_text(path: Path) -> str:
    """Read a file that should be UTF-8; UTF-16 and UTF-32 are known by their first bytes."""
    content = path.read_bytes()
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}  # UTF-32's begins with UTF-16's
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content and encoding == "utf-8-sig":
            raise ValueError("not a text, but a binary file; is another file meant?") from error
        line = content.count(b"\n", 0, error.start) + 1
        looks = "Latin-1 or Windows-1252" if encoding == "utf-8-sig" else f"broken {encoding.upper()}"
        raise ValueError(
            f"not in UTF-8, but perhaps {looks}: byte {content[error.start]:#04x} in line {line}; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("not a text in UTF-8: it has bytes of zero; save it as UTF-8, or is another file meant?")
    return text


class _Loader(yaml.SafeLoader):
    """YAML, in which a key that is there twice is an error: the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        first = {(key.tag, key.value): key for key in reversed(keys)}
        for key in keys:
            before = first[key.tag, key.value]
            if before is not key:
                again = f"{key.value} is there twice, first in line {before.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(None, None, again, key.start_mark)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> Any:
    """Parse YAML; ValueError says in one line what is wrong and where."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        what = " ".join(filter(None, (error.context, error.problem)))
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"not valid YAML: {what}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-99-99 is a ValueError
        reason = str(error).splitlines()[0]
        raise ValueError(f"not valid YAML: {reason}") from error


def _section_of(annotation: Any) -> type[_Section] | None:
    """Give the section that a field is of: also of `X | None`."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, _Section)), None)


def _sections(kind: type[_Section], values: dict[Any, Any], where: str, prefix: str = "") -> dict[Any, Any]:
    """Check that what should be a section is one; leave out sections that are empty, except those that may be null."""
    found = {}
    for key, value in values.items():
        field = kind.model_fields.get(key) if isinstance(key, str) else None
        below = _section_of(field.annotation) if field else None
        if field is None or below is None or (value is None and type(None) in get_args(field.annotation)):
            found[key] = value
        elif isinstance(value, dict):
            found[key] = _sections(below, value, where, f"{prefix}{key}.")
        elif type(value) is int and below is BatchSize:
            found[key] = value
        elif value is not None:
            raise ConfigError(
                f"{where}{prefix}{key} is a section, with keys such as {_some_keys(below)}; got {_shortly(value)}"
            )
    return found


def _some_keys(kind: type[_Section]) -> str:
    return ", ".join(list(kind.model_fields)[:4])


def _override(values: dict[Any, Any], override: str) -> None:
    """Put one setting of the command line where it belongs in the values of the file."""
    said = f"--set {override}: "
    dotted, separator, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"{said}expected section.key=value")
    kind: type[_Section] = Config
    for depth, part in enumerate(parts):
        name = ".".join(parts[: depth + 1])
        field = kind.model_fields.get(part)
        if field is None:
            raise ConfigError(f"{said}{name}: unknown key; {_hint(kind, part)}")
        below, optional = _section_of(field.annotation), type(None) in get_args(field.annotation)
        if depth == len(parts) - 1:
            break
        if below is None:
            raise ConfigError(f"{said}{name} is not a section: nothing can be set below it")
        present = values.get(part)
        values[part] = dict.fromkeys(below.model_fields, present) if type(present) is int else present or {}
        values, kind = values[part], below
    text = text.strip()
    if _is_text(field.annotation):
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]
        values[part] = None if optional and text == "null" else text[1:-1] if quoted else text
        return
    try:
        value = _parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{said}{error}") from error
    if below is not None and value is None and not optional:
        raise ConfigError(f"{said}{name} is a section, with keys such as {_some_keys(below)}; it cannot be null")
    (new,) = _sections(kind, {part: value}, said, f"{name.removesuffix(part)}").values()
    present = values.get(part)
    values[part] = _merged(present, new) if isinstance(present, dict) and isinstance(new, dict) else new


def _is_text(annotation: Any) -> bool:
    """Tell whether a field is a text: a string, a path, one of some words, or nothing."""
    if annotation in (str, Path, type(None)):
        return True
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    parts = get_args(annotation)
    return type(None) in parts and all(map(_is_text, parts))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _explain(path: Path, overrides: list[str], error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    set_here = [text for text in overrides if f"{key}.".startswith(f"{text.partition('=')[0].strip()}.")]
    where = f"--set {set_here[-1]}" if set_here else str(path)
    if error["type"] == "missing":
        return f"{where}: {key} is missing"
    if error["type"] == "extra_forbidden":
        section: Any = Config
        for part in error["loc"][:-1]:
            section = _section_of(section.model_fields[part].annotation)
        return f"{where}: {key}: unknown key (value {_shortly(error['input'])}); {_hint(section, error['loc'][-1])}"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type":
        text += "; quotes make one of it"
    said_already = error["type"] == "value_error"
    return f"{where}: {key}: {text}" + ("" if said_already else f" (got {_shortly(error['input'])})")


def _shortly(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def _hint(section: type[_Section], key: Any) -> str:
    """Say which key may have been meant, or which there are."""
    valid = list(section.model_fields)
    near = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(valid)}"
