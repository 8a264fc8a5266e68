"""Films of a subject scored system by system, each into a file of its own, and the tables that are made of the files.

A system that did not change is not scored again, and a run that was killed goes on with the next one. Films that are
the same for several subjects, such as those of the ceiling, are scored once.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from baselines.mind_animator import recipes
from data import cc2017
from data.film_recipes import prepared
from evaluation import significance
from evaluation.catalogue import STAND_IN
from evaluation.scores import COLUMNS, Key, place_of, rows_of
from evaluation.videos import dialects, metrics, motion, shuffle
from evaluation.videos.catalogue import (
    CATALOGUE,
    DESCRIBED,
    OTHER_CLIP,
    OTHERS,
    STATIC,
    has_all_orders,
    in_order_of_motion,
    is_other,
    is_scored_as_published,
    pairs_of,
)
from evaluation.videos.networks import FilmNetworks
from feature_extraction.optical_flow import Channels, flows
from minddiffuser.config import Config
from minddiffuser.recipe import pick
from minddiffuser.store import DataError, check_same_images, open_made, reading, write_arrays
from reconstruction import folder

_CLIPS_AT_ONCE = 8
_MOST_KEPT = (
    300_000_000  # bytes of clips that were seen, and of their flows, that are kept; of others they are made anew
)
_COSINES, _DISTANCES, _IDS = "cosines", "distances", "stimulus_id"


class KnownClips(NamedTuple):
    """The test clips of a dataset.

    Attributes
    ----------
    ids : array of shape (n,)
        stimulus_id, sorted: film after film, in the order of time.
    shots : Series of int
        The shot of each, by stimulus_id.
    """

    ids: np.ndarray
    shots: pd.Series


def read_test(config: Config, subject: str) -> KnownClips:
    """Read which clips a subject is tested with, and their shots.

    Raises
    ------
    DataError
        Rows or targets are missing, were made with other settings, or are of other clips.
    """
    recipe = prepared(config, subject)
    with open_made(recipe) as rows, open_made(recipes.clips(config)) as clips:
        check_same_images(rows[_IDS][:], clips[_IDS][:], recipe.path, clips.filename)
        is_test = rows["is_test"][:]
        shots = pd.Series(clips["shot"][:][is_test], index=rows[_IDS][:][is_test]).sort_index()
    return KnownClips(shots.index.to_numpy(), shots)


def read_all(config: Config, subjects: Sequence[str]) -> tuple[KnownClips, dict[Key, str]]:
    """Read the test clips, and the states of all that is there, of some subjects and of those scored earlier.

    Raises
    ------
    DataError
        A subject has no films, or is tested with other clips than another one.
    """
    earlier = [s for s in recipes.settings_of(config).subjects if (CATALOGUE.output(config) / "measured" / s).is_dir()]
    test, states = read_test(config, subjects[0]), {}
    for subject in sorted({*subjects, *earlier}):
        check_same_images(
            test.ids, read_test(config, subject).ids, prepared(config, subjects[0]).path, prepared(config, subject).path
        )
        if not (found := states_of(config, subject)) and subject in subjects:
            made_by = f"make them with: python {recipes.RECONSTRUCT} --subject {subject}"
            raise DataError(f"{config.folder(subject) / 'reconstruction'} has no films", made_by)
        states |= {(subject, name): found[name] for name in CATALOGUE.in_order(found)}
    return test, states


def settings_of(config: Config) -> dict[str, Any]:
    """Give what the scores of films depend on, by full names."""
    keys = ("mind_animator.metrics", "mind_animator.clips", "models.scoring_clip", "models.scoring_clip_weights")
    return pick(config.experiment, "seed", *keys)


# What is there --------------------------------------------------------------------------------------------------------


def states_of(config: Config, subject: str) -> dict[str, str]:
    """Systems of a subject that are there, and what they were made of.

    Raises
    ------
    DataError
        One was made with other settings than the configuration has, has films of another number of frames, of other
        clips, or of another subject.
    """
    with open_made(prepared(config, subject)) as rows, open_made(recipes.clips(config)):
        ids = set(rows[_IDS][:][rows["is_test"][:]].tolist())
    found = {}
    for name, made in recipes.systems(config, subject).items():
        if there := folder.state(made[0].path):
            folder.check_samples(made)
            found[name] = there
    for path in sorted((config.folder(subject) / "reconstruction" / OTHERS).glob("*")):
        if there := folder.state(path):
            found[f"{OTHERS}/{path.name}"] = there
    n_frames = recipes.settings_of(config).clips.n_frames
    for name in found:
        path = place_of(config, subject, name)
        settings = folder.read_settings(path)
        if settings["subject"] != subject:
            raise DataError(f"{path} belongs to {settings['subject']}, not to {subject}; move it away")
        if settings.get("n_frames") != n_frames:
            has = f"films of {settings['n_frames']} frames" if "n_frames" in settings else "pictures"
            raise DataError(f"{path} has {has}, and films of {n_frames} frames are scored; make them again")
        if strange := sorted(set(folder.read_index(path)[_IDS]) - ids):
            text = f"{path} has {len(strange)} films that are not of test clips of {subject}, such as {strange[0]}"
            raise DataError(f"{text}; make it again")
    of = f"test clips of {prepared(config, subject).fingerprint} and {recipes.clips(config).fingerprint}"
    return {name: f"{state}; {of}" for name, state in found.items()}


def incomplete(config: Config, states: Sequence[Key], n_test: int) -> dict[Key, str]:
    """Say of each system that has fewer films than it should what it lacks, such as "3 of 6 films"."""
    found = {}
    for subject, name in states:
        path = place_of(config, subject, name)
        n = int(folder.read_settings(path)["n_images"]) if is_other(name) else n_test
        found[subject, name] = folder.shortfall(path, n).replace("pictures", "films")
    return {key: text for key, text in found.items() if text}


def measured(config: Config, subject: str, name: str) -> Path:
    """Give the file of what was measured of a system."""
    return CATALOGUE.output(config) / "measured" / subject / f"{name}.h5"


def is_measured(config: Config, key: Key, state: str, settings: dict[str, Any]) -> bool:
    """Tell whether the measures of a system are there, in this state, with these settings."""
    path = measured(config, *key)
    if not path.is_file():
        return False
    with _open(path) as file:
        return file.attrs.get("state") == state and file.attrs.get("settings") == _as_text(settings)


# Measuring ------------------------------------------------------------------------------------------------------------


class Seen:
    """The test clips that were seen, and what is known of them, for all systems.

    Clips and their flows are kept as long as they take little memory, and what networks say of them always.

    Parameters
    ----------
    config : Config
    ids : array of shape (n,)
        stimulus_id of the test clips, sorted.
    """

    def __init__(self, config: Config, ids: np.ndarray) -> None:
        self._config, self.ids = config, ids
        clips = recipes.settings_of(config).clips
        n_bytes = len(ids) * clips.n_frames * clips.size**2 * 3
        self._clips: dict[int, np.ndarray] = {}
        self._flows: dict[bytes, np.ndarray] = {}
        self._said: dict[bytes, dict[str, np.ndarray]] = {}
        if n_bytes < _MOST_KEPT:
            self._clips = dict(self._read())
        self._keeps_flows = 8 / 3 * n_bytes < _MOST_KEPT  # of two numbers of float32 in place of three of uint8

    def clips(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Yield some of the clips, in the order of time: (n_frames, size, size, 3), uint8."""
        wanted = set(ids.tolist())
        for key, frames in self._clips.items() if self._clips else self._read():
            if key in wanted:
                yield frames

    def flows(self, video: np.ndarray, channels: Channels) -> np.ndarray:
        """Give the flows of a clip, as `optical_flow.flows` does."""
        key = _digest(video)
        found = self._flows.get(key)
        if found is None:
            found = flows(video, channels)
            if self._keeps_flows:
                self._flows[key] = found
        return found

    def remembered(self, networks: FilmNetworks) -> FilmNetworks:
        """Give networks that look once at each batch of clips that were seen (`batches`), and at others each time."""

        def look(videos: np.ndarray) -> dict[str, np.ndarray]:
            key = _digest(videos)
            if key not in self._said:
                return networks.look(videos)
            if not self._said[key]:
                self._said[key] = networks.look(videos)
            return self._said[key]

        return networks._replace(look=look)

    def batches(self, place: Path, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield batches of ids, of what was seen, and of what a folder has of it."""
        pairs = zip(self.clips(ids), folder.read_videos(place, ids), strict=True)
        for start in range(0, len(ids), _CLIPS_AT_ONCE):
            here = [next(pairs) for _ in range(min(_CLIPS_AT_ONCE, len(ids) - start))]
            seen, made = np.stack([clip for clip, _ in here]), np.stack([film for _, (_, film) in here])
            self._said.setdefault(_digest(seen), {})
            yield ids[start : start + len(here)], seen, made

    def _read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read the clips, and check that they are all there."""
        clips, root, wanted = recipes.settings_of(self._config).clips, self._config.cc2017, set(self.ids.tolist())
        for film in (film for film in cc2017.films(root).values() if film.is_test):
            for clip, frames in cc2017.read_clips(film, clips.n_frames, clips.frame_step, clips.size):
                if (key := cc2017.clip_key(film.name, clip)) in wanted:
                    wanted.remove(key)
                    yield key, frames
        if wanted:
            raise DataError(
                f"the films in {root} have no {cc2017.clip_name(min(wanted))}, and {len(wanted) - 1} more of the test "
                "clips: prepare them again"
            )


def measure(config: Config, key: Key, state: str, settings: dict[str, Any], seen: Seen, networks: FilmNetworks) -> None:
    """Score the films of a system, and write all measures of them to its file; see `measured`.

    The file has `stimulus_id` (n,), motion/<metric> (n,) and cosines (n, n), of `motion.Motion`; scored (n_scored,) and
    sampled (n_sampled,), ids; scores/<metric> (n_scored,); where the frames are put in all orders distances (n_frames -
    1, n_frames, n_frames), their mean over the sampled clips; and where films are scored as published
    as_published/<metric> (n_sampled,).
    """
    subject, name = key
    place, path = place_of(config, subject, name), measured(config, subject, name)
    ids = np.sort(folder.read_index(place)[_IDS].to_numpy())
    attributes = {"state": state, "settings": _as_text(settings), "films": _films_of(place, ids)}
    if (arrays := _same_of_others(config, name, subject, attributes)) is None:
        arrays = _measure(config, name, place, ids, seen, networks)
    write_arrays(path, arrays, attributes)


def _measure(
    config: Config, name: str, place: Path, ids: np.ndarray, seen: Seen, networks: FilmNetworks
) -> dict[str, np.ndarray]:
    own, size = recipes.settings_of(config).metrics, recipes.settings_of(config).clips.size
    looking = seen.remembered(networks)
    scored, sampled = sample(ids, own.n_scored or len(ids)), sample(ids, own.n_sampled)
    scores = metrics.score(looking, seen.batches(place, scored), own.gate)
    scored = scores.pop(_IDS)

    def move(of: np.ndarray, orders: bool) -> motion.Motion:
        films = (metrics.resized(film[None], size)[0] for _, film in folder.read_videos(place, of))
        return motion.measure(films, seen.clips(of), orders=orders, flows_of=seen.flows)

    found = move(ids, orders=False)
    arrays = {_IDS: ids, "scored": scored, "sampled": sampled, _COSINES: found.cosines}
    arrays |= {f"motion/{metric}": values for metric, values in found.scores.items()}
    arrays |= {f"scores/{metric}": values for metric, values in scores.items()}
    if has_all_orders(name):
        distances = move(sampled, orders=True).distances
        assert distances is not None
        arrays[_DISTANCES] = distances.mean(axis=0)
    if is_scored_as_published(name):
        parts = [
            dialects.published_scores(looking, *batch, own.gate, config.experiment.seed)
            for batch in seen.batches(place, sampled)
        ]
        for metric in parts[0]:
            arrays[metric] = np.concatenate([part[metric] for part in parts])
    return arrays


def sample(ids: np.ndarray, n: int) -> np.ndarray:
    """Take n of some clips, evenly spaced; all where there are no more: so they are of different shots."""
    return ids if n >= len(ids) else ids[(2 * np.arange(n) + 1) * len(ids) // (2 * n)]


def _same_of_others(config: Config, name: str, subject: str, attributes: dict[str, str]) -> dict | None:
    """Read the measures of another subject's system of that name that has the same films, if there is one."""
    for other in recipes.settings_of(config).subjects:
        path = measured(config, other, name)
        if other == subject or not path.is_file():
            continue
        with _open(path) as file:
            if all(file.attrs.get(key) == attributes[key] for key in ("settings", "films")):
                found: dict[str, np.ndarray] = {}
                file.visititems(lambda key, item, found=found: found.update({key: item[()]} if _is_array(item) else {}))
                return found
    return None


def _films_of(place: Path, ids: np.ndarray) -> str:
    """Hash the films of a folder, by the bytes of their files."""
    digest = hashlib.sha256()
    for key in ids:
        digest.update(f"{key} {hashlib.sha256((place / f'{key:05d}.png').read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# Tables ---------------------------------------------------------------------------------------------------------------


def score_table(config: Config, keys: Sequence[Key], test: KnownClips) -> pd.DataFrame:
    """Gather the scores of systems, columns `COLUMNS`; of flow cosines there is that with other shots' clips, too."""
    tables = []
    for subject, name in keys:
        with _open(measured(config, subject, name)) as file:
            ids, parts = file[_IDS][:], {part: _values(file[part]) for part in ("motion", "scores")}
            shots = test.shots[ids].to_numpy()
            if len(set(shots)) > 1:
                parts["motion"]["flow_cosine_others"] = motion.cosines_with_others(file[_COSINES][:], shots)
            tables.append(rows_of(subject, name, {_IDS: ids, **parts["motion"]}))
            tables.append(rows_of(subject, name, {_IDS: file["scored"][:], **parts["scores"]}))
    return _arranged(tables)


def published_table(config: Config, keys: Sequence[Key]) -> pd.DataFrame:
    """Gather the scores as published of the sampled clips, columns `COLUMNS`."""
    tables = []
    for subject, name in keys:
        with _open(measured(config, subject, name)) as file:
            if (part := dialects.NAME) in file:
                values = {f"{part}/{metric}": array for metric, array in _values(file[part]).items()}
                tables.append(rows_of(subject, name, {_IDS: file["sampled"][:], **values}))
    return _arranged(tables)


def _values(group: Any) -> dict[str, np.ndarray]:
    return {name: array[:] for name, array in group.items()}


def _arranged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Join tables in the order of subjects, systems, metrics and clips."""
    table = pd.concat(tables)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
    systems, order = {s: k for k, s in enumerate(CATALOGUE.in_order(set(table["system"])))}, list(CATALOGUE.metrics)
    places = table["metric"].map(lambda metric: order.index(metric.removesuffix(STAND_IN)))
    table = table.assign(system_place=table["system"].map(systems), metric_place=places)
    table = table.sort_values(["subject", "system_place", "metric_place", _IDS], kind="stable")[COLUMNS]
    # Rounded as they are written, so that one subject after the other gives the same summary as all at once.
    return table.astype({_IDS: np.int64, "value": float}).round({"value": 6}).reset_index(drop=True)


def compared(scores: pd.DataFrame, test: KnownClips, config: Config) -> pd.DataFrame:
    """Compare systems in pairs, by all metrics that say how good a film is; see `significance.compare`."""
    evaluation, seed = config.experiment.evaluation, config.experiment.seed
    return significance.compare(
        scores[~scores["metric"].isin(DESCRIBED)],
        pairs_of(list(dict.fromkeys(scores["system"]))),
        CATALOGUE,
        evaluation.n_bootstrap,
        evaluation.n_flips,
        seed,
        test.shots,
    )


_MEANS = ("flow_cosine_reversed", "direction_cosine", "epe", "epe_reversed", "epe_still", "speed", "speed_ratio")


def motion_table(config: Config, keys: Sequence[Key], test: KnownClips, summary: pd.DataFrame) -> pd.DataFrame:
    """Tell how the films of each system move: a row a subject and system, the ceiling and the mover first.

    Returns
    -------
    DataFrame
        Columns `subject, system, n, n_shots, flow_cosine, ci_low, ci_high, others, p, p_holm, smallest_p,
        flow_cosine_reversed, direction_cosine, epe, epe_reversed, epe_still, speed, speed_ratio`. `others` and p are
        of `motion.other_clips_test`, NaN where no two shots have as many clips, and p_holm is corrected for the
        systems of a subject.
    """
    means, rows = summary.set_index(["subject", "system", "metric"]), []
    evaluation, seed = config.experiment.evaluation, config.experiment.seed
    for subject in dict.fromkeys(subject for subject, _ in keys):
        for name in in_order_of_motion([name for of, name in keys if of == subject]):
            with _open(measured(config, subject, name)) as file:
                cosines, shots = file[_COSINES][:], test.shots[file[_IDS][:]].to_numpy()
            try:
                tested = motion.other_clips_test(cosines, shots, evaluation.n_flips, seed)
            except ValueError:  # of few clips there may be no two shots to exchange
                tested = None
            cosine = means.loc[subject, name, "flow_cosine"]
            row = {"subject": subject, "system": name, "n": len(shots), "n_shots": len(set(shots))}
            row |= {"flow_cosine": cosine["mean"], "ci_low": cosine["ci_low"], "ci_high": cosine["ci_high"]}
            row |= dict.fromkeys(("others", "p", "p_holm", "smallest_p"), np.nan)
            if tested is not None:
                row |= {"others": tested.others, "p": tested.p, "smallest_p": tested.smallest_p}
            rows.append(row | {metric: means.loc[subject, name, metric]["mean"] for metric in _MEANS})
    table = pd.DataFrame(rows)
    there = table["p"].notna()
    corrected = table[there].groupby("subject", sort=False)["p"]
    table.loc[there, "p_holm"] = corrected.transform(lambda p: significance.holm(p.to_numpy()))
    return table


def shuffle_table(config: Config, keys: Sequence[Key], test: KnownClips) -> pd.DataFrame:
    """Put the paper's shuffle test of each system beside that of the control fed another clip's fMRI.

    Returns
    -------
    DataFrame
        Columns `subject, system, n, epe, shuffled, p, p_other_clip, n_orders`, exact; and as published `p_sampled,
        sd_sampled, p_sampled_other_clip`, by orders at random, and `p_bootstrap_wilcoxon`, that its end-point error is
        that of the film that stands still, beside `p_sign_flip`, the valid one. n counts the clips that were sampled.
    """
    evaluation, seed, rows = config.experiment.evaluation, config.experiment.seed, []
    columns = ["subject", "system", "n", "epe", "shuffled", "p", "p_other_clip", "n_orders", "p_sampled", "sd_sampled"]
    columns += ["p_sampled_other_clip", "p_bootstrap_wilcoxon", "p_sign_flip"]
    for subject in dict.fromkeys(subject for subject, _ in keys):
        found, errors = {}, {}
        for name in in_order_of_motion([name for of, name in keys if of == subject]):
            with _open(measured(config, subject, name)) as file:
                if _DISTANCES in file:
                    distances = file[_DISTANCES][:][None]  # one of all clips: the test takes their mean
                    exact, sampled = shuffle.shuffle_test(distances), shuffle.sampled_shuffle_test(distances, seed)
                    errors[name] = pd.Series(file["motion/epe"][:], index=file[_IDS][:])
                    found[name] = exact, sampled, len(file["sampled"])
        other = found.get(OTHER_CLIP)
        for name, (exact, (p_sampled, deviation), n) in found.items():
            row = {"subject": subject, "system": name, "n": n, **exact._asdict()}
            row |= {"p_sampled": p_sampled, "sd_sampled": deviation}
            if other:
                row |= {"p_other_clip": other[0].p, "p_sampled_other_clip": other[1][0]}
            if STATIC in errors and name != STATIC:
                both = pd.concat([errors[name], errors[STATIC]], axis=1).dropna()
                row["p_bootstrap_wilcoxon"] = shuffle.bootstrap_wilcoxon_test(
                    both[0].to_numpy(), both[1].to_numpy(), seed
                )
                difference, shots = both.to_numpy() @ [[1.0], [-1.0]], test.shots[both.index].to_numpy()
                row["p_sign_flip"] = significance.sign_flip_test(difference, evaluation.n_flips, seed, shots)[0]
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def _open(path: Path) -> h5py.File:
    with reading(path, "the measures of a system's films", "delete it, and its films are scored again"):
        return h5py.File(path, "r", locking=False)


def _is_array(item: Any) -> bool:
    return isinstance(item, h5py.Dataset)


def _as_text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
