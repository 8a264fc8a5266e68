"""Check everything that a run needs before hours are spent on it, and estimate what it will take.

    python -m minddiffuser.doctor --config configs/nsd_subj01.yaml [--subject subj01]

Looks at every file of the dataset, the ROIs, the captions of all images, the models (each is opened), the device, and
the free disk; then estimates time and disk of each stage. Ends with exit code 1 and a list if something is wrong.
"""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from baselines.ozcelik.generator import Generator, open_generator
from baselines.semantic_brain_decoding.classes import read_classes
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import god, nsd
from minddiffuser import pretrained
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config import REPOSITORY, Config, layer_name
from minddiffuser.store import DataError


class Size(NamedTuple):
    """What a subject's run consists of."""

    n_train: int
    n_test: int
    n_voxels: int
    n_bytes: int  # of the betas


class UNetCall(NamedTuple):
    """Seconds of a guided U-Net call of one batch, bytes on a GPU (NaN without one), and the decoders' rate."""

    forward: float
    backward: float
    memory: float
    cholesky_rate: float


def main(argv: list[str] | None = None) -> None:
    """Print findings and estimates."""
    run = parse(__doc__, argv)
    problems: list[str] = []

    def check(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            result, found = function(*arguments)
        except (DataError, OSError) as error:
            problems.append(f"{what}: {error}")
            print(f"WRONG  {what}: {error}", flush=True)
            return None
        print(f"ok     {what}: {found}", flush=True)
        return result

    check("settings", check_settings, run.config)
    sizes = {}
    for subject in run.subjects:
        check(f"{subject} captions", check_captions, run.config, subject)
        sizes[subject] = check(f"{subject} design, betas and ROIs", check_subject, run.config, subject)
        if run.config.experiment.takagi:
            check(f"{subject} streams, for Takagi", check_streams, run.config, subject)
    device = check("device", check_device, run)
    models = check("Stable Diffusion", open_stable_diffusion, run.config)
    layers = check("CLIP that guides", check_clip, run.config)
    check("CLIP that scores", check_scoring_clip, run.config)
    generator = check("IC-GAN, for Ozcelik", check_icgan, run.config) if run.config.experiment.ozcelik else None
    concepts = () if run.own.subject else concept_subjects(run.config.experiment)
    n_pictures = {s: check(f"{s} of Generic Object Decoding", check_recording, run.config, s) for s in concepts}
    if concepts:
        check("ImageNet, WordNet and the decoded network", check_bank, run.config)
    if not problems:
        call = time_unet(models["unet"], run.config, device)
        step = time_inversion(generator, run.config, device) if generator else None
        rows = [row for s in run.subjects for row in estimate(run.config, s, sizes[s], models, layers, call)]
        if generator and step:
            rows += [estimate_ozcelik(run.config, s, sizes[s], generator, step) for s in run.subjects]
        rows += [estimate_concepts(run.config, s, n, call) for s, n in n_pictures.items()]
        rows += [estimate_bank(run.config)] if concepts else []
        check("disk", check_disk, run.config, sum(disk for _, _, _, disk, _ in rows) / 1e9)
        print(f"\n{'stage':<25}{'time':>10}{'memory':>12}{'disk':>11}   derived from")
        for name, seconds, memory, disk, how in rows:
            amount = "-" if np.isnan(memory) else f"{memory / 1e9:.1f} GB"
            print(f"{name:<25}{readable(seconds):>10}{amount:>12}{disk / 1e9:>8.1f} GB   {how}")
        print("memory: of arrays; in stages 1 and 2 of the GPU, in that call, to which the decoder and CLIP add")
    if problems:
        sys.exit(f"\n{len(problems)} problems:\n" + "\n".join(f"  {k + 1}. {text}" for k, text in enumerate(problems)))
    print("\nnothing is wrong")


def check_settings(config: Config) -> tuple[None, str]:
    """Check that settings fit one another, beyond what each must be by itself."""
    experiment = config.experiment
    layers = experiment.structural.layers
    for name, values in {
        "decoding.n_voxels_structural": experiment.decoding.n_voxels_structural,
        "guidance.layer_weights": experiment.guidance.layer_weights,
    }.items():
        if len(values) != len(layers):
            raise DataError(f"experiment.{name} has {len(values)} numbers for {len(layers)} structural layers")
    sampler = experiment.sampler
    agree = sampler.denoise_steps == sampler.noise_index + 1
    note = "" if agree else f" (noise_index {sampler.noise_index} and denoise_steps {sampler.denoise_steps} disagree)"
    return None, f"{config.name}{note}"


def check_captions(config: Config, subject: str) -> tuple[None, str]:
    """Check the captions of every stimulus that the subject saw."""
    design = nsd.read_design(config.nsd, subject)
    ids = np.unique(nsd.read_coco_ids(config.nsd)[design.stimuli])
    n = config.experiment.semantic.n_captions
    nsd.read_captions(config.nsd, ids, n)
    return None, f"{len(ids)} images have {n} or more"


def check_subject(config: Config, subject: str) -> tuple[Size, str]:
    """Check every session's file, and the voxels."""
    root, data = config.nsd, config.experiment.data
    design = nsd.read_design(root, subject)
    voxels = nsd.read_voxels(root, subject, data.space, data.rois)
    paths = [nsd.session_path(root, subject, data.space, data.betas, s + 1) for s in range(data.sessions)]
    n_trials = {path: nsd.check_session(path, voxels.shape) for path in paths}
    usual = n_trials[paths[0]]
    for path, n in n_trials.items():
        if n != usual:
            raise DataError(f"{path} has {n} trials, but {paths[0]} has {usual}")
    if usual * data.sessions > len(design.ordering):
        raise DataError(f"{data.sessions} sessions of {usual} trials are more than the design's {len(design.ordering)}")
    seen = np.unique(design.ordering[: usual * data.sessions])
    n_test = int((seen < design.n_shared).sum())
    note = ""
    expected = nsd.KNOWN_VOXELS.get(subject) if voxels.shape == nsd.VOLUMES.get(subject) else None
    if expected:
        found = {"V1": int((voxels.roi == "V1").sum()), "all": len(voxels.index)}
        note = f" (V1: {found['V1']})"
        for name, count in expected.items():
            if (name == "all" or name in data.rois) and abs(found[name] - count) > 0.01 * count:
                raise DataError(
                    f"{root}: {subject} has {found[name]} voxels in {name}, but the authors had {count}; the ROI "
                    "volumes are not those of this subject and space, or of another release"
                )
    size = Size(len(seen) - n_test, n_test, len(voxels.index), sum(path.stat().st_size for path in paths))
    text = f"{data.sessions} sessions of {usual} trials, {size.n_train} training and {n_test} test images, "
    return size, f"{text}{size.n_voxels} voxels{note}"


def check_streams(config: Config, subject: str) -> tuple[None, str]:
    """Check the voxels that Takagi's method decodes from."""
    streams = ("early", "ventral")
    voxels = nsd.read_streams(config.nsd, subject, config.experiment.data.space, streams)
    return None, ", ".join(f"{(voxels.roi == stream).sum()} voxels in {stream}" for stream in streams)


def check_icgan(config: Config) -> tuple[Generator, str]:
    """Open the generator's weights, and the network whose features condition it."""
    assert config.experiment.ozcelik
    settings = config.experiment.ozcelik
    generator = open_generator(settings.generator, torch.device("cpu"))
    pretrained.open_instance_encoder(settings.instance_encoder, config.execution.torch_hub, torch.device("cpu"))
    n = sum(tensor.numel() for tensor in generator.parameters()) / 1e6
    text = f"{settings.generator}, {generator.size} pixels, {n:,.1f} million weights, and {settings.instance_encoder}"
    return generator, text


def check_recording(config: Config, subject: str) -> tuple[int, str]:
    """Check a recording of Generic Object Decoding, and its stimuli; give the number of pictures to generate."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    recording = god.read_subject(config.god, subject, settings.roi)
    for folder, images in (("training", recording.training_images), ("test", recording.test_images)):
        place = config.god / "images" / folder
        if missing := [name for name in images.names if not (place / name).is_file()]:
            raise DataError(f"{place} lacks {len(missing)} of {len(images.names)} stimuli, such as {missing[0]}")
    n_test = len(recording.test_images.ids)
    release = "" if config.experiment.miniature_god else f", release {recording.release}"
    found = f"{len(recording.X)} trials, {recording.X.shape[1]} voxels in {settings.roi}, {n_test} test images{release}"
    return n_test * (len(settings.forms) * settings.n_pictures + 1), found


def check_bank(config: Config) -> tuple[None, str]:
    """Check what labels are looked up and scored with."""
    settings, execution = config.experiment.semantic_brain_decoding, config.execution
    assert settings
    classes = read_classes(REPOSITORY / execution.imagenet)
    if settings.safety_checker:
        pretrained.open_safety_checker(config.experiment.models, torch.device("cpu"))
    pretrained.open_pooled_network(settings.network, config.experiment.models, execution.torch_hub, torch.device("cpu"))
    open_wordnet(config.wordnet)
    return None, f"{len(classes.wnids)} classes, {settings.network}"


def check_device(run: Run) -> tuple[torch.device, str]:
    """Check that the device is there."""
    device = run.device
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise DataError(f"torch {torch.__version__} sees no GPU, but {device} was asked for (execution.device)")
        if (device.index or 0) >= torch.cuda.device_count():
            raise DataError(f"there is no {device}: torch sees {torch.cuda.device_count()} GPUs, counted from cuda:0")
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return device, f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, torch {torch.__version__}"
    return device, f"{device} with {torch.get_num_threads()} threads, torch {torch.__version__}"


def open_stable_diffusion(config: Config) -> tuple[dict[str, Any], str]:
    """Open every part of Stable Diffusion."""
    experiment, cpu = config.experiment, torch.device("cpu")
    source = (experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision)
    models: dict[str, Any] = {"unet": pretrained.open_unet(*source, cpu), "vae": pretrained.open_vae(*source, cpu)}
    models["tokenizer"], models["text_encoder"] = pretrained.open_text_encoder(*source, cpu)
    pretrained.open_scheduler(*source).set_timesteps(experiment.sampler.n_steps)
    width = models["text_encoder"].config.hidden_size
    if models["unet"].config.cross_attention_dim != width:
        raise DataError(f"{source[0]}: the U-Net expects text of another width than {width}: parts of two models")
    n = sum(p.numel() for name in ("unet", "vae", "text_encoder") for p in models[name].parameters())
    return models, f"{source[0]}, {n / 1e6:,.1f} million weights"


def check_clip(config: Config) -> tuple[dict[str, int], str]:
    """Open the CLIP that guides, and count the units of each layer."""
    models, structural = config.experiment.models, config.experiment.structural
    clip = pretrained.open_clip_model(models.clip, models.clip_weights, torch.device("cpu"))
    visual: Any = clip.model.visual
    if max(structural.layers) > 2 * len(visual.transformer.resblocks):
        raise DataError(f"experiment.structural.layers: {models.clip} has no Linear-{max(structural.layers)}")
    units = visual.positional_embedding.numel()
    return {layer_name(n): units for n in structural.layers}, f"{models.clip}, {units} units a layer"


def check_scoring_clip(config: Config) -> tuple[None, str]:
    """Open the CLIP that scores; name the networks of other scores that are absent, which does not stop a run."""
    models = config.experiment.models
    clip = pretrained.open_clip_model(models.scoring_clip, models.scoring_clip_weights, torch.device("cpu"))
    if config.experiment.evaluation.networks == "scoring_clip":
        pretrained.require_stand_ins(clip)
    weights = pretrained.scoring_weights(config.execution.torch_hub)
    absent = [path.name for path in weights.values() if not path.is_file()]
    if config.experiment.evaluation.networks == "scoring_clip" or not absent:
        return None, models.scoring_clip
    folder = next(iter(weights.values())).parent
    return None, f"{models.scoring_clip}; metrics will be absent for want of {', '.join(absent)} in {folder}"


def check_disk(config: Config, gigabytes: float) -> tuple[None, str]:
    """Check that there is room for what the run writes, and that it can be written."""
    folder = config.folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.write_bytes(b"x")
    probe.unlink()
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise DataError(f"{folder} has {free:.0f} GB free, and the run writes {gigabytes:.0f} GB; set execution.runs")
    return None, f"{folder} has {free:.0f} GB free, the run writes about {gigabytes:.1f} GB"


def estimate(
    config: Config, subject: str, size: Size, models: dict[str, Any], layers: dict[str, int], call: UNetCall
) -> list[tuple[str, float, float, float, str]]:
    """Name, seconds, bytes of memory and on disk, and what they are derived from, for each costly stage."""
    experiment = config.experiment
    decoding, sampler, guidance = experiment.decoding, experiment.sampler, experiment.guidance
    n_images, batch = size.n_train + size.n_test, config.execution.batch_size
    n_z = models["unet"].config.in_channels * (experiment.detail.image_size // 8) ** 2
    n_c = (experiment.semantic.max_length - 1) * models["unet"].config.cross_attention_dim
    families = [(n_c, decoding.n_voxels_semantic), (n_z, decoding.n_voxels_detail)]
    families += [
        (int(n * experiment.units.keep), k) for n, k in zip(layers.values(), decoding.n_voxels_structural, strict=True)
    ]
    # One factorisation an output where voxels are selected; and the Gram matrix, three times.
    operations = sum(n * k**3 / 3 for n, k in families if k < size.n_voxels) + 6 * size.n_voxels**2 * size.n_train
    again = sum(n * k**3 / 3 for n, k in families[:2] if k < size.n_voxels)
    controls = experiment.controls
    folds = 2 * controls.n_folds  # of random images, and of clusters
    splits = folds * (
        2 * size.n_voxels**2 * size.n_train * (1 - 1 / controls.n_folds)
        + sum(controls.n_units * min(k, size.n_voxels) ** 3 / 3 for _, k in families[:2])
    )
    weights = sum(n * 8 * min(k, size.n_voxels) for n, k in families)  # and their voxels
    n_refined = min(guidance.n_images or size.n_test, size.n_test)
    n_steps = guidance.n_iterations * sampler.denoise_steps
    ablated = 2 * min(experiment.controls.n_ablated or n_refined, n_refined) / n_refined
    prepare = size.n_bytes / 100e6
    extract = n_images / batch * call.forward / 4
    stage1 = size.n_test / batch * sampler.denoise_steps * call.forward
    n_controls = 3 + len(controls.ranks) + controls.n_seeds  # that the generator makes
    stage2 = n_refined / batch * n_steps * (2 * call.forward + call.backward) * 1.15
    n_pictures = n_refined * guidance.n_iterations / guidance.save_every
    picture = experiment.detail.image_size**2 * 1.5  # bytes of a PNG
    timed = f"a U-Net call of {batch} images, {call.forward:.2f} s, and backward, {call.backward:.2f} s"
    betas = size.n_train * size.n_voxels * 8  # in float64
    layer = size.n_train * max(layers.values()) * 4
    opened = 4 * sum(p.numel() for name in ("vae", "text_encoder") for p in models[name].parameters())
    rows = [
        (
            "02 prepare",
            prepare,
            betas + size.n_bytes / config.experiment.data.sessions,
            n_images * size.n_voxels * 4,
            "reading the betas at 100 MB/s",
        ),
        (
            "11-13 features",
            extract,
            opened,
            n_images * 4 * (sum(layers.values()) + n_z + n_c),
            "a quarter of a U-Net call",
        ),
        (
            "22-24 decoders",
            operations / call.cholesky_rate,
            2 * betas + 8 * size.n_voxels**2 + 2 * layer,
            weights,
            f"operations at {call.cholesky_rate / 1e9:.0f} Gflop/s, timed now",
        ),
        (
            "28 controls",
            (again + splits) / call.cholesky_rate,
            2 * betas + 16 * size.n_voxels**2,
            sum(n * 8 * min(k, size.n_voxels) for n, k in families[:2]),
            "22 and 23 once more, and two cross-validations",
        ),
        ("31 stage 1", stage1, call.memory, size.n_test * picture, timed),
        ("33 controls", n_controls * stage1, call.memory, (n_controls + 4) * size.n_test * picture, timed),
        ("32 stage 2", stage2, call.memory, n_pictures * picture, "the same calls, and 15 %"),
        (
            "34 ablations",
            ablated * stage2,
            call.memory,
            ablated * n_pictures * picture,
            "stage 2 of fewer images, twice",
        ),
    ]
    if experiment.takagi:
        takagi = experiment.takagi
        pictures = size.n_test * (2 * takagi.n_samples + 1)
        n_tokens = takagi.max_length or models["text_encoder"].config.max_position_embeddings
        n_takagi = 2 * n_z * takagi.image_share**2 + n_tokens * models["unet"].config.cross_attention_dim
        n_takagi += 3 * size.n_voxels  # trials, if the streams have about as many voxels
        calls = size.n_test / batch * call.forward * 2 * takagi.n_samples * takagi.sampler.denoise_steps
        rows += [
            ("35 Takagi", prepare + extract, 3 * n_images * n_takagi * 4, n_images * n_takagi * 4,
             "reading the betas again; the regressions, minutes to hours, are left out"),
            ("36 Takagi", calls + stage1, call.memory, pictures * picture, timed),
        ]  # fmt: skip
    return [(f"{subject} {name}", *rest) for name, *rest in rows]  # type: ignore[misc]


def estimate_ozcelik(
    config: Config, subject: str, size: Size, generator: Generator, step: float
) -> tuple[str, float, float, float, str]:
    """Estimate what inverting the training images takes, which is nearly all of 37 and 38."""
    assert config.experiment.ozcelik
    n_steps, batch = config.experiment.ozcelik.inversion_steps, config.execution.batch_size
    n_outputs = 16 * generator.n_first + generator.n_noise
    memory = 8 * (4 * size.n_train * size.n_voxels + size.n_train**2) + 4 * size.n_train * n_outputs
    how = f"a step of the inversion of {batch} images, {step:.2f} s"
    return f"{subject} 37 Ozcelik", size.n_train / batch * n_steps * step, memory, 4 * size.n_train * n_outputs, how


def estimate_concepts(config: Config, subject: str, n: int, call: UNetCall) -> tuple[str, float, float, float, str]:
    """Estimate what generating pictures from labels takes, which is nearly all of 29 and 39."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    seconds = n / config.execution.batch_size * (settings.n_steps + 1) * call.forward
    how = f"{n} pictures of {settings.n_steps} steps"
    return f"{subject} 39 labels", seconds, call.memory, n * config.experiment.detail.image_size**2 * 1.5, how


def estimate_bank(config: Config) -> tuple[str, float, float, float, str]:
    """Estimate the bank of ImageNet features: reading its images is what takes long, on a disk that we do not know."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    n = settings.bank_per_class * len(read_classes(REPOSITORY / config.execution.imagenet).wnids)
    return "14 bank", n / 200, 5e8, 2 * n * 2048 * 4, f"{n} images at 200 a second, a guess"


def time_inversion(generator: Generator, config: Config, device: torch.device) -> float:
    """Seconds that the generator takes forward and back, for one batch; the least of three times."""
    generator.to(device)
    features = torch.nn.functional.normalize(
        torch.randn(config.execution.batch_size, generator.shared_feat.weight.shape[1], device=device), dim=1
    )
    noise = torch.randn(len(features), generator.n_noise, device=device, requires_grad=True)
    times = []
    for _ in range(3):
        began = _now(device)
        torch.autograd.grad(generator(noise, features).sum(), noise)
        times.append(_now(device) - began)
    generator.to("cpu")
    return min(times)


def cholesky_rate(device: torch.device, n: int = 3000) -> float:
    """Operations a second of float32 Cholesky factorisations on the device."""
    A = torch.eye(n, device=device) * n + torch.rand(n, n, device=device) / n
    A = A + A.T
    torch.linalg.cholesky(A)
    began = _now(device)
    torch.linalg.cholesky(A)
    return n**3 / 3 / (_now(device) - began)


def time_unet(unet: Any, config: Config, device: torch.device) -> UNetCall:
    """Time a guided U-Net call on the device, and its backward pass to its inputs; the least of three times."""
    experiment, n = config.experiment, 2 * config.execution.batch_size
    dtype, size = getattr(torch, experiment.sampler.precision), experiment.detail.image_size // 8
    n_tokens, width = experiment.semantic.max_length, unet.config.cross_attention_dim
    unet.to(device)
    x = torch.randn(n, unet.config.in_channels, size, size, device=device, requires_grad=True)
    c = torch.randn(n, n_tokens, width, device=device, requires_grad=True)
    times = []
    for _ in range(3):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            moments = [_now(device)]
            with torch.no_grad():
                unet(x, 500, c)
            moments.append(_now(device))
            out = unet(x, 500, c).sample
        moments.append(_now(device))
        torch.autograd.grad(out.float().sum(), (x, c))
        moments.append(_now(device))
        times.append(np.diff(moments))
    forward, _, backward = np.min(times, axis=0)
    memory = float("nan")
    if device.type == "cuda":
        memory = float(torch.cuda.max_memory_allocated(device))
    unet.to("cpu")
    return UNetCall(forward, backward, memory, cholesky_rate(device))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def readable(seconds: float) -> str:
    """Seconds as days, hours, or minutes."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    execute(main)
