"""Hold the pictures and tables of the smallest miniature at one revision against those at another, byte for byte.

    python benchmarks/same_results.py REVISION            # the working tree against a revision of git; ten minutes
    python benchmarks/same_results.py REVISION REVISION

For whoever moves code about: a change of the house should not change a result. Each revision runs all its scripts, in
the order of its own tests/stages/smallest.py, one thread each, in a checkout of its own and in the same folder, whose
name some tables have. Compared are all PNG and CSV files, of CSV files without the column `seconds`. What only one of
the two has is listed, and so is what differs; then the exit code is 1.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from minddiffuser.config import REPOSITORY, load

MINIATURE = REPOSITORY / "configs" / "miniature.yaml"
CHAIN = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/stages")
import smallest
config = smallest.write_config(Path(sys.argv[1]), wordnet=sys.argv[2])
for script in (script for group in smallest.GROUPS for script in group):
    done = smallest.run_here(script, config)
    print(script, flush=True)
    if done.returncode:
        sys.exit(f"{script} ended with exit code {done.returncode}: {done.stdout}{done.stderr}")
"""


def main() -> None:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="REVISION", help="such as HEAD~1")
    parser.add_argument("after", metavar="REVISION", nargs="?", help="default: the working tree as it is")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before, after = (results(revision, folder) for revision in (args.before, args.after))
    only = {"before": sorted(set(before) - set(after)), "after": sorted(set(after) - set(before))}
    differing = [name for name in before if name in after and before[name] != after[name]]
    print(f"{len(before)} files before, {len(after)} after")
    for when, names in only.items():
        print(f"only {when}: {', '.join(names) or 'none'}")
    print(f"different: {', '.join(differing) or 'none'}")
    sys.exit(bool(differing or only["before"] or only["after"]))


def results(revision: str | None, folder: Path) -> dict[str, bytes]:
    """Run the chain at a revision, or in the working tree: contents of its files by name."""
    checkout, chain, wordnet = REPOSITORY, folder / "chain", load(MINIATURE).wordnet
    if revision:
        checkout = folder / "checkout"
        git("worktree", "add", "--detach", str(checkout), revision)
    try:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **limits, "PYTHONPATH": str(checkout)}
        print(f"== {revision or 'working tree'}", flush=True)
        subprocess.run(
            [sys.executable, "-c", CHAIN, str(chain), str(wordnet)], cwd=checkout, env=environment, check=True
        )
        runs = chain / "runs"
        paths = sorted(path for path in runs.rglob("*") if path.suffix in (".png", ".csv"))
        return {path.relative_to(runs).as_posix(): content(path) for path in paths}
    finally:
        chain.rename(folder / f"chain of {revision}") if chain.exists() else None
        if revision:
            git("worktree", "remove", "--force", str(checkout))


def git(*arguments: str) -> None:
    """Run git in the repository."""
    subprocess.run(["git", "-C", str(REPOSITORY), *arguments], check=True, capture_output=True)


def content(path: Path) -> bytes:
    """Read a file, of a table all but the time that it took."""
    if path.suffix == ".csv":
        table = pd.read_csv(io.BytesIO(path.read_bytes()), dtype=str, keep_default_na=False)
        if "seconds" in table:
            return table.drop(columns="seconds").to_csv(index=False).encode()
    return path.read_bytes()


if __name__ == "__main__":
    main()
