"""Scores of one person's systems on the Natural Scenes Dataset: of pictures, and of decoded features."""

import numpy as np
import pandas as pd

from data import nsd
from data.recipes import prepared
from evaluation.catalogue import TABULATED
from evaluation.metrics.features import identification
from evaluation.metrics.scorer import Embedded, Scorer, score_folder
from evaluation.pictures.catalogue import CATALOGUE, STAGE1
from evaluation.pictures.losses import score_losses
from evaluation.pictures.systems import FAMILIES
from evaluation.scores import Key, place_of, rows_of
from feature_decoding import recipes
from feature_decoding.accuracy import noise_ceiling_by_image
from feature_decoding.decoders import read_units
from feature_decoding.ridge import Scaler
from feature_extraction.recipes import features as features_recipe
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.method import layer_name
from minddiffuser.correlation import correlate
from minddiffuser.progress import progress
from minddiffuser.store import open_made


def read_test_ids(config: Config, subject: str) -> np.ndarray:
    """Read the ids of a subject's test images."""
    with open_made(prepared(config, subject)) as rows:
        return rows["stimulus_id"][:][rows["is_test"][:]]


def score(run: Run, subject: str, todo: list[str], embedded: dict[Key, list[Embedded]]) -> list[pd.DataFrame]:
    """Score some systems of a subject: tables with the columns of scores.csv.

    `embedded` is given the samples of those with pictures, as the CLIP that scores sees them.
    """
    config, found, scorer = run.config, [], None
    test_ids = read_test_ids(config, subject)
    for name in progress(todo, desc=f"{subject} scores"):
        kind, _, rest = name.partition("/")
        if kind == "features":
            target, _, split = rest.partition("@")
            values = score_split(config, subject, target, split) if split else score_features(config, subject, target)
        else:
            scorer = scorer or Scorer(config, nsd.Stimuli(config.nsd).read(test_ids), run.device)
            is_tabulated = CATALOGUE.system(name).kind in TABULATED
            place, samples = place_of(config, subject, name), embedded.setdefault((subject, name), [])
            values = score_folder(scorer, place, test_ids, is_tabulated, samples)
            values |= score_losses(config, subject, name, run.device)
        found.append(rows_of(subject, name, values))
    return found


def score_features(config: Config, subject: str, target: str) -> dict:
    """Score what was decoded of the test images, before any picture is made of it.

    Parameters
    ----------
    config : Config
    subject : str
    target : "c", "z" or "z_clip"
        c without the token that begins every caption; z_clip: the selected units of all CLIP layers.

    Returns
    -------
    dict of str to array of shape (n_test,)
        "stimulus_id", and metrics; a ceiling is NaN for an image that was shown once, and absent for z_clip.
    """
    family = FAMILIES[target]
    layers = [layer_name(number) for number in config.experiment.structural.layers]
    names = {name: name for name in layers} if target == "z_clip" else {target: family}
    pairs = []
    with (
        open_made(features_recipe(config, subject, family)) as features,
        open_made(recipes.decoded(config, subject, family)) as decoded,
    ):
        ids = decoded["stimulus_id"][:]
        n = len(ids)  # test images come first in every file
        for name, decoder_name in names.items():
            found = decoded[name][:]
            units = np.arange(found[0].size)
            if target == "c":
                units, found = units[found.shape[2] :], found[:, 1:]
            if target == "z_clip":
                units = decoded[f"{name}_units"][:]
            true, found = read_units(features[name], slice(0, n), units), found.reshape(n, -1)
            with open_made(recipes.decoder(config, subject, decoder_name)) as decoder:
                scaler = Scaler(decoder["mean"][:], decoder["std"][:])
            pairs.append((scaler.apply(found), scaler.apply(true)))
    made, seen = (np.concatenate(parts, axis=1) for parts in zip(*pairs, strict=True))
    n_way = min(config.experiment.evaluation.n_way, n)
    similarity, own = correlate(made, seen), np.arange(n)
    scores = {
        "stimulus_id": ids,
        "feature_correlation": np.diag(similarity),
        "feature_two_way": identification(similarity, own, 2),
        "stimulus_from_brain": identification(similarity, own, n_way),
        "brain_from_stimulus": identification(similarity.T, own, n_way),
    }
    if target != "z_clip":
        with open_made(recipes.halves(config, subject, family)) as h:
            halves, n_repetitions = h[target][:], h["n_repetitions"][:]
        found = noise_ceiling_by_image(halves[:, 0], halves[:, 1], n_repetitions)
        scores["feature_reliability"], scores["feature_ceiling"] = found
    return scores


def score_split(config: Config, subject: str, target: str, split: str) -> dict:
    """Scores of held-out training images, as `feature_decoding/28_controls.py` left them, by cluster.

    Images of a cluster are held out together, and so a cluster counts as one: its score is the mean over its images,
    and its "stimulus_id" the smallest of theirs.
    """
    with open_made(recipes.splits(config, subject)) as file:
        columns = {"stimulus_id": file["stimulus_id"][:], "cluster": file["cluster"][:]}
        columns.update({name: values[:] for name, values in file[f"{target}/{split}"].items()})
    clusters = pd.DataFrame(columns).groupby("cluster")
    means = clusters.mean().drop(columns="stimulus_id")
    return {"stimulus_id": clusters["stimulus_id"].min().to_numpy(), **{name: means[name].to_numpy() for name in means}}


def spread_over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """How far a mean moves when nothing but the noise of the generator changes: systems seed/1 ... and stage 1.

    Columns subject, system, metric, mean, sd, n_seeds: mean and standard deviation, over seeds, of the mean over
    images; empty with fewer than two seeds.
    """
    runs = scores[scores["system"].str.startswith("seed/") | (scores["system"] == STAGE1)]
    means = runs.groupby(["subject", "metric", "system"], sort=False)["value"].mean()
    table = means.groupby(["subject", "metric"], sort=False).agg(["mean", "std", "size"]).reset_index()
    table = table[table["size"] > 1].rename(columns={"std": "sd", "size": "n_seeds"})
    table.insert(1, "system", STAGE1)
    return table
