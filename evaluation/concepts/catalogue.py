"""What is scored of Generic Object Decoding, and by what: one rival in all its forms, and its controls.

It has other subjects and images than the Natural Scenes Dataset: what is here never stands beside what is there.
"""

from evaluation.catalogue import Catalogue, Metric, System
from evaluation.metrics import catalogue as of_pictures
from minddiffuser.cli import concept_subjects

# The rival in its form without faults, and its controls.
CORRECTED, CONSTANT, PERMUTED = "semantic_brain_decoding/corrected", "control/constant_label", "control/permuted_labels"
PERFECT = "control/perfect_decoding"

_FERRANTE = "Ferrante et al. (arXiv 2212.06726), pictures by Stable Diffusion from decoded labels: "

SYSTEMS = {
    "semantic_brain_decoding/original": System(
        "Ferrante, original",
        _FERRANTE + "as released, with training and test trials scaled together, features that depend on the batch, "
        "stimuli among the images looked up, and variance restored with statistics of the test set",
        "other",
    ),
    CORRECTED: System("Ferrante, corrected", _FERRANTE + "without these faults", "other"),
    "semantic_brain_decoding/classifier": System(
        "Ferrante, classifier",
        _FERRANTE + "corrected, with labels of the network's own last layer in place of the nearest images' labels",
        "other",
    ),
    PERFECT: System(
        "perfect decoding",
        "the labels that the corrected form would give if it decoded the stimulus' features",
        "control",
    ),
    CONSTANT: System(
        "constant label", "whatever was seen, the one label that suits the training images best", "control"
    ),
    PERMUTED: System(
        "permuted labels",
        "labels that the corrected form decoded of the other test images: what chance gives",
        "control",
    ),
}

FORMS = tuple(name for name, system in SYSTEMS.items() if system.kind == "other")
LABELS = "concepts"  # the group of metrics of labels
LABEL_METRICS = {
    "wup": Metric(
        "Wu-Palmer",
        "similarity in WordNet of the first label and the true category; 1 is the same, but labels at random are well "
        "above 0",
        LABELS,
    ),
    "wup_of_new": Metric(
        "Wu-Palmer of new",
        "the same, of images whose category is not among the labels: no training image and no label has it",
        LABELS,
    ),
    "wup_of_labels": Metric("Wu-Palmer of all labels", "the same, mean over all labels decoded of an image", LABELS),
    "exact_class": Metric(
        "exact class",
        "whether the first label is the true category, of images whose category is among the labels",
        LABELS,
    ),
    "label_two_way": Metric(
        "label two-way",
        "how often the first label is nearer in WordNet to the true category than to that of another test image "
        "(chance .5)",
        LABELS,
    ),
}
FROM_WORDNET = ("wup", "wup_of_new", "wup_of_labels", "label_two_way")  # metrics that need it
GROUPS = {LABELS: "Decoded labels, before any picture is made of them", **of_pictures.GROUPS}

CATALOGUE = Catalogue(
    title="Generic Object Decoding",
    script="evaluation/40_score_concepts.py",
    folder="evaluation/concepts",
    subjects_of=concept_subjects,
    systems=SYSTEMS,
    metrics={**LABEL_METRICS, **of_pictures.METRICS},
    groups=GROUPS,
)
PAIRS = [
    *((name, CONSTANT) for name in sorted(FORMS, key=lambda name: name != CORRECTED)),
    *((CORRECTED, name) for name in FORMS if name != CORRECTED),
    (PERFECT, CORRECTED),
]
