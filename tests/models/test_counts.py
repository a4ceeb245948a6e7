"""Parameters of the published architectures, with a head of 1,000 classes on 224 × 224 × 3 images."""

from __future__ import annotations

import pytest
import torch

from modelworks.core.field import Layout
from modelworks.core.kinds import find
from modelworks.core.model import Model
from modelworks.layers.head import Head

IMAGE = {"image": Layout("image", (3, 224, 224))}
# From the papers' tables and torchvision's documentation (VGG without batch norm; 16 with it is below).
PUBLISHED = [
    ("resnet", {"depth": 18}, 11_689_512),
    ("resnet", {"depth": 34}, 21_797_672),
    ("resnet", {"depth": 50}, 25_557_032),
    ("resnet", {"depth": 101}, 44_549_160),
    ("resnet", {"depth": 152}, 60_192_808),
    ("vgg", {"depth": 11, "normalisation": "none"}, 132_863_336),
    ("vgg", {"depth": 13, "normalisation": "none"}, 133_047_848),
    ("vgg", {"depth": 16, "normalisation": "none"}, 138_357_544),
    ("vgg", {"depth": 19, "normalisation": "none"}, 143_667_240),
    ("densenet", {"depth": 121}, 7_978_856),
    ("densenet", {"depth": 169}, 14_149_480),
    ("densenet", {"depth": 201}, 20_013_928),
    ("vit", {"size": "base", "patch": 16}, 86_567_656),
    ("vit", {"size": "base", "patch": 32}, 88_224_232),
    ("vit", {"size": "small"}, 22_050_664),
    ("vit", {"size": "tiny"}, 5_717_416),
]


@pytest.mark.parametrize("kind, settings, published", PUBLISHED)
def test_published_parameter_count(kind: str, settings: dict, published: int) -> None:
    with torch.device("meta"):
        body = find(Model, kind).model_validate(settings).build(IMAGE)
        head = Head(body.width, 1000)
    assert sum(p.numel() for part in (body, head) for p in part.parameters()) == published


@pytest.mark.parametrize("kind, width", [("resnet", 512), ("vgg", 4096), ("densenet", 1024), ("vit", 192)])
def test_features_on_a_large_image(kind: str, width: int) -> None:
    with torch.device("meta"):
        body = find(Model, kind)().build(IMAGE).eval()
        features = body({"image": torch.empty(2, 3, 224, 224)})
    assert features.shape == (2, width) == (2, body.width)


@pytest.mark.parametrize("kind", ["cnn", "resnet", "vgg", "densenet", "vit"])
@pytest.mark.parametrize("sides", [(8, 8), (17, 40), (64, 301)])
def test_any_image_size(kind: str, sides: tuple[int, int]) -> None:
    with torch.device("meta"):
        body = find(Model, kind)().build({"image": Layout("image", (2, *sides))}).eval()
        assert body({"image": torch.empty(3, 2, *sides)}).shape == (3, body.width)
