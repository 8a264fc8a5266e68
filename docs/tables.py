"""Write the tables and the numbers in README.md and docs/*.md from the result files of a run.

    python docs/tables.py                          # rewrite what has changed
    python docs/tables.py --take runs/miniature    # copy the run's result files and pictures to docs/ first
    python docs/tables.py --check                  # change nothing; name what is stale, with exit code 1

Reads docs/results/ (copies of what 02, 25, 27, 40 and 41 write, and of films 05, 25 and 44), what papers print
(baselines/published.csv, published_films.csv), and what benchmarks have written to docs/. A block between
`<!-- table: NAME -->` and `<!-- /table -->` is replaced by the table of that name, or, where the name is that of a text
file in docs/, by the text. What stands between `<!-- n: EXPRESSION -->` and `<!-- /n -->` is replaced by a number. A
subject that is not given is "all", the mean over subjects. Expressions:

    mean SYSTEM METRIC [SUBJECT]                    .446
    interval SYSTEM METRIC [SUBJECT]                .446 [.387, .504]
    share SYSTEM METRIC [SUBJECT]                   72 %
    count SYSTEM METRIC [SUBJECT]                   109
    difference SYSTEM BASELINE METRIC [SUBJECT]     +.047 [.015, .077], p .008
    fall SYSTEM BASELINE METRIC [SUBJECT]           .106 [.076, .138]
    holm SYSTEM BASELINE METRICS SUBJECTS           .018, the largest p, corrected among these alone (names with commas)
    second_stage FILE SUBJECT START WAY METRIC      +.031 [.007, .056], of docs/FILE.csv
    frontier FILE WAY METRIC                        +.011 [-.023, .045], of docs/FILE.csv
    setting GRID COLUMN KEY=VALUE ...               .356, of docs/settings.csv
    printed FILE KEY [FORMAT]                       7.6, of the JSON in docs/FILE.txt
    estimate FILE KEY                               +.003 [-.016, .027], of KEY, KEY_low and KEY_high there

Those of films are in docs/film_tables.py. Words with spaces are put in quotes. No marker may begin a line: Markdown
would take the line for HTML.
"""

import argparse
import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from docs import film_tables
from docs.film_tables import Films
from evaluation import tables
from evaluation.catalogue import ALL_SUBJECTS, TABULATED
from evaluation.concepts import comparison as of_concepts
from evaluation.pictures import comparison as of_pictures
from evaluation.pictures.catalogue import CATALOGUE, CEILING, RESTORED, STAGE1, STAGE2
from evaluation.significance import holm
from minddiffuser.config import REPOSITORY
from minddiffuser.needs import card_memory
from minddiffuser.store import write_atomically

SUBJECTS = ("subj01", "subj02")
SCORES = ("summary.csv", "paired.csv", "spread.csv", "concepts/summary.csv", "concepts/paired.csv")
# Where --take finds what is copied to docs/, in the folder of a run.
TAKEN = {
    **{f"results/{name}": f"evaluation/{name}" for name in (*SCORES, "concepts/permutation.csv")},
    **{f"results/{subject}/accuracy.csv": f"{subject}/decoded/accuracy.csv" for subject in SUBJECTS},
    **{f"results/{subject}/noise_ceiling.csv": f"{subject}/noise_ceiling.csv" for subject in SUBJECTS},
    **{f"results/{name}": path for name, path in film_tables.TAKEN.items()},
    **{f"results/{subject}/shares.csv": f"{subject}/maps/shares.csv" for subject in SUBJECTS},
    **{f"results/{subject}/c_against_z.csv": f"{subject}/maps/c_against_z.csv" for subject in SUBJECTS},
    **{f"hierarchy_{subject}.txt": f"{subject}/maps/hierarchy.json" for subject in SUBJECTS},
    **{f"cortex_{subject}.png": f"{subject}/maps/flat.png" for subject in SUBJECTS},
    **{f"cortex_inflated_{subject}.png": f"{subject}/maps/inflated.png" for subject in SUBJECTS},
    "card.png": "evaluation/card.png",
    "examples.png": "evaluation/examples.png",
    "concepts.png": "evaluation/concepts/examples.png",
}
IN_README = ("pixcorr", "ssim", "clip_two_way")
ROWS_OF_README = (
    STAGE1, STAGE2, RESTORED, "takagi/corrected", "ozcelik/corrected",
    CEILING, "control/nearest_training", "control/shuffled",
)  # fmt: skip
# Differences that docs/results.md shows of each subject alone.
PAIRS_BY_SUBJECT = (
    (STAGE1, "control/shuffled"), (STAGE2, STAGE1), (RESTORED, STAGE1), (RESTORED, STAGE2),
    ("minddiffuser/best_of_k", RESTORED), (RESTORED, "control/nearest_training"), (CEILING, RESTORED),
)  # fmt: skip
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
NUMBER = re.compile(r"(<!-- n: (.+?) -->)(.*?)(<!-- /n -->)", re.DOTALL)
BEGINS_A_LINE = re.compile(r"^[\s>*\d.-]*<!-- /?n\b.*", re.MULTILINE)


