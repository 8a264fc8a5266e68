"""Speed of the shuffle test over all orders of frames, beside 500 orders at random, computed as the authors do.

    python benchmarks/shuffle.py             # clips of 64 pixels, as the miniature's
    python benchmarks/shuffle.py --size 512  # of the real size

The peer puts the frames of a clip in an order, computes the optical flow from each to the next, and its end-point error
against the true flow; so for 500 orders, the same in all clips, as often as the released test draws one (100, five
times). The true flow it computes once; the authors compute it anew for each order. Ours does all that
evaluation/videos does with a clip: flows between all pairs of frames, scores of motion, and the error of 40,320 orders.

Both run in one process, clip by clip in turn, on one thread, and seconds are those of the processor, so that other work
on the machine does not count. The errors of the 500 orders are compared. The last line is JSON.

    speedup_vs_sampled_orders  seconds of the peer over ours
"""

import argparse
import json
import os
import time

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, shift

from evaluation.videos.motion import epe, measure
from evaluation.videos.shuffle import errors_of, every_order, shuffle_test
from feature_extraction.optical_flow import flows

N_FRAMES = 8


def main() -> None:
    """Measure, and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10, help="clips (default: 10)")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels (default: 64)")
    parser.add_argument("--orders", type=int, default=500, help="orders at random (default: 500)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, {os.cpu_count()} CPUs, one thread, {vars(args)}", flush=True)
    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.tile(np.arange(N_FRAMES), (args.orders, 1)), axis=1)
    every_order(np.zeros((N_FRAMES - 1, N_FRAMES, N_FRAMES)))  # makes the list of orders
    seconds = {"peer": 0.0, "ours": 0.0}
    theirs, distances = [], []
    for _ in range(args.clips):
        video, true = draw_clip(args.size, rng), draw_clip(args.size, rng)
        began = time.process_time()
        theirs.append(peer(video, true, drawn))
        seconds["peer"] += time.process_time() - began
        began = time.process_time()
        found = measure([video], [true]).distances
        assert found is not None  # orders are wanted
        every_order(found[0])
        seconds["ours"] += time.process_time() - began
        distances.append(found[0])
    mean, of_true = np.mean(theirs, axis=0), np.mean(distances, axis=0)
    difference = np.abs(errors_of(drawn, of_true) / mean - 1).max()
    exact = shuffle_test(np.stack(distances))
    sampled = (mean <= exact.epe * (1 + 1e-9)).mean()
    for name, of in seconds.items():
        print(f"{name}: {of / args.clips:.3f} s a clip")
    print(f"end-point errors of {args.orders} orders differ by {difference:.0e} of their size at most")
    print(f"p of all {exact.n_orders:,} orders {exact.p:.5f}, of {args.orders} orders {sampled:.5f}")
    ratio = seconds["peer"] / seconds["ours"]
    print(json.dumps({"speedup_vs_sampled_orders": round(ratio, 1), "largest_difference": float(f"{difference:.1e}")}))


def draw_clip(size: int, rng: np.random.Generator) -> np.ndarray:
    """Move a random picture by a random velocity, under noise that changes from frame to frame: (8, size, size, 3)."""
    picture = gaussian_filter(rng.normal(size=(size, size, 3)), (3, 3, 0), mode="wrap")
    picture = 128 + 40 * picture / picture.std()
    down, right = rng.uniform(-2, 2, size=2)
    frames = [shift(picture, (t * down, t * right, 0), order=1, mode="grid-wrap") for t in range(N_FRAMES)]
    return (np.stack(frames) + rng.normal(0, 20, (N_FRAMES, size, size, 3))).clip(0, 255).astype(np.uint8)


def peer(video: np.ndarray, true: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """End-point error of a clip with its frames in each order, by the flows of each."""
    seen = flows(true)
    return np.array([np.mean([epe(f, g) for f, g in zip(flows(video[of]), seen, strict=True)]) for of in orders])


if __name__ == "__main__":
    main()
