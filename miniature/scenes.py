"""Procedurally drawn scenes: the miniature's stand-in for COCO photographs.

A scene is a background with one to three objects on it, each of a kind, a colour, a place and a size;
nearer objects hide those behind them. It is drawn at four times the final resolution and averaged down,
so that edges are antialiased. Five captions say, in different words and with different omissions, what is
in it, as COCO's five annotators do.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = 64
_SUPERSAMPLING = 4
_CANVAS = IMAGE_SIZE * _SUPERSAMPLING

COLOURS = {
    "red": (212, 42, 40),
    "orange": (242, 140, 28),
    "yellow": (248, 218, 48),
    "green": (34, 120, 60),
    "blue": (40, 84, 214),
    "purple": (132, 56, 176),
    "pink": (246, 140, 186),
    "white": (244, 244, 240),
    "black": (34, 34, 40),
}
KINDS = ("ball", "box", "star", "heart", "house", "tree", "car", "fish", "ring", "kite")
BACKGROUNDS = ("field", "desert", "sea", "night", "snow", "wall", "room")
SUPERCATEGORY = {
    **dict.fromkeys(("ball", "box", "star", "heart", "ring", "kite"), "toy"),
    **dict.fromkeys(("house", "tree", "car"), "outdoor"),
    "fish": "animal",
}
_BACKGROUND_PHRASES = {
    "field": ("on a field", "on the grass", "in a meadow"),
    "desert": ("in the desert", "on the sand", "in the dunes"),
    "sea": ("by the sea", "on the water", "in the ocean"),
    "night": ("at night", "under the stars", "in the dark"),
    "snow": ("in the snow", "in winter", "on the ice"),
    "wall": ("by a wall", "before bricks", "at the wall"),
    "room": ("in a room", "on the floor", "in the house"),
}


@dataclass(frozen=True)
class SceneObject:
    """One object: what it is and where, in pixels of the final image (`radius` is half its width)."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    facing: int  # -1 or 1: the side that a car or a fish looks to


@dataclass(frozen=True)
class Scene:
    """A background and its objects, the farthest first."""

    background: str
    horizon: float  # share of the height above the ground
    objects: tuple[SceneObject, ...]
    texture_seed: int


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene at random: 1-3 objects that may hide a part, never the most, of one another."""
    objects: list[SceneObject] = []
    n_objects = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    while len(objects) < n_objects:
        radius = float(rng.uniform(9, 20 if n_objects == 1 else 15))
        x, y = rng.uniform(radius * 0.8, IMAGE_SIZE - radius * 0.8, size=2)
        if any(np.hypot(x - o.x, y - o.y) < 0.75 * (radius + o.radius) for o in objects):
            continue
        objects.append(
            SceneObject(
                kind=str(rng.choice(KINDS)),
                colour=str(rng.choice(list(COLOURS))),
                x=float(x),
                y=float(y),
                radius=radius,
                facing=int(rng.choice([-1, 1])),
            )
        )
    return _sample_place(tuple(objects), rng)


def sample_scene_of(kind: str, colour: str, rng: np.random.Generator) -> Scene:
    """Draw a scene with one large object of this kind and colour; all else is random."""
    radius = float(rng.uniform(13, 20))
    x, y = rng.uniform(radius * 0.8, IMAGE_SIZE - radius * 0.8, size=2)
    item = SceneObject(kind, colour, float(x), float(y), radius, facing=int(rng.choice([-1, 1])))
    return _sample_place((item,), rng)


def _sample_place(objects: tuple[SceneObject, ...], rng: np.random.Generator) -> Scene:
    return Scene(
        background=str(rng.choice(BACKGROUNDS)),
        horizon=float(rng.uniform(0.35, 0.65)),
        objects=objects,
        texture_seed=int(rng.integers(2**31)),
    )


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns
    -------
    image : array of shape (64, 64, 3), uint8
    visible : array of shape (n_objects, 64, 64), bool
        The pixels in which each object is seen (what nearer objects leave of it).
    """
    rng = np.random.default_rng(scene.texture_seed)
    canvas = _draw_background(scene, rng)
    labels = Image.new("L", (_CANVAS, _CANVAS), 0)
    draw, draw_label = ImageDraw.Draw(canvas), ImageDraw.Draw(labels)
    for index, item in enumerate(scene.objects):
        colour = _jitter(COLOURS[item.colour], rng, 10)
        _draw_object(draw, item, colour, None)
        _draw_object(draw_label, item, None, index + 1)
    image = np.asarray(canvas.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX))
    label = np.asarray(labels.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST))
    visible = np.stack([label == index + 1 for index in range(len(scene.objects))])
    return image, visible