class Results(NamedTuple):
    """What tables and numbers are made from."""

    docs: Path  # the folder with what benchmarks have written
    summary: pd.DataFrame
    paired: pd.DataFrame
    spread: pd.DataFrame
    concepts: pd.DataFrame  # the summary of Generic Object Decoding
    concepts_paired: pd.DataFrame
    permutation: pd.DataFrame
    accuracy: pd.DataFrame  # of all subjects
    ceilings: pd.DataFrame
    shares: pd.DataFrame
    index: pd.DataFrame
    films: Films


def main(argv: Sequence[str] | None = None) -> None:
    """Copy, rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--take", type=Path, metavar="RUN", help="first copy result files and pictures from this folder")
    what.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something is stale")
    arguments = parser.parse_args(argv)
    try:
        if arguments.take:
            take(arguments.take, REPOSITORY / "docs")
        stale = update(REPOSITORY, arguments.check)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(stale) or "nothing is stale")
    if arguments.check and stale:
        sys.exit("run: python docs/tables.py")


def take(run: Path, docs: Path) -> None:
    """Copy result files and pictures of a run, all or none."""
    if missing := [source for source in TAKEN.values() if not (run / source).is_file()]:
        raise ValueError(f"{run} lacks {', '.join(missing)}: `make all` and `make film-all` make them")
    for name, source in TAKEN.items():
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / source, docs / name)


def update(root: Path, check: bool = False) -> list[str]:
    """Rewrite the documents of a repository, or with `check` only look; name what was stale."""
    results, found = read(root / "docs"), []
    for path in documents(root):
        old = path.read_text()
        new, stale = rewrite(old, results, path.relative_to(root).as_posix())
        found += stale
        if new != old and not check:
            write_atomically(path, new)
    return found


def documents(root: Path) -> list[Path]:
    """README and what is in docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def read(docs: Path) -> Results:
    """Read all result files."""

    def table(name: str) -> pd.DataFrame:
        found = pd.read_csv(docs / "results" / name, dtype={"subject": str, "incomplete": str})
        return found.fillna({"incomplete": ""})

    def of_subjects(name: str) -> pd.DataFrame:
        return pd.concat([table(f"{subject}/{name}").assign(subject=subject) for subject in SUBJECTS])

    summary, paired, spread, concepts, concepts_paired = (table(name) for name in SCORES)
    permutation = table("concepts/permutation.csv")
    accuracy, ceilings = of_subjects("accuracy.csv"), of_subjects("noise_ceiling.csv")
    of_maps = of_subjects("shares.csv"), of_subjects("c_against_z.csv")
    of_concepts, films = (concepts, concepts_paired, permutation), film_tables.read(docs / "results")
    return Results(docs, summary, paired, spread, *of_concepts, accuracy, ceilings, *of_maps, films)


def rewrite(text: str, results: Results, name: str) -> tuple[str, list[str]]:
    """Replace every block and number of a text.

    Parameters
    ----------
    text : str
    results : Results
    name : str
        Of the document, for messages.

    Returns
    -------
    text : str
    stale : list of str
        What has changed: the name of the document, and the name of the table or the expression.

    Raises
    ------
    ValueError
        A marker is not closed, begins a line, or asks for what there is not.
    """
    stale = []

    def replace(match: re.Match[str], made: str) -> str:
        if match[3] != made:
            stale.append(f"{name}: {' '.join(match[2].split())}")
        return match[1] + made + match[4]

    def answer(match: re.Match[str], make: Callable[[Results, str], str]) -> str:
        try:
            return make(results, match[2])
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{name}: {match[2]!r}: {error}") from error

    if begins := BEGINS_A_LINE.search(text):
        raise ValueError(f"{name}: a marker begins the line {begins[0]!r}")
    for pattern, opening in ((BLOCK, "<!-- table:"), (NUMBER, "<!-- n:")):
        if len(pattern.findall(text)) != text.count(opening):
            raise ValueError(f"{name}: a marker {opening} ... is not closed, or not written as it should be")
    text = BLOCK.sub(lambda match: replace(match, answer(match, block)), text)
    return NUMBER.sub(lambda match: replace(match, answer(match, number)), text), stale


