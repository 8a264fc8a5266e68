"""What is scored of films of CC2017, and by what: names, meanings and order, and what is compared with what."""

from collections.abc import Sequence

from evaluation.catalogue import Catalogue, Metric, System
from minddiffuser.cli import film_subjects

FORMS = tuple(f"mind_animator/{form}" for form in ("original", "corrected", "change"))
CORRECTED = "mind_animator/corrected"
WITHOUT_GENERATOR = "no_generator/corrected"
CEILING, STATIC, OTHER_CLIP = "control/ceiling", "control/static", "control/other_clip"
MOVER, MOVED, RIDGE_FRAMES = "control/mover", "control/moved", "control/ridge_frames"
# What a form must beat to have decoded something: none of them has a motion generator.
FLOORS = (STATIC, OTHER_CLIP, RIDGE_FRAMES, "control/nearest_training", "control/mean_clip")
OTHERS = "others"  # folder of other people's films

_NO_GENERATOR = "what the sampler of that form is given, through the autoencoder alone: without Stable Diffusion"
SYSTEMS = {
    "mind_animator/original": System("original", "Mind-Animator as its authors released it, slips included", "method"),
    CORRECTED: System("corrected", "Mind-Animator without its slips", "method"),
    "mind_animator/change": System(
        "change", "corrected, with a motion generator of ours, which adds a change to the last frame", "method"
    ),
    **{
        f"no_generator/{form}": System(f"{form}, no Stable Diffusion", _NO_GENERATOR, "ablation")
        for form in ("original", "corrected", "change")
    },
    CEILING: System("ceiling", "the true latents and c through the sampler: perfect decoding", "control"),
    "control/true_latents": System(
        "true latents", "the true latents through the autoencoder: what the autoencoder costs", "control"
    ),
    "control/mover_of_truth": System(
        "mover of the truth", "the true first frame, moved by the true velocity, by the mover", "control"
    ),
    MOVER: System(
        "mover", "the decoded first frame, moved by the decoded velocity, by a bilinear regression; ours", "control"
    ),
    MOVED: System("moved", "the decoded first frame, moved as a whole by the decoded velocity; ours", "control"),
    RIDGE_FRAMES: System("ridge frames", "every frame decoded by itself, by ridge regression", "control"),
    OTHER_CLIP: System(
        "other clip's fMRI", "the right first frame, and the motion generator fed the fMRI of another clip", "control"
    ),
    STATIC: System("static", "the decoded first frame throughout: nothing moves", "control"),
    "control/nearest_training": System(
        "nearest training clip", "the training clip whose fMRI correlates most with that of the test clip", "control"
    ),
    "control/mean_clip": System("mean clip", "the mean of training clips, whatever was seen", "control"),
}  # fmt: skip

