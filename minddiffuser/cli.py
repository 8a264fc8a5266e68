"""The command line that every stage script shares."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from minddiffuser import stopping
from minddiffuser.arguments import is_default, shared_parser
from minddiffuser.config import REPOSITORY, Config, ConfigError, Experiment, load
from minddiffuser.store import DataError, Shard

if TYPE_CHECKING:
    import torch

# Scripts are called by their folder and number here (`key_of`). The kinds of work of each script that has
# `execution.batch_size`, the one that needs most memory first.
BATCHES = {
    **dict.fromkeys(("feature_extraction/11", "feature_extraction/12", "feature_extraction/13"), ("encode",)),
    **dict.fromkeys(("mind_animator/11", "semantic_brain_decoding/14", "semantic_brain_decoding/29"), ("encode",)),
    "takagi/35": ("encode",),
    **dict.fromkeys(("reconstruction/31", "reconstruction/33", "takagi/36"), ("generate",)),
    **dict.fromkeys(("ozcelik/38", "semantic_brain_decoding/39"), ("generate",)),
    **dict.fromkeys(("mind_animator/31", "mind_animator/32"), ("generate",)),
    **dict.fromkeys(("reconstruction/32", "reconstruction/34"), ("refine",)),
    "ozcelik/37": ("refine", "encode"),
    **dict.fromkeys(("evaluation/40", "evaluation/41", "evaluation/44"), ("score",)),
}
_TAKAGI, _STAGE2, _ABLATIONS = "takagi/36", "reconstruction/32", "reconstruction/34"
# Scripts that experiment.sampler.precision is of.
_WITH_SAMPLER = ("reconstruction/31", _STAGE2, "reconstruction/33", _ABLATIONS, _TAKAGI)


@dataclass(frozen=True)
class Run:
    """What a stage script was asked to do."""

    config: Config
    subjects: tuple[str, ...]
    shard: Shard
    device_name: str
    overwrite: bool
    own: argparse.Namespace = field(default_factory=argparse.Namespace)  # with the arguments that only one script has

    @cached_property
    def device(self) -> torch.device:
        """The torch device, which is there (torch is imported here: the scripts that need none start without it)."""
        import torch

        asked = f"{self.device_name} was asked for (--device, or execution.device)"
        try:
            device = torch.device(self.device_name)
        except RuntimeError as error:
            raise DataError(f"{asked}: {str(error).splitlines()[0]}") from error
        if device.type == "cpu":
            return device
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None or found.type != device.type:
            sees = f"{found.type}, and no {device.type}" if found else "no GPU"
            raise DataError(f"torch {torch.__version__} sees {sees}, but {asked}")
        if (device.index or 0) >= (n := torch.accelerator.device_count()):
            raise DataError(f"torch {torch.__version__} sees {n} of {device.type}, counted from 0, but {asked}")
        try:
            torch.zeros(1, device=device)
        except RuntimeError as error:  # a GPU that another process has for itself, or whose driver does not fit
            raise DataError(f"{asked}, and cannot be used: {str(error).splitlines()[0]}") from error
        return device


_latest: Run | None = None  # what `parse` gave: `execute` looks at its settings when memory does not suffice


def parse(
    doc: str | None,
    argv: list[str] | None,
    add_own: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    subjects_of: Callable[[Experiment], tuple[str, ...]] = lambda experiment: experiment.subjects,
    divides: bool = True,
) -> Run:
    """Read the shared arguments and the configuration; what is wrong with them ends with exit code 2.

    `add_own` adds the arguments that only this script has, and is the script's function `add_arguments`, which `--help`
    is answered from (`minddiffuser/arguments.py`); `subjects_of` gives the subjects of its dataset; `divides` tells
    whether several processes can each do a part of its work.
    """
    global _latest
    parser = shared_parser(doc, divides)
    add_own(parser)
    args = parser.parse_args(argv)
    try:
        shard = Shard() if args.shard is None else Shard.parse(args.shard)
    except ValueError as error:
        parser.exit(2, f"error: --shard: {error}\n")
    if shard.n > 1 and not divides:
        parser.exit(2, "error: --shard: this script's work is not divided: run it once, without --shard\n")
    if shard.n > 1 and args.overwrite:
        parser.exit(
            2,
            "error: --overwrite with --shard could delete what other shards have just made: run once with --overwrite "
            "and without --shard, or delete the old results first\n",
        )
    config = read_config(parser, args.config, args.set)
    known = subjects_of(config.experiment)
    if args.subject is not None and args.subject not in known:
        parser.exit(2, f"error: --subject {args.subject}: {args.config} has {', '.join(known) or 'none here'}\n")
    subjects = (args.subject,) if args.subject else known
    _latest = Run(config, subjects, shard, args.device or config.execution.device, args.overwrite, args)
    return _latest


def read_config(parser: argparse.ArgumentParser, path: Path, overrides: list[str] | None = None) -> Config:
    """Read a configuration; what is wrong with it ends with exit code 2."""
    try:
        return load(path, overrides)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")


def concept_subjects(experiment: Experiment) -> tuple[str, ...]:
    """Subjects of Generic Object Decoding, which have other names than those of NSD."""
    settings = experiment.semantic_brain_decoding
    return settings.subjects if settings else ()


def film_subjects(experiment: Experiment) -> tuple[str, ...]:
    """Subjects of CC2017, the dataset of films."""
    settings = experiment.mind_animator
    return settings.subjects if settings else ()


def key_of(script: Path) -> str:
    """Give a numbered script's folder and number, such as "takagi/36": numbers are unique in a folder only."""
    return f"{script.absolute().parent.name}/{script.name[:2]}"


