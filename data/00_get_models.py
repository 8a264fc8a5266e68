"""Download the pretrained models that a configuration names, once, and check them (about 8 GB for the real ones).

    python data/00_get_models.py --config configs/nsd.yaml

Before it, accept Stable Diffusion's licence on https://huggingface.co/CompVis/stable-diffusion-v1-4 and log in with
`hf auth login`. Writes to the hub's cache (`HF_HOME`, by default ~/.cache/huggingface), and compares every file with
the checksum that the hub gives for it. The networks of the field's eight metrics (0.5 GB) go to torch.hub's folder
(`execution.torch_hub`, by default ~/.cache/torch/hub), checked by the checksums in their names, or, without one, by
reading them. With `experiment.mind_animator`, the classifiers that score films (0.7 GB) come from the hub, too;
ViFi-CLIP's checkpoint is not on it, and is to be fetched from github.com/muzairkhattak/ViFi-CLIP. Only this
script and 00_get_nsd.py use the network; all others open local files.

Peak memory: 1 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import itertools

from minddiffuser.cli import execute, parse
from minddiffuser.pretrained.downloading import (
    damaged_files,
    download,
    download_film_networks,
    download_resnet50,
    download_scoring_weights,
)
from minddiffuser.store import DataError


def main(argv: list[str] | None = None) -> None:
    """Download and check."""
    config = parse(__doc__, argv, divides=False).config
    concepts, hub = config.experiment.semantic_brain_decoding, config.execution.torch_hub
    folders, films = [], config.experiment.mind_animator
    wanted = download(config.experiment.models, concepts is not None and concepts.safety_checker)
    for folder in itertools.chain(wanted, download_film_networks(films.metrics) if films else ()):
        print(f"{folder}: checking", flush=True)
        if damaged := damaged_files(folder):
            names = ", ".join(map(str, damaged))
            raise DataError(
                f"damaged, by their checksums: {names}; delete the files that these link to, and run this again"
            )
        folders.append(folder)
    if config.experiment.evaluation.networks == "imagenet":
        folders += download_scoring_weights(hub)
    if concepts is not None and concepts.network == "resnet50":
        folders.append(download_resnet50(hub))
    print(f"{len(folders)} models are downloaded and whole" if folders else "all models are local: nothing to download")


if __name__ == "__main__":
    execute(main)
