"""Stable Diffusion, a part at a time.

It comes as a diffusers folder (`tokenizer/`, `text_encoder/`, `vae/`, `unet/`, `scheduler/`), local or in the hub's
cache, or as the original checkpoint file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.config.method import Models
from minddiffuser.pretrained.checkpoint import STABLE_DIFFUSION_V1, open_checkpoint_part
from minddiffuser.pretrained.files import POSITIONS, MissingModelError, frozen, open_folder, read_json, three_numbers
from minddiffuser.store import reading

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

# The file of each part that says what it is; of the others, config.json.
_MAIN_FILES = {
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}


def open_text_encoder(name: str, revision: str | None, device: torch.device) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Open Stable Diffusion's tokenizer and CLIP text encoder.

    Raises
    ------
    MissingModelError
        One is absent or broken, or the tokenizer is not the encoder's.
    """
    from transformers import CLIPTextModel

    if (REPOSITORY / name).is_file():
        tokenizer, folder = clip_tokenizer(), REPOSITORY / name
    else:
        folder, remedy = _part_folder(name, revision, "tokenizer")
        tokenizer = _open_tokenizer(folder, remedy)
    encoder = _open_part(CLIPTextModel, name, revision, "text_encoder", device, POSITIONS)
    if len(tokenizer) != encoder.config.vocab_size:
        raise MissingModelError(
            f"Stable Diffusion's tokenizer in {folder} has {len(tokenizer)} words, but its text_encoder takes "
            f"{encoder.config.vocab_size}: they are of two models",
            "get both again",
            folder,
        )
    return tokenizer, encoder


def _open_tokenizer(folder: Path, remedy: str) -> CLIPTokenizer:
    """Open a tokenizer whose files are whole: transformers would take an empty one in place of what is absent."""
    from transformers import CLIPTokenizer

    what = "Stable Diffusion's tokenizer"
    read_json(folder / "tokenizer_config.json", f"the configuration of {what}", ["model_max_length"], remedy)
    if (folder / "special_tokens_map.json").is_file():
        read_json(folder / "special_tokens_map.json", f"the special tokens of {what}", [], remedy)
    if (folder / "tokenizer.json").is_file():
        file = folder / "tokenizer.json"
        read_json(file, what, ["model", "added_tokens"], remedy)
    else:
        file = folder / "merges.txt"
        if not file.is_file() or not (folder / "vocab.json").is_file():
            raise MissingModelError(
                f"{what} was not found: there is neither {folder / 'tokenizer.json'} nor vocab.json and merges.txt",
                remedy,
                folder,
            )
        read_json(folder / "vocab.json", f"the words of {what}", ["<|endoftext|>"], remedy)
    with reading(file, what, remedy, MissingModelError):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    # Words are put together from letters; without the merges all text would be spelt.
    made = {"".join(pair) for pair in model["merges"]}
    letters = {word for word in model["vocab"] if len(word.removesuffix("</w>")) == 1}
    if lost := set(model["vocab"]) - made - letters - set(tokenizer.all_special_tokens):
        raise MissingModelError(
            f"{file} is not {what}: it cannot make {len(lost)} of its {len(tokenizer)} words (such as {min(lost)!r})",
            remedy,
            file,
        )
    return tokenizer


def clip_tokenizer() -> CLIPTokenizer:
    """Tokenizer of OpenAI's CLIP, which is Stable Diffusion's, from the vocabulary that comes with open_clip."""
    import gzip

    from open_clip.tokenizer import bytes_to_unicode, default_bpe
    from transformers import CLIPTokenizer

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    letters = list(bytes_to_unicode().values())
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]


def open_vae(name: str, revision: str | None, device: torch.device) -> AutoencoderKL:
    """Open Stable Diffusion's autoencoder (the paper calls it VQ-VAE; it is AutoencoderKL)."""
    from diffusers import AutoencoderKL

    return _open_part(AutoencoderKL, name, revision, "vae", device)


def open_unet(name: str, revision: str | None, device: torch.device) -> UNet2DConditionModel:
    """Open Stable Diffusion's noise predictor."""
    from diffusers import UNet2DConditionModel

    return _open_part(UNet2DConditionModel, name, revision, "unet", device)


