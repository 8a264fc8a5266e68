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
Peak memory: 2.4 GB for 982 real images: the images of one system, twice, and thrice the page.
"""

import evaluation.concepts.section
import evaluation.pictures.section
from evaluation.page.album import Album
from evaluation.page.shell import page
from evaluation.scores import is_scored
from minddiffuser.cli import execute, parse
from minddiffuser.store import write_atomically

WINGS = (evaluation.pictures.section, evaluation.concepts.section)  # in the order in which they are shown


def main(argv: list[str] | None = None) -> None:
    """Write the page and the pictures of examples."""
    run = parse(
        __doc__,
        argv,
        subjects_of=lambda experiment: tuple(name for wing in WINGS for name in wing.CATALOGUE.subjects_of(experiment)),
        divides=False,
    )
    config, output = run.config, run.config.folder() / "evaluation"
    if not run.subjects:
        print("the experiment has no subjects: nothing to do")
        return
    known = {wing: wing.CATALOGUE.subjects_of(config.experiment) for wing in WINGS}
    asked = {wing: of_wing for wing in WINGS if (of_wing := [name for name in run.subjects if name in known[wing]])}
    has_scores = any(is_scored(wing.CATALOGUE, config) for wing in asked)
    album, sections, pictures = Album(), [], {}
    for wing, subjects in asked.items():
        if has_scores and not is_scored(wing.CATALOGUE, config):
            print(f"{wing.CATALOGUE.title} is left out: it has no scores; run: python {wing.CATALOGUE.script}")
            continue
        section, examples = wing.make(config, subjects, album)
        sections.append(section)
        if examples is not None:
            pictures[wing.CATALOGUE.output(config) / "examples.png"] = examples

    content = page(config, sections, album)
    write_atomically(output / "index.html", content)
    print(f"{output / 'index.html'} ({len(content) / 1e6:.1f} MB): open it in a browser")
    for path, picture in pictures.items():
        write_atomically(path, picture)
        print(f"{path}: examples for a README or a talk")


if __name__ == "__main__":
    execute(main)
