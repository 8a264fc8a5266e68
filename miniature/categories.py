"""The categories of the miniature Generic Object Decoding and of the ImageNet beside it.

A category is a kind of object in a colour. Its WordNet id is that of a thing that such a drawing could show, so that
what WordNet says of the likeness of two categories is of the same kind as in the real dataset: a cab is near a
limousine, farther from a life buoy, and very far from a tench. The label of a category is not that thing's name but
what the miniature's text encoder can read: "yellow car".

Numbers are in proportion to the real ones: test categories are none of the training categories; half of the training
and ten of the 24 test categories are also classes of ImageNet (in reality 59 of 150 and 20 of 50); all kinds and
colours of test categories occur in training, in other combinations.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Category:
    """A kind of object in a colour.

    Attributes
    ----------
    wnid : str
        Id in WordNet 3.0.
    kind, colour : str
        As in `scenes`.
    concept : str
        One of the words that WordNet has for the id.
    role : "training", "test" or "neither"
        Which stimuli of the experiment show it.
    in_imagenet : bool
        Is it a class of the miniature ImageNet.
    """

    wnid: str
    kind: str
    colour: str
    concept: str
    role: Literal["training", "test", "neither"]
    in_imagenet: bool = True

    @property
    def label(self) -> str:
        """What ImageNet's list of classes calls it."""
        return f"{self.colour} {self.kind}"


CATEGORIES = (
    Category("n04409515", "ball", "yellow", "tennis ball", "training"),
    Category("n03445777", "ball", "white", "golf ball", "training"),
    Category("n02882301", "ball", "black", "bowling ball", "training", in_imagenet=False),
    Category("n02802426", "ball", "orange", "basketball", "test"),
    Category("n03131967", "ball", "red", "cricket ball", "neither"),
    Category("n04039742", "ball", "blue", "racquetball", "test"),
    Category("n03127925", "box", "orange", "crate", "training"),
    Category("n02978055", "box", "purple", "casket", "training"),
    Category("n04452615", "box", "red", "toolbox", "training", in_imagenet=False),
    Category("n02782681", "box", "green", "ballot box", "training", in_imagenet=False),
    Category("n03710193", "box", "blue", "mailbox", "test"),
    Category("n02971356", "box", "white", "carton", "neither"),
    Category("n04125021", "box", "black", "safe", "test", in_imagenet=False),
    Category("n02317335", "star", "orange", "starfish", "training"),
    Category("n09406368", "star", "red", "red giant", "training", in_imagenet=False),
    Category("n09478569", "star", "white", "white dwarf", "training", in_imagenet=False),
    Category("n09450454", "star", "yellow", "sun", "test", in_imagenet=False),
    Category("n11931918", "star", "purple", "aster", "test", in_imagenet=False),
    Category("n02317781", "star", "black", "brittle star", "test", in_imagenet=False),
    Category("n03683995", "heart", "yellow", "locket", "training"),
    Category("n11910271", "heart", "pink", "bleeding heart", "training", in_imagenet=False),
    Category("n11802586", "heart", "green", "heartleaf", "training", in_imagenet=False),
    Category("n06627816", "heart", "red", "Valentine", "test", in_imagenet=False),
    Category("n06708475", "heart", "purple", "Purple Heart", "test", in_imagenet=False),
    Category("n07764155", "heart", "orange", "mango", "test"),
    Category("n03322836", "house", "white", "farmhouse", "training"),
    Category("n03719053", "house", "purple", "mansion", "training"),
    Category("n02919792", "house", "yellow", "bungalow", "training", in_imagenet=False),
    Category("n02814338", "house", "blue", "beach house", "training", in_imagenet=False),
    Category("n03686924", "house", "black", "log cabin", "test", in_imagenet=False),
    Category("n03457902", "house", "green", "greenhouse", "test", in_imagenet=False),
    Category("n03219362", "house", "pink", "dollhouse", "test"),
    Category("n11625003", "tree", "green", "Norway spruce", "training"),
    Category("n12649065", "tree", "pink", "flowering cherry", "training"),
    Category("n12753573", "tree", "red", "red maple", "training", in_imagenet=False),
    Category("n11621727", "tree", "white", "white fir", "test", in_imagenet=False),
    Category("n11626585", "tree", "blue", "Colorado blue spruce", "neither"),
    Category("n11620389", "tree", "yellow", "golden larch", "neither"),
    Category("n03345487", "car", "red", "fire engine", "training"),
    Category("n03670208", "car", "black", "limousine", "training"),
    Category("n03141065", "car", "blue", "police car", "training", in_imagenet=False),
    Category("n02930766", "car", "yellow", "cab", "test"),
    Category("n02701002", "car", "white", "ambulance", "test", in_imagenet=False),
    Category("n04322801", "car", "orange", "stock car", "test"),
    Category("n02605316", "fish", "yellow", "butterfly fish", "training"),
    Category("n02534734", "fish", "pink", "salmon", "training", in_imagenet=False),
    Category("n02610664", "fish", "purple", "parrotfish", "training", in_imagenet=False),
    Category("n01443537", "fish", "orange", "goldfish", "test"),
    Category("n01440764", "fish", "green", "tench", "test", in_imagenet=False),
    Category("n02587051", "fish", "red", "red snapper", "neither"),
    Category("n02564720", "fish", "black", "black bass", "test"),
    Category("n02971167", "ring", "black", "car tire", "training"),
    Category("n04569338", "ring", "yellow", "wedding ring", "training", in_imagenet=False),
    Category("n04036155", "ring", "blue", "quoit", "training", in_imagenet=False),
    Category("n07639069", "ring", "pink", "doughnut", "test"),
    Category("n03662719", "ring", "orange", "life buoy", "neither"),
    Category("n04606014", "ring", "green", "wreath", "neither"),
    Category("n03621473", "kite", "red", "kite", "training"),
    Category("n15019483", "kite", "blue", "sapphire", "training"),
    Category("n04284869", "kite", "orange", "sport kite", "training", in_imagenet=False),
    Category("n14722589", "kite", "purple", "amethyst", "test", in_imagenet=False),
    Category("n14849655", "kite", "green", "emerald", "test", in_imagenet=False),
    Category("n15076349", "kite", "yellow", "topaz", "neither"),
    Category("n14928180", "kite", "pink", "kunzite", "test", in_imagenet=False),
)
