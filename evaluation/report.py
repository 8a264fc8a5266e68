"""The report: one HTML page that needs nothing else, and the picture of examples.

Both are made from the tables of scores and from thumbnails, and are the same bytes for the same inputs.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw, ImageFont

from minddiffuser.config import REPOSITORY, Config

THUMBNAIL = 128  # pixels: 982 photographs of four kinds make some 25 MB a subject
STAGE1, STAGE2, CEILING = "minddiffuser/stage1", "minddiffuser/stage2", "control/ceiling"
SYSTEMS = {
    STAGE1: ("stage 1", "decoded z and c, through Stable Diffusion"),
    STAGE2: ("stage 2", "stage 1, refined until its CLIP features match the decoded ones"),
    CEILING: ("ceiling", "stage 1 given the stimulus' own features instead of decoded ones: what decoding could reach"),
    "control/shuffled": ("shuffled", "stage 1 with the decoded features of another image: what guessing reaches"),
    "control/mean_image": ("mean image", "the mean of the training images, whatever was seen"),
}
METRICS = {
    "pixcorr": ("PixCorr", "correlation of the pixels"),
    "ssim": ("SSIM", "local structure of the grey image; flat images score well, so read it beside the mean image"),
    "clip_similarity": ("CLIP similarity", "cosine of image embeddings, by a CLIP that did not guide stage 2"),
    "clip_two_way": (
        "CLIP two-way",
        "how often the reconstruction is more like its own stimulus than another; chance 0.5",
    ),
}


@dataclass(frozen=True)
class SubjectResults:
    """What is shown of one subject.

    Attributes
    ----------
    name : str
    folder : Path
        The subject's results.
    stimuli : dict of nsd_id to array of shape (height, width, 3), uint8
        Thumbnails of the test images, in their order.
    pictures : dict of system to dict of nsd_id to array of shape (height, width, 3), uint8
        Thumbnails of the reconstructions.
    pixcorr : dict of system to dict of nsd_id to float
    """

    name: str
    folder: Path
    stimuli: dict[int, np.ndarray]
    pictures: dict[str, dict[int, np.ndarray]]
    pixcorr: dict[str, dict[int, float]]


def thumbnails(ids: np.ndarray, images: np.ndarray) -> dict[int, np.ndarray]:
    """Pictures of at most 128 pixels a side, by nsd_id; smaller ones are left as they are."""
    return {
        int(nsd_id): np.array(_thumbnail(Image.fromarray(image))) for nsd_id, image in zip(ids, images, strict=True)
    }


def pixcorr_by_image(scores: pd.DataFrame, subject: str) -> dict[str, dict[int, float]]:
    """PixCorr of one subject, by system and nsd_id."""
    rows = scores[(scores["subject"] == subject) & (scores["metric"] == "pixcorr")]
    return {
        str(system): dict(zip(group["nsd_id"], group["value"], strict=True)) for system, group in rows.groupby("system")
    }


def text_table(table: pd.DataFrame, value: str) -> str:
    """Lay out a table of means or differences for a terminal: one row a system, one column a metric.

    Parameters
    ----------
    table : DataFrame
        Columns `subject, system, metric, n, ci_low, ci_high`, and `value`.
    value : str
        Name of the column that the interval is of.

    Returns
    -------
    str
    """
    numbers = table[[value, "ci_low", "ci_high"]].itertuples(index=False)
    table = table.assign(cell=[f"{center:.3f} [{low:.3f}, {high:.3f}]" for center, low, high in numbers])
    index = ["subject", "system", "n"]
    wide = table.pivot_table(index=index, columns="metric", values="cell", aggfunc="first", sort=False)
    return wide[list(METRICS)].rename_axis(columns=None).reset_index().to_string(index=False)


def page(config: Config, subjects: Sequence[SubjectResults], summary: pd.DataFrame, paired: pd.DataFrame) -> str:
    """Build the HTML page.

    Parameters
    ----------
    config : Config
    subjects : sequence of SubjectResults
    summary, paired : DataFrame
        As `evaluation/41_score.py` writes them.

    Returns
    -------
    str
    """
    settings = yaml.safe_dump(config.model_dump(mode="json", include={"name", "preset", "experiment"}), sort_keys=False)
    links = " · ".join(f'<a href="#{escape(s.name)}">{escape(s.name)}</a>' for s in subjects)
    sections = "\n".join(_subject_section(s, summary, paired) for s in subjects)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>MindDiffuser: {escape(config.name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Images reconstructed from brain activity</h1>
<p>MindDiffuser reconstructs the image that a person saw from their fMRI responses: stage 1 decodes Stable
Diffusion's latents and text embedding, and stage 2 refines them until the picture's CLIP features match those that
were decoded too. {_what_the_data_is(config)}</p>
<p>Experiment <b>{escape(config.name)}</b>, subjects {links}</p>
<details><summary>Settings</summary><pre>{escape(settings)}</pre></details>
<details open><summary>How to read the numbers</summary>{_legend()}</details>
</header>
{sections}
{_published()}
</body>
</html>
"""