def open_scheduler(name: str, revision: str | None) -> DDIMScheduler:
    """Open the noise schedule as CompVis' DDIM sampler uses it.

    The options that the hub's own file sets otherwise, or leaves to defaults that differ, are fixed here:
    no clipping, alpha of the last step taken from the schedule, timesteps 1, 21, ..., 981.
    """
    from diffusers import DDIMScheduler

    if (REPOSITORY / name).is_file():
        name = str(STABLE_DIFFUSION_V1)  # the checkpoint has weights only
    folder, remedy = _part_folder(name, revision, "scheduler")
    file, what = folder / "scheduler_config.json", "Stable Diffusion's scheduler"
    found = read_json(file, what, ["num_train_timesteps", "beta_start", "beta_end", "beta_schedule"], remedy)
    with reading(file, what, remedy, MissingModelError):
        return DDIMScheduler.from_config(  # type: ignore[return-value]
            found, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        )


def open_safety_checker(models: Models, device: torch.device) -> tuple[Any, Any]:
    """Open Stable Diffusion's safety checker, and what prepares pictures for it.

    Raises
    ------
    MissingModelError
        It is not with the model; CompVis' checkpoint file and the miniature have none.
    """
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    source = (models.stable_diffusion, models.stable_diffusion_revision)
    if (REPOSITORY / models.stable_diffusion).is_file():
        raise MissingModelError(f"{models.stable_diffusion} has no safety checker; set safety_checker to false")
    checker = _open_part(StableDiffusionSafetyChecker, *source, "safety_checker", device, POSITIONS)
    folder, remedy = _part_folder(*source, "feature_extractor")
    file, what = folder / "preprocessor_config.json", "Stable Diffusion's feature_extractor"
    processing = read_json(file, what, ["image_mean", "image_std", "size", "crop_size"], remedy)
    for key in ("image_mean", "image_std"):
        three_numbers(processing, key, file)
    with reading(file, what, remedy, MissingModelError):
        return checker, CLIPImageProcessor.from_pretrained(folder, local_files_only=True)


def _open_part(
    kind: Any,
    name: str,
    revision: str | None,
    part: str,
    device: torch.device,
    spare: re.Pattern[str] | None = None,
) -> Any:
    """Open a model that is a part of Stable Diffusion; `spare` as in `open_folder`."""
    if (REPOSITORY / name).is_file():
        return frozen(open_checkpoint_part(kind, REPOSITORY / name, part), device)
    folder, remedy = _part_folder(name, revision, part)
    return frozen(open_folder(kind, folder, f"Stable Diffusion's {part}", remedy, spare), device)


def _part_folder(name: str, revision: str | None, part: str) -> tuple[Path, str]:
    """Folder of a part of Stable Diffusion, local or in the hub's cache, and what to do where it is not whole."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    main, local = _MAIN_FILES.get(part, "config.json"), REPOSITORY / name
    other = "set experiment.models.stable_diffusion to the folder or file that has it"
    if local.is_dir():
        if not (local / part / main).is_file():
            raise MissingModelError(
                f"Stable Diffusion's {part} was not found: there is no {local / part / main}",
                f"put it there, or {other}",
                local / part / main,
            )
        return local / part, f"get it again, or {other}"
    where = f" at revision {revision}" if revision else ""
    nowhere = (
        f"Stable Diffusion's {part} was not found: {name!r}{where} is neither a folder or checkpoint file "
        f"(looked at {local})"
    )
    try:
        file = hf_hub_download(name, f"{part}/{main}", revision=revision, local_files_only=True)
    except HFValidationError as error:
        raise MissingModelError(f"{nowhere} nor a name on the hub", other, local) from error
    except OSError as error:
        raise MissingModelError(
            f"{nowhere}, nor is {part}/{main} of it in the hub's cache",
            f"to get it, accept the licence on https://huggingface.co/{name}, log in with `hf auth login`, and run "
            f"python data/00_get_models.py with this configuration, or {other}",
            local,
        ) from error
    return Path(file).parent, "python data/00_get_models.py, with this configuration, says how to mend it"


def random_stable_diffusion(device: torch.device) -> dict[str, Any]:
    """Stable Diffusion v1-4's parts at full size with random weights, for tests and timings; "meta" takes no memory."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = str(STABLE_DIFFUSION_V1)
    unet: Any = UNet2DConditionModel.load_config(folder, subfolder="unet")
    vae: Any = AutoencoderKL.load_config(folder, subfolder="vae")
    with device:
        models = {
            "unet": UNet2DConditionModel.from_config(unet),
            "vae": AutoencoderKL.from_config(vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder")),
        }
    models = {name: frozen(model, device) for name, model in models.items()}
    return {**models, "scheduler": DDIMScheduler.from_pretrained(folder, subfolder="scheduler")}
