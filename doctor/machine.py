"""Compare what a run takes with what this machine has, and print it."""

import math
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import torch

from minddiffuser.config import Config
from minddiffuser.needs import card_memory
from minddiffuser.needs.findings import Findings, Problem
from minddiffuser.needs.rows import PROCESS, Row
from minddiffuser.needs.speed import name_of
from minddiffuser.store import DataError


def check_disk(config: Config, n_bytes: float, is_assumed: bool) -> tuple[bool, str]:
    """Check that it can be written, and that there is room for what the run writes, where its size is known."""
    folder = config.folder()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".doctor"
    probe.write_bytes(b"x")
    probe.unlink()
    free, wanted = shutil.disk_usage(folder).free / 1e9, n_bytes / 1e9
    if free < wanted and not is_assumed:
        raise DataError(
            f"{folder} has {free:.1f} GB free, and the run writes {wanted:.1f} GB; make room, or set execution.runs"
        )
    return True, f"{folder} has {free:.0f} GB free, the run writes about {wanted:.1f} GB"


def check_memory(findings: Findings, rows: list[tuple[Row, str]], device: torch.device) -> None:
    """Compare each row with the memory that is free.

    What is wrong with a script that is optional is a note, and with all where sizes are assumed.

    Parameters
    ----------
    findings : Findings
    rows : list of (Row, str)
        Each with the part of the run that needs it.
    device : torch.device
    """
    ram, on_gpu = available_memory(), device.type == "cuda"
    is_here = on_gpu and torch.cuda.is_available()
    free = torch.cuda.mem_get_info(device)[0] if is_here else 0
    for row, part in rows:
        needs = [("RAM", ram_of(row, on_gpu), ram, "a machine")]
        needs += [(f"memory on the {name_of(device)}", row.on_device, free, "a GPU")] if is_here else []
        for what, needed, there, other in needs:
            if needed <= there:
                continue
            ways = ", or ".join([*row.levers, f"take {other} with more memory"])
            text = f"needs {needed / 1e9:.1f} GB of {what}, of which {there / 1e9:.1f} GB are free"
            if row.is_optional or findings.assumed:
                why = "it is optional" if row.is_optional else "if the sizes are as assumed"
                print(f"note   {title(row)} {text}; {ways} ({why})")
            else:
                findings.add([Problem(title(row), text, ways, [part])])


def ram_of(row: Row, on_gpu: bool) -> float:
    """Bytes of RAM, with what Python takes."""
    return row.memory + PROCESS + (0 if on_gpu else row.on_device)


def title(row: Row) -> str:
    """Name a row, such as "subj01 21 units"."""
    return f"{row.subject} {row.scripts} {row.name}".strip()


def available_memory() -> float:
    """Bytes of RAM that processes can have now: of the machine, or of the container or job that this runs in."""
    found = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        if "MemAvailable" in lines:
            found.append(float(lines["MemAvailable"].split()[0]) * 1024)
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, kind, place = line.split(":", 2)
        if kind in ("", "memory"):  # version 2, or 1
            root, name = Path("/sys/fs/cgroup") / kind, "memory.limit_in_bytes" if kind else "memory.max"
            own = root / place.lstrip("/")
            limits = [folder / name for folder in (own, *own.parents) if folder.is_relative_to(root)]
            texts = [limit.read_text().strip() for limit in limits if limit.is_file()]
            found += [float(text) for text in texts if text != "max"]
    return min(found)


def show(rows: list[Row], config: Config, device: torch.device, assumed: Collection[str] = ()) -> None:
    """Print the estimates, and what they assume."""
    on_gpu = device.type == "cuda"
    print(f"\n{'stage':<30}{'time':>10}{'RAM':>11}{'GPU':>11}{'disk':>11}   derived from")
    for row in rows:
        ram = ram_of(row, on_gpu)
        gpu = f"{row.on_device / 1e9:.1f} GB" if on_gpu and row.on_device else "-"
        sizes = f"{ram / 1e9:>8.1f} GB{gpu:>11}{row.disk / 1e9:>8.1f} GB"
        how = "not timed" if math.isnan(row.seconds) else row.how
        print(f"{title(row):<30}{readable(row.seconds):>10}{sizes}   {how}")
    if assumed:
        print(f"\nassumed, for want of what is wrong: {', '.join(assumed)} (see the notes above)")
    size, timed = config.execution.batch_size, "not timed; for" if "speed" in assumed else "timed now on"
    print(
        f"\n{timed} {name_of(device)}, experiment.sampler.precision {config.experiment.sampler.precision}, in "
        f"batches of {size.generate} (execution.batch_size.generate) and {size.refine} (refine); regressions by count, "
        f"in float64 on {torch.get_num_threads()} threads. Times are of one process; --shard divides most scripts. RAM "
        f"that is free: {available_memory() / 1e9:.1f} GB"
    )


def advise(config: Config, device: torch.device) -> None:
    """Print which batch sizes a card has room for: this one, or, where it is not here, cards of the usual sizes.

    The table that says so is of pictures of 512 pixels.
    """
    if config.experiment.detail.image_size != card_memory.IMAGE_SIZE:
        return
    cards = {f"{size} GiB": size * 2.0**30 for size in card_memory.CARDS}
    if torch.cuda.is_available():
        cards = {f"this {name_of(device)}": float(torch.cuda.get_device_properties(device).total_memory)}
    precision, size = config.experiment.sampler.precision, config.execution.batch_size
    print(f"\nexecution.batch_size that a card has room for, with experiment.sampler.precision {precision}:")
    for name, n_bytes in cards.items():
        most = {kind: card_memory.largest_batch(kind, precision, n_bytes) for kind in card_memory.OF_KIND}
        above = [kind for kind, n in most.items() if getattr(size, kind) > n]
        sizes = ", ".join(f"{kind} {n}" if n else f"{kind} none" for kind, n in most.items())
        print(f"  {name}: {sizes}{'; set too high here: ' + ', '.join(above) if above else ''}")


def readable(seconds: float) -> str:
    """Seconds as days, hours, or minutes; what is not known as a question mark."""
    if math.isnan(seconds):
        return "?"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
