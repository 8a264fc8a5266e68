"""Tables and numbers of Mind-Animator's films, which docs/tables.py writes into the documents.

They are made from docs/results/videos/: copies of tables of 05, 25 and 44. Subjects are Subject01 and so on, "all" is
their mean. Systems, forms and targets have the names of these tables, and no generator, form or system is in two words.
Expressions:

    flow SUBJECT SYSTEM                             .153 [.094, .219], p .0012: flow cosine, and p corrected
    motion COLUMN SUBJECT SYSTEM                    .84, of a column of motion.csv
    claim SUBJECT SYSTEM OTHER                      +.052 [.012, .093], p .04: flow cosine less that of OTHER, which is
                                                    another clip's fMRI ("other_clip") or a subject
    shuffle COLUMN SUBJECT SYSTEM                   2.5e-5, a p of shuffle.csv
    decoded SUBJECT FORM TARGET SYSTEM              .612 [.581, .640], r by clip
    beyond SUBJECT FORM TARGET SYSTEM               +.012 [.003, .021], p .02: r of the network less that of SYSTEM
    hits SUBJECT FORM SYSTEM GALLERY BY K           77 %, found among the first K
    times SUBJECT FORM SYSTEM GALLERY BY K          9.2, the same divided by chance
    film SUBJECT SYSTEM METRIC                      .431, mean of a metric
    areas SUBJECT                                   1.70 [1.51, 1.92]: direction, motion areas divided by others
    quoted SYSTEM METRIC SUBJECTS                   4.1 %, of baselines/published_films.csv
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from evaluation import tables
from evaluation.catalogue import ALL_SUBJECTS
from evaluation.videos import catalogue, comparison, verdict
from evaluation.videos.catalogue import CATALOGUE, CORRECTED, OTHER_CLIP, STATIC
from evaluation.videos.published import read_published

Films = Mapping[str, pd.DataFrame]  # tables by name; those of subjects are joined, with a column for the subject

SUBJECTS = ("Subject01", "Subject02", "Subject03")
BLIND = "Subject03"  # tells no directions apart
FOLDER = "videos"
_OF_ALL = ("motion", "claim", "shuffle", "decoded", "velocity", "retrieval", "summary", "as_published")
_OF_SUBJECT = {"reliability": "reliability.csv", "motion_areas": "maps/motion_areas.csv"}
# Where --take finds what is copied to docs/results/, in the folder of a run.
TAKEN = {
    **{f"{FOLDER}/{name}.csv": f"evaluation/videos/{name}.csv" for name in _OF_ALL},
    **{f"{FOLDER}/{s}/{name}.csv": f"{s}/{path}" for s in SUBJECTS for name, path in _OF_SUBJECT.items()},
}
_FORM = CORRECTED.removeprefix("mind_animator/")
_MADE_OF = {  # decoders that a form shares are under the name of the form that has them
    "original": ("f", "c", "z1", "motion", "change"), _FORM: ("f", "c", "z1", "motion", "change"),
    "change": ("motion", "change"),
}  # fmt: skip
_TARGETS = {
    "f": "f, CLIP's embedding", "c": "c, tokens of the caption", "z1": "latents of the first frame",
    "motion": "latents of the later frames", "change": "change from the first frame to the last",
}  # fmt: skip
_CONTROLS = ("ridge", "nearest_training", "permuted", "static", "other_clip", "mover", "moved")
_SCORED = ("pixels", "networks")


def read(results: Path) -> Films:
    """Read what `--take` copied."""
    found = {name: pd.read_csv(results / FOLDER / f"{name}.csv") for name in _OF_ALL}
    for name in _OF_SUBJECT:
        parts = [
            pd.read_csv(results / FOLDER / subject / f"{name}.csv").assign(subject=subject) for subject in SUBJECTS
        ]
        found[name] = pd.concat(parts)
    return found


# Tables ---------------------------------------------------------------------------------------------------------------


def say(films: Films) -> str:
    """Give the lines that the page opens with."""
    claims = verdict.verdict(films["motion"], films["claim"], films["shuffle"], [BLIND])
    return "\n".join(f"- **{claim.title}** {claim.text.rstrip('.')}." for claim in claims)


def motion(films: Films) -> tables.Rows:
    """Lay out the flow cosine: a row a system, a column a subject; bold where `verdict.is_moving`."""
    rows = films["motion"].set_index(["subject", "system"])

    def cell(subject: str, system: str) -> str:
        text = flow(films, subject, system)
        return f"**{text}**" if verdict.is_moving(rows.loc[subject, system].to_dict()) else text

    systems = dict.fromkeys(films["motion"]["system"])
    return [["system", *_heads()], *([_label(name), *(cell(s, name) for s in SUBJECTS)] for name in systems)]


def more_of_motion(films: Films) -> tables.Rows:
    """Lay out all measures of motion of the first subject: a row a system."""
    rows = films["motion"][films["motion"]["subject"] == SUBJECTS[0]]
    (_, *heads), *body = comparison.motion_rows(rows)
    titles = [_label(name) for name in rows["system"]]
    return [["system", *heads], *([title, *row[1:]] for title, row in zip(titles, body, strict=True))]


def claim(films: Films) -> tables.Rows:
    """Lay out differences of flow cosines: a row a system, a column what is compared with what."""
    pairs = [(s, "other_clip") for s in SUBJECTS] + [(s, BLIND) for s in SUBJECTS if s != BLIND]
    heads = [f"{s}, minus {'other clip' if other == 'other_clip' else other}" for s, other in pairs]
    systems = dict.fromkeys(films["claim"]["system"])
    return [
        ["system", *heads],
        *([_label(name), *(difference(films, s, name, o) for s, o in pairs)] for name in systems),
    ]


def shuffle(films: Films) -> tables.Rows:
    """Lay out the shuffle test: a row a system, a column a subject; the exact p, and as published."""
    systems = dict.fromkeys(films["shuffle"]["system"])

    def cell(subject: str, system: str) -> str:
        texts = (shuffled(films, column, subject, system) for column in ("p", "p_sampled"))
        return "{} ({})".format(*texts)

    return [["system", *_heads()], *([_label(name), *(cell(s, name) for s in SUBJECTS)] for name in systems)]


def errors(films: Films) -> tables.Rows:
    """Lay out end-point errors of the first subject beside that of the still film: a row a system."""
    subject, rows = SUBJECTS[0], [["system", "EPE ↓", "EPE of static ↓", "p", "p as published"]]
    still = measure(films, "epe", subject, STATIC)
    for name in dict.fromkeys(films["shuffle"]["system"]):
        if name == STATIC:
            continue
        p = (shuffled(films, column, subject, name) for column in ("p_sign_flip", "p_bootstrap_wilcoxon"))
        rows.append([_label(name), measure(films, "epe", subject, name), still, *p])
    return rows


def targets(films: Films) -> tables.Rows:
    """Lay out r by clip of the networks, and how much more than ridge regression: a row a form and target."""
    heads = [cell for subject in SUBJECTS for cell in (subject, "minus ridge")]
    rows = [["form, target", *heads]]
    for form, names in _MADE_OF.items():
        for name in names:
            numbers = [
                (_decoded(films, s, form, name, "network"), beyond(films, s, form, name, "ridge")) for s in SUBJECTS
            ]
            rows.append([f"{form}, {_TARGETS[name]}", *(cell for pair in numbers for cell in pair)])
    return rows


def target_controls(films: Films) -> tables.Rows:
    """Lay out r by clip of what stands beside the networks of the first subject: a row a system, a column a target."""
    rows = films["decoded"]
    rows = rows[(rows["subject"] == SUBJECTS[0]) & (rows["form"] == _FORM)].set_index(["system", "target"])["r_by_clip"]

    def cell(system: str, target: str) -> str:
        return tables.number(float(rows.loc[system, target])) if (system, target) in rows.index else "–"

    names = ("network", *_CONTROLS)
    return [["system", *_TARGETS.values()], *([_words(s), *(cell(s, target) for target in _TARGETS)] for s in names)]


def velocity(films: Films) -> tables.Rows:
    """Lay out how well velocities are decoded, of the form "corrected": a row a subject."""
    heads = {"x": "to the right", "y": "down", "both": "both"}
    rows = films["velocity"][films["velocity"]["form"] == _FORM].set_index(["subject", "component"])

    def cell(subject: str, component: str) -> str:
        row = rows.loc[subject, component]
        return f"{_interval(row, 'r')}, p {verdict.p_value(row['p'])}"

    return [["subject", *heads.values()], *([head, *(cell(s, c) for c in heads)] for s, head in _named().items())]


def retrieval(films: Films) -> tables.Rows:
    """Lay out retrieval by CLIP's embeddings of middle frames: a row a subject and system, a column a gallery and k."""
    rows = films["retrieval"]
    rows = rows[(rows["form"] == _FORM) & (rows["by"] == "image")]
    columns = sorted(set(zip(rows["n"], rows["k"], rows["chance"], strict=True)))
    found = [["subject, system", *(f"first {k} of {n:,} (chance {tables.number(c)})" for n, k, c in columns)]]
    for subject in SUBJECTS:
        for system in ("network", "ridge", "permuted"):
            known = rows[(rows["subject"] == subject) & (rows["system"] == system)].set_index(["n", "k"])
            found.append([f"{subject}, {system}", *(_interval(known.loc[n, k], "hits") for n, k, _ in columns)])
    return found


