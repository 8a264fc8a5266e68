"""What must be there for the two stages of reconstruction, and what they take."""

from data.nsd_needs import subjects_of
from feature_extraction.needs import known
from minddiffuser.config import Config
from minddiffuser.config.method import Guidance
from minddiffuser.needs import models
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, Means, Row, Subject, lower_batch, picture


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Check the sampler's settings, and open its models."""
    findings.check("sampler", check_sampler, findings.run.config)
    models.stable_diffusion(findings)


def check_sampler(config: Config) -> tuple[bool, str]:
    """Say where noise and denoising begin; that they disagree, as in the paper, is no fault."""
    sampler = config.experiment.sampler
    agree = sampler.denoise_steps == sampler.noise_index + 1
    which = f"noise_index {sampler.noise_index} and denoise_steps {sampler.denoise_steps}"
    return True, f"{which} of {sampler.n_steps}{' agree' if agree else ' disagree'}"


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 31 to 34 take."""
    return [row(subject, means) for subject, means in known(findings, names) for row in ROWS]


def n_refined(s: Subject, m: Means) -> int:
    """Count the images that stage 2 refines."""
    return min(m.config.experiment.guidance.n_images or s.n_test, s.n_test)


def n_ablated(s: Subject, m: Means) -> int:
    """Count the images of each ablation."""
    return min(m.config.experiment.controls.n_ablated or n_refined(s, m), n_refined(s, m))


def n_controls(m: Means) -> int:
    """Count the controls that the generator makes."""
    controls = m.config.experiment.controls
    return 3 + len(controls.ranks) + controls.n_seeds


def n_passes(m: Means) -> int:
    """Count the pictures of stage 1 of an image: from what is decoded, and with its variance restored."""
    return 1 + (m.config.experiment.decoding.restore_variance == "train")


def stage1(s: Subject, m: Means) -> Row:
    """31: a pass of the sampler an image, or two."""
    n_pictures = n_passes(m) * s.n_test
    seconds = n_pictures * n_steps(m) * m.speed.generate
    memory = m.models.stable_diffusion + m.speed.generate_memory
    return Row(
        s.name, "31", "stage 1", seconds, m.models.unet, memory, n_pictures * picture(m.config),
        f"a U-Net call, {m.speed.generate:.3g} s a picture", lower_batch(m.config, "generate"),
    )  # fmt: skip


def refinement(m: Means, guidance: Guidance) -> float:
    """Seconds to refine an image by `guidance.method`.

    Where gradients pass several steps each is computed anew on the way back. A picture with its gradients takes 1.5
    times as long as such a step, by the count of operations (benchmarks/stage2.py).
    """
    there, back, n = m.speed.refine, m.speed.refine_backward, n_steps(m)
    picture = 1.5 * (2 * there + back)
    if guidance.method == "in_sampler":
        return n * guidance.repeats * (there + back + picture) * 1.1
    if guidance.method == "before_sampler":
        return (guidance.n_iterations * picture + n * there) * 1.1
    n_back = min(guidance.gradient_steps or n, n)
    return guidance.n_iterations * (n * there + n_back * (there + back) + picture) * 1.1


def choice(m: Means, guidance: Guidance) -> float:
    """Seconds to choose among noises for an image: passes of the sampler forward."""
    return guidance.n_iterations * n_steps(m) * m.speed.refine * 1.15


def n_steps(m: Means) -> int:
    """Count the steps of a pass of the sampler."""
    sampler = m.config.experiment.sampler
    return sampler.solver_steps or sampler.denoise_steps


def n_moves(m: Means, guidance: Guidance) -> int:
    """Count the iterations of stage 2, or the steps that it steers."""
    return n_steps(m) * guidance.repeats if guidance.method == "in_sampler" else guidance.n_iterations


def stage2(s: Subject, m: Means) -> Row:
    """32: stage 2, and what is made from restored z and c."""
    experiment = m.config.experiment
    guidance, ours = experiment.guidance, experiment.restored.guidance
    seconds = n_refined(s, m) * refinement(m, guidance)
    if n_passes(m) > 1:
        each = choice(m, ours) + experiment.restored.stage2 * refinement(m, ours)
        seconds += min(ours.n_images or s.n_test, s.n_test) * each
    memory = m.models.stable_diffusion + m.clip + m.speed.refine_memory
    kept = () if m.config.execution.checkpoint_steps else ("set execution.checkpoint_steps to true",)
    n_pictures = n_refined(s, m) * n_moves(m, guidance) / guidance.save_every
    return Row(
        s.name, "32", "stage 2", seconds, m.models.unet, memory, n_pictures * picture(m.config),
        f"calls of {m.speed.refine:.3g} s, {m.speed.refine_backward:.3g} s back, pictures, and 10 %",
        (*lower_batch(m.config, "refine"), *kept),
    )  # fmt: skip


def picture_controls(s: Subject, m: Means) -> Row:
    """33: stage 1 from other targets, and training images."""
    once, n = stage1(s, m), n_passes(m)
    memory = 4 * s.n_train * (m.n_z + m.n_c) * FLOAT32 + m.models.unet
    return once._replace(
        scripts="33", name="controls", seconds=n_controls(m) * once.seconds / n, memory=memory,
        disk=(n_controls(m) + 4) * once.disk / n, how=f"stage 1 {n_controls(m)} times",
    )  # fmt: skip


def ablations(s: Subject, m: Means) -> Row:
    """34: stage 2 of fewer images, three times and once more among noises."""
    experiment, once = m.config.experiment, stage2(s, m)
    each = 3 * refinement(m, experiment.guidance) + choice(m, experiment.guidance)
    if n_passes(m) > 1 and experiment.restored.stage2:
        each += refinement(m, experiment.restored.guidance)
    seconds = n_ablated(s, m) * each
    share = 3 * n_ablated(s, m) / max(n_refined(s, m), 1)
    return once._replace(
        scripts="34", name="ablations", seconds=seconds, disk=share * once.disk,
        how="stage 2 of fewer images, three times, and a choice among noises",
    )  # fmt: skip


ROWS = (stage1, stage2, picture_controls, ablations)
ROOM = Room(subjects_of, rows, look, scripts=("reconstruction/",))