GROUPS = {
    "motion": "Motion, by optical flow against that of the clip that was seen",
    "pixels": "Pixels, mean over frames",
    "networks": "What networks say; chance of 2-way is .75, of 50-way .058, for three classes count as right",
    "as_published": "Scores as published: of GIFs, and of some frames; not those above of the same names",
}
METRICS = {
    "flow_cosine": Metric("flow cosine", "cosine of the flow of the film with that of the clip", "motion"),
    "flow_cosine_others": Metric(
        "with other clips", "the same with clips of other shots: what is not of this clip", "motion"
    ),
    "flow_cosine_reversed": Metric("reversed", "flow cosine of the film shown backwards", "motion"),
    "direction_cosine": Metric("direction", "cosine of the mean velocities of film and clip", "motion"),
    "epe": Metric("EPE ↓", "end-point error of the flow, in pixels: low where a film hardly moves", "motion", False),
    "epe_reversed": Metric("EPE reversed ↓", "end-point error of the film shown backwards", "motion", False),
    "epe_still": Metric("EPE of none ↓", "end-point error of a film that does not move", "motion", False),
    "speed": Metric("speed", "mean length of the flow, pixels a frame", "motion"),
    "speed_ratio": Metric("speed ratio", "share of the mean speed of clips; 1 is right, more is too fast", "motion"),
    "pixcorr": Metric("PixCorr", "correlation of pixels", "pixels"),
    "ssim": Metric("SSIM", "structural similarity", "pixels"),
    "psnr": Metric("PSNR", "peak signal-to-noise ratio, dB", "pixels"),
    "hue": Metric("hue", "circular correlation of hues, 0 for unrelated pictures", "pixels"),
    "image_2_way": Metric("2-way, frames", "how often a right class is before another (chance .75)", "networks"),
    "image_50_way": Metric("50-way, frames", "how often it is before 49 others (chance .058)", "networks"),
    "video_2_way": Metric("2-way, films", "how often a right class is before another (chance .75)", "networks"),
    "video_50_way": Metric("50-way, films", "how often it is before 49 others (chance .058)", "networks"),
    "vifi": Metric("VIFI", "cosine of ViFi-CLIP's embeddings of film and clip", "networks"),
    "clip_consistency": Metric(
        "CLIP consistency", "cosine of CLIP's embeddings of neighbouring frames: 1 where nothing moves", "networks"
    ),
    "clip_consistency_gated": Metric(
        "CLIP-pcc, gated", "the same, 0 where VIFI is not above the gate, as published", "networks"
    ),
}  # fmt: skip
_PUBLISHED = {
    "ssim": "SSIM", "psnr": "PSNR", "hue": "Hue-pcc", "image_2_way": "2-way, frames", "image_50_way": "50-way, frames",
    "video_2_way": "2-way, films", "video_50_way": "50-way, films", "vifi": "VIFI",
    "clip_consistency_gated": "CLIP-pcc",
}  # fmt: skip
METRICS |= {
    f"as_published/{name}": Metric(label, f"{label} as the authors compute it", "as_published")
    for name, label in _PUBLISHED.items()
}
# Metrics that say how a film is, and not how good: they are shown, and not compared.
DESCRIBED = ("flow_cosine_others", "flow_cosine_reversed", "epe_reversed", "epe_still", "speed", "speed_ratio")


def _describe(name: str) -> System:
    """Describe `others/NAME`."""
    kind, _, rest = name.partition("/")
    return System(rest if kind == OTHERS else name, "scored from a folder of films", "other")


CATALOGUE = Catalogue(
    title="CC2017",
    script="evaluation/44_score_films.py",
    folder="evaluation/videos",
    subjects_of=film_subjects,
    systems=SYSTEMS,
    metrics=METRICS,
    groups=GROUPS,
    describe=_describe,
)


def in_order_of_motion(names: Sequence[str]) -> list[str]:
    """Sort systems as the table of motion has them: what perfect decoding gives, what the mover gives, and the rest."""
    first = [name for name in (CEILING, MOVER, MOVED) if name in names]
    return first + [name for name in CATALOGUE.in_order(names) if name not in first]


def is_other(name: str) -> bool:
    """Tell whether a system is of other people's films."""
    return name.startswith(f"{OTHERS}/")


def has_all_orders(name: str) -> bool:
    """Tell whether the frames of a system are put in all orders, which takes three times as long: see `shuffle`."""
    return name in (*FORMS, CEILING, STATIC, OTHER_CLIP) or is_other(name)


def is_scored_as_published(name: str) -> bool:
    """Tell whether a system is scored as published, too, which takes longest."""
    return name in (*FORMS, CEILING, STATIC) or is_other(name)


def pairs_of(systems: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that are compared: forms and what they are made of with floors and rivals, and forms with each other."""
    pairs = []
    for form in FORMS:
        without = form.replace("mind_animator", "no_generator")
        pairs += [(form, without), *((form, floor) for floor in FLOORS), (form, MOVER), (form, MOVED)]
        pairs += [(without, STATIC), (without, OTHER_CLIP)]
    pairs += [(CORRECTED, "mind_animator/original"), ("mind_animator/change", CORRECTED), (CEILING, CORRECTED)]
    pairs += [(MOVER, STATIC), (MOVER, WITHOUT_GENERATOR), (MOVED, STATIC)]
    pairs += [(name, baseline) for name in systems if is_other(name) for baseline in (CORRECTED, STATIC)]
    return [pair for pair in pairs if set(pair) <= set(systems)]
