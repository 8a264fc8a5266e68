"""Networks of torchvision that score, and LPIPS on one of them."""

import pytest
import torch
from damages import CPU, POINTER, Other, refused
from torchvision import models as vision

from minddiffuser.pretrained.scoring import feature_network, open_lpips, scoring_weights


@pytest.fixture(scope="module")
def swav():
    """SwAV's ResNet-50 in the layout of its file."""
    state = vision.resnet50(weights=None).state_dict()
    kept = {f"module.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return {**kept, "module.projection_head.0.weight": torch.ones(2, 2), "module.prototypes.weight": torch.ones(2, 2)}


def save(folder, name, state):
    path = scoring_weights(folder)[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def test_a_network_has_every_weight_from_its_file(tmp_path, swav):
    path = save(tmp_path, "swav_resnet50", swav)
    feature_network("swav_resnet50", tmp_path, CPU)
    name = "module.layer2.0.conv1.weight"
    torch.save({**swav, name: swav[name] * float("nan")}, path)
    with refused(path, "layer2.0.conv1.weight is not finite", "delete it"):
        feature_network("swav_resnet50", tmp_path, CPU)
    torch.save({key: value for key, value in swav.items() if key != name}, path)
    with refused(path, "1 of the weights are missing (such as layer2.0.conv1.weight)"):
        feature_network("swav_resnet50", tmp_path, CPU)


@pytest.mark.parametrize("network", ["alexnet", "lpips"])
@pytest.mark.parametrize(
    "content", [b"", POINTER, b"<html></html>", b'{"error": 1}', [], Other(), {"features.0.weight": 1}]
)
def test_a_file_that_is_not_the_networks_is_named(tmp_path, network, content):
    path = save(tmp_path, "alexnet", content)
    if isinstance(content, bytes):
        path.write_bytes(content)
    with refused(path, "delete it"):
        if network == "lpips":
            open_lpips(tmp_path, CPU)
        else:
            feature_network(network, tmp_path, CPU)
