"""What a catalogue is: names, meanings and order of systems and metrics. Each wing has one of its own dataset."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minddiffuser.config import Config, Experiment

STAND_IN = "_stand_in"  # ends the name of a metric whose network another one stands in for
ALL_SUBJECTS = "all"  # in place of a subject: the mean over subjects
# Kinds that have a row in the tables of systems, in order, and their titles; a wing may have others, after them.
TABULATED = {"method": "Methods", "ablation": "Ablations", "other": "Other systems", "control": "Controls"}


@dataclass(frozen=True)
class System:
    """Something that is scored."""

    label: str  # for a table
    meaning: str  # for whoever has not met it
    # "method"; "ablation": the method without one of its parts; "other": other systems, and other people's pictures;
    # "control"; or a kind that only its wing has.
    kind: str


@dataclass(frozen=True)
class Metric:
    """A number for each image."""

    label: str
    meaning: str
    group: str  # table that it belongs to
    higher_is_better: bool = True
    # Its candidates are the system's own pictures, so that systems with other images face another task.
    among_own: bool = False


@dataclass(frozen=True)
class Catalogue:
    """What a wing scores, and by what; all is in the order in which tables have it."""

    title: str  # of the dataset
    script: str  # what scores it
    folder: str  # of its tables, in that of the experiment
    subjects_of: Callable[[Experiment], tuple[str, ...]]
    systems: Mapping[str, System]  # those that have a place of their own
    metrics: Mapping[str, Metric]
    groups: Mapping[str, str]  # titles of the tables of metrics
    kinds: tuple[str, ...] = tuple(TABULATED)  # of systems
    describe: Callable[[str], System] = lambda name: System(name, "", "other")  # a system that is not among them

    def output(self, config: Config) -> Path:
        """Folder of the tables."""
        return config.folder() / self.folder

    def system(self, name: str) -> System:
        """Describe a system by its name."""
        return self.systems.get(name) or self.describe(name)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Sort systems by kind, inside one as in `systems`, and what is not there by folder, then number or name."""
        known = list(self.systems)

        def place(name: str) -> tuple[int, int, str, int, str]:
            folder, _, rest = name.partition("/")
            number = int(rest) if rest.isdecimal() else -1
            of_kind = self.kinds.index(self.system(name).kind)
            return of_kind, known.index(name) if name in known else len(known), folder, number, rest

        return sorted(names, key=place)

    def metric(self, name: str) -> Metric:
        """Describe a metric by its name; that of a stand-in says so."""
        described = self.metrics[name.removesuffix(STAND_IN)]
        if not name.endswith(STAND_IN):
            return described
        meaning = described.meaning + "; a layer of the CLIP that scores stands in here"
        return replace(described, label=described.label + " (stand-in)", meaning=meaning)

    def metrics_of(self, group: str, present: Collection[str] = ()) -> list[str]:
        """Names of a group's metrics in order; those with a stand-in among the `present` are given as that."""
        names = [name for name, described in self.metrics.items() if described.group == group]
        return [name + STAND_IN if name + STAND_IN in present else name for name in names]
