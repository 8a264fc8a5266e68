"""What decoding takes; it needs what the rooms before it need."""

from data.nsd_needs import subjects_of
from data.nsd_surfaces import read_surfaces
from data.own import is_own
from feature_extraction.needs import known
from minddiffuser.config import Config
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Means, Row, Subject


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 21 to 28 take, but for 27."""
    return [row(subject, means) for subject, means in known(findings, names) for row in ROWS]


def look_at_surfaces(findings: Findings, names: tuple[str, ...]) -> None:
    """Check the transforms to the cortical surface."""
    config = findings.run.config
    for name in () if is_own(config) else names:
        findings.check(f"{name} surface", check_surfaces, config, name)


def check_surfaces(config: Config, subject: str) -> tuple[bool, str]:
    """Read the transforms of both hemispheres."""
    found = read_surfaces(config.nsd, subject, config.experiment.data.space)
    return True, ", ".join(f"{surface.places.shape[1]} vertices in {side}" for side, surface in found.items())


def rows_of_maps(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 27 takes."""
    return [maps(subject, means) for subject, means in known(findings, names)]


def families(s: Subject, m: Means) -> list[tuple[int, int]]:
    """Give outputs, and voxels of each output: of c, of z, and of each CLIP layer at its selected units."""
    experiment = m.config.experiment
    decoding, layers = experiment.decoding, m.layers.values()
    found = [(m.n_c, decoding.n_voxels_semantic), (m.n_z, decoding.n_voxels_detail)]
    kept = [round(experiment.units.keep * n) for n in layers]
    found += zip(kept, decoding.n_voxels_structural, strict=True)
    return [(n, min(k, s.n_voxels)) for n, k in found]


def lower_voxels(config: Config, *families: str) -> tuple[str, ...]:
    """Name the numbers of voxels of decoders as levers: each thread has a system of that size."""
    decoding = config.experiment.decoding
    keys = [f"n_voxels_{family}" for family in families]
    found = [f"lower experiment.decoding.{key} (now {getattr(decoding, key)})" for key in keys]
    return (*found, "leave out ROIs (experiment.data.rois)")


def fitting(s: Subject, outputs: list[tuple[int, int]]) -> float:
    """Operations to fit decoders: a factorisation an output where voxels are selected, and the Gram matrix."""
    return sum(n * k**3 / 3 for n, k in outputs if k < s.n_voxels) + 2 * s.n_voxels**2 * s.n_train


def fitting_memory(s: Subject, m: Means, outputs: list[tuple[int, int]]) -> tuple[float, float]:
    """Bytes to fit decoders, in RAM and on the device: voxels and a target; voxels, Gram matrix and systems."""
    voxels, target = s.n_train * s.n_voxels * FLOAT64, max(n for n, _ in outputs) * s.n_images * FLOAT32
    systems = m.n_threads * 12 * max((k for _, k in outputs if k < s.n_voxels), default=0) ** 2
    return voxels + 2 * target, voxels + s.n_voxels**2 * FLOAT64 + systems


def stored(outputs: list[tuple[int, int]]) -> float:
    """Bytes of stored decoders: weights and voxels."""
    return sum(n * 8 * k for n, k in outputs)


def units(s: Subject, m: Means) -> Row:
    """21: scores of all units of the CLIP layers."""
    settings, n_units = m.config.experiment.units, sum(m.layers.values())
    n_folds, n_block = settings.n_folds, 2048
    n_fit = s.n_train * (1 - 1 / n_folds)
    n_held_out = s.n_train - n_fit
    voxels, gram = s.n_train * s.n_voxels * FLOAT64, n_fit**2 * FLOAT64
    block = 6 * s.n_train * n_block * FLOAT64
    if settings.method == "ridge":
        once = 2 * n_fit * s.n_train * s.n_voxels + n_fit**3 / 3
        each = 2 * n_fit * s.n_train
        memory = 4 * voxels + n_folds * (gram + n_fit * n_held_out * FLOAT64) + block
    else:
        n_singular = min(n_fit, s.n_voxels)
        once = 6 * n_fit * s.n_voxels * n_singular + 20 * n_singular**3
        each = 2 * n_singular * s.n_train + 4 * 300 * n_singular
        memory = 4 * voxels + n_folds * n_singular * s.n_train * FLOAT64 + 3 * gram + block + 2 * 300 * n_block * 8
    return Row(
        s.name, "21", "units", n_folds * (once + n_units * each) / m.speed.multiply, memory, 0, n_units * 10,
        f"{n_folds} folds of {n_units} units on the CPU",
        (f"lower experiment.units.n_folds (now {n_folds})", "leave out ROIs (experiment.data.rois)"),
    )  # fmt: skip