def block(results: Results, name: str) -> str:
    """Make the table of a name, or quote a text file."""
    if name.endswith(".txt"):
        return f"\n```text\n{(results.docs / name).read_text().strip()}\n```\n\n"
    if name in film_tables.TEXTS:
        return f"\n{film_tables.TEXTS[name](results.films)}\n\n"
    if name not in TABLES:
        raise ValueError(f"no such table; there are {', '.join(TABLES)}")
    return f"\n{tables.as_markdown(TABLES[name](results))}\n\n"


def number(results: Results, expression: str) -> str:
    """Evaluate an expression."""
    word, *arguments = shlex.split(expression)
    if word not in NUMBERS:
        raise ValueError(f"no such expression; there are {', '.join(NUMBERS)}")
    return NUMBERS[word](results, *arguments)


# Tables ---------------------------------------------------------------------------------------------------------------


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mean over subjects."""
    return table[table["subject"] == ALL_SUBJECTS]


def of_readme(results: Results) -> tables.Rows:
    """Lay out the one table of README: below the heads what chance gives."""
    rows = whole(results.summary)
    parts = [(of_pictures.label(name), rows[rows["system"] == name]) for name in ROWS_OF_README]
    head, *body = tables.lay_out("system", parts, IN_README, CATALOGUE)
    grey = tables.number(one(results.summary, subject=ALL_SUBJECTS, system="control/grey", metric="ssim")["mean"])
    return [head, ["*chance*", "", "*0*", f"*none; uniform grey has {grey}*", "*.5*"], *body]


def compared(results: Results) -> list[tables.Rows]:
    """Give what `evaluation/42_compare.py` shows: scores, stage 2 and restored minus each, losses, the paper's."""
    summary, paired, quoted = whole(results.summary), whole(results.paired), tables.read_quoted(of_pictures.PAPER)
    (_, scores), (_, minus), (_, paper) = of_pictures.sections(of_pictures.joined(summary, paired, quoted), quoted)
    (_, restored), (_, losses) = of_pictures.sections_of_ours(summary, paired)
    return [scores, minus, restored, losses, paper]


def compared_concepts(results: Results) -> list[tables.Rows]:
    """Give those of Generic Object Decoding: labels, pictures (each with differences), permuted labels, the paper's."""
    found = of_concepts.sections(results.concepts, results.concepts_paired, results.permutation, [ALL_SUBJECTS])
    labels, labels_minus, pictures, pictures_minus, permuted, paper = (table for _, table in found)
    return [labels, labels_minus, pictures, pictures_minus, permuted, paper]


def by_subject(results: Results) -> tables.Rows:
    """Lay out differences of each subject alone."""
    paired, parts = results.paired, []
    for system, baseline in PAIRS_BY_SUBJECT:
        for subject in SUBJECTS:
            is_pair = (paired["system"] == system) & (paired["baseline"] == baseline) & (paired["subject"] == subject)
            labels = " minus ".join(CATALOGUE.system(name).label for name in (system, baseline))
            parts.append((f"{subject}, {labels}", paired[is_pair]))
    metrics = CATALOGUE.metrics_of("main")
    return tables.lay_out("subject, difference", parts, metrics, CATALOGUE, tables.difference_cell)


def group_of(group: str) -> Callable[[Results], tables.Rows]:
    """Give what lays out all systems in a group of metrics."""

    def table(results: Results) -> tables.Rows:
        rows = whole(results.summary)
        rows = rows[rows["system"].map(lambda name: CATALOGUE.system(name).kind in TABULATED)]
        present = set(rows["metric"])
        metrics = [name for name in CATALOGUE.metrics_of(group, present) if name in present]
        systems = CATALOGUE.in_order(set(rows["system"]))
        parts = [(of_pictures.label(name), rows[rows["system"] == name]) for name in systems]
        return tables.lay_out("system", parts, metrics, CATALOGUE)

    return table


def bottleneck(results: Results) -> tables.Rows:
    """Lay out stage 1 from a few numbers of what was decoded."""
    rows = whole(results.summary)
    names = [name for name in CATALOGUE.in_order(set(rows["system"])) if name.startswith("bottleneck/")]
    parts = [(CATALOGUE.system(name).label, rows[rows["system"] == name]) for name in names]
    return tables.lay_out("what reaches stage 1", parts, CATALOGUE.metrics_of("main"), CATALOGUE)


