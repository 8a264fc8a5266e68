"""Map from which vertices of the cortex Mind-Animator's networks decode, and where direction is decoded from.

    python baselines/mind_animator/25_maps.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `prepared.h5`, `films/features/clips.h5` and what 21 to 23 trained. Targets are f and c of the semantic decoder,
z_1 of the structure decoder, motion (the change of the latents from the first frame on, of the generator, given the
true first frame) and direction (the mean velocity of a clip, by ridge regression). Measures are jacobian, of 256
training clips at most, which for direction is the length of its two weights; and product, of weights as the authors
multiply them, scaled to reach from 0 to 1 (baselines/mind_animator/maps.py has both). Vertices have deviation 1. Writes
to `maps/`:

    maps.csv           form, target, measure, area; n, of vertices; mean, se, low and high (95 %), share of the sum
    motion_areas.csv   form, target, measure; mean over all vertices; ratio of the mean over MT, MST, V3A and V3B to
                       that over V4, LO1 and LO2, low and high (95 %)
    released.csv       form, target, area; released_label, what the authors' script calls that bar; mean of the product
                       over the vertices that are not 0
    maps.dscalar.nii   every map, for Connectome Workbench, on all vertices of the cortex of the atlas that names areas
                       (59,412 in fs_LR 32k); NaN where a form does not decode from a vertex
    maps.png           Jacobians of one form on flat maps, and by area

Intervals are over vertices, neighbours of which are alike: they are too narrow. Forms that share a decoder have its
maps once, under the name of the first. Reference: the authors' Explainable_analysis. Peak memory: 8 GB at the real
size, by count: the generator's 336 million weights, and a batch of films with what its gradients need.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree

from baselines.mind_animator import maps, recipes
from baselines.mind_animator.decoding import distinct_forms, load_rows, of_training, open_targets
from baselines.mind_animator.masks import visible
from baselines.mind_animator.networks import MotionGenerator, SemanticDecoder, StructureDecoder
from data.cortex import AREAS, N_SURFACE, Atlas, dense_scalars, read_atlas
from data.film_recipes import prepared
from feature_decoding.maps import from_0_to_1
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.figures import as_png
from minddiffuser.progress import progress
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Files

KEYS = ["form", "target", "measure"]
TITLES = {
    "c": "tokens of the caption (c)",
    "z_1": "first frame (z_1)",
    "motion": "change from the first frame",
    "direction": "direction, by ridge regression",
}


def main(argv: list[str] | None = None) -> None:
    """Map each subject's decoders."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    experiment, dlabel = run.config.experiment, run.config.execution.dlabel
    for subject in run.subjects:
        files = Files(recipes.maps(run.config, subject))
        if files.is_done(run.overwrite):
            print(f"{files.recipe.path.parent} is there already")
            continue
        atlas, found, areas, ratios, bars = read_atlas(dlabel and REPOSITORY / dlabel), {}, [], [], []
        forms = recipes.settings_of(run.config).forms
        for form in progress(forms, desc=f"{subject} maps"):
            vertices = maps.load_vertices(prepared(run.config, subject), form)
            for (target, measure), columns in map_form(run, subject, form):
                values, key = vertices.combine(columns), (form, target, measure)
                if measure == "product":
                    values = from_0_to_1(values)
                    bars.append(maps.released_bars(values, vertices, target == "z_1").assign(form=form, target=target))
                found[key] = vertices, values
                by = vertices.area, experiment.evaluation.n_bootstrap, experiment.seed
                areas.append(maps.by_area(values, *by).assign(**dict(zip(KEYS, key, strict=True))))
                ratios.append((*key, values.mean(), *maps.ratio_of_motion(values, *by)))
        table = pd.concat(areas)[[*KEYS, "area", "n", "mean", "se", "low", "high", "share"]]
        ratio = pd.DataFrame(ratios, columns=[*KEYS, "mean", "ratio", "low", "high"])
        shown = "corrected" if "corrected" in forms else forms[0]
        files.write({
            "maps.csv": table.to_csv(index=False, float_format="%.6g"),
            "motion_areas.csv": ratio.to_csv(index=False, float_format="%.6g"),
            "released.csv": pd.concat(bars)[["form", "target", "area", "released_label", "mean"]].to_csv(
                index=False, float_format="%.6g"
            ),
            "maps.dscalar.nii": dense_scalars({" ".join(key): each for key, each in found.items()}, atlas),
            "maps.png": draw(found, table, atlas, subject, shown),
        })  # fmt: skip
        show(subject, table, ratio)


