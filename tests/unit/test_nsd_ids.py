"""The ids of an image of NSD, against the table of stimuli, which counts in its own way."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from data import nsd
from minddiffuser.config.miniature import Miniature
from miniature import nsd as miniature

SCRIPT = str(Path(nsd.__file__).parent / "nsd_ids.py")
SIZE = Miniature(n_shared=4, n_own=6, sessions=5, roi_scale=0.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with a miniature's stimuli and design, and a configuration that names it."""
    folder = tmp_path_factory.mktemp("ids")
    design = miniature.make_design(SIZE, 2, seed=1)
    miniature.write_stimuli(folder / "nsd", miniature.draw_pictures(16, seed=1), design, seed=1)
    experiment = {"subjects": ["subj01", "subj02"], "miniature": SIZE.model_dump()}
    config = {"name": "x", "experiment": experiment, "execution": {"nsd": str(folder / "nsd")}}
    (folder / "x.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def ask(world, capsys):
    def call(*arguments, config="x.yaml"):
        main = runpy.run_path(SCRIPT)["main"]
        main(["--config", str(world / config), *map(str, arguments)])
        return capsys.readouterr().out

    return call


def test_all_ids_and_trials_are_those_of_the_table_of_stimuli(world, ask):
    table = pd.read_csv(world / "nsd" / nsd.STIMULUS_INFO, index_col="nsdId")
    shared = [i for i in table.index if table.loc[i, "shared1000"]]
    for nsd_id, row in table.iterrows():
        said = ask(nsd_id)
        assert said.startswith(f"nsd_id {nsd_id}, counted from 0")
        lines = [line.split() for line in said.splitlines()]
        assert lines[1][0] == str(nsd_id + 1)
        assert lines[2] == [str(row["cocoId"]), "COCO", "id"]
        assert ("not shared" in said) == (nsd_id not in shared)
        for number in (1, 2):
            assert (f"subj{number:02d}: " in said) == row[f"subject{number}"]
        trials = [row[f"subject{n}_rep{k}"] for n in (1, 2) for k in range(3) if row[f"subject{n}_rep{k}"]]
        found = [line for line in said.splitlines() if "session" in line]
        assert [int(line.split("; trial ")[1].split()[0]) for line in found] == trials
        for line, trial in zip(found, trials, strict=True):
            assert f"session {(trial - 1) // 6 + 1}, trial {(trial - 1) % 6 + 1} of it;" in line


def test_ids_of_coco_and_places_among_the_shared_lead_to_the_same_image(world, ask):
    coco_ids = nsd.read_coco_ids(world / "nsd")
    assert ask("--coco", coco_ids[7], coco_ids[2]) == ask(7, 2)
    shared = nsd.read_shared(world / "nsd", "subj02")
    for place, nsd_id in enumerate(shared, start=1):
        assert ask("--shared", place) == ask(nsd_id)
        assert f"     {place}  of the 4 shared images, from 1" in ask(nsd_id)
    own = nsd.read_design(world / "nsd", "subj02").stimuli[6]
    assert "subj02: 10k index 7 from 1 (6 from 0)" in ask(own)
    assert "subj01" not in ask(shared[0], "--subject", "subj02")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([16], "16 is no nsd_id: they are counted from 0 to 15"),
        ([-1], "are counted from 0 to 15"),
        (["--shared", 0], "--shared 0: shared images are counted from 1 to 4"),
        (["--shared", 5], "from 1 to 4"),
        (["--coco", 999999999], "no stimulus has the COCO id 999999999"),
    ],
)
def test_ids_that_there_are_not_are_named(ask, arguments, words):
    with pytest.raises(nsd.DataError, match=words):
        ask(*arguments)


def test_real_trials_are_given_their_run():
    """Runs of a session have 63 and 62 trials in turn: 750 in 12 runs."""
    script = runpy.run_path(SCRIPT)
    assert script["RUNS"].tolist()[-1] == script["TRIALS"]
    design = nsd.Design(np.arange(1500), np.arange(1500), 1)
    for trial, words in (
        (0, "session 1, trial 1 of it (run 1, trial 1 of the run); trial 1 of all"),
        (62, "trial 63 of it (run 1, trial 63 of the run)"),
        (63, "trial 64 of it (run 2, trial 1 of the run)"),
        (124, "(run 2, trial 62 of the run)"),
        (125, "(run 3, trial 1 of the run)"),
        (1499, "session 2, trial 750 of it (run 12, trial 62 of the run); trial 1500 of all"),
    ):
        printed = []
        script["print_trials"].__globals__["print"] = printed.append
        script["print_trials"]("subj01", design, trial, 750)
        assert words in printed[1]