def features(results: Results) -> tables.Rows:
    """Lay out how well c and z are decoded, and how well an image is found by them."""
    rows = results.summary
    parts = [
        (f"{subject}, {target}", rows[(rows["subject"] == subject) & (rows["system"] == f"features/{target}")])
        for subject in SUBJECTS
        for target in ("c", "z")
    ]
    metrics = ("feature_correlation", "feature_ceiling", "stimulus_from_brain", "brain_from_stimulus")
    return tables.lay_out("subject, target", parts, metrics, CATALOGUE)


def accuracy(results: Results) -> tables.Rows:
    """Lay out how well each target is decoded from all voxels, and its deviation before and after it is restored."""
    known = results.accuracy[results.accuracy["roi"] == "all"].set_index(["subject", "target", "measure"])
    wide = {}
    for subject, target in dict.fromkeys(index[:2] for index in known.index):
        units, images = known.loc[(subject, target, "unit")], known.loc[(subject, target, "image")]
        wide[f"{subject}, {target}"] = {
            "r by image": images["r"],
            "its floor": images["floor"],
            "r by unit": units["r"],
            "its floor ": units["floor"],
            "deviation": units["deviation"],
            "restored deviation": units["restored_deviation"],
        }
    return tables.plain("subject, target", pd.DataFrame.from_dict(wide, "index"))


def by_roi(results: Results) -> tables.Rows:
    """Lay out how well each target is decoded from each ROI alone, mean over subjects."""
    rows = results.accuracy[results.accuracy["measure"] == "image"]
    wide = rows.pivot_table(index="roi", columns="target", values="r", aggfunc="mean", sort=False)
    return tables.plain("ROI", wide)


def noise_ceilings(results: Results) -> tables.Rows:
    """Lay out the noise ceilings of the simulated voxels."""
    head, found = ["ROI"], {}
    for subject, rows in results.ceilings.groupby("subject"):
        head += [f"{subject}: voxels", "median ceiling, %", "mean ceiling, %"]
        for row in rows.itertuples():
            found.setdefault(row.roi, [row.roi]).extend([str(row.n_voxels), f"{row.median:.1f}", f"{row.mean:.1f}"])
    return [head, *found.values()]


def cortex(results: Results) -> tables.Rows:
    """Lay out each ROI's share of c and z, and the index, with intervals."""
    head, found = ["ROI", "level"], {}
    for subject in SUBJECTS:
        head += [f"{subject}: share of c", "share of z", "index"]
        shares = results.shares[results.shares["subject"] == subject].set_index(["family", "roi"])
        index = results.index[results.index["subject"] == subject].set_index("roi").sort_values("level", kind="stable")
        for roi, row in index.iterrows():
            values = [(shares.loc[family, roi], "share") for family in ("semantic", "detail")]
            cells = [
                f"{tables.number(of[key])} [{tables.number(of['low'])}, {tables.number(of['high'])}]"
                for of, key in [*values, (row, "index")]
            ]
            found.setdefault(roi, [str(roi), f"{row['level']:.0f}"]).extend(cells)
    return [head, *found.values()]


def ridge(results: Results) -> tables.Rows:
    """Lay out what benchmarks/ridge.py printed."""
    found = [
        ["images x voxels, voxels an output", "FastL2LiR 0.11, s", "ours, s", "ratio", "bare Cholesky, s",
         "largest relative difference"]
    ]  # fmt: skip
    for run in printed_in(results, "ridge"):
        if "n_images" in run:
            sizes = f"{run['n_images']:,} x {run['n_voxels_in_all']:,}, {run['n_voxels']:,}"
            times = [
                tables.number(run[f"{what}_seconds_per_output"], ".4f") for what in ("fastl2lir", "ours", "lapack")
            ]
            ratio, difference = f"{run['speedup_vs_fastl2lir']:.1f}", f"{run['max_relative_error']:.0e}"
            found.append([sizes, *times[:2], ratio, times[2], difference])
    return found


def regime(results: Results) -> tables.Rows:
    """Lay out what benchmarks/regime.py printed."""
    (found,) = printed_in(results, "regime")
    names = {
        "c_r": "r of c by image", "z_r": "r of z by image", "chosen_timestep": "timestep chosen",
        "stage1_pixcorr": "PixCorr of stage 1", "ceiling_pixcorr": "PixCorr from true targets",
    }  # fmt: skip
    texts = [
        [str(value) if isinstance(value := found[name][subject], int) else tables.number(value) for name in names]
        for subject in SUBJECTS
    ]
    return [["subject", *names.values()], *([subject, *row] for subject, row in zip(SUBJECTS, texts, strict=True))]


