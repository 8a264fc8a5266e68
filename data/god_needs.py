"""What must be there of Generic Object Decoding, for whoever works on it."""

from typing import Literal, NamedTuple

from data import god, god_trials
from minddiffuser.config import Config
from minddiffuser.needs.findings import Findings
from minddiffuser.store import DataError

Grouping = Literal["by_type", "as_released"]


class Counts(NamedTuple):
    """What a subject of Generic Object Decoding has."""

    name: str
    n_trials: int
    n_columns: int  # of the recording: voxels of all ROIs
    n_test: int


def recording(findings: Findings, subject: str, roi: str, groupings: list[Grouping]) -> Counts | None:
    """Check a recording, and that its runs can be standardised in each of the ways of `god_trials.run_groups`."""
    what = f"{subject} of Generic Object Decoding"
    return findings.check(what, check_recording, findings.run.config, subject, roi, groupings)


def stimuli(findings: Findings) -> None:
    """Check the pictures that were shown."""
    findings.check("stimuli of Generic Object Decoding", check_stimuli, findings.run.config)


def check_recording(config: Config, subject: str, roi: str, groupings: list[Grouping]) -> tuple[Counts, str]:
    """Read a recording."""
    found = god.read_subject(config.god, subject, roi)
    for grouping in dict.fromkeys(groupings):
        god_trials.standardise_runs(found.X[:, :1], found.data_type, found.run, grouping)
    n_test, (n_trials, n_voxels) = len(found.test_images.ids), found.X.shape
    release = "" if config.experiment.miniature_god else f", release {found.release}"
    text = f"{n_trials} trials, {n_voxels} voxels in {roi}, {n_test} test images{release}"
    return Counts(subject, n_trials, n_voxels, n_test), text


def check_stimuli(config: Config) -> tuple[bool, str]:
    """Read every stimulus."""
    counts, wrong = [], []
    for folder, listed_in in (("training", god.TRAINING_IMAGES), ("test", god.TEST_IMAGES)):
        images, place = god.read_images(config.god / listed_in), config.god / "images" / folder
        counts.append(f"{len(images.names)} {folder}")
        if missing := [name for name in images.names if not (place / name).is_file()]:
            text = f"{place} lacks {len(missing)} of {len(images.names)} stimuli, such as {missing[0]}"
            wrong.append(DataError(text, "their authors give them on request", place))
        for name in sorted(set(images.names) - set(missing)):
            try:
                god.read_pictures(place, [name])
            except Exception as error:
                wrong.append(error)
    if wrong:
        raise ExceptionGroup("stimuli", wrong)
    return True, " and ".join(counts)
