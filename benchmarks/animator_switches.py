"""What each slip of Mind-Animator's released code does: every switch flipped alone, on the miniature's Subject01.

    python benchmarks/animator_switches.py [--n-clips 40]      # twenty minutes on one core

Needs the miniature's films, baselines/mind_animator/11_features.py, and docs/animator_seeds.txt, which
benchmarks/animator_seeds.py prints. Each field of `ANIMATOR_FORMS["original"]` is set to its released value while all
else is as in "corrected"; what it changes is trained anew with the same seed, and compared clip by clip. Test clips are
scored; nothing is chosen by that.

    structure r   correlation of the latents of the first frame, over units, the training mean taken off
    c r           the same of the tokens of the caption
    flow cosine, speed (share of the true films'), SSIM    of films: switches of decoding by the autoencoder alone, of
                  all test clips; those of `video` by the sampler, of --n-clips of them, evenly spaced, for time

Writes `docs/animator_switches.csv` (a row a switch: each score, its difference from what it is compared with, and the
ends of its 95 % interval over shots; and a row for each slip that is no field, which says why) and the tables of
`docs/animator_switches.md`. What is decoded is kept in runs/film_variants/, so that a killed run goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from baselines.mind_animator import recipes
from benchmarks.film_variants import MINIATURE, OF_FILMS, Scorer, Variant, decode, fields_of
from evaluation.significance import bootstrap_intervals
from evaluation.tables import number
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.mind_animator import MindAnimator
from minddiffuser.store import DataError, write_atomically

SUBJECT = "Subject01"
SEEDS, TABLE = REPOSITORY / "docs" / "animator_seeds.txt", REPOSITORY / "docs" / "animator_switches.csv"
ALL, OF_Z, OF_MOTION, OF_C = ("semantic", "structure", "motion"), ("structure", "motion"), ("motion",), ("semantic",)
METRICS = {"structure_r": "structure r", "c_r": "c r", "flow_cosine": "flow cosine", "speed": "speed", "ssim": "SSIM"}
DECIMALS, COUNTS = 4, ("n", "n_shots")
FIRST_COLUMNS = ["bug", "what", "field", "corrected", "released", "films", "against", "note", *COUNTS]
FIRST = ("sparsify.accumulate", "video.noise")  # of the table


class Field(NamedTuple):
    """A field of the form: the number and the nature of the released code's slip, and the decoders that it changes."""

    bug: str
    what: str
    decoders: tuple[str, ...]


