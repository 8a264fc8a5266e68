"""The report of an experiment: a page with scores, differences and pictures, and a picture of examples.

    python evaluation/43_report.py [--config configs/miniature.yaml] [--subject subj01]

Reads the tables of `evaluation/41_score.py`, the test rows of `prepared.h5`, the stimuli with COCO's captions and
categories, the reconstructions of every system that has scores, and, where they are, the trajectories of stage 2,
`decoded/accuracy.png` of each subject. Where the configuration has Generic Object Decoding also the
tables of `evaluation/40_score_concepts.py`, and that dataset's stimuli and pictures. Writes to
`runs/<name>/evaluation/`:

    index.html    everything on one page, which needs no other file and no network
    examples.png  for each subject of NSD 8 refined test images with their reconstructions

With --subject, both show that subject alone, of the one dataset or the other. Pictures are shown at 128 pixels or
less: some 5 MB for each system of 982 real images. Of a trajectory the page has up to 12 pictures, evenly spaced;
where that would be more than 6,000 in all, fewer, but at least 3.
Peak memory: 3 GB for 982 real images, by count: the images of one system, twice, and thrice the page.
"""

import io
from pathlib import Path

import pandas as pd
from PIL import Image

from data import god, nsd
from data.averaging import ceiling_by_roi
from data.recipes import prepared
from evaluation import concepts, report, results, systems
from evaluation.catalogue import CONCEPT_SYSTEMS, CORRECTED, STAGE2, TABULATED, system
from evaluation.examples import examples
from feature_decoding.recipes import accuracy
from minddiffuser.cli import concept_subjects, execute, parse
from minddiffuser.config import Config
from minddiffuser.store import DataError, Files, open_made, write_atomically
from reconstruction import folder


def main(argv: list[str] | None = None) -> None:
    """Write the page and the picture."""
    run = parse(
        __doc__,
        argv,
        subjects_of=lambda experiment: (*experiment.subjects, *concept_subjects(experiment)),
        divides=False,
    )
    config = run.config
    output = config.folder() / "evaluation"
    names = [subject for subject in run.subjects if subject in config.experiment.subjects]
    tables = read_tables(output, config) if names else None
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
        if tables is not None and not (output / "concepts" / "scores.json").is_file():
            print(f"Generic Object Decoding is left out: it has no scores; run: python {concepts.SCORE}")
        else:
            of_concepts = read_concepts(config, others, output / "concepts")

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
    tables = concepts.read_tables(output, config)
    for subject in subjects:
        concepts.states_of(config, subject)  # raises where what is there was made with other settings
    subjects = [subject for subject in subjects if subject in set(tables.summary["subject"])]
    if not subjects:
        raise DataError(f"{output} has no scores of these subjects; run: python {concepts.SCORE}")
    found = []
    for subject in subjects:
        places = {name: config.folder(subject) / "reconstruction" / name for name in CONCEPT_SYSTEMS}
        places = {name: place for name, place in places.items() if folder.state(place)}
        settings = {name: folder.read_settings(place) for name, place in places.items()}
        samples = folder.sample_folders(places[CORRECTED]) if CORRECTED in places else []
        found.append(report.ConceptSubject(subject, [report.thumbnails(*folder.read(s)) for s in samples], settings))
    images = god.read_images(config.god / god.TEST_IMAGES)
    stimuli = report.thumbnails(images.ids, god.read_pictures(config.god / "images" / "test", images.names))
    return report.Concepts(tables, found, stimuli)


def read_tables(output: Path, config: Config) -> report.Tables:
    """Read what evaluation/41_score.py wrote."""
    scores, summary, paired = (results.read_table(output, name) for name in ("scores", "summary", "paired"))
    spread = results.read_table(output, "spread") if (output / "spread.csv").is_file() else None
    record = results.read_record(output, config)
    samples = results.samples_of(record)
    return report.Tables(
        scores, summary, paired, spread, record["absent"], samples, record["settings"], results.lacking_of(record)
    )


def read_subject(config: Config, subject: str, scores: pd.DataFrame, n_pictures: int) -> report.SubjectResults:
    """Read what the page shows of a subject; of the pictures only thumbnails stay in memory."""
    path, there = config.folder(subject), systems.states_of(config, subject)
    with open_made(prepared(config, subject)) as rows:
        is_test = rows["is_test"][:]
        test_ids, coco_ids = rows["nsd_id"][:][is_test], rows["coco_id"][:][is_test]
        ceiling = pd.DataFrame({"roi": rows["roi"][:].astype(str), "noise_ceiling": rows["noise_ceiling"][:]})
    ids = test_ids.tolist()
    categories = nsd.read_categories(config.nsd, coco_ids)
    captions = nsd.read_captions(config.nsd, coco_ids, config.experiment.semantic.n_captions)
    pictures, settings = {}, {}
    for name in scores.loc[scores["subject"] == subject, "system"].unique():
        if system(name).kind not in TABULATED or name not in there:
            continue
        place = path / "reconstruction" / name
        if name in report.CONSTANT:
            pictures[name] = dict.fromkeys(ids, first_picture(place))
        else:
            pictures[name] = report.thumbnails(*folder.read(place))
        settings[name] = folder.read_settings(place)
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
        figures=read_figures(config, subject),
        noise_ceiling=ceiling_by_roi(ceiling),
    )


def read_figures(config: Config, subject: str) -> dict[str, bytes]:
    """Read the figures of decoding accuracy, if they are of the decoders that are there."""
    recipe = accuracy(config, subject)
    done = recipe.path.is_file() and Files(recipe).is_done()
    return {"accuracy": recipe.path.with_suffix(".png").read_bytes()} if done else {}


def first_picture(place: Path) -> bytes:
    """Thumbnail of the first picture of a folder in which all are the same."""
    nsd_id = pd.read_csv(place / "index.csv")["nsd_id"].iloc[0]
    return report.thumbnail(Image.open(place / f"{nsd_id:05d}.png").convert("RGB"))


if __name__ == "__main__":
    execute(main)