def scores(films: Films) -> tables.Rows:
    """Lay out the means of what is not of motion: a row a system, a column a metric."""
    return comparison.mean_rows(_whole(films["summary"]))


def as_published(films: Films) -> tables.Rows:
    """Lay out scores as published, and below them the paper's: a row a system, a column a metric."""
    rows = _whole(films["as_published"])
    names, quoted = list(dict.fromkeys(rows["metric"])), read_published()
    wide = rows.pivot_table(index="system", columns="metric", values="mean", sort=False)[names]
    wide.index = [_label(str(name)) for name in wide.index]
    table = tables.plain("system", wide.rename(columns=lambda name: CATALOGUE.metric(name).label))
    paper = quoted[(quoted["system"] == "Mind-Animator") & quoted["source"].str.contains("main table")]
    paper = paper.set_index("metric")["value"]
    bare = [name.removeprefix("as_published/").removesuffix("_stand_in") for name in names]
    return [*table, ["*the paper, on CC2017*", *(f"*{tables.number(paper[k])}*" if k in paper else "–" for k in bare)]]


def maps(films: Films) -> tables.Rows:
    """Lay out where direction is decoded from: a row a subject."""
    found = [["subject", "motion areas divided by others [95 % over vertices]", "mean weight"]]
    for subject, head in _named().items():
        found.append([head, areas(films, subject), tables.number(float(_direction(films, subject)["mean"]), ".2g")])
    return found


