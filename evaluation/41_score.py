"""Score the reconstructions of every system against the stimuli, with bootstrap intervals over images.

    python evaluation/41_score.py [--config configs/miniature.yaml] [--subject subj01]

Reads, for each subject, the test rows of `runs/<name>/<subject>/prepared.h5`, their stimuli, and the folders
`reconstruction/<system>` that are there (`<nsd_id>.png` and an index each). Writes to `runs/<name>/evaluation/`:

    scores.csv   subject, system, nsd_id, metric, value: one row an image and metric
    summary.csv  subject, system, metric, mean, ci_low, ci_high, n
    paired.csv   subject, system, baseline, metric, difference, ci_low, ci_high, n: on the images that both have
    scores.json  the settings that the scores were made with

PixCorr and SSIM are computed at `experiment.evaluation.image_size`; the CLIP that scores is not the one that guides
stage 2. With --subject, the rows of other subjects stay. Peak memory: some 2.5 GB for 982 real images.
"""

import json

import numpy as np
import pandas as pd

from data import nsd
from evaluation import metrics, report, significance
from minddiffuser.cli import execute, parse
from minddiffuser.pretrained import open_clip_model
from minddiffuser.store import DataError, open_arrays, write_atomically
from reconstruction import folder

PAIRS = (
    (report.STAGE2, report.STAGE1),
    (report.STAGE1, "control/shuffled"),
    (report.STAGE1, "control/mean_image"),
    (report.CEILING, report.STAGE1),
)


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv)
    config, size, models = run.config, run.config.experiment.evaluation.image_size, run.config.experiment.models
    for subject in run.subjects:
        index = config.folder(subject) / "reconstruction" / report.STAGE1 / "index.csv"
        if not index.is_file():
            raise DataError(f"{index} is missing; make it with: python reconstruction/31_stage1.py --subject {subject}")
    settings = {"image_size": size, "clip": models.scoring_clip, "clip_weights": models.scoring_clip_weights}
    output = config.folder() / "evaluation"
    tables = []
    if (output / "scores.csv").exists():
        old = pd.read_csv(output / "scores.csv", dtype={"subject": str})
        tables.append(old[~old["subject"].isin(run.subjects)])
        if len(tables[0]) and json.loads((output / "scores.json").read_text()) != settings:
            raise DataError(f"{output}: other subjects were scored with other settings; leave out --subject")
    clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, run.device)

    for subject in run.subjects:
        with open_arrays(config.folder(subject) / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
            test_ids = prepared["nsd_id"][:][prepared["is_test"][:]]
        stimuli = nsd.Stimuli(config.nsd).read(test_ids)
        seen = metrics.clip_embeddings(clip, stimuli, run.device, config.execution.batch_size)
        stimuli = metrics.resize(stimuli, size)
        row_of = {nsd_id: row for row, nsd_id in enumerate(test_ids)}
        for system in report.SYSTEMS:
            path = config.folder(subject) / "reconstruction" / system
            if not (path / "index.csv").is_file():
                print(f"{subject}: {system} is absent")
                continue
            ids, images = folder.read(path)
            if strangers := sorted(set(ids) - set(test_ids)):
                raise DataError(f"{path} has images that are not test images of {subject}, such as {strangers[0]}")
            rows = np.array([row_of[nsd_id] for nsd_id in ids])
            embeddings = metrics.clip_embeddings(clip, images, run.device, config.execution.batch_size)
            images = metrics.resize(images, size)
            values = {
                "pixcorr": metrics.pixcorr(stimuli[rows], images),
                "ssim": metrics.ssim(stimuli[rows], images),
                "clip_similarity": metrics.clip_similarity(seen[rows], embeddings),
                "clip_two_way": metrics.two_way_identification(seen, embeddings, rows),
            }
            table = pd.DataFrame({"subject": subject, "system": system, "nsd_id": ids, **values}).sort_values("nsd_id")
            tables.append(table.melt(["subject", "system", "nsd_id"], var_name="metric"))

    scores = pd.concat(tables).sort_values("subject", kind="stable")
    # Rounded as they are written, so that one subject after the other gives the same summary as all at once.
    scores["value"] = scores["value"].round(6)
    bootstrap = (config.experiment.evaluation.n_bootstrap, config.experiment.seed)
    summary = significance.summarise(scores, *bootstrap)
    paired = significance.compare(scores, PAIRS, *bootstrap)
    for name, table in {"scores": scores, "summary": summary, "paired": paired}.items():
        write_atomically(output / f"{name}.csv", table.to_csv(index=False, float_format="%.6f"))
    write_atomically(output / "scores.json", json.dumps(settings, indent=2) + "\n")

    print(f"\nmean [95 % interval over images]\n{report.text_table(summary, 'mean')}")
    refined = paired[paired["system"] == report.STAGE2]
    if len(refined):
        print(f"\nstage 2 - stage 1, same images\n{report.text_table(refined, 'difference')}")
    print(f"\nwritten: {output}/scores.csv, summary.csv, paired.csv")


if __name__ == "__main__":
    execute(main)
