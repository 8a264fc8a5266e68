"""What stages take, as a table for `minddiffuser/jobs.py`."""

import csv
import io
from collections.abc import Iterable

from doctor.machine import ram_of
from minddiffuser.needs.findings import Room
from minddiffuser.needs.rows import Row
from minddiffuser.stages import read_stages


def as_csv(rows: Iterable[tuple[Room, Row]], on_gpu: bool) -> str:
    """Give a line for each script and subject: seconds of one process, and gigabytes in RAM and on the GPU.

    Parameters
    ----------
    rows : iterable of (Room, Row)
        What was estimated, and of which room; a row of several scripts, such as "22-24", stands for each of them.
    on_gpu : bool
        Whether what is on the device is on a GPU.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "subject", "seconds", "gb", "gpu_gb"])
    for room, row in rows:
        for key in keys_of(room, row):
            gb, gpu_gb = ram_of(row, on_gpu) / 1e9, row.on_device / 1e9 if on_gpu else 0.0
            writer.writerow([key, row.subject, f"{row.seconds:.0f}", f"{gb:.2f}", f"{gpu_gb:.2f}"])
    return text.getvalue()


def keys_of(room: Room, row: Row) -> list[str]:
    """Give the scripts that a row is of, by folder and number."""
    first, _, last = row.scripts.partition("-")
    places = {stage.place: stage for stage in read_stages() if first <= stage.place[-2:] <= (last or first)}
    begins = tuple({beginning.rpartition("/")[0] + "/" for beginning in room.scripts})
    return [stage.key for place, stage in places.items() if place.startswith(begins)]
