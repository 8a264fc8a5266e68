"""The list of stages, `stages.csv`: what make, cluster/submit.sh and workflow/Snakefile run, in order.

    command   a numbered script, relative to the repository, and its arguments
    targets   which lists it is in, such as "demo compare"; those of `make` have the same names
    divides   what its `--shard` divides, where that pays on a cluster: images, clips or units
    takes     "subject": one process for each; "all": all subjects in one go, to simulate, or to gather what they have
    gpu       whether it uses a GPU, where the configuration's device is one
    after     scripts whose results it reads, by folder and number: the last of them above it in a list

What is listed twice in a target gives a first score and page before stage 2, which takes days on real data.
"""

import csv
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("stages.csv")
TARGETS = ("search", "stage1", "demo", "compare", "god", "all", "film", "film-all")


class Stage(NamedTuple):
    """A row of the list."""

    command: str
    targets: tuple[str, ...]
    divides: str
    takes_all: bool
    uses_gpu: bool
    after: tuple[str, ...]

    @property
    def script(self) -> str:
        """The command without arguments."""
        return self.command.split()[0]

    @property
    def place(self) -> str:
        """What the script's name begins with, such as "baselines/takagi/36"."""
        return self.script.rpartition("/")[0] + "/" + Path(self.script).name[:2]

    @property
    def key(self) -> str:
        """Folder and number, such as "takagi/36"."""
        return "/".join(self.place.split("/")[-2:])


def read_stages() -> list[Stage]:
    """Read the list."""
    with LIST.open(newline="", encoding="utf-8") as file:
        return [
            Stage(
                row["command"], tuple(row["targets"].split()), row["divides"], row["takes"] == "all",
                row["gpu"] == "yes", tuple(row["after"].split()),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def stages_of(target: str) -> list[Stage]:
    """Give the stages of a target, such as "demo", in order."""
    return [stage for stage in read_stages() if target in stage.targets]
