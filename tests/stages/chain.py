"""Run scripts one after the other in one process, saying when each begins: `python chain.py CONFIG [SCRIPT ...]`."""

import sys
from pathlib import Path

from smallest import GROUPS, run_here

if __name__ == "__main__":
    for script in sys.argv[2:] or [script for group in GROUPS for script in group]:
        print(script, flush=True)
        done = run_here(script, Path(sys.argv[1]))
        if done.returncode:
            sys.exit(f"{script}:\n{done.stdout}\n{done.stderr}")
    print("end", flush=True)
