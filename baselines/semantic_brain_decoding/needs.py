"""What must be there for the rival Semantic Brain Decoding, and what it takes."""

import torch

from baselines.semantic_brain_decoding.classes import read_classes
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import god, god_needs
from data.god_needs import Counts, Grouping
from minddiffuser.cli import Run, concept_subjects
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.config.semantic_brain_decoding import concept_form
from minddiffuser.needs import models
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Means, Row, lower_batch, picture
from minddiffuser.pretrained.pooled import open_pooled_network
from minddiffuser.pretrained.stable_diffusion import open_safety_checker
from minddiffuser.store import DataError

PART = "Generic Object Decoding"
N_FEATURES = 2048


def subjects_of(run: Run) -> tuple[str, ...]:
    """Give those of Generic Object Decoding."""
    return tuple(name for name in run.subjects if name in concept_subjects(run.config.experiment))


def look(findings: Findings, names: tuple[str, ...]) -> None:
    """Check the recordings, their stimuli, and what labels are looked up in."""
    config, check = findings.run.config, findings.check
    for name in names:
        count(findings, name)
    god_needs.stimuli(findings)
    n_classes(findings)
    check("network that is decoded", check_pooled_network, config)
    models.stable_diffusion(findings)
    check("WordNet", check_wordnet, config, without="there are no scores of how near labels are, and no constant label")


def count(findings: Findings, name: str) -> Counts | None:
    """Check a recording for all forms; give its counts."""
    settings = findings.run.config.experiment.semantic_brain_decoding
    assert settings
    groupings: list[Grouping] = [concept_form(settings, form).run_grouping for form in settings.forms]
    return god_needs.recording(findings, name, settings.roi, groupings)


def counted(findings: Findings, name: str) -> Counts:
    """Give a recording's counts for the estimates: those of the real one where they could not be found out."""
    real = Counts(name, god.N_TRIALS, max(god.SPM_VOXELS.values()), 50)
    return count(findings, name) or findings.assume(
        f"size of {name}'s recording", real, f"{real.n_trials:,} trials of {real.n_columns:,} voxels"
    )


def n_classes(findings: Findings) -> int | None:
    """Give the number of ImageNet's classes."""
    return findings.check("ImageNet", check_imagenet, findings.run.config)


def check_imagenet(config: Config) -> tuple[int, str]:
    """Read the names of the classes; give their number."""
    imagenet = REPOSITORY / config.execution.imagenet
    wnids = read_classes(imagenet).wnids
    if empty := [wnid for wnid in wnids if not any((imagenet / wnid).iterdir())]:
        raise DataError(f"{imagenet} has {len(empty)} empty folders, such as {empty[0]}; unpack them again")
    return len(wnids), f"{len(wnids)} classes"


def check_pooled_network(config: Config) -> tuple[bool, str]:
    """Open the network whose features are decoded, and the safety checker where it is asked for."""
    settings, names = config.experiment.semantic_brain_decoding, config.experiment.models
    assert settings
    cpu = torch.device("cpu")
    if settings.safety_checker:
        open_safety_checker(names, cpu)
    open_pooled_network(settings.network, names, config.execution.torch_hub, cpu)
    return True, settings.network


def check_wordnet(config: Config) -> tuple[bool, str]:
    """Open WordNet."""
    open_wordnet(config.wordnet)
    return True, str(config.wordnet)


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 14, 29 and 39 take."""
    n = n_classes(findings) or findings.assume("classes of ImageNet", 1000, "1,000 of them")
    means = models.means(findings)
    rows_of = [row(counted(findings, name), means) for name in names for row in (labels, label_pictures)]
    return [bank(findings.run.config, n), *rows_of]


def bank(config: Config, n_classes: int) -> Row:
    """14: reading its images is what takes long, on a disk that we do not know."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    n = settings.bank_per_class * n_classes
    return Row(
        "", "14", "bank", n / 200, 5e8, 5e8, 2 * n * N_FEATURES * FLOAT32, f"{n} images at 200 a second, a guess",
        lower_batch(config, "encode"),
    )  # fmt: skip


def labels(counts: Counts, m: Means) -> Row:
    """29: regressions on single trials, and a walk through the bank for each form."""
    settings = m.config.experiment.semantic_brain_decoding
    assert settings
    n = counts.n_trials
    regressions = len(settings.forms) * 6 * (2 * n**2 * counts.n_columns + n**3 / 3 + 2 * n**2 * N_FEATURES)
    memory = 4 * n * counts.n_columns * FLOAT64 + 9e8
    return Row(
        counts.name, "29", "labels", regressions / m.speed.multiply + 60 * len(settings.forms), memory, 5e8, 1e8,
        "regressions by count, on the CPU, and a minute a form for the bank", lower_batch(m.config, "encode"),
    )  # fmt: skip


def label_pictures(counts: Counts, m: Means) -> Row:
    """39: pictures of labels."""
    n = n_pictures(m.config, counts)
    settings = m.config.experiment.semantic_brain_decoding
    assert settings
    return Row(
        counts.name, "39", "pictures of labels", n * (settings.n_steps + 1) * m.speed.generate, m.models.unet,
        m.models.stable_diffusion + m.speed.generate_memory, n * picture(m.config),
        f"{n} pictures of {settings.n_steps} steps", lower_batch(m.config, "generate"),
    )  # fmt: skip


def n_pictures(config: Config, counts: Counts) -> int:
    """Pictures of all forms and labels, and of the constant label."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    return counts.n_test * (len(settings.forms) * settings.n_pictures + 1)


ROOM = Room(subjects_of, rows, look, part=PART, scripts=("baselines/semantic_brain_decoding/",))