def captions(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Five captions of a scene, each at most 13 words (so that 15 tokens hold all of it)."""
    order = sorted(scene.objects, key=lambda item: -item.radius)
    names = [f"{item.colour} {item.kind}" for item in order]
    first = order[0]
    size = "big" if first.radius > 14 else "small" if first.radius < 11 else "medium"
    place = rng.choice(_BACKGROUND_PHRASES[scene.background], size=5)

    everything = f"a {', '.join(names[:-1])} and {names[-1]} {place[0]}" if names[1:] else f"a {names[0]} {place[0]}"
    described = f"a {size} {names[0]} {_position(first)} {place[1]}"
    if len(order) == 1:
        related = f"there is one {names[0]} {_position(first)} {place[2]}"
        listed = f"a picture of a {size} {names[0]} {place[3]}"
    else:
        related = f"a {names[0]} {_relation(first, order[1])} a {names[1]} {place[2]}"
        listed = f"a {' and a '.join(item.kind for item in order)} {place[3]}"
    placed = f"{place[4]} a {names[-1]} {_position(order[-1])}"
    if len(order) > 1:
        placed += f" with a {first.kind}"
    texts = [everything, described, related, listed, placed]
    return [text.replace(",", " ,").replace("a orange", "an orange") for text in texts]


def _position(item: SceneObject) -> str:
    across, down = item.x / IMAGE_SIZE - 0.5, item.y / IMAGE_SIZE - 0.5
    if max(abs(across), abs(down)) < 0.12:
        return "in the middle"
    if abs(across) > abs(down):
        return "on the left" if across < 0 else "on the right"
    return "at the top" if down < 0 else "at the bottom"


def _relation(item: SceneObject, other: SceneObject) -> str:
    across, down = item.x - other.x, item.y - other.y
    if abs(across) > abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def _jitter(colour: tuple[int, int, int], rng: np.random.Generator, amount: int) -> tuple[int, ...]:
    return tuple(int(np.clip(c + rng.integers(-amount, amount + 1), 0, 255)) for c in colour)


def _shade(colour: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(int(np.clip(c * factor, 0, 255)) for c in colour)


def _gradient(top: tuple[int, ...], bottom: tuple[int, ...], height: int) -> np.ndarray:
    ramp = np.linspace(0, 1, max(height, 1))[:, None]
    return (np.array(top) * (1 - ramp) + np.array(bottom) * ramp)[:, None, :]  # (height, 1, 3): rows of one colour


def _draw_background(scene: Scene, rng: np.random.Generator) -> Image.Image:
    horizon = int(scene.horizon * _CANVAS)
    skies_and_grounds = {
        "field": (((120, 180, 240), (196, 224, 250)), ((120, 190, 80), (84, 150, 56))),
        "desert": (((250, 220, 160), (252, 236, 200)), ((226, 186, 116), (196, 150, 84))),
        "sea": (((160, 210, 244), (220, 240, 250)), ((40, 130, 170), (16, 84, 130))),
        "night": (((12, 14, 44), (40, 40, 90)), ((28, 40, 44), (14, 22, 26))),
        "snow": (((190, 204, 222), (222, 230, 240)), ((236, 242, 250), (206, 218, 236))),
        "wall": (((168, 96, 76), (156, 88, 70)), ((168, 168, 164), (136, 136, 132))),
        "room": (((232, 214, 190), (222, 200, 172)), ((150, 104, 68), (118, 78, 48))),
    }
    sky, ground = skies_and_grounds[scene.background]
    pixels = np.concatenate([_gradient(*sky, horizon), _gradient(*ground, _CANVAS - horizon)])
    pixels += rng.normal(0, 6, size=3)  # the light of the day
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).repeat(_CANVAS, axis=1))
    draw = ImageDraw.Draw(canvas)
    if scene.background == "night":
        for _ in range(14):
            x, y = int(rng.integers(0, _CANVAS)), int(rng.integers(0, horizon))
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(240, 236, 200))
    elif scene.background == "sea":
        for y in range(horizon + 10, _CANVAS, 26):
            draw.line([(0, y), (_CANVAS, y)], fill=(84, 164, 196), width=4)
    elif scene.background == "wall":
        for row, y in enumerate(range(0, horizon, 28)):
            draw.line([(0, y), (_CANVAS, y)], fill=(206, 170, 154), width=5)
            for x in range(-32 * (row % 2), _CANVAS, 64):
                draw.line([(x, y), (x, min(y + 28, horizon))], fill=(206, 170, 154), width=5)
    elif scene.background == "room":
        for x in range(-_CANVAS, 2 * _CANVAS, 64):
            bottom = _CANVAS // 2 + int((x - _CANVAS // 2) * 1.8)
            draw.line([(x, horizon), (bottom, _CANVAS)], fill=(106, 68, 42), width=4)
    elif scene.background == "field":
        for _ in range(2):
            x, y = int(rng.integers(0, _CANVAS)), int(rng.integers(10, max(horizon - 30, 11)))
            for shift in (-22, 0, 22):
                draw.ellipse([x + shift - 24, y - 12, x + shift + 24, y + 14], fill=(244, 248, 252))
    return canvas


def _draw_object(
    draw: ImageDraw.ImageDraw, item: SceneObject, colour: tuple[int, ...] | None, label: int | None
) -> None:
    """Draw one object in colour, or, for the label image, as a silhouette of value `label`."""
    s, r, f = _SUPERSAMPLING, item.radius * _SUPERSAMPLING, item.facing
    cx, cy = item.x * s, item.y * s

    def ink(factor: float = 1.0, fixed: tuple[int, int, int] | None = None) -> tuple[int, ...] | int:
        if label is not None:
            return label
        assert colour is not None
        return fixed if fixed is not None else _shade(colour, factor)

    def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        return [cx + x0 * r, cy + y0 * r, cx + x1 * r, cy + y1 * r]

    def polygon(points: list[tuple[float, float]], fill: tuple[int, ...] | int) -> None:
        draw.polygon([(cx + x * r, cy + y * r) for x, y in points], fill=fill)

    dark, wood, glass = (40, 40, 44), (110, 72, 40), (206, 232, 244)
    if item.kind == "ball":
        draw.ellipse(box(-1, -1, 1, 1), fill=ink())
        draw.ellipse(box(-0.55, -0.6, -0.15, -0.2), fill=ink(1.0, (252, 252, 252)))
    elif item.kind == "box":
        draw.rectangle(box(-0.85, -0.85, 0.85, 0.85), fill=ink())
        draw.rectangle(box(-0.85, -0.12, 0.85, 0.12), fill=ink(0.6))
        draw.rectangle(box(-0.12, -0.85, 0.12, 0.85), fill=ink(0.6))
    elif item.kind == "star":
        angles = -np.pi / 2 + np.arange(10) * np.pi / 5
        lengths = np.where(np.arange(10) % 2 == 0, 1.1, 0.46)
        polygon([(m * np.cos(a), m * np.sin(a)) for a, m in zip(angles, lengths, strict=True)], ink())
    elif item.kind == "heart":
        t = np.linspace(0, 2 * np.pi, 40)
        x = np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
        polygon(list(zip(x, y, strict=True)), ink())
    elif item.kind == "house":
        draw.rectangle(box(-0.8, -0.15, 0.8, 0.95), fill=ink())
        polygon([(-1, -0.15), (0, -1), (1, -0.15)], ink(0.55))
        draw.rectangle(box(-0.2, 0.35, 0.2, 0.95), fill=ink(1.0, wood))
        draw.rectangle(box(0.38, 0.08, 0.66, 0.36), fill=ink(1.0, glass))
    elif item.kind == "tree":
        draw.rectangle(box(-0.16, 0.2, 0.16, 1), fill=ink(1.0, wood))
        polygon([(-0.85, 0.5), (0, -0.45), (0.85, 0.5)], ink(0.85))
        polygon([(-0.65, -0.05), (0, -1), (0.65, -0.05)], ink())
    elif item.kind == "car":
        polygon([(-0.55 * f, 0.0), (-0.35 * f, -0.5), (0.3 * f, -0.5), (0.6 * f, 0.0)], ink(0.75))
        polygon([(-0.25 * f, -0.04), (-0.2 * f, -0.38), (0.22 * f, -0.38), (0.42 * f, -0.04)], ink(1, glass))
        draw.rectangle(box(-1, -0.02, 1, 0.42), fill=ink())
        for x in (-0.55, 0.55):
            draw.ellipse(box(x - 0.25, 0.2, x + 0.25, 0.7), fill=ink(1.0, dark))
    elif item.kind == "fish":
        draw.ellipse(box(-0.75, -0.5, 0.95, 0.5) if f > 0 else box(-0.95, -0.5, 0.75, 0.5), fill=ink())
        polygon([(-0.55 * f, 0), (-1.05 * f, -0.5), (-1.05 * f, 0.5)], ink(0.7))
        draw.ellipse(box(0.5 * f - 0.12, -0.25, 0.5 * f + 0.12, -0.01), fill=ink(1.0, (250, 250, 250)))
        draw.ellipse(box(0.52 * f - 0.06, -0.19, 0.52 * f + 0.06, -0.07), fill=ink(1.0, dark))
    elif item.kind == "ring":
        width = max(int(0.36 * r), 1)
        draw.ellipse(box(-1, -1, 1, 1), outline=ink(), width=width)
    elif item.kind == "kite":
        polygon([(0, -1), (0.7, -0.2), (0, 0.7), (-0.7, -0.2)], ink())
        polygon([(0, -1), (0.7, -0.2), (0, -0.2)], ink(0.65))
        polygon([(0, -0.2), (-0.7, -0.2), (0, 0.7)], ink(0.65))
        polygon([(0, 0.7), (-0.22, 1.0), (0.22, 1.0)], ink(1.0, dark))
    else:
        raise ValueError(f"unknown kind of object: {item.kind!r}; known are {', '.join(KINDS)}")