def reliability(films: Films) -> tables.Rows:
    """Lay out how well responses repeat, and how many vertices are selected: a row an area."""
    wide = films["reliability"].set_index(["area", "subject"])
    heads = [cell for s in SUBJECTS for cell in (f"{s}: r", f"selected by {_FORM}", "by original")]
    found = [["area", "vertices", *heads]]
    for area in dict.fromkeys(films["reliability"]["area"]):
        rows = [wide.loc[area, subject] for subject in SUBJECTS]
        cells = [(tables.number(r["reliability"]), f"{r[_FORM]:.0f}", f"{r['original']:.0f}") for r in rows]
        found.append([str(area), f"{rows[0]['n_vertices']:.0f}", *(cell for three in cells for cell in three)])
    return found


TABLES: dict[str, Callable[[Films], tables.Rows]] = {
    "film_motion": motion,
    "film_more_of_motion": more_of_motion,
    "film_claim": claim,
    "film_shuffle": shuffle,
    "film_errors": errors,
    "film_targets": targets,
    "film_target_controls": target_controls,
    "film_velocity": velocity,
    "film_retrieval": retrieval,
    "film_scores": scores,
    "film_as_published": as_published,
    "film_maps": maps,
    "film_reliability": reliability,
}
TEXTS: dict[str, Callable[[Films], str]] = {"film_verdict": say}

# Numbers --------------------------------------------------------------------------------------------------------------


def flow(films: Films, subject: str, system: str) -> str:
    """Flow cosine, interval and p, corrected."""
    row = _one(films["motion"], subject=subject, system=system)
    return f"{_interval(row, 'flow_cosine')}, p {verdict.p_value(row['p_holm'])}"


