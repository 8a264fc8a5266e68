"""The answer at first sight: what the scores say, in four lines, and what is absent and why, in one list.

The sentences are made of the tables of `evaluation/41_score.py` by fixed rules. Nothing is chosen by its outcome but
the rival that stands beside the method: of those without a flag, such as "test-set statistics", it is the one with the
highest CLIP two-way identification.
"""

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from evaluation import tables
from evaluation.catalogue import TABULATED
from evaluation.page.shell import Claim
from evaluation.pictures.catalogue import CATALOGUE, CEILING, NEAREST, RESTORED, SHUFFLED, STAGE1, STAGE2
from evaluation.pictures.comparison import absent_systems, label
from evaluation.scores import absent as made_by
from minddiffuser.config import Experiment

IDENTIFICATION = "clip_two_way"  # the score of the main ones that sees objects, and has a chance level of its own
SIMILARITY = "clip_similarity"  # the same network's, finer for a single image
_LEVELS = {SHUFFLED: "shuffled", CEILING: "ceiling"}


def method_of(systems: Iterable[str]) -> str:
    """Name the paper's method: stage 2, or stage 1 while there is no stage 2."""
    return STAGE2 if STAGE2 in set(systems) else STAGE1


def best_rival(summary: pd.DataFrame, subject: str, flagged: Collection[str] = ()) -> str | None:
    """Name the other system that identifies best, by CLIP two-way, and is not flagged; None where there is none."""
    rows = summary[(summary["subject"] == subject) & (summary["metric"] == IDENTIFICATION)]
    rows = rows[[CATALOGUE.system(name).kind == "other" and name not in flagged for name in rows["system"]]]
    return None if rows.empty else str(rows.loc[rows["mean"].idxmax(), "system"])


def verdict(summary: pd.DataFrame, paired: pd.DataFrame, subject: str, flagged: Collection[str] = ()) -> list[Claim]:
    """Say in four lines whether the method works, beside whom, what stage 2 adds, and what a look-up reaches.

    Parameters
    ----------
    summary, paired : DataFrame
        Of `evaluation/41_score.py`.
    subject : str
        A subject, or "all" for the mean over subjects.
    flagged : collection of str
        Systems that do not compete on equal ground.

    Returns
    -------
    list of Claim
        Four, each with the part of the page that has its evidence.
    """
    means = summary[summary["subject"] == subject].set_index(["system", "metric"])["mean"]
    systems = set(means.index.unique("system"))
    rival = best_rival(summary, subject, flagged)
    ours = [name for name in (method_of(systems), RESTORED) if name in systems]

    def percent(system: str, metric: str = IDENTIFICATION) -> str | None:
        return f"{100 * means[system, metric]:.0f}" if (system, metric) in means.index else None

    def compared(system: str, baseline: str) -> str | None:
        rows = paired[(paired["subject"] == subject) & (paired["system"] == system) & (paired["baseline"] == baseline)]
        rows = rows[rows["metric"].isin(CATALOGUE.metrics_of("main", set(rows["metric"])))]
        return tables.verdict(rows, CATALOGUE) if len(rows) else None

    def beside(other: str) -> str:
        found = {name: compared(name, other) for name in ours}
        texts = [f"{CATALOGUE.system(name).label.capitalize()}: {text}" for name, text in found.items() if text]
        return ". ".join(texts) if texts else "No paired difference was computed"

    methods = [name for name in (STAGE1, STAGE2, RESTORED) if name in systems and percent(name)]
    shown = ", ".join(f"{percent(name)} ({CATALOGUE.system(name).label})" for name in methods)
    levels = ["chance 50", *(f"{words} {percent(name)}" for name, words in _LEVELS.items() if percent(name))]
    identified = f"Own stimulus picked over another: {shown.replace(' ', ' % ', 1)}; {', '.join(levels)}"

    if rival is None:
        rivals = "No rival without a flag has been run yet"
    else:
        rivals = (
            f"{CATALOGUE.system(rival).label} identifies best of the fair rivals ({percent(rival)} %). {beside(rival)}"
        )

    lower = percent(STAGE1, "truth_is_lower")
    can_help = f"The true stimulus has a lower loss than stage 1's picture in {lower} % of the images" if lower else ""
    added = compared(STAGE2, STAGE1)
    added = f"Stage 2 beside stage 1: {added}" if added else "Stage 2 is not compared with stage 1 yet"
    looked_up = "That control has not been made yet"
    if percent(NEAREST):
        looked_up = f"The nearest training image picks the stimulus in {percent(NEAREST)} %. {beside(NEAREST)}"
    return [
        Claim("Does the picture show what was seen?", identified, "scores"),
        Claim("Beside other systems", rivals, "differences"),
        Claim("Does stage 2 add to stage 1?", ". ".join(filter(None, [added, can_help])), "differences"),
        Claim("Is it more than the nearest training image?", looked_up, "differences"),
    ]


def absences(
    present: Mapping[str, Iterable[str]], experiment: Experiment, metrics: Mapping[str, str]
) -> list[tuple[str, str]]:
    """List what a reader may miss, with the reason: systems that were not made, and metrics without their networks.

    Parameters
    ----------
    present : mapping of str to iterable of str
        Systems that have scores, by subject.
    experiment : Experiment
        Says which systems there should be.
    metrics : mapping of str to str
        Metrics that could not be computed, with the reason.

    Returns
    -------
    list of (what, why)
    """
    found: dict[tuple[str, str], list[str]] = {}
    for subject, names in present.items():
        for scripts, missing in absent_systems(set(names), experiment).items():
            made = made_by([], scripts, []).partition("; ")[2]
            found.setdefault((_summed_up(missing), f"not made yet; {made}"), []).append(subject)
    whole = set(present)
    systems = [
        (what if set(subjects) == whole else f"{what} ({', '.join(subjects)})", why)
        for (what, why), subjects in found.items()
    ]
    described = [(name, CATALOGUE.metric(name)) for name in metrics if name in CATALOGUE.metrics]
    titles = {"brain_diffuser": " as Brain-Diffuser has it", "mindeye": " as MindEye has it"}
    return systems + [
        (metric.label.replace(" ↓", "") + titles.get(metric.group, ""), metrics[name]) for name, metric in described
    ]


_FAMILIES = {"minddiffuser": "forms of MindDiffuser", "ablation": "ablations", "control": "controls"}


def _summed_up(names: list[str]) -> str:
    """Name systems that one or more scripts make, which are of one family: how many of what, and which."""
    listed = "; ".join(label(name) for name in names)
    if len(names) == 1:
        return listed
    family = names[0].partition("/")[0]
    return f"{len(names)} {_FAMILIES.get(family, f'forms of {family.capitalize()}')}: {listed}"


def shown_first(systems: Iterable[str], rival: str | None, n: int = 5) -> list[str]:
    """Name the systems that the sheet of images shows at first: the method, ours, the best rival, and two controls."""
    there = {name for name in systems if CATALOGUE.system(name).kind in TABULATED}
    wanted = [method_of(there), RESTORED, rival, CEILING, NEAREST, STAGE1, SHUFFLED]
    chosen = dict.fromkeys(name for name in wanted if name in there)
    return CATALOGUE.in_order(list(chosen)[:n])