FIELDS = {
    "sparsify.accumulate": Field("B1", "zeros among vertices add up over epochs", ALL),
    "sparsify.validation": Field("B2", "vertices of validation clips are zeroed, too", OF_Z),
    "motion.n_memory": Field("B3", "attention to one token, the vertices, is constant", OF_MOTION),
    "motion.infer_keep": Field("B4", "films are made from the first frame and the one before", OF_MOTION),
    "motion.train_mask": Field("B5", "one random mask for all of the training", OF_MOTION),
    "motion.learning_rate": Field("B6", "the learning rate that is asked for is not used", OF_MOTION),
    "checkpoint": Field("B8", "the epoch is chosen beforehand", ALL),
    "video.temporal_bias": Field("B10", "a random vector is added in attention over time", ()),
    "clips.posterior": Field("B12", "latents are sampled, once", OF_Z),
    "video.inversion_length": Field("B13", "more tokens in the inversion than in c", ()),
    "voxels.test_scaling": Field("B15", "test rows are scaled by themselves", ALL),
    "voxels.tail": Field("B16", "vertices that repeat negatively qualify", ALL),
    "voxels.ranking": Field("B16, B32", "ties are broken by the vertex number", ALL),
    "semantic.duplicates": Field("B22", "clips with equal captions count as wrong", OF_C),
    "semantic.crop": Field("", "one crop for all pictures of an epoch", OF_C),
    "structure.l1_compounds": Field("B29", "the L1 weight falls ever faster, structure decoder", OF_Z),
    "motion.l1_compounds": Field("B29", "the same, generator", OF_MOTION),
    "motion.first": Field("B30", "trained on true first frames, used on decoded ones", OF_MOTION),
    "motion.output": Field("", "each frame leaves a norm", OF_MOTION),
    "video.start": Field("", "the sampler starts from an inversion", ()),
    "video.noise": Field("B33", "noise is drawn for each frame", ()),
}
WITH_INVERSION = ("video.noise",)  # looked at with that start of the sampler, too
NOT_HERE = {"video.inversion_length": "does nothing in the miniature, whose text encoder takes as many tokens as c has"}
# Not a slip but a question: with one token of the vertices, attention to it is constant.
ABLATIONS = {"motion.n_memory": 8}
NO_FIELD = {
    "B7": "crash: the released video_recons.py cannot run; 31_reconstruct.py does its work",
    "B9": "fixed upstream: `clips.size` is 512 in both",
    "B11": "the same in both: `video.group_norm` is pooled; docs/film_sampler.txt has norms by frame",
    "B12": "the released code has no seeds, so that no run of it is like another; here all is seeded",
    "B14": "the same in both: the negative prompt is cut to the length of c",
    "B17": "of published scores, not of films: evaluation/videos/dialects.py",
    "B18": "of published scores, not of films: evaluation/videos/dialects.py",
    "B19": "of published scores: chance is .75, not .5, and stands beside them",
    "B20": "of published scores, not of films: here the expectation of N-way trials is exact",
    "B21": "of a published test: shuffle.csv has its p beside a valid one",
    "B23": "void here: arrays that were not released are made by scripts",
    "B24": "crash: paths without their numbers, and options of the wrong type",
    "B25": "dead code: a generator of small patches, which no published table is of",
    "B26": "of maps, not of films: 25_maps.py makes them as released and by Jacobians",
    "B27": "names: the paper says VQ-VAE and linear projection, the code has a KL-VAE and a network",
    "B28": "void: the released pairing has the lag of 4 s; docs/film_timing.txt",
    "B31": "crash: imports that present libraries do not have",
}


class Switch(NamedTuple):
    """A field that is flipped, its values, and what else is set in the variant and in what it is compared with."""

    field: str
    corrected: Any
    released: Any
    against: dict[str, Any]

    @property
    def note(self) -> str:
        """Why there is nothing to flip; empty where there is."""
        return f"is {self.corrected} in both" if self.corrected == self.released else NOT_HERE.get(self.field, "")