def decoders(s: Subject, m: Means) -> Row:
    """22 to 24: decoders of c, z and the CLIP layers, each script with a Gram matrix of its own."""
    three, decoding = families(s, m), m.config.experiment.decoding
    operations = fitting(s, three) + 2 * fitting(s, [])
    how, levers = "operations by count", lower_voxels(m.config, "semantic", "detail", "structural")
    if decoding.restore_variance == "train":
        n = decoding.restore_folds
        operations += n * (fitting(s, three) + (len(three) - 1) * fitting(s, []))
        how += f", and {n} fits more to restore variance"
        levers = (f"lower experiment.decoding.restore_folds (now {n})", *levers)
    return Row(
        s.name, "22-24", "decoders", operations / m.speed.factorise, *fitting_memory(s, m, three), stored(three),
        how, levers,
    )  # fmt: skip


def accuracy(s: Subject, m: Means) -> Row:
    """25: regressions on each ROI alone, of all targets."""
    n_rois, n_outputs = len(m.config.experiment.data.rois), sum(n for n, _ in families(s, m))
    largest = max(n for n, _ in families(s, m))
    once = 2 * s.n_train * s.n_voxels * (s.largest_roi + s.n_test)
    each = 2 * s.n_test * (n_rois * s.n_train + 2 * (n_rois + 1) * s.n_test)
    operators = n_rois * s.n_test * s.n_train * FLOAT64
    regression = 3 * s.n_train * s.largest_roi * FLOAT64 + s.largest_roi**2 * FLOAT64
    target = s.n_train * largest * FLOAT32 + 8 * s.n_test * largest * FLOAT64
    return Row(
        s.name, "25", "accuracy", (once + n_outputs * each) / m.speed.multiply, operators + max(regression, target), 0,
        1e6, f"regressions of {n_rois} ROIs on the CPU", ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


def search(s: Subject, m: Means) -> Row:
    """26: the grid of voxels and penalties, in cross-validation."""
    settings = m.config.experiment.search
    n_outputs = sum(min(settings.n_units, n) for n, _ in families(s, m))
    grid = [(n_outputs, min(k, s.n_voxels)) for k in settings.n_voxels]
    each = fitting(s, grid) + (len(settings.alphas) - 1) * sum(n * k**3 / 3 for n, k in grid if k < s.n_voxels)
    return Row(
        s.name, "26", "search", settings.n_folds * each / m.speed.factorise, *fitting_memory(s, m, grid), 1e6,
        "optional, not in `make all`: helps to choose settings", ("lower experiment.search.n_voxels",),
        is_optional=True,
    )  # fmt: skip


def maps(s: Subject, m: Means) -> Row:
    """27: where targets are decoded from."""
    n_outputs, block = sum(n for n, _ in families(s, m)), 5 * s.n_train * 1024 * FLOAT64
    return Row(
        s.name, "27", "maps", 8 * n_outputs * s.n_train * s.n_voxels / m.speed.multiply,
        s.n_train * s.n_voxels * (FLOAT64 + 2 * FLOAT32) + block, 0, 1e7,
        f"{n_outputs} outputs of all training images on the CPU", ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


def decoder_controls(s: Subject, m: Means) -> Row:
    """28: decoders of permuted images, and two cross-validations."""
    controls, two = m.config.experiment.controls, families(s, m)[:2]
    some = [(min(controls.n_units, n), k) for n, k in two]
    operations = fitting(s, two) + fitting(s, []) + 2 * controls.n_folds * fitting(s, some)
    return Row(
        s.name, "28", "controls", operations / m.speed.factorise, *fitting_memory(s, m, two), stored(two),
        "22 and 23 once more, and two cross-validations", lower_voxels(m.config, "semantic", "detail"),
    )  # fmt: skip


ROWS = (units, decoders, accuracy, search, decoder_controls)
ROOM = Room(subjects_of, rows, scripts=("feature_decoding/",))
# Those who fetched NSD before its transforms were needed have everything else.
MAPS = Room(subjects_of, rows_of_maps, look_at_surfaces, part="maps of the brain", scripts=("feature_decoding/27",))
