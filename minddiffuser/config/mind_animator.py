"""Mind-Animator, which decodes films, on the dataset CC2017, and what sets its forms apart.

"original" is what its authors released (github.com/ReedOnePeck/MindAnimator). "corrected" is without its slips, and
"change" is corrected with a motion generator of ours. Defaults are of "corrected".
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from minddiffuser.config.method import Precision
from minddiffuser.config.section import Count, Distinct, Name, Section

Share = Annotated[float, Field(ge=0, le=1)]


class FilmVoxels(Section):
    """Which vertices are decoded from, and how a recording becomes rows of them."""

    n: int = Field(default=4500, ge=1, description="vertices of the cortex, the most reproducible in training films")
    ranking: Literal["p", "clipped_p"] = Field(
        default="p",
        description="p: by the p of a t-test over training films; released: clipped_p, by min(n_vertices p, 1), where "
        "all vertices above a small p are tied, and the lowest vertex numbers are taken",
    )
    tail: Literal["positive", "two_sided"] = Field(
        default="positive", description="released: two_sided, so that vertices that repeat negatively qualify"
    )
    detrend_order: int = Field(default=4, ge=0, description="of the polynomial taken from each run")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="whose mean and deviation scale the test rows; released: test (transductive)"
    )
    extra_lag: int = Field(
        default=0,
        ge=-1,
        le=4,
        description="volumes, on top of the 4 s that the released pairing has from start to start",
    )
    n_volumes: int = Field(
        default=1, ge=1, description="volumes of a clip; with 2 a brain without direction selectivity knows directions"
    )
    exclude: dict[Name, tuple[str, ...]] = Field(
        default={"Subject03": ("test2_9",)}, description="runs left out, such as test2_9, by subject (recorded late)"
    )
    invalid: Literal["error", "zero"] = Field(
        default="error", description="vertices constant or NaN in a run: stop, or use their mean"
    )


class Clips(Section):
    """The clips that films are cut into: two seconds each."""

    frame_step: int = Field(default=8, ge=1, description="frames of the film from one taken frame to the next")
    n_frames: int = Field(default=8, ge=2, le=11, description="the generator looks at ten, as released, and adds one")
    size: int = Field(default=512, ge=8, multiple_of=8, description="pixels, whatever the film's aspect")
    posterior: Literal["mean", "sample"] = Field(default="mean", description="of the latents; released: sample")
    middle_frame: int = Field(default=3, ge=0, description="frame whose image embedding is a target, from 0")
    join_above: float = Field(
        default=0.05,
        ge=0,
        description="captions of first and last frame are joined where their similarities to the middle frame differ "
        "by more; else one of them is drawn",
    )


class SemanticNetwork(Section):
    """The semantic decoder: vertices to a CLIP embedding f, and from f to the tokens of c."""

    width: int = Field(default=512, ge=1, description="of f, and so of the CLIP embeddings that it is compared with")
    n_blocks: int = Field(default=3, ge=0)
    hidden: tuple[Count, ...] = (2048, 4096)
    epochs: int = Field(default=31, ge=1, description="the authors took epoch 30, counted from 0")
    learning_rate: float = Field(default=2e-4, gt=0)
    decay: float = Field(default=0.999, gt=0, le=1, description="of the rate, for each epoch")
    contrast_weight: float = Field(default=0.01, ge=0, description="of the InfoNCE terms")
    projection_weight: float = Field(default=0.5, ge=0, description="of the error of c")
    duplicates: Literal["soft", "false_negatives"] = Field(
        default="soft",
        description="clips of a batch with equal captions: all are right answers; released: "
        "false_negatives, where all but its own are wrong",
    )
    eda: Literal["synonyms", "order", "none"] = Field(
        default="synonyms",
        description="captions are varied in training: words are swapped and left out (order), and replaced and joined "
        "by nouns of the same meaning in WordNet, which must be there (synonyms); released: synonyms",
    )
    crop: Literal["per_image", "per_epoch"] = Field(
        default="per_image", description="of the middle frames in training; released: per_epoch, one window for all"
    )
    n_variations: int = Field(
        default=31,
        ge=1,
        description="of each caption and middle frame, which are made once; epochs take them in turn (the released "
        "code makes another one in each epoch)",
    )


class StructureNetwork(Section):
    """The structure decoder: vertices to the latents of the first frame."""

    width: int = Field(default=1024, ge=1)
    n_blocks: int = Field(default=2, ge=0)
    epochs: int = Field(default=76, ge=1, description="the authors took epoch 75, counted from 0")
    learning_rate: float = Field(default=1e-6, gt=0)
    decay: float = Field(default=0.999, gt=0, le=1, description="of the rate, for each epoch")
    l1: float = Field(default=4e-6, ge=0, description="weight of the sum of all absolute weights")
    l1_rate: float = Field(default=5e-5, ge=0, description="that weight falls by exp(-rate x epoch)")
    l1_compounds: bool = Field(default=False, description="released: true, exp(-rate x epoch) again in each epoch")


class Sparsify(Section):
    """Voxels are set to zero at random in training, as augmentation."""

    semantic: Share = Field(default=0.2, description="share of all entries that are chosen for the semantic decoder")
    structure: Share = Field(default=0.4, description="... for the structure decoder")
    zeroed: Share = Field(default=0.5, description="share of the chosen ones that are zeroed")
    accumulate: bool = Field(
        default=False, description="released: true, into the data themselves, so that zeros add up over epochs"
    )
    validation: bool = Field(default=False, description="released: true, for the structure decoder")


class Motion(Section):
    """The motion generator (CMG): latents of frames 2 to 8, one after the other, given the first and the vertices."""

    inner: int = Field(default=1024, ge=1, description="width of queries, keys and values, all heads together")
    heads: int = Field(default=4, ge=1)
    d_ff: int = Field(default=768, ge=1)
    n_layers: int = Field(default=2, ge=1)
    n_memory: int = Field(
        default=1, ge=1, description="tokens that the vertices become; with the released 1 their attention is constant"
    )
    train_mask: Literal["per_step", "once"] = Field(
        default="per_step", description="when the random mask is drawn; released: once, for all clips and epochs"
    )
    train_keep: Share = Field(default=0.6, description="chance that a later frame sees an earlier one in training")
    infer_keep: Share = Field(
        default=1.0, description="the same when films are made; released: 0, only the first and the one before matter"
    )
    learning_rate: Annotated[float, Field(gt=0)] | Literal["noam"] = Field(
        default="noam", description="noam: the released schedule, d**-.5 min(step**-.5, step warm_up**-1.5)"
    )
    warm_up: int = Field(default=50, ge=1, description="steps, of noam")
    epochs: int = Field(default=71, ge=1, description="the authors took epoch 70, counted from 0")
    l1: float = Field(default=6e-7, ge=0, description="weight of the sum of all absolute weights")
    l1_rate: float = Field(default=1e-3, ge=0, description="that weight falls by exp(-rate x epoch)")
    l1_compounds: bool = Field(default=False, description="released: true, exp(-rate x epoch) again in each epoch")
    first: Literal["decoded", "true"] = Field(
        default="decoded", description="first frame in training: decoded while held out; released: true"
    )
    output: Literal["normalised", "change"] = Field(
        default="normalised",
        description="normalised: the next frame leaves a norm, as released; change (ours): it is added to the last one",
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Motion":
        if self.inner % self.heads:
            raise ValueError(f"inner {self.inner} must be a multiple of heads {self.heads}")
        return self


class Video(Section):
    """The inflated Stable Diffusion, which makes films of latents of frames and of c; nothing of it is trained."""

    n_steps: int = Field(default=50, ge=2, le=1000, description="of the DDIM schedule, in each direction")
    start: Literal["inversion", "latents"] = Field(
        default="inversion",
        description="what is noised: inversion, the latents after DDIM backwards, as released, and all steps are run; "
        "latents, the latents themselves, and the steps from the one nearest to `renoise` on are run, a quarter of the "
        "work or less",
    )
    renoise: int = Field(default=200, ge=1, le=999, description="timestep whose noise is added to that")
    guidance_scale: float = Field(default=12.5, ge=0)
    noise: Literal["shared", "per_frame"] = Field(
        default="shared",
        description="that noise: the same for all frames of a clip; released: per_frame, where still latents flicker",
    )
    group_norm: Literal["pooled", "per_frame"] = Field(
        default="pooled", description="frames of a clip that share the statistics of group normalisation: all, or none"
    )
    keys: Literal["first_and_previous", "first"] = Field(
        default="first_and_previous", description="frames whose keys and values a frame's self-attention meets"
    )
    temporal_bias: Literal["zero", "random"] = Field(
        default="zero",
        description="of the attention over time, which is not trained; released: random, another one in each process",
    )
    inversion_length: Literal["c", "encoder"] = Field(
        default="c",
        description="tokens of the empty caption in the inversion: as many as c has; released: encoder, as many as the "
        "text encoder takes (77)",
    )
    negative_prompt: str = Field(
        default="Not like the real scene, Distorted and blurred body, blurry,bad proportions,out of frame,disfigured",
        description="what guidance leads away from, cut to the length of c",
    )
    precision: Precision = Field(default="float32", description="of U-Net and autoencoder, as sampler.precision")


class FilmMetrics(Section):
    """What scores films. Networks that are not on the machine leave their scores absent."""

    networks: Literal["published", "scoring_clip"] = Field(
        default="published",
        description="published: those of the fields below; scoring_clip: the CLIP that scores stands in for all "
        "(the miniature)",
    )
    image_classifier: str = Field(default="google/vit-base-patch16-224", description="a ViT, on the hub or a folder")
    image_classifier_revision: str | None = Field(
        default="3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3", description="commit on the hub"
    )
    video_classifier: str = Field(
        default="MCG-NJU/videomae-base-finetuned-kinetics", description="a VideoMAE, on the hub or a folder"
    )
    video_classifier_revision: str | None = Field(
        default="488eb9a0565f257b32866000305c8178965eb9f6", description="commit on the hub"
    )
    vifi: str | None = Field(
        default=None,
        description="checkpoint of ViFi-CLIP, k400_seed1_vifi_clip_base2novel.pth of "
        "github.com/muzairkhattak/ViFi-CLIP (null: no VIFI score, and no gated consistency)",
    )
    clip: str = Field(default="ViT-B-32-quickgelu", description="that compares neighbouring frames")
    clip_weights: str | None = "openai"
    gate: float = Field(
        default=0.6, ge=-1, le=1, description="VIFI score up to which the gated CLIP consistency of a clip is 0"
    )
    n_scored: int | None = Field(
        default=None, ge=1, description="test clips, evenly spaced, that scores but those of motion are of (null: all)"
    )
    n_sampled: int = Field(
        default=100,
        ge=1,
        description="test clips, evenly spaced, for the shuffle test and for scores as published, which take longest",
    )


class MindAnimator(Section):
    """Mind-Animator (Lu et al., ICLR 2025), in the forms of `ANIMATOR_FORMS`; defaults are of "corrected"."""

    forms: Annotated[tuple[Literal["original", "corrected", "change"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "change",
    )  # fmt: skip
    sampled: Annotated[tuple[Literal["original", "corrected", "change"], ...], Distinct] = Field(
        default=("original", "corrected", "change"),
        description="forms whose films Stable Diffusion makes; those of others are made by the autoencoder alone",
    )
    subjects: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] = Field(
        default=("Subject01", "Subject02", "Subject03"), description="as their folders are called"
    )
    voxels: FilmVoxels = FilmVoxels()
    clips: Clips = Clips()
    max_length: int = Field(default=20, ge=3, description="tokens of c, with begin and end of text")
    semantic: SemanticNetwork = SemanticNetwork()
    structure: StructureNetwork = StructureNetwork()
    sparsify: Sparsify = Sparsify()
    motion: Motion = Motion()
    video: Video = Video()
    metrics: FilmMetrics = FilmMetrics()
    batch_size: int = Field(default=64, ge=1, description="clips of a training step")
    n_validation: int = Field(default=320, ge=1, description="last training clips, held out of the networks' training")
    checkpoint: Literal["best_validation", "fixed_epoch"] = Field(
        default="best_validation", description="which weights are kept; released: fixed_epoch, which is the last here"
    )
    network_seed: int = Field(
        default=0, ge=0, description="added to the seed of what is random in the networks' training, and of that alone"
    )

    @model_validator(mode="after")
    def _middle_frame_is_there(self) -> "MindAnimator":
        if self.clips.middle_frame >= self.clips.n_frames:
            raise ValueError(
                f"clips.middle_frame {self.clips.middle_frame} must be below clips.n_frames {self.clips.n_frames}"
            )
        return self


# What each form changes, by section.
ANIMATOR_FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "original": {
        "voxels": {"ranking": "clipped_p", "tail": "two_sided", "test_scaling": "test"},
        "clips": {"posterior": "sample"},
        "semantic": {"duplicates": "false_negatives", "crop": "per_epoch"},
        "structure": {"l1_compounds": True},
        "sparsify": {"accumulate": True, "validation": True},
        "motion": {
            **{"n_memory": 1, "train_mask": "once", "infer_keep": 0.0, "learning_rate": "noam", "l1_compounds": True},
            **{"first": "true", "output": "normalised"},
        },
        "video": {"start": "inversion", "noise": "per_frame", "temporal_bias": "random", "inversion_length": "encoder"},
        "": {"checkpoint": "fixed_epoch"},
    },
    "corrected": {},
    # A higher rate, as the miniature has it, leaves the change 0 whatever the vertices are.
    "change": {"motion": {"output": "change", "learning_rate": 1e-3}},
}


def animator_form(settings: MindAnimator, form: str) -> MindAnimator:
    """Give the settings of a form of Mind-Animator."""
    changes = ANIMATOR_FORMS[form]
    sections = {name: getattr(settings, name).model_copy(update=fields) for name, fields in changes.items() if name}
    return settings.model_copy(update={**sections, **changes.get("", {})})
