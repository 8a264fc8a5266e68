"""Check everything that a run needs before hours are spent on it, and estimate what it will take.

    python -m minddiffuser.doctor --config configs/nsd_subj01.yaml [--subject subj01]

Looks at every file of the dataset, the ROIs, the captions of all images, a little of each session, the models (each is
opened), the device, and the free disk; then estimates time, memory and disk of each stage, and compares them with this
machine. Checks do not depend on each other: whatever is broken is one line, and the others go on. Ends with exit code 1
and a list if something is wrong; what concerns a rival alone is marked, for `make demo` leaves it out.
"""

import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from baselines.ozcelik.generator import Generator, open_generator
from baselines.semantic_brain_decoding.classes import read_classes
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import god, nsd, nsd_betas
from minddiffuser import estimates, pretrained
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config import REPOSITORY, Config, layer_name, takagi_form
from minddiffuser.estimates import Models, Recording, Row, Speed, Subject
from minddiffuser.speed import measure_speed, name_of, time_inversion, weight_bytes
from minddiffuser.store import DataError

# What a run can do without, and where its scripts are. The last only takes scores away.
RIVALS = {
    "takagi": ("Takagi & Nishimoto", ("baselines/takagi/",)),
    "ozcelik": ("Ozcelik et al.", ("baselines/ozcelik/",)),
    "concepts": (
        "Generic Object Decoding",
        ("baselines/semantic_brain_decoding/", "evaluation/40_score_concepts.py"),
    ),
    "wordnet": ("scores of labels by WordNet", ()),
}


class Problem(NamedTuple):
    """What is wrong, and how to mend it.

    Attributes
    ----------
    text : str
        One line.
    part : str
        Of `RIVALS`, where it concerns nothing else.
    """

    text: str
    part: str = ""


class Unknown(Exception):  # noqa: N818
    """What a check needs could not be found out, of which an earlier check has said why."""


@dataclass
class Findings:
    """What was found so far."""

    problems: list[Problem] = field(default_factory=list)

    def check(self, what: str, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that gives a result and what is to be said of it; nothing that it raises ends the doctor.

        An ExceptionGroup is of several problems. An argument that is None stands for what could not be found out.
        """
        if any(argument is None for argument in arguments):
            print(f"--     {what}: not looked at, for want of what is wrong above", flush=True)
            return None
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UserWarning)
                result, found = function(*arguments)
        except ExceptionGroup as group:
            errors = list(group.exceptions)
        except Exception as error:
            errors = [error]
        else:
            print(f"ok     {what}: {found}", flush=True)
            for warning in said:
                if warning.category is UserWarning:
                    print(f"note   {what}: {warning.message}", flush=True)
            return result
        for error in errors:
            self.add(f"{what}: {_one_line(error)}", part)
        return None

    def add(self, text: str, part: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(text, part))
        print(f"WRONG  {text}", flush=True)


def _one_line(error: Exception) -> str:
    """Say an error in one line; one of a library's begins with its kind, which may be all that it says."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else "no reason given"
    if isinstance(error, DataError):
        return first
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or ''}"
    return f"{type(error).__name__}: {first}"


def main(argv: list[str] | None = None) -> None:
    """Print findings and estimates."""
    problems = examine(parse(__doc__, argv, divides=False))
    if problems:
        sys.exit(listed(problems))
    print("\nnothing is wrong")


