"""Time the voxel-selecting ridge beside its peers and its limit, on the same arrays in one run.

    python benchmarks/ridge.py              # about 4 minutes on two cores
    python benchmarks/ridge.py --true-size  # slow: NSD's size, 8,859 x 11,694 to 512 targets with 4,000 voxels each
    python benchmarks/ridge.py --profile    # where our time goes, and what it could be at most; a minute

All but --profile needs fastl2lir, whose last release (0.11) fails on NumPy 2.4 and later. So it is run in its own
environment:

    python3 -m venv throw-away
    throw-away/bin/pip install -e . "fastl2lir==0.11" "numpy<2.4"
    throw-away/bin/python benchmarks/ridge.py

docs/ridge.txt has their output. The ratios depend on the machine, so the first line names the processor.

Without voxel selection ours stands beside scikit-learn's and himalaya's ridge. With it, beside fastl2lir, its own code
with the package's own limit of one BLAS thread. The limit is LAPACK: the time of the bare float64 Cholesky
factorisations, one for each output, on all cores (one thread each, or all on one, whichever is faster).

The work for the Gram matrix is the same for every output count, so the cost of an output is measured as a difference:
(seconds for many outputs - seconds for few) / (many - few). The time of a whole family is extrapolated from it, and
marked so. The last line is JSON.

--profile divides the seconds that threads take for an output among selecting voxels, gathering a system from the Gram
matrix, factorising it in float32, and solving and refining in float64. Beside them stand the factorisation's share of
the rate of a large float32 product, and the time of an output on the path that a GPU takes, torch's batched
factorisations, in as many threads.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from himalaya.ridge import Ridge as HimalayaRidge
from sklearn.linear_model import Ridge

from feature_decoding import lapack, ridge
from feature_decoding.ridge import Gram, Scaler, fit

ALPHA = 0.15


def simulate(n_images: int, n_voxels: int, n_units: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Voxels with common components, as cortex has, and targets that some of them carry; standardised float64."""
    rng = np.random.default_rng(seed)
    components = rng.normal(size=(n_images, 100)).astype(np.float32)
    loadings = rng.normal(size=(100, n_voxels)).astype(np.float32) / np.sqrt(np.arange(1, 101))[:, None]
    X = (components @ loadings + rng.normal(size=(n_images, n_voxels))).astype(np.float32)
    Y = components[:, :50] @ rng.normal(size=(50, n_units)) + 5 * rng.normal(size=(n_images, n_units))
    return Scaler.of(X).apply(X), Scaler.of(Y).apply(Y)


