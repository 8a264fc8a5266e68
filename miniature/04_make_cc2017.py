"""Make the miniature's third dataset: a simulated CC2017, with films, captions and recordings.

    python miniature/04_make_cc2017.py [--config configs/miniature.yaml]

Reads the miniature's guiding CLIP, and its tokenizer, for the captions. Writes, under `execution.cc2017`, what CC2017
has, in its layout: films of 64 x 64 pixels and 4 frames a second as MPEG-4 in `Stimuli`, a run of each repetition of
each film as CIFTI-2 in `Subject01` ..., (n_clips + 5 or 6, n_grayordinates) float32, and `captions` as Mind-Animator's
authors give them, one a clip of 2 s. Beside them `miniature_shots.csv` tells the shot and the motion of each clip.
Always makes all subjects. Takes less than a minute. A killed run goes on with the next file. Peak memory: 2.2 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import torch

from minddiffuser.cli import execute, film_subjects, parse
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.stable_diffusion import open_text_encoder
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe, pick
from minddiffuser.store import DataError, reading, write_atomically
from miniature import cc2017
from miniature.movies import FRAMES_PER_CLIP, Film, draw_film
from miniature.video_brain import View, view

SCRIPT, MARKER = "miniature/04_make_cc2017.py", "miniature_cc2017.json"


def main(argv: list[str] | None = None) -> None:
    """Make what the configuration describes."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    experiment, root, seed = run.config.experiment, run.config.cc2017, run.config.experiment.seed
    size, animator = experiment.miniature_cc2017, experiment.mind_animator
    if size is None:
        print(f"the configuration {run.config.name} has no experiment.miniature_cc2017: it is for the real dataset")
        return
    if animator is None:
        raise DataError("experiment.miniature_cc2017 needs experiment.mind_animator, which names the subjects")
    if animator.clips.frame_step * (animator.clips.n_frames - 1) >= FRAMES_PER_CLIP:
        raise DataError(
            f"a clip of the miniature has {FRAMES_PER_CLIP} frames: experiment.mind_animator.clips.frame_step "
            f"{animator.clips.frame_step} and n_frames {animator.clips.n_frames} need more"
        )
    grayordinates = cc2017.choose_grayordinates(size, seed)
    settings = pick(experiment, "miniature_cc2017", "seed", "mind_animator.subjects")
    settings |= pick(
        experiment, *(f"mind_animator.clips.{key}" for key in ("frame_step", "middle_frame", "join_above"))
    )
    settings |= pick(experiment, "models.clip", "models.clip_weights", "models.stable_diffusion")
    recipe, marker = Recipe(root, MARKER, "", SCRIPT, settings), root / MARKER
    if marker.exists():
        with reading(marker, "the record of what made this folder", "delete the folder"):
            found = json.loads(marker.read_text())
            is_complete, changes = found.pop("complete"), recipe.differences({MARKER: found})
        if changes and not run.overwrite:
            raise DataError(f"{root} was made with other settings: {changes}; use --overwrite to make it again")
        if is_complete and not run.overwrite:
            print(f"{root} is there already")
            return
        if run.overwrite:
            shutil.rmtree(root)
    elif root.exists() and any(root.iterdir()):
        raise DataError(f"{root} has files that this script did not make; set execution.cc2017 to another folder")
    write_atomically(marker, json.dumps({**settings, "complete": False}))

    names = cc2017.films_of(size)
    cpu = torch.device("cpu")
    clip = open_clip_model(experiment.models.clip, experiment.models.clip_weights, cpu)
    tokenizer, _ = open_text_encoder(
        experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision, cpu
    )

    def make_film(name: str) -> tuple[Film, View, list[str]]:
        film, path = draw_film(name, names[name], size.mean_shot, size.alone, seed), cc2017.film_path(root, name)
        if not path.exists():
            cc2017.write_film(path, film.frames)
        frames = cc2017.read_film(path)  # from here on the film is what can be read of it
        captions = cc2017.caption_film(film, name, frames, clip, tokenizer, animator.clips, seed)
        return film, view(film, frames), captions

    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(names, progress(pool.map(make_film, names), desc="films", total=len(names)), strict=True))
        cc2017.write_captions(root, {name: captions for name, (_, _, captions) in made.items()})
        cc2017.write_shots(root, {name: film for name, (film, _, _) in made.items()})
        views = {name: seen for name, (_, seen, _) in made.items()}

        def record(subject: str) -> None:
            cc2017.write_recordings(root, subject, animator.subjects, views, grayordinates, size, seed)

        list(pool.map(record, animator.subjects))
    write_atomically(marker, json.dumps({**settings, "complete": True}))
    print(f"wrote {root}")


if __name__ == "__main__":
    execute(main)