def main() -> None:
    """Flip each switch, write the tables, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-clips", type=int, default=40)
    n_clips = parser.parse_args().n_clips
    torch.set_num_threads(1)
    try:
        spread = read_spread()
        table = pd.DataFrame([*flip_all(n_clips), *rows_of_no_field()]).astype(dict.fromkeys(COUNTS, "Int64"))
    except DataError as error:
        sys.exit(f"error: {error}")
    table = table[[*FIRST_COLUMNS, *table.columns.drop(FIRST_COLUMNS)]]
    write_atomically(TABLE, table.to_csv(index=False))
    text = document(table.replace("", None), spread)
    write_atomically(TABLE.with_suffix(".md"), text)
    print(text)


def switches(settings: MindAnimator) -> list[Switch]:
    """List all switches, those of `FIRST` first; one of the sampler may come twice.

    Raises
    ------
    ValueError
        `ANIMATOR_FORMS["original"]` has another list of fields than `FIELDS`.
    """
    released = fields_of("original")
    if strange := {*released} ^ {*FIELDS}:
        raise ValueError(f"fields of the form original and of this benchmark differ: {', '.join(sorted(strange))}")
    found = []
    for field in [*FIRST, *(field for field in FIELDS if field not in FIRST)]:
        for value in (released[field], *([ABLATIONS[field]] if field in ABLATIONS else [])):
            found.append(Switch(field, value_of(settings, field), value, {}))
            if field in WITH_INVERSION:
                found.append(Switch(field, value_of(settings, field), value, {"start": "inversion"}))
    return found


def value_of(settings: MindAnimator, field: str) -> Any:
    """Give the value of a field, such as "motion.first"."""
    value: Any = settings
    for part in field.split("."):
        value = getattr(value, part)
    return value


def flip_all(n_clips: int) -> Iterator[dict[str, Any]]:
    """Make and score each variant; yield the rows of the table, what they are compared with first."""
    flipped = switches(recipes.settings_of(load(MINIATURE)))
    of_base = Variant("seed_0", {"network_seed": 0}, SUBJECT, ALL)  # which benchmarks/animator_seeds.py decodes, too
    variants = [variant_of(switch) for switch in flipped if not switch.note and FIELDS[switch.field].decoders]
    decode([of_base, *variants])
    base = of_base.config
    scorer = Scorer(base, SUBJECT)
    corrected = scores(scorer, base, ALL)
    yield {"field": "corrected"} | row_of(corrected, None, scorer.shots)
    sampled: dict[str, pd.DataFrame] = {}
    shots_of = pd.Series(scorer.shots, scorer.ids)

    def by_sampler(video: dict[str, Any]) -> pd.DataFrame:
        key = json.dumps(video)
        if key not in sampled:
            sampled[key] = scorer.of_sampler(base, SUBJECT, video, n_clips)
        return sampled[key]

    for against in ({}, {"start": "inversion"}):
        table = by_sampler(against)
        yield {"field": "corrected"} | row_of(
            table, None, shots_of[table.index].to_numpy(), films="sampler", against=against
        )
    for switch in flipped:
        field, decoders = switch.field, FIELDS[switch.field].decoders
        if switch.note:
            yield described(switch) | {"note": switch.note}
            continue
        print(f"{field}: {switch.corrected} to {switch.released}", file=sys.stderr, flush=True)
        if field.startswith("video."):
            before = by_sampler(switch.against)
            after = by_sampler(switch.against | {field.removeprefix("video."): switch.released})
            shots = shots_of[before.index].to_numpy()
            found = row_of(after, before, shots, films="sampler", against=switch.against)
        else:
            after = scores(scorer, variant_of(switch).config, decoders)
            found = row_of(after, corrected, scorer.shots)
        yield described(switch) | found


def variant_of(switch: Switch) -> Variant:
    """Say how it is decoded with a switch: by the decoders that it changes, and what the generator needs."""
    changes, needed = {"network_seed": 0, switch.field: switch.released}, FIELDS[switch.field].decoders
    decoders = [name for name in ALL if name in needed or (name == "structure" and "motion" in needed)]
    return Variant(f"{switch.field}_{switch.released}", changes, SUBJECT, decoders)


def scores(scorer: Scorer, config: Config, decoders: tuple[str, ...]) -> pd.DataFrame:
    """Score what some decoders of a variant make: a row a clip, and a column each of `METRICS` that these change."""
    found = {}
    if "structure" in decoders:
        found["structure_r"] = scorer.r(config, SUBJECT, "structure")
    if "semantic" in decoders:
        found["c_r"] = scorer.r(config, SUBJECT, "semantic")
    if "motion" in decoders:
        found |= dict(scorer.of_latents(config, SUBJECT).items())
    return pd.DataFrame(found, index=scorer.ids)


def row_of(
    after: pd.DataFrame,
    before: pd.DataFrame | None,
    shots: np.ndarray,
    films: str = "autoencoder",
    against: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Give a row of the table: means, and differences from what it is compared with, with intervals over shots.

    Parameters
    ----------
    after, before : DataFrames
        Scores, a row a clip, the same clips in both.
    shots : array of shape (n_clips,)
    """
    row: dict[str, Any] = {"films": films, "against": as_text(against or {}), "n": len(after)}
    row["n_shots"], experiment = len(set(shots)), load(MINIATURE).experiment
    for name in (name for name in METRICS if name in after):
        row[name] = round(float(after[name].mean()), DECIMALS)
        if before is not None:
            values = (after[name] - before[name]).to_numpy()[:, None]
            low, high = bootstrap_intervals(values, experiment.evaluation.n_bootstrap, experiment.seed, shots)
            ends = {"difference": values.mean(), "low": low[0], "high": high[0]}
            row |= {f"{name}_{end}": round(float(value), DECIMALS) for end, value in ends.items()}
    return row


