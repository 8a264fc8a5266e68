"""Scores of films: what is measured once, tables of planted films, and what the claim and decoding are worth."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from baselines.mind_animator import recipes
from evaluation.videos import comparison, scoring
from evaluation.videos.catalogue import (
    CATALOGUE,
    CEILING,
    CORRECTED,
    DESCRIBED,
    FORMS,
    MOVER,
    OTHER_CLIP,
    STATIC,
    has_all_orders,
    in_order_of_motion,
    pairs_of,
)
from evaluation.videos.decoded import correlation_intervals
from evaluation.videos.metrics import pixel_scores
from evaluation.videos.motion import measure
from minddiffuser.config import REPOSITORY, load
from minddiffuser.store import write_arrays

SUBJECTS = ("Subject01", "Subject03")
N_FRAMES, SIZE = 4, 32
IDS = np.arange(101001, 101013)
SHOTS = pd.Series(np.repeat(np.arange(6), 2), index=IDS)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = load(REPOSITORY / "configs" / "miniature.yaml", ["experiment.evaluation.n_flips=400"])
    folder = tmp_path_factory.mktemp("scores")
    return config.model_copy(update={"execution": config.execution.model_copy(update={"runs": str(folder)})})


def moving(seed, velocities=None):
    """Films of noise that is smooth, and moves around: (n, n_frames, h, w, 3); each its own way."""
    rng = np.random.default_rng(seed)
    velocities = rng.integers(-2, 3, (len(IDS), 2)) if velocities is None else velocities
    coarse = rng.integers(0, 256, (len(IDS), SIZE // 4, SIZE // 4, 3)).astype(np.uint8)
    start = coarse.repeat(4, axis=1).repeat(4, axis=2)
    films = [
        [np.roll(picture, (t * dy, t * dx), (0, 1)) for t in range(N_FRAMES)]
        for picture, (dx, dy) in zip(start, velocities, strict=True)
    ]
    return np.array(films)


VELOCITIES = np.array(
    [(2, 0), (2, 1), (-2, 0), (-2, 1), (0, 2), (1, 2), (0, -2), (1, -2), (2, 2), (2, 1), (-2, -2), (-1, -2)]
)
TRUE = moving(0, VELOCITIES)
FILMS = {
    CEILING: TRUE,
    CORRECTED: moving(1),
    OTHER_CLIP: np.roll(TRUE, 5, axis=0),
    STATIC: np.repeat(TRUE[:, :1], N_FRAMES, axis=1),
}


@pytest.fixture(scope="module")
def planted(config):
    """Measures of films that are known, of a subject; no network is asked."""
    keys = []
    for name, films in FILMS.items():
        found = measure(films, TRUE, orders=True)
        arrays = {"stimulus_id": IDS, "scored": IDS[::2], "sampled": IDS, "cosines": found.cosines}
        arrays |= {f"motion/{metric}": values for metric, values in found.scores.items()}
        arrays |= {f"scores/{metric}": values[::2] for metric, values in pixel_scores(TRUE, films).items()}
        arrays["distances"] = found.distances.mean(axis=0)
        path = scoring.measured(config, SUBJECTS[0], name)
        write_arrays(path, arrays, {"state": "whole", "settings": json.dumps({"n": 1}), "films": name})
        keys.append((SUBJECTS[0], name))
    return keys


@pytest.fixture(scope="module")
def tables(config, planted):
    known = scoring.KnownClips(IDS, SHOTS)
    scores = scoring.score_table(config, planted, known)
    summary = scoring.significance.summarise(scores, 200, 0, SHOTS)
    return {
        "scores": scores,
        "summary": summary,
        "motion": scoring.motion_table(config, planted, known, summary).set_index("system"),
        "shuffle": scoring.shuffle_table(config, planted, known).set_index("system"),
        "paired": scoring.compared(scores, known, config),
    }


def test_the_truth_as_a_system_has_the_best_score_of_all_metrics(tables):
    wide = tables["summary"].pivot_table(index="system", columns="metric", values="mean")
    for name in wide.columns.difference(DESCRIBED):
        values = wide[name] if CATALOGUE.metric(name).higher_is_better else -wide[name]
        assert values[CEILING] == values.max(), name
    assert wide.loc[CEILING, "ssim"] == pytest.approx(1)
    assert wide.loc[CEILING, "flow_cosine"] == pytest.approx(1, abs=1e-5)
    assert wide.loc[CEILING, "epe"] == 0


def test_motion_of_the_own_clip_is_told_from_that_of_others_by_shots(tables):
    motion = tables["motion"]
    assert list(motion.index) == [CEILING, CORRECTED, OTHER_CLIP, STATIC]
    assert motion.loc[CEILING, "p"] < 0.01
    assert motion.loc[OTHER_CLIP, "p"] > 0.05
    assert motion.loc[STATIC, "p"] == 1
    assert (motion["n_shots"] == 6).all()
    assert motion.loc[CEILING, "smallest_p"] == pytest.approx(1 / 401)
    assert (motion["p_holm"] >= motion["p"]).all()
    assert motion.loc[STATIC, "epe"] == pytest.approx(motion.loc[STATIC, "epe_still"], rel=0.05)


def test_the_shuffle_test_stands_beside_that_of_the_other_clip_and_its_valid_one(tables):
    shuffle = tables["shuffle"]
    assert shuffle.loc[CEILING, "p"] == pytest.approx(1 / 24)
    assert shuffle.loc[STATIC, "p"] == 1
    assert (shuffle["p_other_clip"] == shuffle.loc[OTHER_CLIP, "p"]).all()
    assert (shuffle["p_sampled_other_clip"] == shuffle.loc[OTHER_CLIP, "p_sampled"]).all()
    assert (shuffle["n_orders"] == 24).all()
    assert np.isnan(shuffle.loc[STATIC, "p_sign_flip"])
    # Of six shots no p is below 2 / 64: what is published takes its resamples for evidence.
    assert shuffle["p_sign_flip"].min() >= 0.02
    assert shuffle["p_bootstrap_wilcoxon"].min() < 1e-6


def test_paired_differences_have_no_metric_that_only_describes(tables):
    paired = tables["paired"]
    assert not set(paired["metric"]) & set(DESCRIBED)
    assert set(zip(paired["system"], paired["baseline"], strict=True)) == set(pairs_of(list(FILMS)))
    n_of = paired.groupby("metric")["n"].first()
    assert n_of["flow_cosine"] == len(IDS)
    assert n_of["ssim"] == len(IDS) / 2


def test_scores_of_other_clips_are_of_those_of_other_shots(tables, config):
    scores = tables["scores"]
    found = scores[(scores["system"] == CEILING) & (scores["metric"] == "flow_cosine_others")].set_index("stimulus_id")
    cosines = measure(TRUE, TRUE, orders=False).cosines
    np.testing.assert_allclose(found["value"][IDS[3]], np.delete(cosines[3], [2, 3]).mean(), atol=1e-6)


def test_measures_count_as_there_for_one_state_and_settings_alone(config, planted):
    for key in planted:
        assert scoring.is_measured(config, key, "whole", {"n": 1})
        assert not scoring.is_measured(config, key, "whole, but one", {"n": 1})
        assert not scoring.is_measured(config, key, "whole", {"n": 2})
    assert not scoring.is_measured(config, (SUBJECTS[1], CEILING), "whole", {"n": 1})


def test_the_claim_compares_with_another_clip_and_with_a_brain_without_direction(config, tables):
    """A third subject whose films are those of the first with another clip's motion; all differences are planted."""
    scores = tables["scores"]
    other = scores.assign(subject=SUBJECTS[1])
    is_cosine = (other["metric"] == "flow_cosine") & (other["system"] == CORRECTED)
    other.loc[is_cosine, "value"] -= 0.25
    claim = comparison.claim_table(config, pd.concat([scores, other]), SHOTS)
    found = claim.set_index(["subject", "other_subject"])
    assert set(found["system"]) == {CORRECTED}
    between = found.loc[[SUBJECTS]].iloc[0]
    assert between["difference"] == pytest.approx(0.25)
    assert (between["ci_low"], between["ci_high"]) == pytest.approx((0.25, 0.25))
    own = found.loc[[(SUBJECTS[0], SUBJECTS[0])]].iloc[0]
    wide = scores[scores["metric"] == "flow_cosine"].pivot_table(index="stimulus_id", columns="system", values="value")
    assert own["difference"] == pytest.approx((wide[CORRECTED] - wide[OTHER_CLIP]).mean())
    assert own["baseline"] == OTHER_CLIP
    assert (claim["n_shots"] == 6).all()


