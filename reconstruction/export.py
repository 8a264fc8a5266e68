"""Write the films of a folder of reconstructions as GIF or MP4, which players play.

    python -m reconstruction.export FOLDER --to OTHER [--format gif] [--fps 4] [--only 102005 102006]

FOLDER is one that a script made, such as runs/miniature/Subject01/reconstruction/mind_animator/corrected, where films
are strips of their frames without loss. OTHER gets a file for each film, under the film's id. GIF has 256 colours a
film, and MP4 (MPEG-4) loses detail: scores are of the strips. In a GIF a film that stands still is one frame of that
duration. Four frames a second are those of CC2017's clips of two seconds; Mind-Animator's authors write eight.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from minddiffuser.cli import execute
from minddiffuser.progress import progress
from minddiffuser.store import DataError, write_atomically
from reconstruction.folder import read_index, read_videos


def main(argv: list[str] | None = None) -> None:
    """Export the films of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.fps <= 0:
        parser.error(f"--fps {args.fps:g}: more than 0 is needed")
    films = read_videos(args.folder, args.only)
    n = len(args.only or read_index(args.folder))
    for stimulus_id, film in progress(films, desc=args.format, total=n):
        content = as_gif(film, args.fps) if args.format == "gif" else as_mp4(film, args.fps)
        write_atomically(args.to / f"{stimulus_id:05d}.{args.format}", content)
    print(f"{args.to}: {n} films")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, help="of reconstructed films")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--format", choices=("gif", "mp4"), default="gif")
    parser.add_argument("--fps", type=float, default=4.0, help="frames a second (default: 4)")
    parser.add_argument("--only", type=int, nargs="+", metavar="ID", help="these films alone")


def as_gif(film: np.ndarray, fps: float) -> bytes:
    """Give a film (n_frames, height, width, 3), uint8, as a GIF that repeats for ever."""
    frames, buffer = [Image.fromarray(frame) for frame in film], BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def as_mp4(film: np.ndarray, fps: float) -> bytes:
    """Give a film (n_frames, height, width, 3), uint8, as an MP4.

    Raises
    ------
    DataError
        OpenCV cannot write one.
    """
    import cv2

    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (film.shape[2], film.shape[1]))
        for frame in film:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        if not path.is_file() or not path.stat().st_size:
            raise DataError(f"OpenCV {cv2.__version__} cannot write MP4: it was built without FFmpeg; use --format gif")
        return path.read_bytes()


if __name__ == "__main__":
    execute(main)