def described(switch: Switch) -> dict[str, Any]:
    """Give the columns that say what is flipped."""
    bug, what, _ = FIELDS[switch.field]
    return {
        **{"bug": bug, "what": "attention to several tokens (an ablation)" if is_ablation(switch) else what},
        **{"field": switch.field, "corrected": str(switch.corrected), "released": str(switch.released)},
    }


def is_ablation(switch: Switch) -> bool:
    """Tell whether a value is not the released one."""
    return ABLATIONS.get(switch.field) == switch.released


def rows_of_no_field() -> list[dict[str, Any]]:
    """List the slips that are no field of the form, or are none."""
    return [{"bug": bug, "field": "", "note": note} for bug, note in NO_FIELD.items()]


def as_text(settings: dict[str, Any]) -> str:
    """Write settings as "start: inversion"."""
    return ", ".join(f"{key}: {value}" for key, value in settings.items())


# The page -------------------------------------------------------------------------------------------------------------


def read_spread() -> dict[str, tuple[float, int]]:
    """Read the deviation of each score of "corrected" over seeds, and the number of seeds.

    Raises
    ------
    DataError
        The output of benchmarks/animator_seeds.py is not there, or is not whole.
    """
    try:
        found = json.loads(SEEDS.read_text().splitlines()[-1])["corrected"]
    except (OSError, IndexError, ValueError, KeyError) as error:
        remedy = f"make it with: python benchmarks/animator_seeds.py > {SEEDS.relative_to(REPOSITORY)}"
        raise DataError(f"{SEEDS} does not end with the record of seeds", remedy) from error
    return {name: (float(np.std(values, ddof=1)), len(values)) for name, values in found.items()}


def beyond_a_seed(sd: float, n_seeds: int) -> float:
    """Give the size of a difference between two networks of other seeds that one in twenty exceeds.

    Each mean has the deviation `sd`, known from `n_seeds`: the 97.5 % quantile of Student's t times sd sqrt(2).
    """
    return float(student.ppf(0.975, n_seeds - 1) * sd * np.sqrt(2))


