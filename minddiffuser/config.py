"""Configuration: one YAML file an experiment, checked in full before anything heavy starts.

`experiment` holds what changes results and enters the fingerprints of the files made with it; `execution` holds
how it is run. Every default stands here once, with its unit and source: "specification" is the paper (arXiv
2303.14139) as read with the authors' released code. What the authors' code does differently, and moves
numbers, is a field named for what it does; `preset: as_released` sets them. See `PRESETS` for the others.
"""

import difflib
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

REPOSITORY = Path(__file__).parents[1]
EMBEDDING = "embedding"  # dataset of CLIP's image embedding
LAYERS = (2, 4, 6, 8, 10, 12)  # "Linear-2" ... "Linear-12": the MLP outputs of CLIP's blocks 0 ... 5


def layer_name(number: int) -> str:
    """Name of the dataset of "Linear-<number>"."""
    return f"linear_{number:02d}"


class ConfigError(Exception):
    """The configuration is wrong; the message names the file, the key, the value and the nearest valid key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    rois: tuple[str, ...] = ("VO", "V1", "V2", "V3", "V3ab", "PHC", "MT", "MST", "LO", "IPS", "hV4")


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

    layers: tuple[int, ...] = LAYERS
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
    n_voxels_structural: tuple[int, ...] = Field(default=(350, 350, 350, 250, 250, 250), description="one a layer")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="whose mean and deviation scale the test voxels; released: test (transductive)"
    )


class Search(_Section):
    """Grid for choosing the two settings of `Decoding` by cross-validation on training images; changes nothing."""

    n_voxels: tuple[int, ...] = (125, 250, 450, 850, 3000, 4000)
    alphas: tuple[float, ...] = (0.15, 100.0, 1000.0, 10000.0)
    n_folds: int = Field(default=5, ge=2)
    n_units: int = Field(default=200, ge=1, description="random outputs of each target")


class Sampler(_Section):
    """The image-to-image pass: noise to one index of the schedule, denoise from another."""

    n_steps: int = Field(default=50, ge=2, description="steps of the whole DDIM schedule")
    noise_index: int = Field(default=37, ge=0, description="0-based index of the noise level; 37 is timestep 741")
    denoise_steps: int = Field(default=35, ge=1, description="last steps that are run; 35 are timesteps 681 ... 1")
    guidance_scale: float = Field(default=5.0, ge=0)
    precision: Literal["float32", "float16"] = Field(
        default="float32", description="of U-Net and autoencoder; z, c and the loss are float32 (bfloat16: too coarse)"
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
    layer_weights: tuple[float, ...] = (1.5, 1.2, 1, 1, 1, 1)
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
    n_images: int | None = Field(default=None, description="refine only the first test images (None: all)")

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

    ranks: tuple[int, ...] = Field(
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

    forms: tuple[Literal["original", "corrected", "minddiffuser"], ...] = ("original", "corrected", "minddiffuser")
    decoder: Literal["ridge_cv", "voxel_selection"] = Field(
        default="ridge_cv",
        description="z from voxels of the stream `early` and c from `ventral`, single trials; as bundled: "
        "voxel_selection, both from the voxels, and with the decoders, of MindDiffuser",
    )
    center_targets: bool = Field(default=True, description="released: false, without an intercept either")
    alphas: tuple[float, ...] = Field(
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

    forms: tuple[Literal["original", "corrected", "minddiffuser"], ...] = ("original", "corrected", "minddiffuser")
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

    forms: tuple[Literal["original", "corrected", "classifier"], ...] = ("original", "corrected", "classifier")
    subjects: tuple[str, ...] = Field(
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

    subjects: tuple[str, ...] = ("subj01",)
    seed: int = 42
    miniature: Miniature | None = Field(
        default=None, description="what data/01_make_miniature.py makes; absent for real NSD"
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
        default=None, description="what data/03_make_god.py makes; absent for the real dataset"
    )
    semantic_brain_decoding: SemanticBrainDecoding | None = Field(
        default=None, description="null: not run; needs Generic Object Decoding and ImageNet"
    )


class Execution(_Section):
    """How it is run; nothing here enters a fingerprint."""

    nsd: Path = Field(
        default=Path("nsd"), description="folder with nsddata, nsddata_betas, nsddata_stimuli and COCO's annotations"
    )
    god: Path = Field(
        default=Path("god"),
        description="Generic Object Decoding: Subject1.h5 ..., imageID_*.csv, images/*",
    )
    imagenet: Path = Field(default=Path("imagenet"), description="ILSVRC 2012's training images, a folder a class")
    wordnet: Path | None = Field(
        default=None,
        description="folder with data.noun (None: what `make wordnet` unpacked, or /usr/share/wordnet of Debian's "
        "wordnet-base)",
    )
    runs: Path = Path("runs")
    torch_hub: Path | None = Field(
        default=None, description="folder of torch.hub with the networks that score (None: ~/.cache/torch/hub)"
    )
    device: str = "cpu"
    batch_size: int = Field(
        default=8, ge=1, description="images in one forward pass, and in one batch of reconstructions"
    )
    checkpoint_steps: bool = Field(
        default=True, description="recompute each denoising step in the backward pass, for memory"
    )
    compile: bool = Field(default=False, description="compile the U-Net (torch.compile): minutes once, then faster")


class Config(_Section):
    """One experiment."""

    name: str
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
        `section.key=value` settings that win over the file, such as `experiment.guidance.n_iterations=5`.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key or value in it is not valid.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        known = ", ".join(sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "configs").glob("*.yaml")))
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}); there are {known}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}")
    for override in overrides or []:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: expected section.key=value")
        section = values
        *parents, last = key.strip().split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {override}: {parent} is not a section")
        section[last] = yaml.safe_load(value)
    preset = PRESETS.get(values.get("preset") or "", {})
    values["experiment"] = _merged(preset, values.get("experiment") or {})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, item) for item in error.errors())) from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _explain(path: Path, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {key}: {error['msg']} (got {error['input']!r})"
    section: Any = Config
    for part in error["loc"][:-1]:
        section = section.model_fields[part].annotation
        section = next((kind for kind in get_args(section) if hasattr(kind, "model_fields")), section)  # of X | None
    valid = list(section.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(valid)}"
    return f"{path}: {key}: unknown key (value {error['input']!r}); {hint}"
