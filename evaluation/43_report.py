"""The report of an experiment: a page with scores, differences and pictures, and a picture of examples.

    python evaluation/43_report.py [--config configs/miniature.yaml] [--subject subj01]

Reads the tables of `evaluation/41_score.py`, the stimuli and reconstructions of the test images, and, where they
are, the trajectories of stage 2, `decoded/*.png` and `noise_ceiling.csv` of each subject. Writes to
`runs/<name>/evaluation/`:

    index.html    everything on one page, which needs no other file
    examples.png  for each subject 8 refined test images with their reconstructions

With --subject, both show that subject alone. Pictures are shown at 128 pixels or less: some 25 MB for a real
subject. Peak memory: the images of one system, twice (1.6 GB for 982 real images).
"""

import io

import pandas as pd

from data import nsd
from evaluation import report
from minddiffuser.cli import execute, parse
from minddiffuser.store import DataError, open_arrays, write_atomically
from reconstruction import folder


def main(argv: list[str] | None = None) -> None:
    """Write the page and the picture."""
    run = parse(__doc__, argv)
    config = run.config
    output = config.folder() / "evaluation"
    if not (output / "paired.csv").is_file():
        raise DataError(f"{output / 'paired.csv'} is missing; make it with: python evaluation/41_score.py")
    scores, summary, paired = (
        pd.read_csv(output / f"{name}.csv", dtype={"subject": str}) for name in ("scores", "summary", "paired")
    )

    subjects = []
    for subject in run.subjects:
        if subject not in set(scores["subject"]):
            raise DataError(
                f"{output} has no scores of {subject}; run: python evaluation/41_score.py --subject {subject}"
            )
        with open_arrays(config.folder(subject) / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
            test_ids = prepared["nsd_id"][:][prepared["is_test"][:]]
        stimuli = report.thumbnails(test_ids, nsd.Stimuli(config.nsd).read(test_ids))
        pixcorr = report.pixcorr_by_image(scores, subject)
        pictures = {}
        for system in (report.STAGE1, report.STAGE2, report.CEILING):
            if system in pixcorr:
                pictures[system] = report.thumbnails(*folder.read(config.folder(subject) / "reconstruction" / system))
        subjects.append(report.SubjectResults(subject, config.folder(subject), stimuli, pictures, pixcorr))

    page = report.page(config, subjects, summary, paired)
    write_atomically(output / "index.html", page)
    png = io.BytesIO()
    report.examples(subjects).save(png, "png", optimize=True)
    write_atomically(output / "examples.png", png.getvalue())
    print(f"{output / 'index.html'} ({len(page) / 1e6:.1f} MB): open it in a browser")
    print(f"{output / 'examples.png'}: examples for a README or a talk")


if __name__ == "__main__":
    execute(main)
