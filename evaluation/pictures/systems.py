"""What the configuration says that a subject's results should be, and what of them is there."""

from baselines.ozcelik import recipes as ozcelik
from baselines.takagi import recipes as takagi
from data.recipes import prepared
from evaluation.pictures.catalogue import SPLITS, STAGE1
from feature_decoding import recipes as decoding
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe
from minddiffuser.store import open_made
from reconstruction import folder
from reconstruction import recipes as reconstruction

FAMILIES = {"c": "semantic", "z": "detail", "z_clip": "structural"}  # files of what is decoded, by target
OTHERS = "others"  # folder of other people's pictures


def wanted(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of all systems with pictures, by name; one for each sample of an image."""
    return {
        **reconstruction.systems(config, subject),
        **takagi.systems(config, subject),
        **ozcelik.systems(config, subject),
    }


def decoded(config: Config, subject: str) -> dict[str, tuple[Recipe, ...]]:
    """Recipes of the files that each of the systems without pictures is scored from, by name."""
    found = {}
    for target, family in FAMILIES.items():
        files = (decoding.decoded(config, subject, family),)
        if family in decoding.FAMILIES:
            files = (*files, decoding.halves(config, subject, family))
            found |= {f"features/{target}@{split}": (decoding.splits(config, subject),) for split in SPLITS}
        found[f"features/{target}"] = files
    return found


def states_of(config: Config, subject: str) -> dict[str, str]:
    """Systems of a subject that are there, and what they were made of; samples count as part of a system.

    Raises
    ------
    DataError
        One of them was made with other settings than the configuration has.
    """
    recipe = prepared(config, subject)
    with open_made(recipe):
        tested = recipe.fingerprint  # scores depend on which images are tested, too
    found = {}
    for name, recipes in wanted(config, subject).items():
        if there := folder.state(recipes[0].path):
            folder.check_samples(recipes)
            found[name] = there
    if STAGE1 in found and decoding.decoded(config, subject, "structural").path.is_file():
        found[STAGE1] += f"; its loss as of stage 2 of {reconstruction.stage2(config, subject).fingerprint}"
    for path in sorted((config.folder(subject) / "reconstruction" / OTHERS).glob("*")):
        if there := folder.state(path):
            found[f"{OTHERS}/{path.name}"] = there
    for name, files in decoded(config, subject).items():
        if all(file.path.is_file() for file in files):
            for file in files:
                open_made(file).close()
            found[name] = ", ".join(file.fingerprint for file in files)
    return {name: f"{state}; test images of {tested}" for name, state in found.items()}


def not_wanted(config: Config, subject: str) -> list[str]:
    """Systems that are there, but that the configuration does not ask for: of a time when it did."""
    root, known = config.folder(subject) / "reconstruction", wanted(config, subject)
    names = [path.parent.relative_to(root).as_posix() for path in sorted(root.glob(f"*/*/{folder.SETTINGS}"))]
    return [name for name in names if name not in known and not name.startswith(f"{OTHERS}/")]


def incomplete(config: Config, subject: str, names: list[str], n_test: int) -> dict[str, str]:
    """Say of each system that has fewer pictures than it should what it lacks, such as "3 of 6 pictures"."""
    recipes, found = wanted(config, subject), {}
    for name in names:
        if name in recipes:
            n_images = reconstruction.n_wanted(config, name, n_test)
            found[name] = folder.shortfall(recipes[name][0].path, n_images, len(recipes[name]))
        elif name.startswith(f"{OTHERS}/"):
            path = config.folder(subject) / "reconstruction" / name
            found[name] = folder.shortfall(path, int(folder.read_settings(path)["n_images"]))
    return {name: text for name, text in found.items() if text}