def seconds(function) -> float:
    """Time one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def cholesky_seconds(n: int, count: int) -> float:
    """Least seconds a float64 Cholesky factorisation of size n takes on this machine, when many are to be done."""
    A = torch.randn(n, n + 50, dtype=torch.float64)
    A = A @ A.T
    n_threads = torch.get_num_threads()
    torch.linalg.cholesky(A)
    together = seconds(lambda: [torch.linalg.cholesky(A) for _ in range(count)]) / count
    torch.set_num_threads(1)
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(lambda _: torch.linalg.cholesky(A), range(n_threads)))
        apart = seconds(lambda: list(pool.map(lambda _: torch.linalg.cholesky(A), range(count)))) / count
    torch.set_num_threads(n_threads)
    return min(together, apart)


def fit_fastl2lir(X: np.ndarray, Y: np.ndarray, n_voxels: int) -> Any:
    """Fit with the package itself."""
    from fastl2lir import FastL2LiR  # type: ignore[reportMissingImports]

    model = FastL2LiR()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y, alpha=ALPHA, n_feat=n_voxels)
    return model


def compare(n_images: int, n_all: int, n_voxels: int, n_few: int, n_many: int, n_units_ours: int) -> dict:
    """Ours against fastl2lir and LAPACK on one size."""
    X, Y = simulate(n_images, n_all, n_units_ours)
    fit_fastl2lir(X, Y[:, :1], n_voxels)  # not timed: first calls are slower
    theirs_few = seconds(lambda: fit_fastl2lir(X, Y[:, :n_few], n_voxels))
    began = time.perf_counter()
    theirs = fit_fastl2lir(X, Y[:, :n_many], n_voxels)
    theirs_each = (time.perf_counter() - began - theirs_few) / (n_many - n_few)

    gram = Gram(X)
    gram_seconds = seconds(lambda: gram.matrix)
    fit(gram, Y[:, :2], ALPHA, n_voxels)
    ours_each = seconds(lambda: fit(gram, Y, ALPHA, n_voxels)) / n_units_ours
    ours = fit(gram, Y[:, :n_many], ALPHA, n_voxels)
    W = np.zeros((n_many, n_all))
    np.put_along_axis(W, ours.voxels.astype(np.intp), ours.weights, axis=1)
    error = np.abs(W - theirs.W.T).max(axis=1) / np.abs(theirs.W.T).max(axis=1)
    bound = cholesky_seconds(n_voxels + 1, max(n_units_ours // 2, 4))
    result = {
        "n_images": n_images,
        "n_voxels_in_all": n_all,
        "n_voxels": n_voxels,
        "fastl2lir_seconds_per_output": round(theirs_each, 4),
        "ours_seconds_per_output": round(ours_each, 4),
        "ours_gram_seconds_once": round(gram_seconds, 2),
        "lapack_seconds_per_output": round(bound, 4),
        "speedup_vs_fastl2lir": round(theirs_each / ours_each, 2),
        "fraction_of_lapack_bound": round(bound / ours_each, 2),
        "max_relative_error": float(error.max()),
    }
    print(json.dumps(result), flush=True)
    hours = 16384 / 3600
    print(
        f"extrapolated to 16,384 outputs: fastl2lir {theirs_each * hours:.2f} h, ours {ours_each * hours:.2f} h",
        flush=True,
    )
    return result


def compare_plain(n_images: int, n_voxels: int, n_units: int) -> dict:
    """Ridge regression on all voxels, against scikit-learn and himalaya."""
    X, Y = simulate(n_images, n_voxels, n_units)
    result = {
        "ours": seconds(lambda: fit(X, Y, 100.0, n_voxels)),
        "scikit-learn": seconds(lambda: Ridge(alpha=100.0, fit_intercept=False).fit(X, Y)),
        "himalaya": seconds(lambda: HimalayaRidge(alpha=100.0).fit(X, Y)),
    }
    result = {name: round(value, 3) for name, value in result.items()}
    print(f"plain ridge, {n_images} x {n_voxels} to {n_units}: seconds {json.dumps(result)}", flush=True)
    return result


def profile(n_images: int, n_all: int, n_voxels: int, n_units: int) -> dict:
    """Divide our time for an output among what it is spent on."""
    X, Y = simulate(n_images, n_all, n_units)
    gram, calls = Gram(X), defaultdict(list)
    _ = gram.matrix
    n_threads = torch.get_num_threads()

    def timed(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            calls[name].append(time.perf_counter() - began)
            return result

        return mock.patch.object(lapack if hasattr(lapack, name) else ridge, name, call)

    fit(gram, Y[:, :2], ALPHA, n_voxels)
    names = ("cholesky", "solve", "subtract_product", "_solve_one")
    patches = [timed(name, getattr(lapack if hasattr(lapack, name) else ridge, name)) for name in names]
    with patches[0], patches[1], patches[2], patches[3]:
        wall = seconds(lambda: fit(gram, Y, ALPHA, n_voxels))
    spent = {name: sum(times) for name, times in calls.items()}
    refining = spent["solve"] + spent["subtract_product"]
    parts = {
        "selecting": max(wall * n_threads - spent["_solve_one"], 0.0),
        "gathering": spent["_solve_one"] - spent["cholesky"] - refining,
        "factorising": spent["cholesky"],
        "solving and refining": refining,
    }
    A = torch.randn(2048, 2048)
    rate = 10 * 2 * 2048**3 / seconds(lambda: [A @ A for _ in range(10)]) / n_threads  # of one thread
    result = {
        "n_voxels": n_voxels,
        "ours_seconds_per_output": round(wall / n_units, 4),
        **{f"{name}_share": round(part / sum(parts.values()), 2) for name, part in parts.items()},
        "factorising_share_of_matrix_rate": round((n_voxels + 1) ** 3 / 3 * n_units / spent["cholesky"] / rate, 2),
        "torch_batched_seconds_per_output": round(batched_seconds(gram, Y, n_voxels, n_threads), 4),
    }
    print(json.dumps(result), flush=True)
    return result


def batched_seconds(gram: Gram, Y: np.ndarray, n_voxels: int, n_threads: int) -> float:
    """Seconds for an output by torch's batched factorisations, a few systems at a time in each of several threads."""
    (r, products), G = gram.correlation(torch.as_tensor(Y)), gram.matrix
    voxels = ridge.select_voxels(r, n_voxels)
    J = torch.cat([voxels, voxels.new_full((len(voxels), 1), gram.X.shape[1])], dim=1)
    few = 4 if n_voxels > 1000 else 16
    systems = zip(products.gather(1, J).split(few), J.split(few), strict=True)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        taken = seconds(lambda: list(pool.map(lambda of: ridge._solve_batch(G, of[0], of[1], ALPHA), systems)))
    torch.set_num_threads(n_threads)
    return taken / len(Y.T)


