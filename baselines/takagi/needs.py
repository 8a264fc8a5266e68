"""What must be there for the rival of Takagi & Nishimoto, and what it takes."""

import math

from baselines.takagi.recipes import STREAMS
from data import nsd_needs, nsd_rois
from feature_extraction.needs import features, known
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.takagi import takagi_form
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, Means, Row, Subject, lower_batch
from reconstruction.needs import stage1


def subjects_of(run: Run) -> tuple[str, ...]:
    """Give those of NSD, where the configuration has this rival."""
    return nsd_needs.subjects_of(run) if run.config.experiment.takagi else ()


def look(findings: Findings, names: tuple[str, ...]) -> None:
    """Check the voxels of each subject."""
    for name in names:
        count_streams(findings, name)


def count_streams(findings: Findings, name: str) -> tuple[int, ...] | None:
    """Count the voxels that z and c are decoded from, where a form decodes from streams."""
    experiment, config = findings.run.config.experiment, findings.run.config
    assert experiment.takagi
    if all(
        takagi_form(experiment.sampler, experiment.takagi, f).decoder != "ridge_cv" for f in experiment.takagi.forms
    ):
        return (0, 0)
    return findings.check(f"{name} streams", check_streams, config, name)


def check_streams(config: Config, subject: str) -> tuple[tuple[int, ...], str]:
    """Check the voxels that Takagi's method decodes from."""
    voxels = nsd_rois.read_streams(config.nsd, subject, config.experiment.data.space, STREAMS)
    counts = tuple(int((voxels.roi == stream).sum()) for stream in STREAMS)
    return counts, ", ".join(f"{n} voxels in {stream}" for n, stream in zip(counts, STREAMS, strict=True))


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 35 and 36 take."""
    found = []
    for subject, means in known(findings, names):
        if n_streams := count_streams(findings, subject.name):
            found += [decoding(subject, means, n_streams), pictures(subject, means)]
    return found


def decoding(s: Subject, m: Means, n_streams: tuple[int, ...]) -> Row:
    """35: single trials, features in other sizes, and regressions with a penalty for each output.

    Forms with the same targets share a regression. A restored one adds five, of 4/5 of the trials.
    """
    experiment, takagi = m.config.experiment, m.config.experiment.takagi
    assert takagi
    forms = [takagi_form(experiment.sampler, takagi, form) for form in takagi.forms]
    by_trials = [form for form in forms if form.decoder == "ridge_cv"]
    n_regressions = len({(form.center_targets, form.posterior) for form in by_trials})
    n_restored = sum(form.restore_variance == "train" for form in by_trials)
    n_z = m.n_z * takagi.image_share**2
    n_c = (takagi.max_length or m.models.max_tokens) * m.models.width
    n_outputs, n_trials = 20_000, s.n_trials * s.n_train / s.n_images
    operations = 0.0
    for n, n_voxels in zip((n_z, n_c), n_streams, strict=True):
        blocks = math.ceil(n_regressions * n / n_outputs)
        operations += regression(n_trials, n_voxels, n_regressions * n * len(takagi.alphas), blocks)
        operations += n_restored * 5 * regression(0.8 * n_trials, n_voxels, n * len(takagi.alphas), blocks)
    seconds = operations / (2 * m.speed.multiply)  # in float32
    trials = n_trials * sum(n_streams) * FLOAT32
    n_at_once = min(n_outputs, n_regressions * n_c)
    memory = 2 * trials + (3 * n_trials + 2 * max(n_streams)) * n_at_once * FLOAT32
    return Row(
        s.name, "35", "Takagi", seconds + s.n_bytes / nsd_needs.READING + s.n_images * m.speed.generate / 4, memory,
        m.models.vae + m.models.text_encoder + features(s, m).on_device,
        s.n_images * (2 * n_z + n_c) * FLOAT32 + trials, "the betas again; regressions by count, on the CPU",
        lower_batch(m.config, "encode"),
    )  # fmt: skip


def regression(n_trials: float, n_voxels: int, n_predicted: float, blocks: int) -> float:
    """Count the operations of five folds that choose penalties, of as many outputs as `n_predicted` by penalty."""
    n_fit = 0.8 * n_trials
    n_rows = min(n_fit, n_voxels)
    factorise = 6 * n_fit * n_voxels * n_rows + 20 * n_rows**3
    return 5 * (blocks * factorise + n_predicted * 2 * (n_trials - n_fit) * n_fit)


def pictures(s: Subject, m: Means) -> Row:
    """36: samples of each image."""
    experiment, takagi, once = m.config.experiment, m.config.experiment.takagi, stage1(s, m)
    assert takagi
    forms = [takagi_form(experiment.sampler, takagi, form) for form in takagi.forms]
    n_calls = sum(form.n_samples * form.sampler.denoise_steps for form in forms)
    n_samples = sum(form.n_samples for form in forms)
    return once._replace(
        scripts="36", name="Takagi", seconds=s.n_test * n_calls * m.speed.generate, disk=n_samples * once.disk,
        how=f"31 with {n_calls} calls an image",
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part="Takagi & Nishimoto", scripts=("baselines/takagi/",))