def card_counts(_: Results) -> tables.Rows:
    """Lay out what batches take of a card, in GiB, as predicted."""
    sizes = [n for n in card_memory.table()[card_memory.WORKS[0], "float32"] if n]
    found = [["work", "precision", "weights", *(f"{n} picture{'s' if n > 1 else ''}" for n in sizes)]]
    for work, precision in card_memory.table():
        n_bytes = [card_memory.weights(work), *(card_memory.predicted(work, precision, n) for n in sizes)]
        name = "float32, TF32" if precision == "float32" else precision
        found.append([work, name, *(tables.number(each / 2**30, ".1f") for each in n_bytes)])
    return found


def card_batches(_: Results) -> tables.Rows:
    """Lay out the largest batches that cards have room for."""
    found = [["card", "precision", *card_memory.OF_KIND]]
    for card, (name, precision) in itertools.product(
        card_memory.CARDS, (("float32, TF32", "float32"), ("float16", "float16"))
    ):
        most = [card_memory.largest_batch(kind, precision, card * 2.0**30) for kind in card_memory.OF_KIND]
        found.append([f"{card} GiB", name, *(str(n) if n else "none" for n in most)])
    return found


def card_measured(_: Results) -> tables.Rows:
    """Lay out what a card took beside what was counted, in GiB, and the correction that follows."""
    found = [["card", "work", "precision", "pictures", "counted", "measured", "correction"]]
    for row in card_memory.measured():
        counted = card_memory.counted(row.work, row.precision, row.batch_size)
        sizes = [tables.number(n_bytes / 2**30, ".1f") for n_bytes in (counted, row.n_bytes)]
        correction = tables.number(card_memory.correction(row.work, row.precision), ".3f")
        found.append([row.card, row.work, row.precision, str(row.batch_size), *sizes, correction])
    return found


def of_films(make: Callable[..., Any]) -> Callable[..., Any]:
    """Give what makes a table or a number of films from all results."""
    return lambda results, *names: make(results.films, *names)


TABLES: dict[str, Callable[[Results], tables.Rows]] = {
    "readme": of_readme,
    "scores": lambda results: compared(results)[0],
    "stage2_minus": lambda results: compared(results)[1],
    "restored_minus": lambda results: compared(results)[2],
    "losses": lambda results: compared(results)[3],
    "paper": lambda results: compared(results)[4],
    "by_subject": by_subject,
    **{group: group_of(group) for group in ("more", "brain_diffuser", "mindeye")},
    "bottleneck": bottleneck,
    "spread": lambda results: of_pictures.spread_rows(results.spread),
    "features": features,
    "accuracy": accuracy,
    "by_roi": by_roi,
    "noise_ceilings": noise_ceilings,
    "cortex": cortex,
    "labels": lambda results: compared_concepts(results)[0],
    "labels_minus": lambda results: compared_concepts(results)[1],
    "label_pictures": lambda results: compared_concepts(results)[2],
    "label_pictures_minus": lambda results: compared_concepts(results)[3],
    "permuted_labels": lambda results: compared_concepts(results)[4],
    "concepts_paper": lambda results: compared_concepts(results)[5],
    "ridge": ridge,
    "regime": regime,
    "card_memory": card_counts,
    "card_batches": card_batches,
    "card_measured": card_measured,
    **{name: of_films(table) for name, table in film_tables.TABLES.items()},
}

# Numbers --------------------------------------------------------------------------------------------------------------


