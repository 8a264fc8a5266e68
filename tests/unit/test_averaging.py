"""Sessions, read one by one: what is left to this shard, scaled or not, and what has no data."""

import numpy as np
import pytest

from data import nsd, nsd_betas
from data.averaging import remaining_sessions
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, Shard

VOXELS = nsd.Voxels(np.arange(60), np.repeat(["V1", "LO"], 30), (60, 1, 1), np.eye(4))


@pytest.fixture
def sessions(monkeypatch, tmp_path):
    """Three sessions of 20 trials; the last voxel of the second has no data."""
    stored = np.random.default_rng(0).normal(1, 2, (3, 20, 60)).astype(np.float32)
    stored[1, :, -1] = 7
    found = list(stored)
    monkeypatch.setattr(nsd_betas, "session_path", lambda *place: tmp_path / f"session_{place[-1]}.hdf5")
    monkeypatch.setattr(nsd_betas, "check_session", lambda path, _: len(found[int(path.stem[-1]) - 1]))
    monkeypatch.setattr(nsd_betas, "read_session", lambda path, _: found[int(path.stem[-1]) - 1].copy())
    return found


def read(folder, standardise=True, shard="1-of-1", invalid="zero"):
    """Read what is left, and keep it as parts."""
    config = Config(name="x", experiment={"data": {"sessions": 3, "invalid_voxels": invalid}})
    run = Run(config, ("subj01",), Shard.parse(shard), "cpu", False)
    artifact, numbers = Artifact(Recipe(folder, "a.h5", "subj01", "some/script.py", {})), []
    for number, betas in remaining_sessions(run, artifact, VOXELS, standardise):
        artifact.write_part(number, {"betas": betas})
        numbers.append((number, betas))
    return numbers


def test_sessions_are_standardised_or_left_in_percent_signal_change(sessions, tmp_path, capsys):
    for (number, scaled), (_, plain) in zip(read(tmp_path / "a"), read(tmp_path / "b", False), strict=True):
        used = slice(-1 if number == 1 else None)
        np.testing.assert_array_equal(plain[:, used], sessions[number][:, used])
        np.testing.assert_allclose(scaled[:, used].std(axis=0), 1, atol=1e-4)
        if number == 1:
            assert not plain[:, -1].any()
            assert not scaled[:, -1].any()
    assert capsys.readouterr().out.splitlines() == [
        "session_2.hdf5: set to their mean for want of data: 1 of LO",
        "session_2.hdf5: set to 0 for want of data: 1 of LO",
    ]


def test_only_what_is_left_to_this_shard_is_read(sessions, tmp_path):
    assert [number for number, _ in read(tmp_path, shard="1-of-2")] == [0, 2]
    assert [number for number, _ in read(tmp_path)] == [1]


@pytest.mark.parametrize("standardise", [True, False])
def test_voxels_without_data_stop_where_they_are_an_error(sessions, tmp_path, standardise):
    with pytest.raises(DataError, match=r"session_2\.hdf5: 1 voxels are constant .*1 of LO"):
        read(tmp_path, standardise, invalid="error")


def test_a_session_of_another_length_is_named(sessions, tmp_path):
    sessions[2] = sessions[2][:-1]
    with pytest.raises(DataError, match=r"session_3\.hdf5 has 19 trials, but .*session_1\.hdf5 has 20"):
        read(tmp_path)
