"""What benchmarks share that decode the miniature's films with other settings: variants of the form "corrected".

A variant is configs/miniature.yaml with some of `mind_animator` changed, and has a folder of its own in
`runs/film_variants/`. The numbered scripts make it. What another variant has made of the same settings is linked, and
targets are taken from `runs/miniature/`: so no more is computed than a change asks for, and a killed run goes on. Where
the miniature itself has other settings than before, the folder is in the way, and is to be deleted.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import flat, mean_of
from baselines.mind_animator.sampler import VideoSampler, draw, draw_video_noise, open_video_sampler
from data.film_recipes import prepared
from evaluation.metrics import images
from evaluation.videos import scoring
from evaluation.videos.metrics import over_frames
from evaluation.videos.motion import measure
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.mind_animator import ANIMATOR_FORMS, Video
from minddiffuser.correlation import correlate_pairs
from minddiffuser.pretrained.stable_diffusion import open_vae
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, check_same_images, lineage_in, open_made, write_arrays
from reconstruction.folder import to_uint8

CPU, FORM, CLIPS_AT_ONCE = torch.device("cpu"), "corrected", 2
MINIATURE, RUNS = REPOSITORY / "configs" / "miniature.yaml", Path("runs") / "film_variants"
OF_FILMS = ("flow_cosine", "speed", "ssim")


def overrides(name: str, changes: Mapping[str, Any]) -> list[str]:
    """Give the settings of a variant as the scripts take them after --set.

    Parameters
    ----------
    name : str
        Of its folder.
    changes : mapping of str to a value
        By names below `experiment.mind_animator`, such as {"sparsify.accumulate": True}.
    """
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in changes.items()}
    own = [f"experiment.mind_animator.{key}={text}" for key, text in texts.items()]
    return [f"execution.runs={RUNS}", f"name={name}", f"experiment.mind_animator.forms=[{FORM}]", *own]


def fields_of(form: str) -> dict[str, Any]:
    """List what a form changes, by names below `experiment.mind_animator`, such as "motion.output"."""
    return {
        f"{section}.{field}" if section else field: value
        for section, fields in ANIMATOR_FORMS[form].items()
        for field, value in fields.items()
    }


class Variant(NamedTuple):
    """What is decoded with which settings.

    Attributes
    ----------
    name : str
        Of its folder.
    changes : dict of str to a value
        See `overrides`.
    subject : str
    decoders : sequence of "semantic", "structure" and "motion"
        In this order; motion needs structure.
    """

    name: str
    changes: dict[str, Any]
    subject: str
    decoders: Sequence[str]

    @property
    def config(self) -> Config:
        """The configuration, with which `recipes.decoded` finds what was decoded."""
        return load(MINIATURE, overrides(self.name, self.changes))


def decode(variants: Sequence[Variant]) -> None:
    """Run the scripts of some variants, but for what is done, or what was done for another variant before.

    Raises
    ------
    DataError
        Targets are missing or stale, or results made with other settings are in the way.
    CalledProcessError
        A script failed.
    """
    source, configs = load(MINIATURE), [variant.config for variant in variants]
    for config in configs:
        take_targets(config, source)
    while lines := _lines(variants, configs):
        # In one lane, so that libraries are imported once.
        lane = [sys.executable, "-m", "minddiffuser.lane", "--forks", str(REPOSITORY), *lines]
        subprocess.run(lane, check=True, stdout=sys.stderr)


def _lines(variants: Sequence[Variant], configs: Sequence[Config]) -> list[str]:
    """List the scripts to run next, with their arguments. What two variants want is made once, and linked after."""
    lines, coming = [], set()
    for variant, config in zip(variants, configs, strict=True):
        decoded = [recipes.decoded(config, variant.subject, FORM, decoder) for decoder in variant.decoders]
        own = [word for setting in overrides(variant.name, variant.changes) for word in ("--set", setting)]
        for recipe in (prepared(config, variant.subject), *decoded):
            if adopt(recipe):
                continue
            if recipe.fingerprint in coming:
                break
            coming.add(recipe.fingerprint)
            own_line = [recipe.made_by, "--config", str(MINIATURE), "--subject", variant.subject, *own]
            lines.append(shlex.join(own_line))
    return lines


def take_targets(config: Config, source: Config) -> None:
    """Copy targets that another configuration has made, and perhaps more kinds of them, without those not wanted.

    Raises
    ------
    DataError
        They are missing, or differ in more than in their kinds.
    """
    posterior = "experiment.mind_animator.clips.posterior"  # says which kind is used, and not how each is made
    for recipe_of, keys, kinds, prefix in (
        (recipes.clips, ("posteriors", posterior), recipes.posteriors, "z_"),
        (recipes.varied, ("crops",), recipes.crops, ""),
    ):
        wanted, there = recipe_of(config), recipe_of(source)
        if adopt(wanted):
            continue
        left_out = {f"{prefix}{kind}" for kind in {*kinds(source)} - {*kinds(config)}}
        with open_made(there) as file:
            found = lineage_in(file)
            found[there.name] |= {key: wanted.lineage[wanted.name][key] for key in keys}
            if differences := wanted.differences(found) or ", ".join({*kinds(config)} - {*kinds(source)}):
                raise DataError(f"{there.path} does not have what {config.name} needs: {differences}")
            arrays = {name: file[name][:] for name in file if name not in left_out}
        Artifact(wanted).write(arrays)


def adopt(recipe: Recipe) -> bool:
    """Link a result that another variant has made by the same recipe; tell whether it is there now."""
    if Artifact(recipe).is_done():
        return True
    place = Path(recipe.root.name) / recipe.name
    for path in sorted(recipe.root.parents[1].glob(f"*/{place}")):
        with h5py.File(path, "r", locking=False) as file:
            is_same = file.attrs.get("fingerprint") == recipe.fingerprint
        if is_same:
            recipe.path.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, recipe.path)  # results are replaced, and never changed where they are
            return True
    return False


class Scorer:
    """Scores of test clips, a number each, in the order of their ids; those of films are kept in `scores/`.

    Parameters
    ----------
    config : Config
        Of any variant that a subject is decoded in.
    subject : str
        All subjects have seen the same clips.

    Attributes
    ----------
    ids, shots : arrays of shape (n_clips,)
    """

    def __init__(self, config: Config, subject: str) -> None:
        test = scoring.read_test(config, subject)
        self.ids, self.shots = test.ids, test.shots.to_numpy()
        self._seen, self._models = scoring.Seen(config, self.ids), config.experiment.models
        self._sampler: VideoSampler | None = None

    def r(self, config: Config, subject: str, decoder: str) -> np.ndarray:
        """Correlate what the structure or the semantic decoder makes of each clip with the latents or the tokens.

        Over units, the mean of training clips taken off both.
        """
        key, true, place = {"structure": ("z", "z_mean", 0), "semantic": ("c", "c", slice(1, None))}[decoder]
        with (
            open_made(recipes.decoded(config, subject, FORM, decoder)) as decoded,
            open_made(recipes.clips(config)) as clips,
            open_made(prepared(config, subject)) as rows,
        ):
            self._check(decoded)
            made = decoded[key][:] if decoder == "structure" else decoded[key][:, place]
            targets = flat(clips[true][:, place])
            mean = mean_of(targets[~rows["is_test"][:] & ~rows["is_validation"][:]])
        return correlate_pairs(flat(made) - mean, targets[: len(made)] - mean)

    def of_latents(self, config: Config, subject: str, key: str = "z") -> pd.DataFrame:
        """Score films that the autoencoder alone makes of latents in `motion.h5`.

        Returns
        -------
        DataFrame
            A row a clip, and columns `OF_FILMS`: flow cosine, speed as a share of the true films' mean, and SSIM.
        """
        settings, recipe = recipes.settings_of(config).video, recipes.decoded(config, subject, FORM, "motion")

        def make(rows: np.ndarray) -> torch.Tensor:
            return draw(self._vae, self._read(recipe, key, rows), config.execution.batch_size.generate, settings)

        return self._scores(config.folder(subject) / "scores" / f"{key}.h5", make, recipe.fingerprint, self.ids)

    def of_sampler(self, config: Config, subject: str, video: Mapping[str, Any], n_clips: int) -> pd.DataFrame:
        """Score films that the sampler makes of decoded latents and c, with changes of `mind_animator.video`.

        Of `n_clips`, evenly spaced; see `of_latents`.
        """
        settings = Video.model_validate({**recipes.settings_of(config).video.model_dump(), **video})
        motion, semantic = (recipes.decoded(config, subject, FORM, decoder) for decoder in ("motion", "semantic"))

        def make(rows: np.ndarray) -> torch.Tensor:
            z, c = self._read(motion, "z", rows), self._read(semantic, "c", rows)
            if self._sampler is None or self._sampler.settings != settings:
                self._sampler = open_video_sampler(config, CPU, settings, z.shape[1], c.shape[1])
            noise = draw_video_noise(z.shape[1:], settings.noise, config.experiment.seed, self.ids[rows], CPU)
            return self._sampler(z, c, noise)

        made_of = f"{motion.fingerprint} {semantic.fingerprint} {settings.model_dump_json()}"
        name = "-".join(["sampler", *(str(value) for value in video.values())])
        path = config.folder(subject) / "scores" / f"{name}.h5"
        return self._scores(path, make, made_of, scoring.sample(self.ids, n_clips))

    @cached_property
    def _vae(self) -> Any:
        return open_vae(self._models.stable_diffusion, self._models.stable_diffusion_revision, CPU)

    def _scores(
        self, path: Path, make: Callable[[np.ndarray], torch.Tensor], made_of: str, ids: np.ndarray
    ) -> pd.DataFrame:
        """Score the films that are made of some rows of the test clips, or read the scores that are there."""
        made_of = f"{made_of} {len(ids)}"
        if path.is_file():
            with h5py.File(path, "r", locking=False) as file:
                if file.attrs.get("made_of") == made_of:
                    return pd.DataFrame({key: file[key][:] for key in OF_FILMS}, index=ids)
        batches = np.array_split(np.searchsorted(self.ids, ids), range(CLIPS_AT_ONCE, len(ids), CLIPS_AT_ONCE))
        films = np.concatenate([to_uint8(make(rows)) for rows in batches])
        seen = np.stack(list(self._seen.clips(ids)))
        moves = measure(films, seen, orders=False, flows_of=self._seen.flows).scores
        found = {"flow_cosine": moves["flow_cosine"], "speed": moves["speed_ratio"]}
        found["ssim"] = over_frames(images.ssim, seen, films)
        write_arrays(path, found, {"made_of": made_of})
        return pd.DataFrame(found, index=ids)

    def _read(self, recipe: Recipe, key: str, rows: np.ndarray) -> torch.Tensor:
        with open_made(recipe) as file:
            self._check(file)
            return torch.from_numpy(file[key][rows])

    def _check(self, file: h5py.File) -> None:
        check_same_images(self.ids, file["stimulus_id"][:], "the test clips", file.filename)
