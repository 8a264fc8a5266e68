"""Hold what each numbered script says of its peak memory against what it takes at the real sizes.

    python benchmarks/memory.py                 # about half an hour on two cores, 25 GB of disk, 14 GB of memory
    python benchmarks/memory.py --only takagi/35,evaluation/41    # those that take an hour or more: left out else
    python benchmarks/memory.py --keep FOLDER   # leaves the inputs there, for another run

Each script runs as a process of its own, on a CPU with two threads, one picture at a time (`execution.batch_size`), on
files of the real shapes (benchmarks/real_sizes.py): subject 1 of NSD, 982 test and 8,859 training images, 11,694
voxels; a subject of Generic Object Decoding, 1,250 images, 4,466 voxels, half a million images in the bank; one of
CC2017, 86 runs of 91,282 columns. Models are of the real architectures, with random weights. What does not change the
peak is made small, and named: steps, iterations, pictures, and parts that are there already. Where something was left
out that would add to the peak, its bytes are added by count, and named too. Measured is the largest resident set of the
process (`ru_maxrss`), with imports. A stage whose measured peak is above the number after "Peak memory:" in its
docstring is marked, and the exit code is 1; one that claims a quarter more than it takes is told to claim less.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from minddiffuser.cli import key_of
from minddiffuser.config import REPOSITORY, load

NSD, GOD, MINIATURE = (REPOSITORY / "configs" / f"{name}.yaml" for name in ("nsd", "god", "miniature"))
N_THREADS = 2
# The peak of a process is at least that of the one that it was forked from: so a small one stands between.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
FIRST_LAYER = (
    "experiment.structural.layers=[2]",
    "experiment.decoding.n_voxels_structural=[350]",
    "experiment.guidance.layer_weights=[1.5]",
)
ONE_STEP = "{n_steps: 4, noise_index: 2, denoise_steps: 1, guidance_scale: 5.0}"
ONE_PICTURE = ("--shard", "1-of-982")


class Case(NamedTuple):
    """How a script is run.

    Attributes
    ----------
    needs : str
        Methods of `real_sizes.Inputs` that put what the script reads, such as "prepared features:semantic,detail".
    settings : tuple of str
        As for --set.
    arguments : tuple of str
    remark : str
        What was made small, or is not run.
    added : float
        GB that what was left out would add, by count; `remark` says of what.
    config : Path
    is_long : bool
        Takes too long to be run unless it is asked for.
    by_count : bool
        Its inputs are too large to be made here: it is not run, and what it claims is by count.
    n_training : int
        Training images, where it is not the real number.
    """

    needs: str
    settings: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    remark: str = ""
    added: float = 0.0
    config: Path = NSD
    is_long: bool = False
    by_count: bool = False
    n_training: int = 8859


CASES = {
    "data/00": Case(
        "stable_diffusion clip", ("experiment.evaluation.networks=scoring_clip",), remark="nothing downloaded"
    ),
    "miniature/01": Case("", config=MINIATURE),
    "data/02": Case("nsd"),
    "miniature/03": Case("", config=MINIATURE),
    "miniature/04": Case("", config=MINIATURE),
    "data/05": Case(
        "cc2017",
        (
            "experiment.miniature_cc2017=null",
            "experiment.mind_animator.subjects=[Subject01]",
            "experiment.mind_animator.voxels.n=4500",
            "experiment.mind_animator.n_validation=320",
        ),
        config=MINIATURE,
    ),
    "feature_extraction/11": Case("nsd prepared stable_diffusion", arguments=("--shard", "1-of-20"), remark="one part"),
    "feature_extraction/12": Case(
        "nsd prepared stable_diffusion",
        remark="44 training images, the last part, which has 2 images",
        n_training=44,
        arguments=("--shard", "5-of-5"),
    ),
    "feature_extraction/13": Case("nsd prepared clip", arguments=("--shard", "1-of-39"), remark="one part"),
    "semantic_brain_decoding/14": Case(
        "imagenet networks", arguments=("--shard", "1-of-250"), remark="one part", config=GOD
    ),
    "feature_decoding/21": Case(
        "prepared features:structural:2", FIRST_LAYER, remark="one layer, one block of its units"
    ),
    "feature_decoding/22": Case(
        "prepared features:semantic parts_of_family:semantic", remark="one part fitted, all joined"
    ),
    "feature_decoding/23": Case(
        "prepared features:detail parts_of_family:detail", remark="one part fitted, all joined"
    ),
    "feature_decoding/24": Case(
        "prepared features:structural units parts_of_family:structural",
        remark="one part of each layer fitted, all joined",
    ),
    "feature_decoding/25": Case(
        "prepared features:semantic features:detail features:structural decoded:semantic decoded:detail "
        "decoded:structural",
        FIRST_LAYER,
        remark="one layer",
    ),
    "feature_decoding/26": Case(
        "prepared features:semantic features:detail features:structural units",
        (
            *FIRST_LAYER,
            "experiment.search.n_voxels=[4000]",
            "experiment.search.alphas=[0.15]",
            "experiment.search.n_units=50",
        ),
        remark="one point of the grid, 3 of 8 targets, 50 of 200 units (0.2 GB added)",
        added=0.2,
    ),
    "feature_decoding/27": Case(
        "prepared features:structural units decoders:semantic decoders:detail decoders:structural",
        FIRST_LAYER,
        remark="one layer",
    ),
    "feature_decoding/28": Case(
        "prepared features:semantic features:detail decoders:semantic decoders:detail permuted_parts",
        ("experiment.controls.n_units=50",),
        remark="one part of each fitted; 50 of 200 units held out (0.1 GB added)",
        added=0.1,
    ),
    "semantic_brain_decoding/29": Case("god bank networks", config=GOD),
    "reconstruction/31": Case(
        "prepared decoded:semantic decoded:detail stable_diffusion",
        arguments=ONE_PICTURE,
        remark="1 picture, 1 denoising step",
    ),
    "reconstruction/32": Case(
        "prepared decoded:semantic decoded:detail decoded:structural stable_diffusion clip",
        ("experiment.guidance.n_images=1", "experiment.guidance.n_iterations=1"),
        remark="1 picture, 1 iteration, 1 denoising step",
    ),
    "reconstruction/33": Case(
        "nsd prepared features:semantic features:detail decoded:semantic decoded:detail permuted "
        "first_pictures_of_controls stable_diffusion",
        ("experiment.controls.ranks=[100]", "experiment.controls.n_seeds=0"),
        ONE_PICTURE,
        remark="1 picture, 1 denoising step; 1 of 6 ranks (0.5 GB added), no other noise, no mean",
        added=0.5,
    ),
    "reconstruction/34": Case(
        "prepared decoded:semantic decoded:detail decoded:structural stable_diffusion clip",
        ("experiment.controls.n_ablated=1", "experiment.guidance.n_iterations=1"),
        remark="1 picture each, 1 iteration, 1 denoising step",
    ),
    **{
        f"mind_animator/{number}": Case("", by_count=True)
        for number in ("11", "21", "22", "23", "24", "25", "31", "32")
    },
    "takagi/35": Case(
        "nsd prepared features:semantic features:detail takagi stable_diffusion",
        is_long=True,
        remark="one part of each fitted or extracted, all joined",
    ),
    "takagi/36": Case(
        "prepared takagi_decoded stable_diffusion",
        (
            "experiment.takagi.forms=[corrected, minddiffuser]",
            "experiment.takagi.n_samples=1",
            f"experiment.takagi.sampler={ONE_STEP}",
        ),
        ONE_PICTURE,
        remark="1 picture of 2 forms, 1 denoising step",
    ),
    "ozcelik/37": Case(
        "nsd prepared ozcelik networks generator",
        ("experiment.ozcelik.inversion_steps=1",),
        n_training=8964,
        remark="8,964 training images, of which the last 4 are inverted, 1 step; all joined",
    ),
    "ozcelik/38": Case("prepared ozcelik_decoded generator", arguments=ONE_PICTURE, remark="1 picture"),
    "semantic_brain_decoding/39": Case(
        "god bank labels stable_diffusion",
        (
            "experiment.semantic_brain_decoding.forms=[corrected]",
            "experiment.semantic_brain_decoding.n_pictures=1",
            "experiment.semantic_brain_decoding.n_steps=2",
        ),
        ("--shard", "1-of-50"),
        remark="1 picture, 2 steps",
        config=GOD,
    ),
    "evaluation/40": Case(
        "god bank labels pictures_of_labels networks scoring_clip",
        ("experiment.semantic_brain_decoding.forms=[corrected]", "experiment.semantic_brain_decoding.n_pictures=1"),
        remark="one system of 50 pictures; without WordNet (0.1 GB added)",
        added=0.1,
        config=GOD,
    ),
    "evaluation/41": Case(
        "nsd prepared features:semantic features:detail features:structural decoders:semantic decoders:detail "
        "units decoders:structural decoded:semantic decoded:detail decoded:structural controls_of_decoders "
        "pictures_of_stage1 networks clip",
        is_long=True,
        added=1.1,
        remark="stage 1 and decoded features; scored by ViT-B/32, for time (1.1 GB added for ViT-L/14)",
    ),
    "evaluation/42": Case("prepared tables"),
    "evaluation/43": Case("nsd prepared everything_on_the_page"),
    "evaluation/44": Case("", by_count=True),
}


def main() -> None:
    """Run the scripts one after the other, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", help="scripts, such as takagi/35,evaluation/42 (default: all but those that take long)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where inputs stay (default: a temporary folder)")
    args = parser.parse_args()
    # What fetches files holds a block of one.
    scripts = {key_of(path): path for path in numbered_scripts() if path.stem != "00_get_nsd"}
    wanted = args.only.split(",") if args.only else [key for key in scripts if not CASES[key].is_long]
    wanted = [key for key in wanted if key not in CASES or not CASES[key].by_count]
    if unknown := sorted(set(wanted) - set(scripts)):
        parser.error(f"no such scripts: {', '.join(unknown)}")
    above, temporary = [], Path(tempfile.mkdtemp()) if args.keep is None else None
    folder = (args.keep or temporary).absolute()  # type: ignore[union-attr]
    print(f"{N_THREADS} threads; peak memory in GB\n{'script':<58}claimed  measured", flush=True)
    try:
        for key in wanted:
            began = time.monotonic()
            claimed, measured = claim_of(scripts[key]), measure(folder, scripts[key])
            verdict = "ABOVE" if measured > claimed else "claim less" if claimed > 1.25 * measured + 0.1 else "ok"
            above += [key] if measured > claimed else []
            name, remark = scripts[key].relative_to(REPOSITORY).as_posix(), CASES[key].remark
            line = f"{name:<58}{claimed:7.1f}{measured:10.2f}  {verdict:<10} {time.monotonic() - began:5.0f} s"
            print(f"{line}  {remark}".rstrip(), flush=True)
    finally:
        if temporary:
            shutil.rmtree(temporary)
    if not args.only:
        left_out = [key for key in scripts if CASES[key].is_long]
        print(f"not run, for time: {', '.join(left_out)}; run --only {','.join(left_out)}")
        print(f"not run, and by count: {', '.join(key for key in scripts if CASES[key].by_count)}")
    print(f"{len(above)} of {len(wanted)} take more than they claim{': ' if above else ''}{', '.join(above)}")
    sys.exit(bool(above))


