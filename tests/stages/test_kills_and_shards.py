"""Kills at random moments, and shards that run at the same time, end in the same bytes as one quiet run."""

import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from smallest import CONCEPTS, ENVIRONMENT, command, run, write_config
from test_pipeline import same_contents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

N_KILLS = N_PAIRS = 20


def start_chain(folder):
    """Start the whole chain on the smallest miniature in a folder."""
    line = [sys.executable, str(Path(__file__).with_name("chain.py")), str(write_config(folder))]
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def timeline(folder):
    """Run the chain quietly to its end: when each script began, in seconds, and when the last ended."""
    process, began = start_chain(folder), time.monotonic()
    assert process.stdout
    begins = [(line.strip(), time.monotonic() - began) for line in process.stdout]
    assert process.wait() == 0, process.stderr and process.stderr.read()
    return begins


def test_twenty_kills_of_the_whole_chain(tmp_path):
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}")
    folder = tmp_path / "run"  # the same for both: commands in what is written name it
    begins = timeline(folder)
    folder.rename(tmp_path / "quiet")
    first, last = begins[0][1], begins[-1][1]
    moments = np.sort(np.random.default_rng(seed).uniform(first, last, N_KILLS))
    for moment in moments:
        script, begin = [item for item in begins if item[1] <= moment][-1]
        print(f"seed {seed}: kill in {script}, {moment - begin:.2f} s after it began")
        process = start_chain(folder)
        assert process.stdout
        for line in process.stdout:
            if line.strip() == script:
                break
        time.sleep(moment - begin)
        assert process.poll() is None or process.returncode == 0, process.stderr and process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    timeline(folder)
    same_contents(tmp_path / "quiet", folder)


# What each script that divides its work makes, in the folder of the experiment.
DIVIDED = {
    "data/02_prepare_subject.py": ["subj*/prepared.*", "subj*/noise_ceiling.csv"],
    "feature_extraction/11_semantic.py": ["subj*/features/semantic.*"],
    "feature_extraction/12_detail.py": ["subj*/features/detail.*"],
    "feature_extraction/13_structural.py": ["subj*/features/structural.*"],
    f"{CONCEPTS}/14_bank.py": ["bank"],
    "feature_decoding/22_semantic.py": ["subj*/deco*/semantic.*", "subj*/deco*/[rs]*/semantic.*"],
    "feature_decoding/23_detail.py": ["subj*/deco*/detail.*", "subj*/deco*/[rs]*/detail.*"],
    "feature_decoding/24_structural.py": ["subj*/deco*/**/linear_*", "subj*/decoded/**/structural.*"],
    "feature_decoding/28_controls.py": ["subj*/dec*/permuted", "subj*/decoded/halves", "subj*/decoded/splits.*"],
    "reconstruction/31_stage1.py": [
        "subj*/reconstruction/minddiffuser/stage1",
        "subj*/reconstruction/minddiffuser/restored",
    ],
    "reconstruction/32_stage2.py": ["subj*/reconstruction/minddiffuser/*[2k]"],
    "reconstruction/33_controls.py": [f"subj*/reconstruction/{kind}" for kind in ("control", "bottleneck", "seed")],
    "reconstruction/34_ablations.py": ["subj*/reconstruction/ablation"],
    "baselines/takagi/35_decode_takagi.py": ["subj*/takagi"],
    "baselines/takagi/36_reconstruct_takagi.py": ["subj*/reconstruction/takagi"],
    "baselines/ozcelik/37_decode_ozcelik.py": ["subj*/ozcelik"],
    "baselines/ozcelik/38_reconstruct_ozcelik.py": ["subj*/reconstruction/ozcelik"],
    f"{CONCEPTS}/39_generate.py": ["Subject*/reconstruction"],
}


def test_twenty_pairs_of_shards_at_the_same_time(whole_run, tmp_path):
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}")
    draw = np.random.default_rng(seed)
    scripts = [*DIVIDED, *draw.choice(list(DIVIDED), N_PAIRS - len(DIVIDED), replace=False)]
    for number, script in enumerate(scripts):
        folder, delay = tmp_path / str(number), draw.uniform(0, 0.5)
        shutil.copytree(whole_run, folder)
        config = write_config(folder)
        for pattern in DIVIDED[script]:
            for path in folder.glob(f"runs/smallest/{pattern}"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"seed {seed}: {script}, the second {delay:.2f} s after the first")
        shards = []
        for k in (1, 2):
            line = command(str(script), config, "--shard", f"{k}-of-2")
            shards.append(subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            time.sleep(delay)
        for shard in shards:
            _, err = shard.communicate()
            assert shard.returncode == 0, err.decode()
        joined = run(str(script), config)
        assert joined.returncode == 0, joined.stderr
        same_contents(whole_run, folder)
        shutil.rmtree(folder)