def listed(problems: list[Problem]) -> str:
    """List problems, and say which are only a rival's."""
    lines = [f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    for number, (text, part) in enumerate(problems, start=1):
        aside = f" (`make demo` leaves it out: {RIVALS[part][0]})" if part else ""
        lines.append(f"  {number}. {text}{aside}")
    return "\n".join(lines)


def examine(run: Run) -> list[Problem]:
    """Check and estimate all; return what is wrong."""
    findings = Findings()
    config, experiment, check = run.config, run.config.experiment, findings.check
    check("settings", "", check_settings, config)
    subjects = [subject for subject in run.subjects if subject in experiment.subjects]
    if subjects:
        check("stimuli", "", check_stimuli, config)
    of_nsd = {subject: check_nsd(findings, config, subject) for subject in subjects}
    device = check("device", "", check_device, run)
    parts = check("Stable Diffusion", "", open_stable_diffusion, config)
    layers = check("CLIP that guides", "", check_clip, config) if subjects else ({}, 0.0)
    scoring = check("CLIP that scores", "", check_scoring_clip, config)
    check("networks that score", "", check_networks, config)
    generator = check("IC-GAN", "ozcelik", check_icgan, config) if experiment.ozcelik and subjects else None
    of_concepts = check_concepts(findings, config, () if run.own.subject else concept_subjects(experiment), subjects)

    rows: list[tuple[str, Row]] = []
    if any(of_nsd.values()) or of_concepts[0]:
        models = None if None in (parts, layers, scoring) else sizes_of(parts, layers, scoring, generator)
        speed = check("speed", "", measure_speed, config, device, parts, scoring, models)
        inversion = (
            check("speed of IC-GAN", "ozcelik", time_inversion, config, device, generator) if generator else None
        )
        if models is not None and speed is not None:
            rows += rows_of(config, models, speed, of_nsd, inversion)
            rows += rows_of_concepts(config, models, speed, *of_concepts, "concepts" if subjects else "")
            check_memory(findings, rows, device)
    check("disk", "", check_disk, config, sum(row.disk for _, row in rows))
    show(rows, config, device)
    return findings.problems


# NSD


def check_settings(config: Config) -> tuple[bool, str]:
    """Check that settings fit one another, beyond what each must be by itself."""
    sampler = config.experiment.sampler
    agree = sampler.denoise_steps == sampler.noise_index + 1
    note = "" if agree else f" (noise_index {sampler.noise_index} and denoise_steps {sampler.denoise_steps} disagree)"
    return True, f"{config.name}{note}"


def check_stimuli(config: Config) -> tuple[bool, str]:
    """Read the first stimulus and the last."""
    stimuli = nsd.Stimuli(config.nsd)
    for picture in stimuli.read(np.array([0, stimuli.n - 1])):
        if not np.ptp(picture):
            raise DataError(f"{stimuli.path} has no picture in its first or last place: fetch it again")
    return True, f"{stimuli.n}"


def check_nsd(findings: Findings, config: Config, subject: str) -> dict[str, Any] | None:
    """Check all that is of one subject; give its counts, where they could be found out."""
    check = findings.check
    design = check(f"{subject} design", "", check_design, config, subject)
    check(f"{subject} captions", "", check_captions, config, design)
    voxels = check(f"{subject} ROIs", "", check_rois, config, subject)
    counts = check(f"{subject} betas", "", check_sessions, config, subject, design, voxels)
    takagi, streams = config.experiment.takagi, (0, 0)
    if takagi and any(takagi_form(config.experiment, takagi, f).decoder == "ridge_cv" for f in takagi.forms):
        streams = check(f"{subject} streams", "takagi", check_streams, config, subject)
    return None if counts is None else {**counts, "n_streams": streams}


def check_design(config: Config, subject: str) -> tuple[nsd.Design, str]:
    """Read which image was shown when."""
    design = nsd.read_design(config.nsd, subject)
    return design, f"{len(design.ordering)} trials of {len(design.stimuli)} images"


def check_captions(config: Config, design: nsd.Design) -> tuple[bool, str]:
    """Check the captions of every stimulus that the subject saw, and read the categories where they are."""
    ids = np.unique(nsd.read_coco_ids(config.nsd)[design.stimuli])
    n = config.experiment.semantic.n_captions
    nsd.read_captions(config.nsd, ids, n)
    there = nsd.read_categories(config.nsd, ids) is not None
    return True, f"{len(ids)} images have {n} or more" + ("" if there else "; the page will have no categories")


def check_rois(config: Config, subject: str) -> tuple[nsd.Voxels, str]:
    """Read the ROI volumes, and compare counts with the authors' where these are of the same ROIs."""
    root, data = config.nsd, config.experiment.data
    voxels = nsd.read_voxels(root, subject, data.space, data.rois)
    of_nsd = voxels.shape == nsd.VOLUMES.get(subject)
    for name, expected in nsd.KNOWN_VOXELS.get(subject, {}).items() if of_nsd else ():
        if name in data.rois:
            found = int((voxels.roi == name).sum())
        elif name == "all" and set(data.rois) == set(nsd.ROI_LABELS):
            found = len(voxels.index)
        else:
            continue
        if abs(found - expected) > 0.01 * expected:
            raise DataError(
                f"{root}: {subject} has {found} voxels in {name}, but the authors had {expected}; the ROI volumes are "
                "not those of this subject and space, or of another release: fetch them again"
            )
    counts = Counter(voxels.roi.tolist())
    return voxels, f"{len(voxels.index)} voxels ({', '.join(f'{n} in {roi}' for roi, n in counts.items())})"


def check_sessions(config: Config, subject: str, design: nsd.Design, voxels: nsd.Voxels) -> tuple[dict[str, int], str]:
    """Check every session's file, of which a few trials or voxels are read."""
    root, data, wrong = config.nsd, config.experiment.data, []
    n_trials: dict[Path, int] = {}
    for session in range(1, data.sessions + 1):
        try:
            path = nsd_betas.session_path(root, subject, data.space, data.betas, session)
            nsd_betas.try_session(path, voxels)
            n_trials[path] = nsd_betas.check_session(path, voxels.shape)
        except Exception as error:
            wrong.append(error)
    usual = Counter(n_trials.values()).most_common(1)[0][0] if n_trials else 0
    wrong += [
        DataError(f"{path} has {n} trials, but the others have {usual}; fetch it again")
        for path, n in n_trials.items()
        if n != usual
    ]
    if usual * data.sessions > len(design.ordering):
        wrong.append(
            DataError(
                f"{data.sessions} sessions of {usual} trials are more than the design's {len(design.ordering)}; lower "
                "experiment.data.sessions"
            )
        )
    if wrong:
        raise ExceptionGroup(f"{subject} betas", wrong)
    seen = np.unique(design.ordering[: usual * data.sessions])
    n_test = data.validation_rows or int((seen < design.n_shared).sum())
    n_train = int((seen >= design.n_shared).sum()) - data.validation_rows
    counts = {
        "n_train": n_train,
        "n_test": n_test,
        "n_trials": usual * data.sessions,
        "n_voxels": len(voxels.index),
        "largest_roi": max(Counter(voxels.roi.tolist()).values()),
        "n_bytes": sum(path.stat().st_size for path in n_trials),
    }
    return counts, f"{data.sessions} sessions of {usual} trials, {n_train} training and {n_test} test images"


def check_streams(config: Config, subject: str) -> tuple[tuple[int, int], str]:
    """Check the voxels that Takagi's method decodes from."""
    streams = ("early", "ventral")
    voxels = nsd.read_streams(config.nsd, subject, config.experiment.data.space, streams)
    early, ventral = (int((voxels.roi == stream).sum()) for stream in streams)
    return (early, ventral), f"{early} voxels in early, {ventral} in ventral"


# Models and machine


def check_device(run: Run) -> tuple[torch.device, str]:
    """Check that the device is there."""
    device = run.device
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return device, f"{name_of(device)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, torch {torch.__version__}"
    return device, f"{name_of(device)}, torch {torch.__version__}"


def open_stable_diffusion(config: Config) -> tuple[dict[str, Any], str]:
    """Open every part of Stable Diffusion."""
    experiment, cpu = config.experiment, torch.device("cpu")
    source = (experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision)
    parts: dict[str, Any] = {"unet": pretrained.open_unet(*source, cpu), "vae": pretrained.open_vae(*source, cpu)}
    parts["tokenizer"], parts["text_encoder"] = pretrained.open_text_encoder(*source, cpu)
    pretrained.open_scheduler(*source).set_timesteps(experiment.sampler.n_steps)
    width = parts["text_encoder"].config.hidden_size
    if parts["unet"].config.cross_attention_dim != width:
        raise DataError(
            f"{source[0]}: the U-Net expects text of another width than {width}: parts of two models; get both again"
        )
    n = sum(p.numel() for name in ("unet", "vae", "text_encoder") for p in parts[name].parameters())
    return parts, f"{source[0]}, {n / 1e6:,.1f} million weights"


def check_clip(config: Config) -> tuple[tuple[dict[str, int], float], str]:
    """Open the CLIP that guides; count the units of each layer, and the bytes of its weights."""
    models, structural = config.experiment.models, config.experiment.structural
    clip = pretrained.open_clip_model(models.clip, models.clip_weights, torch.device("cpu"))
    visual: Any = clip.model.visual
    if max(structural.layers) > 2 * len(visual.transformer.resblocks):
        raise DataError(f"experiment.structural.layers: {models.clip} has no Linear-{max(structural.layers)}")
    n = visual.positional_embedding.numel()
    return (
        {layer_name(k): n for k in structural.layers},
        weight_bytes(clip.model),
    ), f"{models.clip}, {n} units a layer"


def check_scoring_clip(config: Config) -> tuple[Any, str]:
    """Open the CLIP that scores."""
    models = config.experiment.models
    clip = pretrained.open_clip_model(models.scoring_clip, models.scoring_clip_weights, torch.device("cpu"))
    if config.experiment.evaluation.networks == "scoring_clip":
        pretrained.require_stand_ins(clip)
    return clip, models.scoring_clip


def check_networks(config: Config) -> tuple[bool, str]:
    """Open the networks of other scores; name those that are absent, which does not stop a run."""
    hub, cpu = config.execution.torch_hub, torch.device("cpu")
    weights = pretrained.scoring_weights(hub)
    used = list(weights) if config.experiment.evaluation.networks == "imagenet" else ["alexnet"]
    there = [name for name in used if weights[name].is_file()]
    for name in there:
        pretrained.feature_network(name, hub, cpu)
    if "alexnet" in there:
        pretrained.open_lpips(hub, cpu)
    absent = [weights[name].name for name in used if name not in there]
    folder = next(iter(weights.values())).parent
    note = f"; metrics will be absent for want of {', '.join(absent)} in {folder} (`make models`)" if absent else ""
    return True, f"{', '.join(there) or 'none'}{note}"


def check_icgan(config: Config) -> tuple[Generator, str]:
    """Open the generator's weights, and the network whose features condition it."""
    settings = config.experiment.ozcelik
    assert settings
    generator = open_generator(settings.generator, torch.device("cpu"))
    pretrained.open_instance_encoder(settings.instance_encoder, config.execution.torch_hub, torch.device("cpu"))
    n = sum(tensor.numel() for tensor in generator.parameters()) / 1e6
    text = f"{settings.generator}, {generator.size} pixels, {n:,.1f} million weights, and {settings.instance_encoder}"
    return generator, text


# Generic Object Decoding


def check_concepts(
    findings: Findings, config: Config, names: tuple[str, ...], others: list[str]
) -> tuple[list[Recording], int]:
    """Check the recordings, their stimuli, and what labels are looked up in; a rival only, if NSD is run beside it."""
    part, check = "concepts" if others else "", findings.check
    if not names:
        return [], 0
    recordings = [check(f"{name} of Generic Object Decoding", part, check_recording, config, name) for name in names]
    check("stimuli of Generic Object Decoding", part, check_concept_stimuli, config)
    n_classes = check("ImageNet", part, check_imagenet, config)
    check("network that is decoded", part, check_pooled_network, config)
    check("WordNet", "wordnet", check_wordnet, config)
    return [recording for recording in recordings if recording], n_classes or 0


def check_recording(config: Config, subject: str) -> tuple[Recording, str]:
    """Read a recording."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    recording = god.read_subject(config.god, subject, settings.roi)
    n_test, (n_trials, n_voxels) = len(recording.test_images.ids), recording.X.shape
    release = "" if config.experiment.miniature_god else f", release {recording.release}"
    found = f"{n_trials} trials, {n_voxels} voxels in {settings.roi}, {n_test} test images{release}"
    return Recording(subject, n_trials, n_voxels, n_test), found


def check_concept_stimuli(config: Config) -> tuple[bool, str]:
    """Read every stimulus."""
    counts, wrong = [], []
    for folder, listed_in in (("training", god.TRAINING_IMAGES), ("test", god.TEST_IMAGES)):
        images, place = god.read_images(config.god / listed_in), config.god / "images" / folder
        counts.append(f"{len(images.names)} {folder}")
        if missing := [name for name in images.names if not (place / name).is_file()]:
            text = f"{place} lacks {len(missing)} of {len(images.names)} stimuli, such as {missing[0]}"
            wrong.append(DataError(f"{text}; the authors give them on request"))
        for name in sorted(set(images.names) - set(missing)):
            try:
                god.read_pictures(place, [name])
            except Exception as error:
                wrong.append(error)
    if wrong:
        raise ExceptionGroup("stimuli", wrong)
    return True, " and ".join(counts)


def check_imagenet(config: Config) -> tuple[int, str]:
    """Read the names of the classes; give their number."""
    imagenet = REPOSITORY / config.execution.imagenet
    wnids = read_classes(imagenet).wnids
    if empty := [wnid for wnid in wnids if not any((imagenet / wnid).iterdir())]:
        raise DataError(f"{imagenet} has {len(empty)} empty folders, such as {empty[0]}; unpack them again")
    return len(wnids), f"{len(wnids)} classes"


def check_pooled_network(config: Config) -> tuple[bool, str]:
    """Open the network whose features are decoded, and the safety checker where it is asked for."""
    settings, models = config.experiment.semantic_brain_decoding, config.experiment.models
    assert settings
    cpu = torch.device("cpu")
    if settings.safety_checker:
        pretrained.open_safety_checker(models, cpu)
    pretrained.open_pooled_network(settings.network, models, config.execution.torch_hub, cpu)
    return True, settings.network


def check_wordnet(config: Config) -> tuple[bool, str]:
    """Open WordNet."""
    open_wordnet(config.wordnet)
    return True, str(config.wordnet)


# Time, memory and disk


def sizes_of(parts: dict[str, Any], layers: tuple[dict[str, int], float], scoring: Any, generator: Any) -> Models:
    """Count what estimates need to know of the models."""
    weights = {name: weight_bytes(parts[name]) for name in ("unet", "vae", "text_encoder")}
    weights |= {"clip": layers[1], "scoring_clip": weight_bytes(scoring.model), "instance_encoder": 1e8}
    weights["generator"] = weight_bytes(generator) if generator else 0.0
    unet, text = parts["unet"].config, parts["text_encoder"].config
    return Models(unet.in_channels, unet.cross_attention_dim, text.max_position_embeddings, layers[0], weights)


def rows_of(
    config: Config, models: Models, speed: Speed, of_nsd: dict[str, dict[str, Any] | None], inversion: Any
) -> list[tuple[str, Row]]:
    """Rows of the subjects of NSD, each with its subject; of rivals where what they need is there."""
    found = []
    for name, counts in of_nsd.items():
        if counts is None:
            continue
        streams = counts["n_streams"]
        given = {**counts, "n_streams": streams or (0, 0)}
        if inversion:
            given |= inversion
        subject = Subject(config, models, speed, torch.get_num_threads(), name, **given)
        functions = [*estimates.ROWS]
        functions += estimates.TAKAGI_ROWS if config.experiment.takagi and streams else ()
        functions += estimates.OZCELIK_ROWS if inversion else ()
        found += [(name, function(subject)) for function in functions]
    return sorted(found, key=lambda pair: (pair[0], pair[1].scripts))


def rows_of_concepts(
    config: Config, models: Models, speed: Speed, recordings: list[Recording], n_classes: int, part: str
) -> list[tuple[str, Row]]:
    """Rows of the subjects of Generic Object Decoding, and of the bank, which is of all; `part` is what can be left."""
    found = [("", estimates.bank(config, n_classes))] if n_classes else []
    for recording in recordings:
        found += [
            (recording.name, estimates.labels(config, recording, speed)),
            (recording.name, estimates.label_pictures(config, recording, models, speed)),
            (recording.name, estimates.label_scores(config, recording, models, speed)),
        ]
    return [(name, row._replace(rival=part)) for name, row in found]


def check_disk(config: Config, n_bytes: float) -> tuple[bool, str]:
    """Check that there is room for what the run writes, and that it can be written."""
    folder = config.folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.write_bytes(b"x")
    probe.unlink()
    free, wanted = shutil.disk_usage(folder).free / 1e9, n_bytes / 1e9
    if free < wanted:
        raise DataError(
            f"{folder} has {free:.1f} GB free, and the run writes {wanted:.1f} GB; make room, or set execution.runs"
        )
    return True, f"{folder} has {free:.0f} GB free, the run writes about {wanted:.1f} GB"


def check_memory(findings: Findings, rows: list[tuple[str, Row]], device: torch.device) -> None:
    """Compare each row with the memory that is free; what is wrong with a script that is optional is a note."""
    ram, on_gpu = available_memory(), device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else 0
    for subject, row in rows:
        needs = [("RAM", row.memory + estimates.PROCESS + (0 if on_gpu else row.on_device), ram, "a machine")]
        needs += [(f"memory on the {name_of(device)}", row.on_device, free, "a GPU")] if on_gpu else []
        for what, needed, there, other in needs:
            if needed <= there:
                continue
            ways = ", or ".join([*row.levers, f"take {other} with more memory"])
            text = f"{f'{subject} {row.scripts} {row.name}'.strip()} needs {needed / 1e9:.1f} GB of {what}, of which "
            text += f"{there / 1e9:.1f} GB are free; {ways}"
            if row.is_optional:
                print(f"note   {text} (it is optional)")
            else:
                findings.add(text, row.rival)


def available_memory() -> float:
    """Bytes of RAM that processes can have now: of the machine, or of the container or job that this runs in."""
    found = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        if "MemAvailable" in lines:
            found.append(float(lines["MemAvailable"].split()[0]) * 1024)
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, kind, place = line.split(":", 2)
        if kind in ("", "memory"):  # version 2, or 1
            root, name = Path("/sys/fs/cgroup") / kind, "memory.limit_in_bytes" if kind else "memory.max"
            own = root / place.lstrip("/")
            limits = [folder / name for folder in (own, *own.parents) if folder.is_relative_to(root)]
            texts = [limit.read_text().strip() for limit in limits if limit.is_file()]
            found += [float(text) for text in texts if text != "max"]
    return min(found)


def show(rows: list[tuple[str, Row]], config: Config, device: torch.device) -> None:
    """Print the estimates."""
    if not rows:
        return
    on_gpu = device.type == "cuda"
    print(f"\n{'stage':<30}{'time':>10}{'RAM':>11}{'GPU':>11}{'disk':>11}   derived from")
    for subject, row in rows:
        ram = row.memory + estimates.PROCESS + (0 if on_gpu else row.on_device)
        gpu = f"{row.on_device / 1e9:.1f} GB" if on_gpu and row.on_device else "-"
        name = f"{subject} {row.scripts} {row.name}".strip()
        print(
            f"{name:<30}{readable(row.seconds):>10}{ram / 1e9:>8.1f} GB{gpu:>11}{row.disk / 1e9:>8.1f} GB   {row.how}"
        )
    size = config.execution.batch_size
    print(
        f"\ntimed now on {name_of(device)}, experiment.sampler.precision {config.experiment.sampler.precision}, in "
        f"batches of {size.generate} (execution.batch_size.generate) and {size.refine} (refine); regressions by count, "
        f"in float64 on {torch.get_num_threads()} threads. Times are of one process; --shard divides most scripts. RAM "
        f"that is free: {available_memory() / 1e9:.1f} GB"
    )


def readable(seconds: float) -> str:
    """Seconds as days, hours, or minutes."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    execute(main)