def map_form(run: Run, subject: str, form: str) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Yield the target, the measure and the values (n_columns,) of each map of the decoders that a form has itself."""
    config, seed = run.config, run.config.experiment.seed
    own, rows = animator_form(recipes.settings_of(config), form), load_rows(config, subject, form)
    at, n_in = rows.training[:: -(-len(rows.training) // maps.N_CLIPS)], rows.X.shape[1]
    X = torch.from_numpy(rows.X[at]).to(run.device)
    with open_targets(config, rows, subject) as file:
        n_tokens, n_text = file["c"].shape[1:]
        velocity, first = file["velocity"][:], file[f"z_{own.clips.posterior}"][:, 0][at]
    first = torch.from_numpy(first.reshape(len(first), -1).astype(np.float32)).to(run.device)  # (n, d)
    d, s, m = first.shape[1], own.semantic, own.motion
    generator = torch_generator(seed, f"{subject} motion", "roll_out")  # of the mask that 23 makes films with
    mask = visible(own.clips.n_frames - 1, m.infer_keep, generator).to(run.device)
    for decoder in [decoder for decoder in recipes.SCRIPTS if form in distinct_forms(config, decoder)]:
        if decoder == "semantic":
            network = SemanticDecoder(n_in, s.width, s.n_blocks, s.hidden, n_tokens, n_text)
        elif decoder == "structure":
            network = StructureDecoder(n_in, d, own.structure.width, own.structure.n_blocks)
        else:
            network = MotionGenerator(n_in, d, m.inner, m.heads, m.d_ff, m.n_layers, m.n_memory, m.output)
        network = maps.open_network(recipes.decoded(config, subject, form, decoder), network).to(run.device)
        targets = maps.targets_of(network, mask, first)
        for target, decode in targets.items():
            yield (target, "jacobian"), maps.jacobian_norm(decode, X, rows.ids[at], seed, own.batch_size)
        yield (list(targets)[-1], "product"), maps.weight_product(maps.released_weights(network))  # of c, not of f
        if decoder == "structure":  # forms that share it share their vertices
            yield ("direction", "jacobian"), maps.direction_weights(rows, velocity, of_training(rows, run.device))


def show(subject: str, table: pd.DataFrame, ratio: pd.DataFrame) -> None:
    """Print Jacobians by area."""
    of = table[table["measure"] == "jacobian"]
    of = of.assign(mean=of["share"] / of["n"] * of.groupby(KEYS)["n"].transform("sum"))
    wide = of.pivot_table("mean", ["form", "target"], "area", sort=False)
    print(f"\n{subject}: mean Jacobian over the vertices of an area; 1 is the mean over all vertices of the form")
    print(wide.round(2).T.to_string(line_width=terminal.width()))
    print("\nMT, MST, V3A and V3B against V4, LO1 and LO2; 95 % intervals over vertices:")
    ratio = ratio[ratio["measure"] == "jacobian"].drop(columns="measure").rename(columns={"mean": "mean of all"})
    of_mean = {"mean of all": "{:.2g}".format}
    print(ratio.to_string(index=False, line_width=terminal.width(), float_format="{:.2f}".format, formatters=of_mean))
    for form, target in ratio.loc[ratio["mean of all"] == 0, ["form", "target"]].to_numpy():
        print(f"WARNING: {subject}: {target} of {form} does not depend on the vertices: no output changes with any")


def draw(found: dict, table: pd.DataFrame, atlas: Atlas, subject: str, form: str) -> bytes:
    """Draw a form's Jacobians: left and right flat maps, and means by area, each target in a row."""
    targets = [target for target in TITLES if (form, target, "jacobian") in found]
    figure = plt.figure(figsize=(10.9, height := 1 + 3.1 * len(targets)))
    grid = figure.add_gridspec(
        len(targets), 5, width_ratios=(0.8, 1, 0.03, 0.1, 0.75), wspace=0.03, hspace=0.14,
        left=0.01, right=0.945, top=1 - 0.65 / height, bottom=0.45 / height,
    )  # fmt: skip
    title = "size of the change of what is decoded with each vertex (1 is the mean of all)"
    figure.suptitle(f"{subject}, {form}: {title}", fontsize=11, y=1 - 0.2 / height)
    meshes = {side: maps.flat_mesh(side) for side in "LR"}
    areas = {side: outlines(*mesh, atlas, side) for side, mesh in meshes.items()}
    for row, target in enumerate(targets):
        vertices, values = found[form, target, "jacobian"]
        mean = values.mean() or 1  # 0 where nothing that is decoded depends on a vertex
        relative = values / mean
        low, high = np.quantile(relative, [0.02, 0.98])
        for column, (side, name) in enumerate({"L": "left", "R": "right"}.items()):
            axis, here = figure.add_subplot(grid[row, column]), np.flatnonzero(vertices.hemisphere == side)
            draw_outlines(axis, areas[side])
            here = here[np.argsort(relative[here])]  # the largest on top
            points = axis.scatter(
                *meshes[side][0][vertices.vertex[here]].T, c=relative[here], s=np.clip(12000 / len(values), 2, 10),
                vmin=low, vmax=high, linewidths=0, zorder=2,
            )  # fmt: skip
            axis.set_title(f"{TITLES[target]}, {name}", fontsize=9, pad=2)
        figure.colorbar(points, cax=figure.add_subplot(grid[row, 2])).ax.tick_params(labelsize=7)
        own = table[(table[KEYS] == [form, target, "jacobian"]).all(axis=1)][::-1]
        spread = np.abs(own[["low", "high"]].to_numpy().T - own["mean"].to_numpy()) / mean
        axis = figure.add_subplot(grid[row, 4])
        axis.errorbar(own["mean"] / mean, own["area"], xerr=spread, fmt="o", ms=4, color="#333333", lw=1)
        axis.axvline(1, color="#999999", lw=0.8, zorder=0)
        axis.yaxis.tick_right()
        axis.tick_params(labelsize=8)
        axis.spines[["top", "left"]].set_visible(False)
    axis.set_xlabel("mean by area, and 95 % interval over vertices", fontsize=8)
    return as_png(figure)