def test_clips_are_sampled_evenly(config):
    ids = np.arange(120)
    np.testing.assert_array_equal(scoring.sample(ids, 12), np.arange(5, 120, 10))
    np.testing.assert_array_equal(scoring.sample(ids, 200), ids)
    assert len(set(scoring.sample(np.arange(7), 5))) == 5


class Seen(scoring.Seen):
    """The planted clips in place of those of a dataset."""

    def _read(self):
        yield from zip(IDS.tolist(), TRUE, strict=True)


def test_networks_look_once_at_what_was_seen_and_each_time_at_films(config, tmp_path, monkeypatch):
    seen, looked = Seen(config, IDS), []
    networks = SimpleNamespace(look=lambda videos: looked.append(videos) or {"clip": videos.mean(axis=(2, 3))})
    remembered = seen.remembered(SimpleNamespace(look=networks.look, _replace=lambda look: SimpleNamespace(look=look)))  # type: ignore[arg-type]
    made = FILMS[CORRECTED]
    monkeypatch.setattr(scoring.folder, "read_videos", lambda _, ids: zip(ids, made, strict=True))
    for _ in range(2):
        ids_of, answers = [], []
        for ids, true, films in seen.batches(tmp_path, IDS):
            ids_of += ids.tolist()
            answers.append(remembered.look(true)["clip"])
            remembered.look(films)
        assert ids_of == IDS.tolist()
        np.testing.assert_array_equal(np.concatenate(answers), TRUE.mean(axis=(2, 3)))
    n_batches = len(answers)
    assert len(looked) == 3 * n_batches  # of both rounds the films, and of the first what was seen
    flow = seen.flows(TRUE[0], "rgb")
    assert seen.flows(TRUE[0], "rgb") is flow


