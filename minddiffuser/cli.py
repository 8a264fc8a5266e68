"""The command line that every stage script shares."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from minddiffuser.config import REPOSITORY, Config, ConfigError, Experiment, load
from minddiffuser.store import DataError, Shard

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Run:
    """What a stage script was asked to do."""

    config: Config
    subjects: tuple[str, ...]
    shard: Shard
    device_name: str
    overwrite: bool
    own: argparse.Namespace = field(default_factory=argparse.Namespace)  # with the arguments that only one script has

    @property
    def device(self) -> torch.device:
        """The torch device (torch is imported here: the scripts that need no device start without it)."""
        import torch

        try:
            return torch.device(self.device_name)
        except RuntimeError as error:
            raise DataError(f"--device {self.device_name}: {error}") from error


def parse(
    doc: str | None,
    argv: list[str] | None,
    add_own: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    subjects_of: Callable[[Experiment], tuple[str, ...]] = lambda experiment: experiment.subjects,
) -> Run:
    """Read the shared arguments and the configuration; a wrong key or value ends with exit code 2.

    `add_own` adds the arguments that only this script has; `subjects_of` gives the subjects of its dataset.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = REPOSITORY / "configs" / "miniature.yaml"
    parser.add_argument("--config", type=Path, default=default, help="experiment (default: configs/miniature.yaml)")
    parser.add_argument("--subject", help="one subject, such as subj01 (default: all of the configuration)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="override, such as experiment.seed=7")
    parser.add_argument("--shard", type=Shard.parse, default=Shard(), metavar="K-OF-N", help="do one part of n")
    parser.add_argument("--device", help="torch device, such as cuda:0 (default: execution.device)")
    parser.add_argument("--overwrite", action="store_true", help="replace results made with other settings")
    add_own(parser)
    args = parser.parse_args(argv)
    try:
        config = load(args.config, args.set)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    known = subjects_of(config.experiment)
    if args.subject and args.subject not in known:
        parser.exit(2, f"error: --subject {args.subject}: {args.config} has {', '.join(known) or 'none here'}\n")
    subjects = (args.subject,) if args.subject else known
    return Run(config, subjects, args.shard, args.device or config.execution.device, args.overwrite, args)


def concept_subjects(experiment: Experiment) -> tuple[str, ...]:
    """Subjects of Generic Object Decoding, which have other names than those of NSD."""
    settings = experiment.semantic_brain_decoding
    return settings.subjects if settings else ()


def execute(main: Callable[[], None]) -> None:
    """Run a script's `main`; what is wrong with the input ends with one message and exit code 1."""
    try:
        main()
    except DataError as error:
        sys.exit(f"error: {error}")
    except FloatingPointError as error:
        sys.exit(
            f"error: {error}; set experiment.sampler.precision to float32, or lower experiment.guidance.learning_rate"
        )
    except (MemoryError, RuntimeError) as error:  # torch's own error for this is a RuntimeError, on a CPU a plain one
        if isinstance(error, RuntimeError) and not re.search("out of memory|can't allocate memory", str(error)):
            raise
        sys.exit(
            f"error: out of memory ({str(error).splitlines()[0] if str(error) else 'MemoryError'}); lower "
            "execution.batch_size, and set execution.checkpoint_steps to true; what is done is kept"
        )
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}: {error.filename or ''} (nothing that was complete is lost)")
