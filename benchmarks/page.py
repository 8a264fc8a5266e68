"""How large the page of a real experiment is, and how fast a browser opens it.

    python benchmarks/page.py [--images 982] [--systems 6]

Makes the page of one subject with as many test images and systems, and trajectories of all images; pictures are
random crops, 425 x 425, of scikit-image's photographs, different for every image and system. Opens it from disk in
headless Chromium (Debian's, found on PATH; no network) and prints the size of the page and the milliseconds from
opening it to the load event, and to the moment when the first rows of pictures are decoded. Times are medians of
five; the last line is JSON. To be held: under 2 seconds.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from skimage import data as photographs

from evaluation.page.album import Album, thumbnail
from evaluation.page.shell import page
from evaluation.pictures.catalogue import METRICS, STAGE2, SYSTEMS
from evaluation.pictures.section import section
from evaluation.pictures.shown import SubjectResults, Trajectory, pictures_per_trajectory
from minddiffuser.config import REPOSITORY, load

SIZE = 425
FIRST_PICTURES = """async () => {
  document.documentElement.style.scrollBehavior = "auto";
  document.querySelector("#sheet").scrollIntoView();
  const begin = performance.now();
  let images = [];
  while (!images.length && performance.now() - begin < 20000) {
    await new Promise(requestAnimationFrame);
    images = [...document.querySelectorAll("#sheet .row:nth-child(-n+4) img")];
  }
  await Promise.all(images.map((image) => image.decode()));
  return {load: performance.getEntriesByType("navigation")[0].loadEventEnd, first: performance.now(), n: images.length};
}"""


def main() -> None:
    """Make the page, open it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=982)
    parser.add_argument("--systems", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    page = make_page(args.images, list(SYSTEMS)[: args.systems])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "index.html"
        path.write_text(page)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        times = [open_page(browser, path) for _ in range(args.repeats)]
        browser.close()
        megabytes = path.stat().st_size / 1e6
    load_s, first_s = (statistics.median(values) / 1000 for values in zip(*times, strict=True))
    print(f"{args.images} images x {args.systems} systems, trajectories of all: {megabytes:.1f} MB")
    print(f"load event after {load_s * 1000:.0f} ms, first pictures decoded after {first_s * 1000:.0f} ms")
    print(
        json.dumps({"page_mb": round(megabytes, 1), "load_s": round(load_s, 3), "first_pictures_s": round(first_s, 3)})
    )


def make_page(n_images: int, systems: list[str]) -> str:
    """Make a page of random scores and pictures."""
    rng = np.random.default_rng(0)
    originals = (photographs.astronaut(), photographs.coffee(), photographs.chelsea())
    sources = [np.pad(image, ((80, 80), (80, 80), (0, 0)), "reflect") for image in originals]
    ids = sorted(rng.choice(73_000, n_images, replace=False).tolist())

    def picture() -> bytes:
        source = sources[rng.integers(len(sources))]
        y, x = (rng.integers(length - SIZE + 1) for length in source.shape[:2])
        crop = source[y : y + SIZE, x : x + SIZE, :: rng.choice([-1, 1])]
        return thumbnail(Image.fromarray(np.ascontiguousarray(crop)))

    n_frames = pictures_per_trajectory(n_images)
    iterations = np.linspace(0, 299, n_frames).round().astype(int).tolist()
    subject = SubjectResults(
        name="subj01",
        stimuli={i: picture() for i in ids},
        captions={i: [f"A caption of some sixty letters, as those of COCO are, {k}." for k in range(5)] for i in ids},
        categories={i: [f"category {i % 80}", f"category {i % 7}"] for i in ids},
        pictures={system: {i: picture() for i in ids} for system in systems},
        settings={system: {"fingerprint": "0123456789abcdef"} for system in systems},
        trajectories={
            i: Trajectory(
                iterations, [picture() for _ in iterations], rng.uniform(0.5, 2, 300).tolist(), iterations[-1]
            )
            for i in ids
        }
        if STAGE2 in systems
        else {},
    )
    index = pd.MultiIndex.from_product([systems, METRICS, ids], names=["system", "metric", "stimulus_id"])
    scores = pd.DataFrame({"value": rng.uniform(size=len(index))}, index=index).reset_index().assign(subject="subj01")
    summary = scores.groupby(["subject", "system", "metric"], sort=False)["value"].agg(["mean", "size"]).reset_index()
    summary = summary.rename(columns={"size": "n"}).assign(ci_low=0.4, ci_high=0.6)
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm", "n"]
    tables = {"scores": scores, "summary": summary, "paired": pd.DataFrame(columns=columns)}
    config, album = load(REPOSITORY / "configs" / "nsd.yaml", None), Album()
    return page(config, [section(config, [subject], tables, {"settings": {}, "absent": {}}, album)], album)


def open_page(browser: Browser, path: Path) -> tuple[float, float]:
    """Milliseconds to the load event, and to the first pictures."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri(), wait_until="load")
    times = page.evaluate(FIRST_PICTURES)
    page.close()
    if not times["n"]:
        raise RuntimeError("no picture came")
    return times["load"], times["first"]


if __name__ == "__main__":
    main()