def measure(films: Films, column: str, subject: str, system: str) -> str:
    """Give a column of motion.csv."""
    return tables.number(float(_one(films["motion"], subject=subject, system=system)[column]))


def difference(films: Films, subject: str, system: str, other: str) -> str:
    """Difference of flow cosines, interval and p, corrected."""
    baseline = {"baseline": OTHER_CLIP, "other_subject": subject} if other == "other_clip" else {"other_subject": other}
    rows = films["claim"]
    if other != "other_clip":
        rows = rows[rows["baseline"] == rows["system"]]
    return _difference(_one(rows, subject=subject, system=system, **baseline), "")


def shuffled(films: Films, column: str, subject: str, system: str) -> str:
    """Give a p of the shuffle test."""
    return verdict.p_value(float(_one(films["shuffle"], subject=subject, system=system)[column]))


def _decoded(films: Films, subject: str, form: str, target: str, system: str) -> str:
    """R by clip, and interval."""
    return _interval(_one(films["decoded"], subject=subject, form=form, target=target, system=system), "r_by_clip")


def beyond(films: Films, subject: str, form: str, target: str, system: str) -> str:
    """R of the network less that of another, interval and p, corrected."""
    row = _one(films["decoded"], subject=subject, form=form, target=target, system=system)
    return _difference(row, "difference_")


def hits(films: Films, *names: str) -> str:
    """Share of clips that are found, in percent."""
    return f"{100 * _found(films, *names)['hits']:.0f} %"


def times(films: Films, *names: str) -> str:
    """Give how often more than by chance."""
    row = _found(films, *names)
    return tables.number(float(row["hits"] / row["chance"]), ".1f")


def film(films: Films, subject: str, system: str, metric: str) -> str:
    """Mean of a metric of any table."""
    known = pd.concat([films["summary"], films["as_published"]])
    return tables.number(float(_one(known, subject=subject, system=system, metric=metric)["mean"]))


def areas(films: Films, subject: str) -> str:
    """Weights of direction in motion areas, divided by those in others, and interval."""
    row = _direction(films, subject)
    return f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def quoted(_films: Films, system: str, metric: str, subjects: str = "") -> str:
    """Give a published share, in percent."""
    return f"{100 * _one(read_published(), system=system, metric=metric, subjects=subjects)['value']:.1f} %"


NUMBERS: dict[str, Callable[..., str]] = {
    "flow": flow,
    "motion": measure,
    "claim": difference,
    "shuffle": shuffled,
    "decoded": _decoded,
    "beyond": beyond,
    "hits": hits,
    "times": times,
    "film": film,
    "areas": areas,
    "quoted": quoted,
}


def _found(films: Films, subject: str, form: str, system: str, gallery: str, by: str, k: str) -> pd.Series:
    rows = films["retrieval"][films["retrieval"]["k"] == int(k)]
    return _one(rows, subject=subject, form=form, system=system, gallery=gallery, by=by)


def _direction(films: Films, subject: str) -> pd.Series:
    return _one(films["motion_areas"], subject=subject, form=_FORM, target="direction", measure="jacobian")


def _one(table: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    if len(table) != 1:
        raise LookupError(f"{len(table)} rows have {', '.join(wanted.values())}")
    return table.iloc[0]


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["subject"] == ALL_SUBJECTS]


def _label(system: str) -> str:
    return CATALOGUE.system(system).label


def _words(system: str) -> str:
    name = f"control/{system}"
    return _label(name) if name in catalogue.SYSTEMS else system


def _named() -> dict[str, str]:
    return {name: f"{name}, no directions" if name == BLIND else name for name in SUBJECTS}


def _heads() -> Sequence[str]:
    return list(_named().values())


def _interval(row: pd.Series, column: str) -> str:
    return f"{tables.number(row[column])} [{tables.number(row['ci_low'])}, {tables.number(row['ci_high'])}]"


def _difference(row: pd.Series, prefix: str) -> str:
    low, high = (row[f"{prefix or 'ci_'}{end}"] for end in ("low", "high"))
    interval = f"[{tables.number(low)}, {tables.number(high)}]"
    return f"{tables.number(row['difference'], '+.3f')} {interval}, p {verdict.p_value(row['p_holm'])}"