def execute(main: Callable[[], None]) -> None:
    """Run a script's `main`; what is wrong with the input ends with one message and exit code 1.

    After SIGTERM a script that has kept what it had in hand ends with exit code 75.
    """
    try:
        main()
        stopping.release()
    except stopping.StoppedError:
        print("stopped by SIGTERM: what is done is kept, and the same command goes on", file=sys.stderr)
        sys.exit(stopping.AGAIN)
    except DataError as error:
        remedy = error.remedy if _latest is None else remedy_of(error, _latest.config)
        sys.exit(with_settings(f"error: {error.text}; {remedy}" if remedy else f"error: {error.text}"))
    except FloatingPointError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not is_for_want_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "MemoryError"
        sys.exit(f"error: out of memory ({reason}); {_levers()}; what is done is kept")
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}: {error.filename or ''} (nothing that was complete is lost)")


def is_for_want_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Tell whether memory did not suffice: torch's own error for that is a RuntimeError, and on a CPU a plain one."""
    words = "out of memory|can't allocate memory|ALLOC_FAILED"
    return isinstance(error, MemoryError) or re.search(words, str(error)) is not None


def with_settings(text: str) -> str:
    """Put the configuration of this run, and what `--set` changes in it, into the commands that a text names."""
    if _latest is None:
        return text
    words = [] if is_default(_latest.own.config) else ["--config", str(_latest.own.config)]
    words += [word for setting in _latest.own.set or [] for word in ("--set", setting)]
    return re.sub(r"python (?:\w+/)+\d\d_\w+\.py", lambda found: shlex.join([*found[0].split(), *words]), text)


def remedy_of(error: DataError, config: Config) -> str:
    """Say what mends an error; what is the miniature's is made by its scripts, or is in the repository."""
    path, experiment = error.path, config.experiment
    if path is None or path.match("miniature*.json"):  # the records of those scripts: the whole folder must go
        return error.remedy
    path = path.absolute()
    if path.is_relative_to(REPOSITORY / "miniature"):
        return f"get it back with: git checkout {path.relative_to(REPOSITORY)}"
    god, imagenet = config.god, REPOSITORY / config.execution.imagenet
    for root, script, is_simulated in (
        (config.nsd, "miniature/01_make_miniature.py", experiment.miniature is not None),
        (god, "miniature/03_make_god.py", experiment.miniature_god is not None),
        (imagenet, "miniature/03_make_god.py", experiment.miniature_god is not None),
        (config.cc2017, "miniature/04_make_cc2017.py", experiment.miniature_cc2017 is not None),
    ):
        if is_simulated and path.is_relative_to(root.absolute()):
            command = f"python {script}{' --overwrite' if root.exists() else ''}"
            return f"delete it, and make it again with: {command}" if path.is_file() else f"make it with: {command}"
    return error.remedy


def _of_table(script: str, kind: str, size: int) -> str:
    """Say how many pictures the table of memory gives for the card that memory did not suffice on, if it knows."""
    import torch

    from minddiffuser.needs import card_memory

    assert _latest
    experiment = _latest.config.experiment
    is_of_table = experiment.detail.image_size == card_memory.IMAGE_SIZE and kind in card_memory.OF_KIND
    if kind == "generate" and script not in _WITH_SAMPLER:  # the table has stage 1: no films, and no IC-GAN
        is_of_table = False
    if not is_of_table or not _latest.device_name.startswith("cuda") or not torch.cuda.is_available():
        return ""
    takagi, precision = experiment.takagi, experiment.sampler.precision if script in _WITH_SAMPLER else "float32"
    if script == _TAKAGI and takagi and takagi.sampler:
        precision = takagi.sampler.precision
    card = torch.cuda.get_device_properties(_latest.device_name).total_memory
    n = card_memory.largest_batch(kind, precision, card)
    others = ": does another program use it?" if n >= size else ""
    return f"; the table in docs/performance.md has {n or 'not even 1'} for this card of {card / 2**30:.0f} GiB{others}"


def _levers() -> str:
    """Say what takes less memory, of what is not yet set so; the first changes no result."""
    if _latest is None:
        return "lower execution.batch_size"
    experiment, execution = _latest.config.experiment, _latest.config.execution
    script, on_a_cpu = key_of(Path(sys.argv[0])), _latest.device_name.startswith("cpu")
    sizes = {kind: getattr(execution.batch_size, kind) for kind in BATCHES.get(script, ())}
    found = [
        f"lower execution.batch_size.{kind} (now {size}{_of_table(script, kind, size)})"
        for kind, size in sizes.items()
        if size > 1
    ]
    if script in (_STAGE2, _ABLATIONS) and not execution.checkpoint_steps:
        found.append("set execution.checkpoint_steps to true")
    section = "takagi.sampler" if script == _TAKAGI else "sampler"
    sampler = experiment.takagi.sampler if script == _TAKAGI and experiment.takagi else experiment.sampler
    if script in _WITH_SAMPLER and sampler.precision != "float16" and not on_a_cpu:
        found.append(f"set experiment.{section}.precision to float16 (other settings: results are made anew)")
    found.append("take a machine with more memory" if on_a_cpu else "take a GPU with more memory, or --device cpu")
    return ", or ".join(found)
