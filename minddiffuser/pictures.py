"""Pictures as an image viewer shows them."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from minddiffuser.store import DataError, reading

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# What image viewers and browsers show under the name of a PNG, whatever it is.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
GREY = ("1", "L", "LA", "I", "I;16")
COLOURED = ("P", "PA", "RGB", "RGBA")
SRGB_GAMMA = 1 / 2.2
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue
SRGB_CICP = bytes([1, 13, 0, 1])  # primaries, transfer, matrix and range of ITU-T H.273


def as_shown(file: Path) -> np.ndarray:
    """Read a picture as an image viewer shows it, in sRGB, turned as its EXIF orientation says.

    Parameters
    ----------
    file : Path
        A PNG of any depth: 1 to 16 bits, grey, with a palette, in colours, with a colour profile, or with an alpha
        channel that hides nothing; or a JPEG, WebP, GIF or BMP, which viewers recognise under any name.

    Returns
    -------
    array of shape (height, width, 3), uint8

    Raises
    ------
    DataError
        It cannot be read, or viewers show it differently: there are transparent pixels, several frames, or colours
        that are not sRGB's and not described by a profile.
    """
    with warnings.catch_warnings(), reading(file, "a picture", "save it again as PNG"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if file.exists() and not file.is_file():
            raise DataError(f"{file} is no file; move it away")
        try:
            image = Image.open(file, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"{file} is too large ({str(error).split(',')[0]}); save it smaller") from error
        except Image.UnidentifiedImageError as error:
            raise ValueError("not recognised as PNG") from error
        with image:
            packing = str(image.tile[0].args) if image.tile else image.mode  # gone once it is loaded
            profile = _check_colours(image, file)
            if _is_transparent(image, packing):
                raise DataError(
                    f"{file} has transparent pixels, and what is behind them is not known; save it without an alpha "
                    "channel or transparent colour"
                )
            picture = ImageOps.exif_transpose(image)
        if picture.mode in ("I", "I;16"):
            values = np.asarray(picture).astype(np.uint32)
            picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 to 255, rounded
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
        picture = picture.convert("L" if image.mode in GREY or packing == "LA;16B" else "RGB")
        if profile:
            try:
                described = ImageCms.ImageCmsProfile(BytesIO(profile))
                # Of grey, the optimised transform is up to ten values off in the shadows.
                flags = ImageCms.Flags.NOOPTIMIZE if picture.mode == "L" else ImageCms.Flags.NONE
                srgb = ImageCms.createProfile("sRGB")
                to_srgb = ImageCms.buildTransform(described, srgb, picture.mode, "RGB", flags=flags)
                picture = to_srgb.apply(picture)
            except (OSError, ValueError, ImageCms.PyCMSError) as error:
                raise DataError(
                    f"{file} has a colour profile that cannot be used ({error}); save it in sRGB"
                ) from error
        return np.asarray(picture.convert("RGB"))


def _check_colours(image: Image.Image, file: Path) -> bytes | None:
    """Return the profile that describes a picture's colours, or None where they are sRGB's.

    PNG describes colours in four ways, of which the first that is there counts: cICP, iCCP, sRGB, gAMA and cHRM.
    """
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{file} is animated, or has several frames; save the one to score as PNG")
    if image.mode not in GREY + COLOURED:
        raise DataError(f"{file} has colours in {image.mode}, which viewers show differently; save it in sRGB")
    info = image.info
    # Pillow passes over cICP. It comes before the pixels.
    header = file.read_bytes().partition(b"IDAT")[0] if image.format == "PNG" else b""
    _, is_there, code = header.partition(b"cICP")
    if is_there:
        if code[:4] != SRGB_CICP:
            raise DataError(f"{file} has colours of another space than sRGB (cICP {list(code[:4])}); save it in sRGB")
        return None
    if "icc_profile" in info:
        if not info["icc_profile"]:
            raise DataError(f"{file} has a colour profile that cannot be used (it is broken); save it in sRGB")
        return info["icc_profile"]
    if "srgb" in info:
        return None
    gamma, chromaticities = info.get("gamma", SRGB_GAMMA), info.get("chromaticity", SRGB_CHROMATICITIES)
    if abs(gamma / SRGB_GAMMA - 1) > 0.015:
        raise DataError(f"{file} has gamma {gamma:g} where sRGB's is {SRGB_GAMMA:.5f}; save it in sRGB")
    if image.mode in COLOURED and not np.allclose(chromaticities, SRGB_CHROMATICITIES, rtol=0, atol=0.005):
        raise DataError(f"{file} has colours of other primaries than sRGB (cHRM); save it in sRGB")
    return None


def _is_transparent(image: Image.Image, packing: str) -> bool:
    """Tell whether any pixel is transparent, by its alpha, its place in the palette or its colour."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "PA", "RGBA"):
        return int(np.asarray(image.getchannel("A")).min()) < 255
    if "transparency" not in image.info:
        return False
    # The transparent colour is as deep as the file, pixels of less or more than 8 bits are not; of 16 bits of a colour
    # the upper 8 are read, so that a picture with almost the transparent colour is refused, too.
    colour = np.array(image.info["transparency"])
    colour = {"L;2": colour * 85, "L;4": colour * 17, "RGB;16B": colour >> 8}.get(packing, colour)
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    return bool((pixels.reshape(image.height * image.width, -1) == colour).all(axis=1).any())