def document(table: pd.DataFrame, spread: dict[str, tuple[float, int]]) -> str:
    """Write the page."""
    table = table.astype(object).where(table.notna(), None)
    rows = table.to_dict("records")
    of_decoding = [row for row in rows if row["films"] == "autoencoder"]
    of_sampler = [row for row in rows if row["films"] == "sampler"]
    same = [row for row in rows if row["note"] is not None and row["field"] is not None]
    n, n_shots = (int(of_decoding[0][name]) for name in ("n", "n_shots"))
    n_sampled, n_sampled_shots = (int(of_sampler[0][name]) for name in ("n", "n_shots"))
    n_seeds = spread["flow_cosine"][1]
    limits = {name: beyond_a_seed(*spread[name]) for name in METRICS}
    lines = [
        "# What the slips of Mind-Animator's released code do",
        "",
        "`python benchmarks/animator_switches.py` writes this page and [animator_switches.csv](animator_switches.csv). "
        "Each switch of the form `original` is flipped alone: all else is as in `corrected`, with the miniature's "
        f"settings, for {SUBJECT}. Cells are differences from `corrected`, clip by clip, with 95 % intervals over "
        "shots, and are not corrected for the number of switches: of a hundred intervals five leave zero out by "
        "chance. Test clips are scored, and nothing is chosen by the scores. The slips are numbered from B1 to B33; "
        "the last table has those that are no switch.",
        "",
        "## Decoding",
        "",
        f"Films are made by the autoencoder alone, of all {n} test clips, of {n_shots} shots. Networks are trained "
        "once, with the same seed. The row *corrected* has means, the row *seeds* their deviation over "
        f"{n_seeds} seeds of the networks (`python benchmarks/animator_seeds.py`, [whole output](animator_seeds.txt)), "
        "and the row *a seed's doing* the size that a difference between two networks of other seeds has one time in "
        "twenty. Differences in bold are larger than that, and their intervals leave zero out. A cell without a number "
        "is not changed by the switch. Equal captions and crops change f in the first place, CLIP's embedding, which "
        "is scored by retrieval, and not here.",
        "",
        *lay_out(of_decoding, limits, tuple(METRICS), [seeds_row(spread), limits_row(limits)]),
        "",
        "## Sampler",
        "",
        f"Films are made by Stable Diffusion, of {n_sampled} test clips, evenly spaced, of "
        f"{n_sampled_shots} shots, for time. The networks are those of `corrected`, so that no seed of theirs "
        "is in the differences; those whose intervals leave zero out are in bold. The miniature's `corrected` starts "
        "from latents. With `start: inversion` beside a switch, the start is that in both. "
        "[film_sampler.txt](film_sampler.txt) has the same switches with true latents.",
        "",
        *lay_out(of_sampler, dict.fromkeys(METRICS, 0.0), OF_FILMS, []),
        "",
        "## What cannot be flipped",
        "",
        "| | why |",
        "|---|---|",
        *(f"| {row['bug'] or ''} | {row['what']}: `{row['field']}` {row['note']} |" for row in same),
        *(f"| {row['bug']} | {row['note']} |" for row in rows if row["field"] is None),
    ]
    return "\n".join(lines) + "\n"


def lay_out(
    rows: list[dict[str, Any]], limits: dict[str, float], metrics: tuple[str, ...], extra: list[str]
) -> list[str]:
    """Lay out a table, with some rows after those of "corrected"."""
    heads = ["", "slip", "switch", "from", "to", *(METRICS[name] for name in metrics)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    whole = [row for row in rows if row["field"] == "corrected"]
    for row in whole:
        cells = [number(row[name]) if row[name] is not None else "" for name in metrics]
        lines.append(f"| | *corrected*{with_settings(row)} | | | | {' | '.join(cells)} |")
    lines += extra
    for row in (row for row in rows if row not in whole):
        cells = [cell(row, name, limits[name]) for name in metrics]
        field = f"`{row['field']}`{with_settings(row)}"
        what = [row["bug"] or "", row["what"], field, row["corrected"], row["released"]]
        lines.append(f"| {' | '.join([*what, *cells])} |")
    return lines


def with_settings(row: dict[str, Any]) -> str:
    """Say what else was set in what a row is compared with."""
    return f", `{row['against']}`" if row["against"] is not None else ""


def cell(row: dict[str, Any], name: str, limit: float) -> str:
    """Write a difference and its interval, bold where it is firm and larger than the limit."""
    value, low, high = (row.get(f"{name}_{end}") for end in ("difference", "low", "high"))
    if value is None or low is None or high is None:
        return ""
    text = f"{number(value, '+.3f')} [{number(low)}, {number(high)}]"
    return f"**{text}**" if abs(value) > limit and (low > 0 or high < 0) else text


def seeds_row(spread: dict[str, tuple[float, int]]) -> str:
    """Write the row of deviations over seeds."""
    return f"| | *seeds* | | | | {' | '.join('± ' + number(spread[name][0]) for name in METRICS)} |"


def limits_row(limits: dict[str, float]) -> str:
    """Write the row of what a seed does."""
    return f"| | *a seed's doing* | | | | {' | '.join('± ' + number(limits[name]) for name in METRICS)} |"


if __name__ == "__main__":
    main()