def outlines(places: np.ndarray, triangles: np.ndarray, atlas: Atlas, side: str) -> dict[str, tuple]:
    """Outline the areas on a flat map: of each its border, (n_edges, 2, 2), and where it is widest, (2,)."""
    found, here = {}, atlas.hemisphere == side
    for name in AREAS:
        is_own = np.isin(np.arange(N_SURFACE), atlas.vertex[here & (atlas.area == name)])
        own = triangles[is_own[triangles].all(axis=1)]
        edges, count = np.unique(np.sort(own[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0, return_counts=True)
        border = edges[count == 1]
        away, _ = cKDTree(places[border].reshape(-1, 2)).query(places[is_own])
        found[name] = places[border], places[is_own][away.argmax()]
    return found


def draw_outlines(axis: plt.Axes, areas: dict[str, tuple]) -> None:
    """Draw borders and names of areas, which the axis is cut to."""
    axis.axis("off")
    axis.set_aspect("equal")
    for name, (border, (x, y)) in areas.items():
        axis.add_collection(LineCollection(border, colors="#777777", linewidths=0.6, zorder=1))
        text = axis.text(x, y, name, fontsize=7.5, ha="center", va="center", zorder=3)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    corners = np.concatenate([border.reshape(-1, 2) for border, _ in areas.values()])
    (left, bottom), (right, top) = corners.min(axis=0) - 3, corners.max(axis=0) + 3
    axis.set(xlim=(left, right), ylim=(bottom, top))


if __name__ == "__main__":
    execute(main)