def processor() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def true_size() -> dict:
    """One family of targets at NSD's size."""
    n_units, block = 512, 128
    X, Y = simulate(8859, 11694, n_units)
    began = time.perf_counter()
    gram = Gram(X)
    _ = gram.matrix
    gram_seconds = time.perf_counter() - began
    print(f"Gram matrix: {gram_seconds:.0f} s", flush=True)
    for start in range(0, n_units, block):
        decoder = fit(gram, Y[:, start : start + block], ALPHA, 4000)
        assert np.isfinite(decoder.weights).all()
        print(f"{start + block} of {n_units} outputs: {time.perf_counter() - began:.0f} s", flush=True)
    total = time.perf_counter() - began
    hours = (gram_seconds + (total - gram_seconds) / n_units * 16384) / 3600
    print(f"extrapolated to 16,384 outputs: {hours:.2f} h", flush=True)
    return {"true_size_seconds": round(total), "gram_seconds": round(gram_seconds), "outputs": n_units}


def main() -> None:
    """Print every size, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--true-size", action="store_true", help="only a run at NSD's size (about 2 minutes)")
    what.add_argument("--profile", action="store_true", help="only where our time goes")
    args = parser.parse_args()
    print(
        f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads",
        flush=True,
    )
    if args.true_size:
        summary = true_size()
    elif args.profile:
        of_sizes = [profile(4000, 3000, 850, 256), profile(4000, 4000, 3000, 32), profile(8859, 11694, 3000, 32)]
        summary = {"largest_share_of_factorising": max(each["factorising_share"] for each in of_sizes)}
    else:
        compare_plain(1000, 5000, 2000)
        compare_plain(4000, 2000, 2000)
        sizes = [
            compare(4000, 3000, 850, 8, 72, 256),
            compare(4000, 4000, 3000, 1, 9, 32),
            compare(8859, 11694, 3000, 4, 24, 32),
        ]
        summary = {
            "speedup_vs_fastl2lir": min(s["speedup_vs_fastl2lir"] for s in sizes),
            "max_relative_error": max(s["max_relative_error"] for s in sizes),
            "fraction_of_lapack_bound": min(s["fraction_of_lapack_bound"] for s in sizes),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**summary, "peak_memory_mb": round(peak)}))


if __name__ == "__main__":
    main()