def numbered_scripts() -> list[Path]:
    """List all numbered scripts, by number."""
    found = [path for pattern in ("*/", "baselines/*/") for path in REPOSITORY.glob(f"{pattern}[0-9][0-9]_*.py")]
    return sorted(found, key=lambda path: (path.name, path))


def claim_of(script: Path) -> float:
    """Read what a script's docstring says, in GB.

    Raises
    ------
    ValueError
        It says so not exactly once.
    """
    text = " ".join((ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split())
    found = re.findall(r"Peak memory: (\d+(?:\.\d+)?) GB", text)
    if len(found) != 1 or text.lower().count("peak memory") != 1:
        raise ValueError(f'{script}: its docstring should have "Peak memory: X GB" once, and has {found}')
    return float(found[0])


def measure(folder: Path, script: Path) -> float:
    """Put the inputs of a script and run it: peak memory in GB, with what is added by count."""
    from benchmarks.real_sizes import Inputs  # with the models' libraries

    case, runs = CASES[key_of(script)], folder / "runs"
    settings = list(case.settings)
    if case.config == MINIATURE:
        places = {name: runs / name for name in ("nsd", "god", "imagenet", "cc2017")} | {"runs": runs}
    else:
        models = folder / "models"
        places = {name: folder / name for name in ("nsd", "god", "runs")}
        places |= {"imagenet": runs / "imagenet", "torch_hub": models / "hub", "wordnet": folder / "none"}
        scoring = "clip" if key_of(script) == "evaluation/41" else "scoring_clip"
        settings += [
            f"experiment.models.stable_diffusion={models / 'stable_diffusion'}",
            f"experiment.models.clip=local-dir:{models / 'clip'}",
            "experiment.models.clip_weights=null",
            f"experiment.models.scoring_clip=local-dir:{models / scoring}",
            "experiment.models.scoring_clip_weights=null",
            f"experiment.sampler={ONE_STEP}",
            "execution.batch_size.encode=1",
            "execution.batch_size.generate=1",
        ]
        if case.config == NSD:
            settings += [f"experiment.ozcelik.generator={models / 'generator'}", "experiment.subjects=[subj01]"]
        else:
            settings.append("experiment.semantic_brain_decoding.subjects=[Subject1]")
    settings += [f"execution.{name}={place}" for name, place in places.items()]
    inputs = Inputs(folder, load(case.config, settings), case.n_training)
    try:
        for need in case.needs.split():
            name, *arguments = need.split(":")
            getattr(inputs, name)(*arguments)
        options = [word for setting in settings for word in ("--set", setting)]
        command = [str(script), "--config", str(case.config), "--device", "cpu", *options, *case.arguments]
        return run(command) + case.added
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def run(command: list[str]) -> float:
    """Run a script to its end: its peak memory in GB."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(N_THREADS))
    line = [sys.executable, "-c", LAUNCHER, sys.executable, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **limits})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return int(done.stdout) * 1024 / 1e9


if __name__ == "__main__":
    main()
