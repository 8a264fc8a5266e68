"""The report of an experiment: a page with scores, differences and pictures, and a picture of examples.

    python evaluation/43_report.py [--config configs/miniature.yaml] [--subject subj01] [--light N]

Reads the tables of `evaluation/41_score.py`, the test rows of `prepared.h5`, the stimuli with COCO's captions and
categories, the reconstructions of every system that has scores, and, where they are, the trajectories of stage 2 and
`decoded/accuracy.csv` of each subject. Where the configuration has Generic Object Decoding also the
tables of `evaluation/40_score_concepts.py`, and that dataset's stimuli and pictures; and where it has films those of
`evaluation/44_score_films.py`, the test films, and the films of every system. Writes to
`runs/<name>/evaluation/`:

    index.html    everything on one page, which needs no other file and no network
    verdict.json  the four lines that the page begins with, those of each dataset, and what is absent and why
    card.png      these lines beside six test images: for a README, a talk, or a link's preview
    examples.png  for each subject of NSD 8 refined test images with their reconstructions
    light.html    with --light N, in place of all these: the page with N test images of each subject and without the
                  way of stage 2, for mail

With --subject, all show that subject alone, of the one dataset or the other. Pictures are shown at 128 pixels or
less: some 5 MB for each system of 982 real images. Of a trajectory the page has up to 12 pictures, evenly spaced;
where that would be more than 6,000 in all, fewer, but at least 3. Films are shown at 96 pixels or less, compressed, and
of as many test clips as make some 8 MB, evenly spaced by the speed of the true film.
Peak memory: 2.4 GB for 982 real images: the images of one system, twice, and thrice the page.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import json

import evaluation.concepts.section
import evaluation.pictures.section
import evaluation.videos.section
from evaluation.page.album import Album
from evaluation.page.shell import Section, page
from evaluation.scores import is_scored
from minddiffuser.cli import execute, parse, with_settings
from minddiffuser.store import write_atomically

MAILABLE = 5  # MB
# In the order in which they are shown.
WINGS = (evaluation.pictures.section, evaluation.concepts.section, evaluation.videos.section)


def main(argv: list[str] | None = None) -> None:
    """Write the page and the pictures of examples."""
    run = parse(
        __doc__,
        argv,
        add_arguments,
        lambda experiment: tuple(name for wing in WINGS for name in wing.CATALOGUE.subjects_of(experiment)),
        divides=False,
    )
    config, output, light = run.config, run.config.folder() / "evaluation", run.own.light
    if not run.subjects:
        print("the experiment has no subjects: nothing to do")
        return
    known = {wing: wing.CATALOGUE.subjects_of(config.experiment) for wing in WINGS}
    asked = {wing: of_wing for wing in WINGS if (of_wing := [name for name in run.subjects if name in known[wing]])}
    has_scores = any(is_scored(wing.CATALOGUE, config) for wing in asked)
    album, sections, pictures, absent = Album(), [], {}, []
    for wing, subjects in asked.items():
        if has_scores and not is_scored(wing.CATALOGUE, config):
            made_by = with_settings(f"python {wing.CATALOGUE.script}")
            absent.append((wing.CATALOGUE.title, f"not made yet; scored by: {made_by}"))
            continue
        section, beside = wing.make(config, subjects, album, light)
        sections.append(section)
        pictures |= {wing.CATALOGUE.output(config) / name: picture for name, picture in beside.items()}

    content = page(config, sections, album, absent, light)
    place, size = output / ("light.html" if light else "index.html"), len(content.encode()) / 1e6
    write_atomically(place, content)
    print(f"{place} ({size:.1f} MB): open it in a browser")
    if light:
        if size > MAILABLE:
            print(f"that is much for mail, which takes {MAILABLE} MB as a rule: a smaller --light makes it smaller")
        return
    in_short: dict[str, list[str]] = {}
    for what, why in [*(pair for section in sections for pair in section.absent), *absent]:
        in_short.setdefault(why.partition("; ")[0], []).append(what.partition(": ")[0])
    found = {
        "verdict": lines_of(sections[0]),
        "by_dataset": {section.folder: lines_of(section) for section in sections},
        "absent": [f"{', '.join(dict.fromkeys(what))} ({why})" for why, what in in_short.items()],
    }
    write_atomically(output / "verdict.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for path, picture in pictures.items():
        write_atomically(path, picture)
        print(f"{path}: for a README or a talk")


def lines_of(section: Section) -> list[str]:
    """Give the lines of a section's verdict."""
    return [": ".join(filter(None, (claim.title, claim.text))) for claim in section.verdict]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes a page for mail."""
    parser.add_argument(
        "--light",
        type=count,
        default=0,
        metavar="N",
        help="write light.html instead, with N test images of each subject",
    )


def count(text: str) -> int:
    """Read a number of test images."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of test images, such as 12, is needed, not {text!r}")
    return int(text)


if __name__ == "__main__":
    execute(main)