def test_every_system_and_score_is_in_the_catalogue(config, tables):
    of_catalogue = set(CATALOGUE.systems) - {"mind_animator/change"}  # which the miniature does not sample
    assert set(recipes.systems(config, SUBJECTS[0])) == of_catalogue
    for name in tables["scores"]["metric"].unique():
        assert CATALOGUE.metric(name).group in CATALOGUE.groups
    assert in_order_of_motion([*FORMS, STATIC, MOVER, CEILING])[:2] == [CEILING, MOVER]
    assert has_all_orders("others/mine")
    assert {part for pair in pairs_of(["others/mine", CORRECTED]) for part in pair} == {"others/mine", CORRECTED}


def test_intervals_of_correlations_are_quantiles_over_resampled_groups():
    rng = np.random.default_rng(0)
    a, groups = rng.normal(size=(60, 2)), rng.integers(0, 15, 60)
    b = a * [0.8, 0.0] + rng.normal(size=(60, 2))
    low, high = correlation_intervals(a, b, groups, 3000, 1)
    found = []
    for _ in range(3000):
        rows = np.concatenate(
            [np.flatnonzero(groups == g) for g in rng.choice(np.unique(groups), len(np.unique(groups)))]
        )
        r = [np.corrcoef(a[rows, k], b[rows, k])[0, 1] for k in range(2)]
        found.append([*r, np.mean(r)])
    expected = np.quantile(found, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([low, high], expected, atol=0.03)


def test_a_correlation_of_what_does_not_vary_is_zero():
    a = np.column_stack([np.arange(6.0), np.full(6, 3.0)])
    low, high = correlation_intervals(a, a, np.arange(6), 200, 0)
    assert (low[1], high[1]) == (0, 0)
    assert high[0] == pytest.approx(1)
