"""The comparison: its numbers are those of the tables it reads, differences have the right sign, nothing is missing."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from smallest import run, write_config

from data.recipes import prepared
from evaluation import scores as results
from evaluation import significance
from evaluation.pictures import comparison, losses, systems
from evaluation.pictures.catalogue import BEST_OF_K, CATALOGUE, CEILING, KINDS, STAGE1, STAGE2, SYSTEMS
from evaluation.tables import as_markdown, as_text, number, read_quoted
from feature_decoding import recipes as decoding
from feature_extraction.recipes import features
from minddiffuser.config import REPOSITORY, Config, Experiment, load
from minddiffuser.config.ozcelik import Ozcelik
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, open_made, write_atomically
from reconstruction import recipes
from reconstruction.folder import ReconstructionFolder

MAIN = CATALOGUE.metrics_of("main")
SCORED = [STAGE1, STAGE2, "ablation/without_z", "takagi/corrected", "takagi/minddiffuser", "others/theirs", CEILING]
QUOTED = read_quoted(comparison.PAPER)


def make_scores(systems=tuple(SCORED), n=12, subjects=("subj01", "subj02")):
    rng = np.random.default_rng(0)
    rows = [
        (subject, name, 3 * i, metric, rng.normal(0.1 * k, 0.2))
        for subject in subjects
        for k, name in enumerate(systems)
        for i in range(n - 2 if name == STAGE2 else n)  # stage 2 refines the first
        for metric in (*MAIN, "psnr")
    ]
    return pd.DataFrame(rows, columns=["subject", "system", "stimulus_id", "metric", "value"])


def tables(scores):
    pairs = [(STAGE2, name) for name in SCORED if name not in (STAGE2, CEILING)] + [
        (CEILING, STAGE2),
        (CEILING, STAGE1),
    ]
    return significance.summarise(scores, 100, 0), significance.compare(scores, pairs, CATALOGUE, 100, 100, 0)


@pytest.fixture(scope="module")
def read():
    summary, paired = tables(make_scores())
    return results.mark_incomplete(summary, {}), paired


@pytest.fixture(scope="module")
def compared(read):
    return comparison.joined(*read, QUOTED)


def test_systems_come_by_kind_whatever_the_order_they_are_given_in():
    names = [*SYSTEMS, "others/b", "others/a", "bottleneck/10", "bottleneck/3", "seed/2", "features/c"]
    ordered = CATALOGUE.in_order(np.random.default_rng(0).permutation(names).tolist())
    kinds = [KINDS.index(CATALOGUE.system(name).kind) for name in ordered]
    assert kinds == sorted(kinds)
    assert ordered[: len(SYSTEMS)] != sorted(SYSTEMS)
    assert [name for name in ordered if name in SYSTEMS] == list(SYSTEMS)
    assert ordered.index("others/a") < ordered.index("others/b") < ordered.index(CEILING)
    assert ordered.index("bottleneck/3") < ordered.index("bottleneck/10")


def test_every_mean_is_that_of_the_summary(read, compared):
    summary = read[0]
    expected = summary[summary["metric"].isin(MAIN)]
    both = compared.merge(expected, on=["subject", "system", "metric"], suffixes=("", "_there"))
    assert len(both) == len(compared) == len(expected) == 3 * len(SCORED) * len(MAIN)
    for column in ("mean", "ci_low", "ci_high", "n"):
        np.testing.assert_array_equal(both[column], both[f"{column}_there"])
    assert list(compared) == comparison.COLUMNS
    assert compared["system"].drop_duplicates().tolist() == CATALOGUE.in_order(SCORED)
    assert compared["subject"].drop_duplicates().tolist() == ["all", "subj01", "subj02"]


def test_differences_are_stage_2_less_the_system_whichever_way_they_were_tested(read, compared):
    paired = read[1].set_index(["subject", "system", "baseline", "metric"])
    scores = make_scores().set_index(["subject", "system", "metric", "stimulus_id"])["value"]
    for row in compared[compared["system"] != STAGE2].itertuples():
        tested = (CEILING, STAGE2) if row.system == CEILING else (STAGE2, row.system)
        there = paired.loc[(row.subject, *tested, row.metric)]
        low, high = sorted(abs(there[["ci_low", "ci_high"]]))
        assert sorted(map(abs, (row.difference_low, row.difference_high))) == [low, high]
        assert row.difference_low <= row.difference <= row.difference_high
        assert (abs(row.difference), row.p_holm, row.n_difference) == (
            abs(there["difference"]),
            there["p_holm"],
            there["n"],
        )
        if row.subject != "all":
            own = scores[row.subject]
            difference = (own[STAGE2][row.metric] - own[row.system][row.metric]).dropna().mean()
            assert row.difference == pytest.approx(difference)
    ceiling = compared[(compared["system"] == CEILING) & (compared["metric"] == "pixcorr")]
    assert (ceiling["difference"] < 0).all()  # the ceiling's scores were drawn higher
    assert compared.loc[compared["system"] == STAGE2, "difference"].isna().all()


def test_the_papers_numbers_stand_beside_the_systems_that_they_are_of(compared):
    beside = compared[compared["published"].notna()]
    assert set(beside["system"]) == set(SCORED) & set(comparison.QUOTED_AS)
    stage2 = beside[(beside["system"] == STAGE2) & (beside["subject"] == "all")].set_index("metric")["published"]
    assert stage2.to_dict() == {"pixcorr": 0.278, "ssim": 0.354, "clip_similarity": 0.765}
    assert set(comparison.QUOTED_AS.values()) == set(QUOTED["system"])
    assert set(comparison.QUOTED_AS) <= set(SYSTEMS)


def numbers_in(text):
    return [float(found) for found in re.findall(r"(?<![\w.])[+-]?\d*\.\d+", text)]


LAYOUTS = ((as_text, np.sort), (as_markdown, np.asarray))  # in text, columns that do not fit come after the others


def test_text_and_markdown_have_the_numbers_of_the_table(compared):
    sections = comparison.sections(compared, QUOTED)
    assert len(sections) == 3 * 2 + 1
    for (subject, rows), (title, table) in zip(compared.groupby("subject", sort=False), sections[0::2], strict=False):
        assert title.startswith("Mean over subjects" if subject == "all" else subject)
        expected = [
            value
            for row in rows.itertuples()
            for value in (row.mean, row.ci_low, row.ci_high, row.published)
            if not np.isnan(value)
        ]
        for layout, arranged in LAYOUTS:
            np.testing.assert_allclose(arranged(numbers_in(layout(table))), arranged(expected), atol=0.00051)
    for (_, rows), (title, table) in zip(compared.groupby("subject", sort=False), sections[1::2], strict=False):
        assert "MindDiffuser (stage 2) minus each" in title
        rows = rows[rows["system"] != STAGE2]
        columns = rows[["difference", "difference_low", "difference_high", "p_holm"]]
        for layout, arranged in LAYOUTS:
            text = f"{layout(table)}\n".replace("p 1 ", "p 1.0 ").replace("p 1\n", "p 1.0\n")
            expected = arranged(columns.to_numpy().ravel())
            np.testing.assert_allclose(arranged(numbers_in(text)), expected, atol=0.0051)
    title, table = sections[-1]
    assert "Not comparable" in title
    assert sorted(numbers_in(as_markdown(table))) == sorted(QUOTED["value"])


def test_other_numbers_of_images_are_said(compared):
    scores, differences = (table for _, table in comparison.sections(compared, QUOTED)[:2])
    n_of = {row[0]: row[1] for row in scores[1:]}
    assert (n_of["MindDiffuser, stage 1"], n_of["MindDiffuser, stage 2"]) == ("12", "10")
    assert {row[1] for row in differences[1:]} == {"10"}


def test_tables_are_read_as_tables_by_github(compared):
    for _, table in comparison.sections(compared, QUOTED):
        lines = as_markdown(table).splitlines()
        assert {line.count("|") for line in lines} == {len(table[0]) + 1}
        assert set(lines[1]) == {"|", "-"}
        assert max(map(len, as_text(table).splitlines())) <= 120


@pytest.mark.parametrize(
    ("value", "text"), [(0.7014, ".701"), (-0.0421, "-.042"), (1, "1.000"), (12.3456, "12.346"), (-1.5, "-1.500")]
)
def test_numbers_are_written_as_the_readme_writes_them(value, text):
    assert number(value) == text
    assert number(abs(value), "+.3f") == "+" + text.removeprefix("-")


def test_stage_1_alone_is_compared_with_nothing():
    scores = make_scores((STAGE1,), subjects=("subj01",))
    summary, paired = tables(scores)
    compared = comparison.joined(results.mark_incomplete(summary, {}), paired, QUOTED)
    assert compared["difference"].isna().all()
    assert len(comparison.sections(compared, QUOTED)) == 2


def test_every_system_of_the_catalogue_has_a_script_that_makes_it():
    def wanted(experiment):
        return {name for names in comparison.absent_systems([], experiment).values() for name in names}

    everything = Experiment.model_validate({"decoding": {"restore_variance": "train"}, "restored": {"stage2": True}})
    absent = comparison.absent_systems([], everything)
    assert sorted(name for names in absent.values() for name in names) == sorted(SYSTEMS)
    for scripts in absent:
        assert scripts
        assert all((REPOSITORY / script).is_file() for script in scripts)
    assert comparison.absent_systems(SYSTEMS, everything) == {}
    descended = {"minddiffuser/restored_stage2", "ablation/restored_other_targets"}
    restored = everything.model_copy(update={"restored": Experiment().restored})
    assert set(SYSTEMS) - wanted(restored) == descended
    assert set(SYSTEMS) - wanted(Experiment()) == descended | {"minddiffuser/restored", "minddiffuser/best_of_k"}
    without = everything.model_copy(update={"takagi": None, "ozcelik": Ozcelik(forms=("corrected",))})
    assert set(SYSTEMS) - wanted(without) == {
        "takagi/original", "takagi/corrected", "takagi/restored", "takagi/minddiffuser",
        "ozcelik/original", "ozcelik/minddiffuser",
    }  # fmt: skip


def test_scores_of_another_state_are_told():
    record = {"scored": [["subj01", "a", "1"], ["subj01", "b", "1"], ["subj01", "c", "1"], ["subj02", "d", "1"]]}
    found = results.stale(record, "subj01", {"a": "1", "b": "2", "e": "1"})
    assert set(found) == {"b", "c", "e"}
    assert "changed" in found["b"]
    assert "not there any more" in found["c"]
    assert "not scored yet" in found["e"]


def read_comparison(evaluation):
    return pd.read_csv(evaluation / "comparison.csv", dtype={"incomplete": str}).fillna({"incomplete": ""})


def save_pictures(config, subject, name, ids=(0, 3)):
    """Save grey pictures of a system, `name`, or of a sample of one, as the configuration would make them."""
    known = {recipe.name: recipe for recipes in systems.wanted(config, subject).values() for recipe in recipes}
    place = f"reconstruction/{name}"
    recipe = known.get(place) or Recipe(config.folder(subject), place, subject, "evaluation/41_score.py", {})
    output = ReconstructionFolder(recipe, 2)
    output.save(list(ids), np.zeros((len(ids), 4, 4, 3), np.uint8), seed=0)
    output.write_index()


@pytest.fixture
def scored(tmp_path):
    """A run whose scores are there: its configuration and its folder."""
    path, folder = write_config(tmp_path), tmp_path / "runs" / "smallest"
    config = load(path)
    record = {"settings": results.scoring_settings(config), "absent": {}, "scored": []}
    record["samples"] = [["subj01", "takagi/corrected", 5]]
    for subject in ("subj01", "subj02"):
        Artifact(prepared(config, subject)).write({})
        for name in SCORED:
            save_pictures(config, subject, name)
        record["scored"] += [[subject, *item] for item in systems.states_of(config, subject).items()]
    summary, paired = tables(make_scores())
    lacking = {("subj01", STAGE2): "10 of 12 pictures"}
    found = {"summary": results.mark_incomplete(summary, lacking), "paired": paired}
    results.write_tables(folder / "evaluation", found, record)
    return path, folder


def test_tables_are_printed_and_written_and_the_absent_listed_with_their_commands(scored):
    config, folder = scored
    done = run("evaluation/42_compare.py", config)
    assert done.returncode == 0, done.stderr
    evaluation = folder / "evaluation"
    found = read_comparison(evaluation)
    expected = comparison.joined(
        *results.read_tables(CATALOGUE, ("summary", "paired"), load(config))[0].values(), QUOTED
    )
    pd.testing.assert_frame_equal(found.astype({"n_difference": "Int64"}), expected, atol=1e-6)
    markdown = (evaluation / "comparison.md").read_text()
    for title, table in comparison.sections(expected, QUOTED):
        assert f"{title}\n\n{as_markdown(table)}" in markdown
        assert as_text(table) in done.stdout
    command = f"python reconstruction/34_ablations.py --config {config}"
    others = ("without_c", "best_of_k", "other_targets", "restored_other_targets")
    absent = f"subj01, subj02: absent: {', '.join(f'ablation/{name}' for name in others)}"
    assert f"{absent}; made by: {command}" in markdown
    assert "absent: Generic Object Decoding; made by: python baselines/semantic_brain_decoding/14_bank.py" in markdown
    assert absent in " ".join(done.stdout.split())
    assert "made by" not in done.stdout
    assert "python evaluation/42_compare.py --run makes what is absent" in done.stdout
    paths = ("written: ", "    " + str(evaluation))
    assert [line for line in done.stdout.splitlines() if len(line) > 120 and not line.startswith(paths)] == []
    for text in (done.stdout, markdown):
        assert "Takagi, corrected: an image's score is the mean over 5 samples" in text
        assert "absent: Generic Object Decoding" in text
        assert "constant label" not in text  # nor any other system of that dataset
        assert "WARNING" not in text
        assert "10 (incomplete: subj01: 10 of 12 pictures)" in text


def test_of_one_subject_its_tables_alone(scored):
    config, folder = scored
    done = run("evaluation/42_compare.py", config, "--subject", "subj02")
    assert done.returncode == 0
    assert "Generic Object Decoding" not in done.stdout  # whose subjects are others
    assert set(read_comparison(folder / "evaluation")["subject"]) == {"subj02"}


def test_what_changed_since_it_was_scored_is_told(scored):
    path, config = scored[0], load(scored[0])
    save_pictures(config, "subj02", STAGE1, ids=[5])
    save_pictures(config, "subj01", "control/grey")
    save_pictures(config, "subj01", "takagi/corrected/sample_2")
    done = run("evaluation/42_compare.py", path)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if "WARNING" in line]
    assert len(warnings) == 3
    for subject, words in (
        ("subj01", "takagi/corrected has changed since it was scored"),
        ("subj01", "control/grey is not scored yet"),
        ("subj02", f"{STAGE1} has changed since it was scored"),
    ):
        assert any(line.startswith(f"{subject}: WARNING: {words}; score it with: python ") for line in warnings)
    absent = next(line for line in done.stdout.splitlines() if line.startswith("subj01: absent: control"))
    assert "control/grey" not in absent  # it is there: it need not be made


@pytest.mark.parametrize("name", ["summary.csv", "paired.csv", "scores.json"])
def test_what_is_missing_is_named_with_the_command_that_makes_it(scored, name):
    config, folder = scored
    (folder / "evaluation" / name).unlink()
    done = run("evaluation/42_compare.py", config)
    assert done.returncode == 1
    assert f"{name} is missing; make it with: python evaluation/41_score.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_stops_at_the_first_script_that_fails(tmp_path):
    done = run("evaluation/42_compare.py", write_config(tmp_path), "--run", "--subject", "subj02")
    assert done.returncode == 1
    assert "subj02/decoded/detail.h5 is missing" in done.stderr  # the script's own words
    assert "reconstruction/31_stage1.py ended with exit code 1" in done.stderr
    assert "32_stage2" not in done.stdout
    done = run("evaluation/42_compare.py", write_config(tmp_path), "--run", "--subject", "Subject1")
    assert "baselines/semantic_brain_decoding/14_bank.py ended with exit code 1" in done.stderr
    assert "31_stage1" not in done.stdout
    done = run("evaluation/42_compare.py", write_config(tmp_path), "--run", "--shard", "1-of-2")
    assert done.returncode == 2
    assert "--shard" in done.stderr


# Losses of stimuli and pictures


BRIGHTER = 40  # each picture than the one before, of 255


@pytest.fixture
def config(tmp_path):
    """Decoded and true features of seven test images, restored ones with deviations; two layers, of few units.

    What is restored of an odd image is one deviation off, in every unit and latent; of the others it is what is true.
    What is not restored is the same in all units, and larger for each image by as much.
    """
    layers = {"structural": {"layers": [2, 4]}, "guidance": {"loss": "sum", "layer_weights": [1, 1]}}
    layers["restored"] = {"guidance": {"latent_weight": 2}}
    counts = {"decoding": {"n_voxels_structural": [5, 5], "restore_variance": "train"}}
    config = Config.model_validate({"name": "x", "experiment": layers | counts, "execution": {"runs": tmp_path}})
    rng, ids, names, of = np.random.default_rng(0), np.arange(100, 112), ("linear_02", "linear_04"), (config, "subj01")
    units = {name: np.sort(rng.permutation(20)[:6]) for name in names}
    true = {name: rng.normal(size=(12, 5, 4)).astype(np.float32) for name in names}
    z, std = rng.normal(size=(12, 4, 2, 2)).astype(np.float32), rng.uniform(0.5, 3, 16)
    Artifact(prepared(*of)).write({"stimulus_id": ids, "is_test": ids < 107})
    Artifact(features(*of, "structural")).write({"stimulus_id": ids, "embedding": rng.normal(size=(12, 3)), **true})
    Artifact(features(*of, "detail")).write({"stimulus_id": ids, "z": z})
    Artifact(decoding.decoder(*of, "detail")).write({"std": std})
    arrays, off = {"stimulus_id": ids[:7]}, (np.arange(7) % 2)[:, None].astype(np.float32)
    selected = {f"{name}_units": units[name] for name in names}
    deviations = {f"{name}_std": rng.uniform(0.5, 3, 6) for name in names}
    restored = {name: true[name][:7].reshape(7, -1)[:, units[name]] + off * deviations[f"{name}_std"] for name in names}
    levels = np.repeat(BRIGHTER / 255 * np.arange(7)[:, None], 6, axis=1)
    for made, z_made, layers_made in (
        (decoding.decoded, 0 * z[:7], dict.fromkeys(names, levels)),
        (decoding.restored, z[:7] + (off * std).reshape(7, 4, 2, 2), restored | deviations),
    ):
        Artifact(made(*of, "semantic")).write({**arrays, "c": np.zeros((7, 3, 5), np.float32)})
        Artifact(made(*of, "detail")).write({**arrays, "z": z_made.astype(np.float32)})
        found = {name: np.float32(values) for name, values in layers_made.items()}
        Artifact(made(*of, "structural")).write({**arrays, **selected, **found})
    return config


def test_the_loss_of_what_was_seen_is_zero_where_its_features_were_decoded(config):
    """Of a folder that lacks pictures, each image has its own."""
    output, ids = ReconstructionFolder(recipes.best_of_k(config, "subj01"), 7), [106, 101, 104]
    output.save(ids, np.zeros((3, 4, 4, 3), np.uint8), seed=0, losses=[0.5, 0.2, 0.3], iterations=[1, 0, 1])
    output.write_index()
    for stimulus_id, first in zip(ids, (0.7, 0.2, 0.9), strict=True):
        write_atomically(output.path / "trajectory" / f"{stimulus_id:05d}.csv", f"iteration,loss\n0,{first}\n1,0.3\n")
    found = losses.score_losses(config, "subj01", BEST_OF_K, torch.device("cpu"))
    assert found["stimulus_id"].tolist() == [101, 104, 106]
    np.testing.assert_allclose(found["loss_truth"], [1 + 2, 0, 0], rtol=1e-5, atol=1e-9)
    assert found["loss_stage1"].tolist() == [0.2, 0.9, 0.7]
    assert found["loss_result"].tolist() == [0.2, 0.3, 0.5]
    assert found["truth_is_lower"].tolist() == [0, 1, 1]
    assert losses.score_losses(config, "subj01", "control/grey", torch.device("cpu")) == {}


@pytest.mark.parametrize("method", ["in_sampler", "before_sampler"])
def test_where_stage_2_does_not_begin_with_stage_1s_picture_its_first_loss_is_not_that_pictures(config, method):
    guidance = {"guidance": config.experiment.guidance.model_copy(update={"method": method})}
    config = config.model_copy(update={"experiment": config.experiment.model_copy(update=guidance)})
    output = ReconstructionFolder(recipes.stage2(config, "subj01"), 7)
    output.save([101], np.zeros((1, 4, 4, 3), np.uint8), seed=0, losses=[0.5], iterations=[1])
    output.write_index()
    write_atomically(output.path / "trajectory" / "00101.csv", "iteration,loss\n0,0.9\n1,0.5\n")
    found = losses.score_losses(config, "subj01", STAGE2, torch.device("cpu"))
    assert set(found) == {"stimulus_id", "loss_result", "loss_truth"}


@pytest.mark.parametrize("rows", [range(7), range(1, 7, 2)], ids=["whole", "one shard of two"])
def test_the_loss_of_stage_1_is_that_of_its_picture_beside_that_of_its_stimulus(config, monkeypatch, rows):
    """By a CLIP that sees brightness alone, which is decoded of each image as its picture has it."""

    def encoder(pixels, _):
        brightness = pixels.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 5, 4)
        return {"linear_02": brightness, "linear_04": brightness}

    monkeypatch.setattr(losses, "open_clip_model", lambda *_: None)
    monkeypatch.setattr(losses, "ClipLayers", lambda *_: encoder)
    output, ids = ReconstructionFolder(recipes.stage1(config, "subj01"), 7), [100 + row for row in rows]
    pictures = np.stack([np.full((4, 4, 3), BRIGHTER * row, np.uint8) for row in rows])
    output.save(ids, pictures, seed=0)
    output.write_index()
    found = losses.score_losses(config, "subj01", STAGE1, torch.device("cpu"))
    assert found["stimulus_id"].tolist() == ids
    with (
        open_made(features(config, "subj01", "structural")) as file,
        open_made(decoding.decoded(config, "subj01", "structural")) as decoded,
    ):
        for row, loss in zip(rows, found["loss_truth"], strict=True):
            seen = [file[name][row].ravel()[decoded[f"{name}_units"][:]] for name in ("linear_02", "linear_04")]
            assert loss == pytest.approx(((np.concatenate(seen) - BRIGHTER * row / 255) ** 2).sum(), rel=1e-5)
    np.testing.assert_allclose(found["loss_stage1"], 0, atol=1e-9)
    assert not found["truth_is_lower"].any()
