"""Run scripts one after the other: what one lane of `minddiffuser/lanes.py` does, in a process of its own.

    python -m minddiffuser.lane [--forks] FOLDER SCRIPT [SCRIPT ...] -- [ARGUMENT ...]

Scripts are in FOLDER. Arguments of all of them follow the two dashes; those of one script are quoted with it. Torch,
diffusers and open_clip take longer to import than most scripts of the miniature take to run. So with --forks several
scripts share one import: each runs in a fork of this process. Forking is safe neither on macOS nor with a GPU in use.
"""

import argparse
import contextlib
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn


def main(argv: list[str]) -> None:
    """Run the scripts; the first that fails ends it, with the script's exit code as a shell says it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forks", action="store_true", help="see above")
    parser.add_argument("folder", type=Path)
    parser.add_argument("scripts", nargs="+", metavar="SCRIPT")
    end = argv.index("--") if "--" in argv else len(argv)
    args, common = parser.parse_args(argv[:end]), argv[end + 1 :]
    started_by = os.getppid()
    if args.forks and len(args.scripts) > 1:
        import_libraries()
    for script in args.scripts:
        if os.getppid() != started_by:  # it was killed: nobody waits for the rest
            sys.exit(1)
        print(f"\n== {script}", flush=True)
        began, (path, *own) = time.monotonic(), shlex.split(script)
        code = run([str(args.folder / path), *common, *own], args.forks)
        if code:
            code = code if code > 0 else 128 - code
            print(f"{script} ended with exit code {code}", file=sys.stderr)
            sys.exit(code)
        print(f"   {time.monotonic() - began:.0f} s", flush=True)


def import_libraries() -> None:
    """Import what most scripts use."""
    import open_clip
    import sklearn.linear_model
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    del open_clip, sklearn, AutoencoderKL, UNet2DConditionModel, CLIPTextModel


def run(line: list[str], forks: bool) -> int:
    """Run a script, and give its exit code, negative for a signal. SIGTERM to this process ends the script, too."""
    process, is_ended = 0, False
    started: subprocess.Popen | None = None  # where it is no fork

    def end(*_: Any) -> None:
        nonlocal is_ended
        is_ended = True
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def wait() -> int:
        return started.wait() if started else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    before = signal.signal(signal.SIGTERM, end)
    try:
        if forks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of waiting threads of BLAS, which knows of forks
                process = os.fork()
            if not process:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                if is_ended:
                    sys.exit(128 + signal.SIGTERM)
                be(line)
        else:
            started = subprocess.Popen([sys.executable, *line])
            process = started.pid
        if is_ended:
            end()
        try:
            code = wait()
        except KeyboardInterrupt:  # the script was told so, too, and has something to finish
            wait()
            sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    if is_ended:
        sys.exit(128 + signal.SIGTERM)
    return code


def be(line: list[str]) -> NoReturn:
    """Be a script from now on."""
    sys.argv = line
    sys.path[0] = str(Path(line[0]).parent)
    runpy.run_path(line[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1:])
