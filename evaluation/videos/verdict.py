"""What the scores of films say, in a few lines: whether motion is decoded, and what the paper's own tests would say.

The sentences are made of the tables of `evaluation/44_score_films.py` by fixed rules. A system's films count as moving
as the true ones do where the p of `motion.other_clips_test`, corrected for the number of systems, is at most .05, and
the interval of the flow cosine over shots is above zero.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation.page.shell import Claim
from evaluation.tables import number
from evaluation.videos.catalogue import CATALOGUE, CORRECTED, FORMS, MOVER, OTHER_CLIP

LEVEL = 0.05


def generators(systems: Iterable[str]) -> list[str]:
    """List the forms of Mind-Animator among systems, "corrected" first."""
    there = set(systems)
    return [name for name in dict.fromkeys((CORRECTED, *FORMS)) if name in there]


def verdict(
    motion: pd.DataFrame, claim: pd.DataFrame, shuffle: pd.DataFrame, blind: Collection[str] = ()
) -> list[Claim]:
    """Say whether motion is decoded: by the mover, by the generator, by the paper's shuffle test, and by its error.

    Parameters
    ----------
    motion, claim, shuffle : DataFrame
        Of `evaluation/44_score_films.py`, of the subjects that are meant.
    blind : collection of str
        Subjects whose brain tells no directions apart: what moves in their films is not decoded from motion.

    Returns
    -------
    list of Claim
        At most four; what has no numbers is left out.
    """
    forms = generators(motion["system"])
    found = [
        ("Is motion decoded?", moving(motion, MOVER, blind)),
        ("Does Mind-Animator decode it?", moving(motion, forms[0], blind) + compared(claim, forms[0]) if forms else ""),
        ("What does the paper's shuffle test say?", shuffled(shuffle)),
        ("And its end-point error?", errors(motion, [*forms, MOVER])),
    ]
    return [Claim(title, text, "films") for title, text in found if text]


def is_moving(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of `motion.csv` shows that films move as the true ones do."""
    return bool(row["p_holm"] <= LEVEL and row["ci_low"] > 0)


def named(system: str) -> str:
    """Name a system in a sentence."""
    label = CATALOGUE.system(system).label
    return f"Mind-Animator ({label})" if system in FORMS else f"the {label}"


def moving(motion: pd.DataFrame, system: str, blind: Collection[str] = ()) -> str:
    """Say for whom the films of a system move as the true ones do; "" where there are none."""
    rows = motion[motion["system"] == system]
    if rows.empty:
        return ""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for row in rows.to_dict("records"):
        aside = "whose brain tells no directions apart: " if row["subject"] in blind else ""
        interval = f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"
        numbers = f"{number(row['flow_cosine'])} {interval}, p {p_value(row['p_holm'])}"
        parts[is_moving(row)].append(f"{row['subject']} ({aside}{numbers})")
    yes, no = (_listed(parts[moves]) for moves in (True, False))
    if not yes:
        return f"The films of {named(system)} are not shown to move as the true ones do, by the flow cosine: {no}"
    text = f"The films of {named(system)} move as the true ones do, by the flow cosine, for {yes}"
    return f"{text}; this is not shown for {no}" if no else text


def compared(claim: pd.DataFrame, system: str) -> str:
    """Say how often the flow cosine of a system is firmly above what its claim is measured by; "" without numbers."""
    rows, parts = claim[claim["system"] == system], []
    is_within = rows["subject"] == rows["other_subject"]
    for what, part in (("another clip's recording", rows[is_within]), ("a brain without directions", rows[~is_within])):
        if len(part):
            firm = (part["p_holm"] <= LEVEL) & (part["ci_low"] > 0)
            parts.append(f"that of {what} in {firm.sum()} of {len(part)}")
    return f". Its flow cosine is firmly above {_listed(parts)} comparisons" if parts else ""


def shuffled(shuffle: pd.DataFrame) -> str:
    """Say who passes the paper's shuffle test, and whether another clip's recording passes it as well."""
    forms = generators(shuffle["system"])
    if not forms:
        return ""
    own, other = (shuffle.loc[shuffle["system"] == name, "p"] for name in (forms[0], OTHER_CLIP))
    text = f"{named(forms[0])} {_passes(own)}"
    if other.empty:
        return text
    text += f"; fed another clip's recording, it {_passes(other)}"
    if (own <= LEVEL).any() and (other <= LEVEL).any():
        text += ": the test tells that neighbouring frames are alike, and not whose motion it is"
    return text


def errors(motion: pd.DataFrame, systems: Sequence[str]) -> str:
    """Say how many systems have a lower end-point error than a film that does not move."""
    rows = motion[motion["system"].isin(systems)]
    if rows.empty:
        return ""
    better = rows[rows["epe"] < rows["epe_still"]]
    names = _listed([f"{named(str(row.system))} for {row.subject}" for row in better.itertuples()])
    still, made = (_range(rows[name], lambda value: number(value)) for name in ("epe_still", "epe"))
    text = f"A film that does not move has a lower one than {len(rows) - len(better)} of {len(rows)} that are decoded"
    return f"{text} ({still} against {made} pixels)" + (f"; lower are {names}" if names else "")


def p_value(p: float) -> str:
    """Format a p: .002, 2.5e-5; – where there was nothing to test."""
    return "–" if pd.isna(p) else number(p, ".2g").replace("e-0", "e-")


def _passes(p: pd.Series) -> str:
    passing = p[p <= LEVEL]
    if passing.empty:
        return f"does not pass it (p {_range(p, p_value)})"
    share = f"{len(passing)} of {len(p)}" if len(passing) < len(p) else f"all {len(p)}"
    whose = "" if len(p) == 1 else " for both subjects" if share == "all 2" else f" for {share} subjects"
    return f"passes it{whose} (p {_range(passing, p_value)})"


def _range(values: pd.Series, form: Callable[[float], str]) -> str:
    low, high = form(float(values.min())), form(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