def one(table: pd.DataFrame, **wanted: str) -> pd.Series:
    """Find the one row that has these values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    if len(table) != 1:
        raise LookupError(f"{len(table)} rows have {', '.join(wanted.values())}")
    return table.iloc[0]


def score(results: Results, system: str, metric: str, subject: str = ALL_SUBJECTS) -> pd.Series:
    """Row of a score, of either dataset: their systems have different names."""
    known = pd.concat([results.summary, results.concepts])
    return one(known, subject=subject, system=system, metric=metric)


def pair(results: Results, system: str, baseline: str, metric: str, subject: str = ALL_SUBJECTS) -> pd.Series:
    """Row of a paired difference, turned round where it was tested the other way."""
    known = pd.concat([results.paired, results.concepts_paired])
    if ((known["system"] == system) & (known["baseline"] == baseline)).any():
        return one(known, subject=subject, system=system, baseline=baseline, metric=metric)
    row = one(known, subject=subject, system=baseline, baseline=system, metric=metric).copy()
    row["difference"], row["ci_low"], row["ci_high"] = 0 - row["difference"], 0 - row["ci_high"], 0 - row["ci_low"]
    return row


def mean(results: Results, *names: str) -> str:
    """Mean alone."""
    return tables.number(score(results, *names)["mean"])


def interval(results: Results, *names: str) -> str:
    """Mean and interval."""
    row = score(results, *names)
    return tables.mean_cell(row, int(row["n"]))


def share(results: Results, *names: str) -> str:
    """Mean in percent."""
    return f"{100 * score(results, *names)['mean']:.0f} %"


def count(results: Results, *names: str) -> str:
    """Give the number of images."""
    return f"{score(results, *names)['n']:.0f}"


def difference(results: Results, *names: str) -> str:
    """Difference, interval and p."""
    return tables.difference_cell(pair(results, *names))


def fall(results: Results, *names: str) -> str:
    """Difference and interval without a sign, for "falls by"."""
    row = pair(results, *names)
    return tables.mean_cell(row.rename({"difference": "mean"}), int(row["n"]))


def largest_p(results: Results, system: str, baseline: str, metrics: str, subjects: str) -> str:
    """Largest p of some metrics and subjects, corrected for these alone."""
    rows = [pair(results, system, baseline, name, of) for name in metrics.split(",") for of in subjects.split(",")]
    return tables.number(holm(pd.DataFrame(rows)["p"].to_numpy()).max(), ".2g")


def second_stage(results: Results, file: str, subject: str, start: str, way: str, metric: str) -> str:
    """Difference and interval of a way in a table of benchmarks/second_stage.py."""
    row = one(pd.read_csv(results.docs / f"{file}.csv"), subject=subject, start=start, way=way)
    texts = [tables.number(row[f"{metric}_{what}"]) for what in ("low", "high")]
    return f"{tables.number(row[f'{metric}_difference'], '+.3f')} [{', '.join(texts)}]"


def frontier(results: Results, file: str, way: str, metric: str) -> str:
    """Difference of a way to the first one, and its interval, in a table of benchmarks/frontier.py."""
    row = one(pd.read_csv(results.docs / f"{file}.csv"), way=way)
    texts = [tables.number(row[f"{metric}_{what}"]) for what in ("low", "high")]
    return f"{tables.number(row[f'{metric}_difference'], '+.3f')} [{', '.join(texts)}]"


def setting(results: Results, grid: str, column: str, *wanted: str) -> str:
    """Score of settings that benchmarks/choose_settings.py tried; of two rows with the same settings there is none."""
    table = pd.read_csv(results.docs / "settings.csv")
    table = table[table["grid"] == grid]

    def has_all(text: str) -> bool:
        settings = {key: str(value) for key, value in json.loads(text).items()}
        return all(settings.get(key) == value for key, _, value in (word.partition("=") for word in wanted))

    table = table[table["settings"].map(has_all)]
    return tables.number(one(table, grid=grid)[column])


def printed_in(results: Results, file: str) -> list[dict[str, Any]]:
    """Read the lines of JSON that a benchmark printed."""
    lines = (results.docs / f"{file}.txt").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def printed(results: Results, file: str, key: str, form: str = "") -> str:
    """Give the last number of that name that a benchmark printed."""
    values = [found[key] for found in printed_in(results, file) if key in found]
    if not values:
        raise LookupError(f"docs/{file}.txt has no {key}")
    return tables.number(values[-1], form)


def estimate(results: Results, file: str, key: str) -> str:
    """Give a difference that a benchmark printed, and its interval."""
    low, high = (printed(results, file, f"{key}_{end}", ".3f") for end in ("low", "high"))
    return f"{printed(results, file, key, '+.3f')} [{low}, {high}]"


NUMBERS: dict[str, Callable[..., str]] = {
    "mean": mean,
    "interval": interval,
    "share": share,
    "count": count,
    "difference": difference,
    "fall": fall,
    "holm": largest_p,
    "second_stage": second_stage,
    "frontier": frontier,
    "setting": setting,
    "printed": printed,
    "estimate": estimate,
    **{word: of_films(make) for word, make in film_tables.NUMBERS.items()},
}


if __name__ == "__main__":
    main()
