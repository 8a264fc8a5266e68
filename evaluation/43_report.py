"""The report of an experiment: a page with scores, differences and pictures, and a picture of examples.

    python evaluation/43_report.py [--config configs/miniature.yaml] [--subject subj01]

Reads the tables of `evaluation/41_score.py`, the test rows of `prepared.h5`, the stimuli with COCO's captions and
categories, the reconstructions of every system that has scores, and, where they are, the trajectories of stage 2,
`decoded/*.png` and `noise_ceiling.csv` of each subject. Where the configuration has Generic Object Decoding also the
tables of `evaluation/40_score_concepts.py`, and that dataset's stimuli and pictures. Writes to
`runs/<name>/evaluation/`:

    index.html    everything on one page, which needs no other file and no network
    examples.png  for each subject of NSD 8 refined test images with their reconstructions

With --subject, both show that subject alone, of the one dataset or the other. Pictures are shown at 128 pixels or
less: some 5 MB for each system of 982 real images. Of a trajectory the page has up to 12 pictures, evenly spaced;
where that would be more than 6,000 in all, fewer, but at least 3. Peak memory: the images of one system, twice (1.6 GB
for 982 real images), and thrice the page.
"""

import io
import json
from pathlib import Path

import pandas as pd
from PIL import Image

from data import god, nsd
from evaluation import concepts, report, results
from evaluation.catalogue import CONCEPT_SYSTEMS, CORRECTED, STAGE2, TABULATED, system
from evaluation.examples import examples
from minddiffuser.cli import concept_subjects, execute, parse
from minddiffuser.config import Config
from minddiffuser.store import DataError, open_arrays, write_atomically
from reconstruction import folder


def main(argv: list[str] | None = None) -> None:
    """Write the page and the picture."""
    run = parse(__doc__, argv, subjects_of=lambda experiment: (*experiment.subjects, *concept_subjects(experiment)))
    config = run.config
    output = config.folder() / "evaluation"
    names = [subject for subject in run.subjects if subject in config.experiment.subjects]
    tables = read_tables(output) if names else None
    for subject in names:
        if tables is not None and subject not in set(tables.scores["subject"]):
            raise DataError(
                f"{output} has no scores of {subject}; run: python evaluation/41_score.py --subject {subject}"
            )
    ways = [config.folder(subject) / "reconstruction" / STAGE2 / "trajectory" for subject in names]
    n_pictures = report.pictures_per_trajectory(sum(len(list(way.glob("*.csv"))) for way in ways))
    subjects = [read_subject(config, name, tables.scores, n_pictures) for name in names] if tables else []
    of_concepts = None
    if others := [subject for subject in run.subjects if subject not in names]:
        try:
            of_concepts = read_concepts(config, others, output / "concepts")
        except DataError as error:
            if tables is None:
                raise
            print(f"Generic Object Decoding is left out: {error}")

    page = report.page(config, subjects, tables, of_concepts)
    write_atomically(output / "index.html", page)
    print(f"{output / 'index.html'} ({len(page) / 1e6:.1f} MB): open it in a browser")
    if tables is not None:
        png = io.BytesIO()
        examples(subjects, tables.scores).save(png, "png", optimize=True)
        write_atomically(output / "examples.png", png.getvalue())
        print(f"{output / 'examples.png'}: examples for a README or a talk")


def read_concepts(config: Config, subjects: list[str], output: Path) -> report.Concepts:
    """Read what the page shows of Generic Object Decoding, of those of the subjects that have scores."""
    tables = concepts.read_tables(output)
    subjects = [subject for subject in subjects if subject in set(tables.summary["subject"])]
    if not subjects:
        raise DataError(f"{output} has no scores of these subjects; run: python {concepts.SCORE}")
    found = []
    for subject in subjects:
        places = {name: config.folder(subject) / "reconstruction" / name for name in CONCEPT_SYSTEMS}
        places = {name: place for name, place in places.items() if folder.state(place)}
        settings = {name: json.loads((place / "settings.json").read_text()) for name, place in places.items()}
        samples = folder.sample_folders(places[CORRECTED]) if CORRECTED in places else []
        found.append(report.ConceptSubject(subject, [report.thumbnails(*folder.read(s)) for s in samples], settings))
    images = god.read_images(config.god / god.TEST_IMAGES)
    stimuli = report.thumbnails(images.ids, god.read_pictures(config.god / "images" / "test", images.names))
    return report.Concepts(tables, found, stimuli)


def read_tables(output: Path) -> report.Tables:
    """Read what evaluation/41_score.py wrote."""
    scores, summary, paired = (results.read_table(output, name) for name in ("scores", "summary", "paired"))
    spread = results.read_table(output, "spread") if (output / "spread.csv").is_file() else None
    record = results.read_record(output)
    samples = results.samples_of(record)
    return report.Tables(scores, summary, paired, spread, record["absent"], samples, record["settings"])


def read_subject(config: Config, subject: str, scores: pd.DataFrame, n_pictures: int) -> report.SubjectResults:
    """Read what the page shows of a subject; of the pictures only thumbnails stay in memory."""
    path = config.folder(subject)
    with open_arrays(path / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        is_test = prepared["is_test"][:]
        test_ids, coco_ids = prepared["nsd_id"][:][is_test], prepared["coco_id"][:][is_test]
    ids = test_ids.tolist()
    categories = nsd.read_categories(config.nsd, coco_ids)
    captions = nsd.read_captions(config.nsd, coco_ids, config.experiment.semantic.n_captions)
    pictures, settings = {}, {}
    for name in scores.loc[scores["subject"] == subject, "system"].unique():
        if system(name).kind not in TABULATED:
            continue
        place = path / "reconstruction" / name
        if name in report.CONSTANT:
            pictures[name] = dict.fromkeys(ids, first_picture(place))
        else:
            pictures[name] = report.thumbnails(*folder.read(place))
        settings[name] = json.loads((place / "settings.json").read_text())
    ceiling = path / "noise_ceiling.csv"
    return report.SubjectResults(
        name=subject,
        stimuli=report.thumbnails(test_ids, nsd.Stimuli(config.nsd).read(test_ids)),
        captions=dict(zip(ids, captions, strict=True)),
        categories=None if categories is None else dict(zip(ids, categories, strict=True)),
        pictures=pictures,
        settings=settings,
        trajectories=(
            report.read_trajectories(path / "reconstruction" / STAGE2, ids, n_pictures) if STAGE2 in pictures else {}
        ),
        figures={file.stem.replace("_", " "): file.read_bytes() for file in sorted((path / "decoded").glob("*.png"))},
        noise_ceiling=pd.read_csv(ceiling) if ceiling.is_file() else None,
    )


def first_picture(place: Path) -> bytes:
    """Thumbnail of the first picture of a folder in which all are the same."""
    nsd_id = pd.read_csv(place / "index.csv")["nsd_id"].iloc[0]
    return report.thumbnail(Image.open(place / f"{nsd_id:05d}.png").convert("RGB"))


if __name__ == "__main__":
    execute(main)