def _what_the_data_is(config: Config) -> str:
    if config.experiment.miniature is None:
        return "The responses are those of the Natural Scenes Dataset."
    return (
        "Brain and images are simulated here, and the models small: this shows that the method works, not how well "
        "it does on people."
    )


def _legend() -> str:
    metrics = "".join(f"<dt>{name}</dt><dd>{escape(meaning)}</dd>" for name, meaning in METRICS.values())
    systems = "".join(f"<dt>{name}</dt><dd>{escape(meaning)}</dd>" for name, meaning in SYSTEMS.values())
    return f"""<div class="legend"><dl>{metrics}</dl><dl>{systems}</dl></div>
<p>Higher is better for all four. Below each mean is its 95 % bootstrap interval over the images of that subject; it
says nothing of other people, and is not corrected for the number of comparisons. Rows with different n are of
different images: to compare two systems, use the paired differences.</p>"""


def _published() -> str:
    """Other systems' published numbers, in a block of their own: quoted, not measured here."""
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv", dtype={"n": str}).fillna("")
    names = {
        "pixcorr": "PixCorr", "ssim": "SSIM", "alexnet2": "Alex(2)", "alexnet5": "Alex(5)", "inception": "Incep",
        "clip_two_way": "CLIP two-way", "clip_similarity": "CLIP similarity", "efficientnet_distance": "Eff ↓",
        "swav_distance": "SwAV ↓", "retrieval_reported_as_image": "image retrieval*",
        "retrieval_reported_as_brain": "brain retrieval*",
    }  # fmt: skip
    rows = []
    for source, of_source in table.groupby("source", sort=False):
        rows.append(f'<tr><th colspan="{len(names) + 2}">{escape(str(source))}</th></tr>')
        for (system, n), group in of_source.groupby(["system", "n"], sort=False):
            value_of = dict(zip(group["metric"], group["value"], strict=True))
            cells = "".join(f"<td>{_number(value_of[m]) if m in value_of else ''}</td>" for m in names)
            rows.append(f"<tr><td>{escape(str(system))}</td><td>{n}</td>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in names.values())
    return f"""<section id="published"><h2>Published numbers, quoted</h2>
<details><summary>Other systems on the Natural Scenes Dataset, as papers print them</summary>
<p class="note">Nothing here was measured by this software. The sources differ in test images (n), in repetitions, and
in the versions of SSIM and of the networks: compare within one source only. ↓: lower is better. *: as the papers name
it; by MindEye's code, "image retrieval" finds the brain activity of an image.</p>
<div class="wide"><table><tr><th></th><th>n</th>{head}</tr>{"".join(rows)}</table></div></details></section>"""


def _subject_section(subject: SubjectResults, summary: pd.DataFrame, paired: pd.DataFrame) -> str:
    summary, paired = (table[table["subject"] == subject.name] for table in (summary, paired))
    return f"""<section id="{escape(subject.name)}">
<h2>{escape(subject.name)}</h2>
<h3>Scores</h3>
{_summary_table(summary)}
<h3>Paired differences</h3>
{_paired_differences(paired)}
<h3>Reconstructions</h3>
{_reconstructions(subject)}
{_trajectories(subject)}
{_decoding_accuracy(subject.folder)}
{_noise_ceiling(subject.folder / "noise_ceiling.csv")}
</section>"""


def _summary_table(summary: pd.DataFrame) -> str:
    rows = []
    for system, of_system in summary.groupby("system", sort=False):
        by_metric = of_system.set_index("metric")
        cells = "".join(
            f"<td>{_number(by_metric['mean'][m])}<small>{_interval(by_metric.loc[m])}</small></td>" for m in METRICS
        )
        meaning = SYSTEMS.get(str(system), ("", ""))[1]
        css = ' class="control"' if str(system).startswith("control/") else ""
        rows.append(
            f'<tr{css} title="{escape(meaning)}"><th>{_name(str(system))}</th>'
            f"<td>{by_metric['n'].iloc[0]}</td>{cells}</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name, _ in METRICS.values())
    return f'<div class="wide"><table><tr><th></th><th>n</th>{head}</tr>{"".join(rows)}</table></div>'


def _paired_differences(paired: pd.DataFrame) -> str:
    items = []
    for (system, baseline), group in paired.groupby(["system", "baseline"], sort=False):
        name, other = _name(str(system)), _name(str(baseline))
        readings = "".join(f"<li>{_reading(row)}</li>" for _, row in group.iterrows())
        items.append(f"<div><h4>{name} against {other}, n = {group['n'].iloc[0]}</h4><ul>{readings}</ul></div>")
    return f'<div class="paired">{"".join(items)}</div>'


def _reading(row: pd.Series) -> str:
    """Say in words what a paired difference shows."""
    name, metric = _name(row["system"]), METRICS[row["metric"]][0]
    numbers = f"by {_number(row['difference'], signed=True)} <small>{_interval(row, signed=True)}</small>"
    if row["ci_low"] > 0:
        verb = "improves" if row["system"] == STAGE2 else "is higher in"
    elif row["ci_high"] < 0:
        verb = "worsens" if row["system"] == STAGE2 else "is lower in"
    else:
        return f"no difference shown in {metric}: {numbers.removeprefix('by ')}"
    return f"{name} <b>{verb}</b> {metric} {numbers}"


def _reconstructions(subject: SubjectResults) -> str:
    refined = subject.pictures.get(STAGE2, {})
    first = [nsd_id for nsd_id in subject.stimuli if nsd_id in refined]
    rest = [nsd_id for nsd_id in subject.stimuli if nsd_id not in refined]
    note = '<p class="note">The number below a picture is its PixCorr.</p>'
    shown = note + _cards(subject, first or rest)
    if first and rest:
        shown += f"<details><summary>The other {len(rest)} test images, not refined</summary>"
        shown += _cards(subject, rest) + "</details>"
    return shown


def _cards(subject: SubjectResults, ids: Sequence[int]) -> str:
    """One row of pictures per test image: what was seen and what was made of it."""
    cards = []
    for nsd_id in ids:
        figures = [_figure(subject.stimuli[nsd_id], f"stimulus {nsd_id}", "stimulus", "")]
        for system in (STAGE1, STAGE2, CEILING):
            name, picture = SYSTEMS[system][0], subject.pictures.get(system, {}).get(nsd_id)
            score = subject.pixcorr.get(system, {}).get(nsd_id)
            value = "" if score is None else _number(score, digits=2)
            figures.append(_figure(picture, f"{name} of {nsd_id}", name, value))
        cards.append(f'<div class="card"><h4>NSD {nsd_id}</h4>{"".join(figures)}</div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _trajectories(subject: SubjectResults, n_images: int = 6, n_pictures: int = 12) -> str:
    """Pictures on the way of stage 2, and its loss, of the first refined images."""
    folder = subject.folder / "reconstruction" / STAGE2 / "trajectory"
    shown = []
    for nsd_id in [i for i in subject.stimuli if (folder / f"{i:05d}.csv").is_file()][:n_images]:
        paths = sorted((folder / f"{nsd_id:05d}").glob("*.png"))
        paths = [paths[i] for i in _evenly_spaced(len(paths), n_pictures)]
        strip = _figure(subject.stimuli[nsd_id], f"stimulus {nsd_id}", "stimulus", "")
        for path in paths:
            picture = np.array(_thumbnail(Image.open(path).convert("RGB")))
            strip += _figure(picture, f"iteration {int(path.stem)} of {nsd_id}", f"{int(path.stem)}", "")
        curve = _loss_curve(pd.read_csv(folder / f"{nsd_id:05d}.csv"))
        shown.append(f'<div class="trajectory"><h4>NSD {nsd_id}</h4><div class="strip">{strip}</div>{curve}</div>')
    if not shown:
        return ""
    note = '<p class="note">By iteration, with the loss; its lowest point is marked.</p>'
    return f"<h3>On the way of stage 2</h3>{note}{''.join(shown)}"


def _loss_curve(table: pd.DataFrame, width: int = 640, height: int = 120) -> str:
    """Loss over iterations as SVG in the colours of the page."""
    table = table.dropna()  # from where early stopping ended it
    iterations, losses = table["iteration"].to_numpy(float), table["loss"].to_numpy(float)
    if len(losses) < 2 or not np.isfinite(losses).all():
        return '<p class="note">no loss curve: fewer than two iterations, or not finite</p>'
    left, right, top, bottom = 60, width - 10, 10, height - 22
    x = left + (right - left) * (iterations - iterations[0]) / (np.ptp(iterations) or 1)
    y = bottom - (bottom - top) * (losses - losses.min()) / (np.ptp(losses) or 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    best = int(losses.argmin())
    return f"""<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss by iteration">
<path d="M{left},{top}V{bottom}H{right}" class="axis"/><polyline points="{points}"/>
<circle cx="{x[best]:.1f}" cy="{y[best]:.1f}" r="4"/>
<text x="{left - 6}" y="{top + 8}" text-anchor="end">{losses.max():.3g}</text>
<text x="{left - 6}" y="{bottom}" text-anchor="end">{losses.min():.3g}</text>
<text x="{left}" y="{height - 6}">{iterations[0]:.0f}</text>
<text x="{right}" y="{height - 6}" text-anchor="end">{iterations[-1]:.0f}</text>
<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">iteration</text>
</svg>"""


def _decoding_accuracy(folder: Path) -> str:
    """Pictures that the decoding scripts left, as they are."""
    figures = []
    for path in sorted((folder / "decoded").glob("*.png")):
        name = escape(path.stem.replace("_", " "))
        uri = _uri(path.read_bytes(), "png")
        figures.append(f'<figure><img src="{uri}" alt="{name}" loading="lazy"><figcaption>{name}</figcaption></figure>')
    return f'<h3>Decoding accuracy</h3><div class="plots">{"".join(figures)}</div>' if figures else ""


def _noise_ceiling(path: Path) -> str:
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{escape(f'{value:g}' if isinstance(value, float) else str(value))}</td>" for value in row)
        + "</tr>"
        for row in table.itertuples(index=False)
    )
    note = '<p class="note">Percent of the variance of a voxel that the stimulus can explain, after averaging.</p>'
    return f'<h3>Noise ceiling by region</h3>{note}<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _figure(picture: np.ndarray | None, alt: str, caption: str, value: str) -> str:
    image = '<div class="blank"></div>'
    if picture is not None:
        image = f'<img src="{_picture_uri(picture)}" alt="{escape(alt)}" loading="lazy">'
    return f"<figure>{image}<figcaption>{caption}<b>{value}</b></figcaption></figure>"


def _picture_uri(picture: np.ndarray) -> str:
    """Small pictures are kept exactly; larger ones are photographs, for which WebP is ten times smaller."""
    kind = "png" if max(picture.shape[:2]) <= THUMBNAIL // 2 else "webp"
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind, quality=80)
    return _uri(content.getvalue(), kind)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _thumbnail(image: Image.Image) -> Image.Image:
    scale = THUMBNAIL / max(image.size)
    if scale >= 1:
        return image
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def _name(system: str) -> str:
    """Name a system as the page calls it."""
    return escape(SYSTEMS.get(system, (system, ""))[0])


def _number(value: float, digits: int = 3, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _interval(row: pd.Series, signed: bool = False) -> str:
    return f"[{_number(row['ci_low'], signed=signed)}, {_number(row['ci_high'], signed=signed)}]"


def choose_examples(pixcorr: dict[int, float], n: int) -> list[int]:
    """Choose by rule: the images at evenly spaced quantiles of the score, from the worst to the best.

    Parameters
    ----------
    pixcorr : dict of nsd_id to float
    n : int
        How many; fewer when there are not as many.

    Returns
    -------
    list of int
    """
    ranked = sorted(pixcorr, key=lambda nsd_id: (pixcorr[nsd_id], nsd_id))
    return [ranked[place] for place in _evenly_spaced(len(ranked), n)]


def _evenly_spaced(n: int, n_chosen: int) -> list[int]:
    """At most `n_chosen` of the numbers below `n`, first and last included."""
    return np.linspace(0, n - 1, min(n, n_chosen)).round().astype(int).tolist()


def examples(subjects: Sequence[SubjectResults], n: int = 8) -> Image.Image:
    """Draw the picture of examples: for each subject the stimuli and, below, what was made of them.

    Parameters
    ----------
    subjects : sequence of SubjectResults
    n : int
        Columns. They are chosen among the refined images, or all where none is refined.

    Returns
    -------
    PIL.Image.Image
    """
    gap, left, head, foot = 4, 92, 44, 34
    step = THUMBNAIL + gap
    rows = [None, STAGE1, STAGE2, CEILING]
    block = head + len(rows) * step
    sheet = Image.new("RGB", (left + n * step + gap, len(subjects) * block + foot), "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for k, subject in enumerate(subjects):
        top = k * block + head
        draw.text((gap * 2, top - 34), subject.name, "black", font)
        refined = subject.pictures.get(STAGE2) or subject.pictures[STAGE1]
        scores = {nsd_id: subject.pixcorr[STAGE1][nsd_id] for nsd_id in refined}
        chosen = choose_examples(scores, n)
        for column, nsd_id in enumerate(chosen):
            x = left + column * step
            draw.text((x, top - 17), f"NSD {nsd_id}", "#555555", small)
            for row, system in enumerate(rows):
                picture = subject.stimuli[nsd_id] if system is None else subject.pictures.get(system, {}).get(nsd_id)
                if picture is not None:
                    tile = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.NEAREST)
                    sheet.paste(tile, (x, top + row * step))
        for row, system in enumerate(rows):
            name = "stimulus" if system is None else SYSTEMS[system][0]
            draw.text((gap * 2, top + row * step + THUMBNAIL // 2), name, "black", font, anchor="lm")
    caption = "Test images (those refined, if any) at evenly spaced quantiles of stage 1's PixCorr, from worst to best."
    draw.text((gap * 2, sheet.height - 22), caption, "#555555", small)
    return sheet


_STYLE = """
:root { --text: #1c1e21; --soft: #5d636b; --line: #d9dce0; --back: #ffffff; --panel: #f5f6f7; --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6e9; --soft: #9aa1aa; --line: #363b42; --back: #15171a; --panel: #1e2125; --accent: #7db2ee; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 1160px; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; border-top: 2px solid var(--text); padding-top: .6rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
h4 { font-size: .85rem; margin: 0 0 .3rem; color: var(--soft); font-weight: 600; }
header p { max-width: 46rem; }
a { color: var(--accent); }
small, .note, figcaption { color: var(--soft); font-size: .8rem; }
.note { margin: .2rem 0 .6rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); padding: .8rem; overflow-x: auto; font-size: .8rem; }
.legend { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 2rem; font-size: .9rem; }
dl { margin: .6rem 0; } dt { font-weight: 600; } dd { margin: 0 0 .4rem; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: .4rem; }
td small, .paired small { white-space: nowrap; }
td small { display: block; font-size: .75rem; }
tr.control { background: var(--panel); color: var(--soft); font-style: italic; } tr.control th { font-weight: 400; }
@media (max-width: 36rem) { th, td { padding: .3rem .3rem; font-size: .85rem; } td small { font-size: .66rem; } }
.paired { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
.paired ul { margin: 0; padding-left: 1.1rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: .9rem 1.2rem; }
.card { display: grid; align-content: start; grid-template-columns: repeat(4, 1fr); gap: 0 4px;
  content-visibility: auto; contain-intrinsic-size: auto 140px; }
.card h4 { grid-column: 1 / -1; margin: 0; }
figure { margin: 0; } figcaption { line-height: 1.25; }
figcaption b { display: block; color: var(--text); font-weight: 500; }
.card img, .strip img, .blank { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; }
.blank { border: 1px dashed var(--line); }
.trajectory { margin-bottom: 1.4rem; }
.strip { display: flex; gap: 4px; overflow-x: auto; } .strip figure { flex: 0 0 80px; }
.strip figure:first-child { margin-right: 8px; }
svg { display: block; width: 100%; max-width: 640px; margin-top: .3rem; }
svg text { fill: var(--soft); font-size: 12px; } .axis { fill: none; stroke: var(--line); }
polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; } circle { fill: var(--accent); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.plots img { width: 100%; border-radius: 4px; }
"""
