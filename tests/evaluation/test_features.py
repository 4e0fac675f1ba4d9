"""Networks that images are seen by."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from jointkl.diagnostics import DataError
from jointkl.evaluation import features
from jointkl.evaluation.features import Features, classifier, named, of_source, own, places
from jointkl.semantics.catalogue import SOURCES
from jointkl.sources import load


@pytest.fixture(scope="module")
def digits() -> Features:
    return named("digits")


@pytest.mark.slow
@pytest.mark.statistical
def test_a_classifier_of_digits(digits: Features) -> None:
    images, classes = load("digits", {"split": "test"})
    seen, logits = digits.of(images)
    assert logits is not None
    assert (seen.shape, logits.shape) == ((len(images), 64), (len(images), 10))
    right = float((logits.argmax(1) == classes).double().mean())
    assert right > 0.95
    assert digits.about == f"64 features of a classifier of digits, right on {right:.1%} of its test rows"
    assert not seen.requires_grad


@pytest.mark.slow
@pytest.mark.statistical
def test_trained_once_and_seen_through_the_sources_options(digits: Features) -> None:
    assert of_source("digits") is digits
    turned = of_source("digits", (("rotate", 180),))
    assert turned is not None
    assert turned is not digits
    images, classes = load("digits", {"split": "test", "rotate": 180})
    for net, low, high in ((turned, 0.95, 1.0), (digits, 0.0, 0.7)):
        logits = net.of(images)[1]
        assert logits is not None
        assert low < float((logits.argmax(1) == classes).double().mean()) <= high


def test_the_same_bits_whatever_torch_is_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 5)
    images, classes = load("digits", {})
    first = classifier(images, classes).state_dict()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            again = classifier(images, classes)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], value) for name, value in again.state_dict().items())
    assert not again.training
    other = classifier(images, classes, seed=1).state_dict()
    assert not torch.equal(first["logits.weight"], other["logits.weight"])


def test_which_sources_have_classes() -> None:
    assert places(SOURCES["digits"], ()) == (0, 1)
    assert places(SOURCES["iris"], ()) is None, "no images"
    assert places(SOURCES["evidence"], ()) is None
    assert places(SOURCES["colour_mnist"], (("of", "digits"),)) == (0, 1), "classes stand before colours"
    assert places(SOURCES["celeba"], ()) is None, "attributes are no classes"
    assert places(SOURCES["images"], ()) == (0, 1), "folders are classes"
    assert of_source("iris") is None
    with pytest.raises(DataError, match="the source iris has no images with classes"):
        named("iris")


@pytest.mark.slow
@pytest.mark.statistical
def test_a_folder_of_images(tmp_path: Path) -> None:
    """Bright and dark ones in folders of their own; in one folder there is nothing to classify."""
    generator = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 128)):
        (tmp_path / "two" / name).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(low, low + 128, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "two" / name / f"{i}.png")
    found = of_source("images", (("folder", str(tmp_path / "two")),))
    assert found is not None
    assert found.about == "64 features of a classifier of images, right on 100.0% of its own rows"
    with pytest.raises(DataError, match="expected a folder for each class"):
        of_source("images", (("folder", str(tmp_path / "two" / "dark")),))


def test_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_seen.py").write_text(
        "import torch\n"
        "def halves():\n    return lambda images: (images.flatten(1)[:, ::2], images.flatten(1)[:, :3])\n"
        "def net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))\n"
        "def broken():\n    raise RuntimeError('no weights')\n"
        "def scalar():\n    return lambda images: images.sum()[None, None]\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    images = torch.rand(600, 1, 4, 4)
    seen, logits = named("mine_seen:halves", ("mine_seen",)).of(images)
    assert logits is not None
    assert torch.equal(seen, images.flatten(1)[:, ::2])
    assert torch.equal(logits, images.flatten(1)[:, :3])
    seen, logits = named("mine_seen:net", ("mine_seen",)).of(images)
    assert torch.equal(seen, images.flatten(1)), "a module is in evaluation mode"
    assert logits is None
    with pytest.raises(DataError, match="code of the module `mine_seen`, which may not be imported"):
        named("mine_seen:halves")
    with pytest.raises(DataError, match="cannot be made: RuntimeError: no weights"):
        named("mine_seen:broken", ("mine_seen",))
    with pytest.raises(DataError, match="cannot be made: AttributeError"):
        named("mine_seen:gone", ("mine_seen",))
    with pytest.raises(DataError, match=r"give shape \(1, 1\) for 256 images"):
        named("mine_seen:scalar", ("mine_seen",)).of(images)


def test_mistakes(digits: Features) -> None:
    with pytest.raises(DataError, match="did you mean `digits`"):
        named("digit")
    with pytest.raises(DataError, match=r"digits fail on images of shape \(1, 9, 9\)"):
        digits.of(torch.rand(2, 1, 9, 9))
    assert named("digits") is digits


def test_a_function_alone_gives_features() -> None:
    x = torch.rand(3, 1, 2, 2)
    assert own(nn.Flatten())(x)[1] is None


class TestInception:
    """The port of Inception with random weights: what goes in and what comes out."""

    @pytest.fixture
    def weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
        port = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra `metrics`")
        made = port.FeatureExtractorInceptionV3
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(port, "load_state_dict_from_url", lambda *rest, **options: {})
            patch.setattr(made, "load_state_dict", lambda *rest: None)
            torch.manual_seed(0)
            state = made("inception-v3-compat", ["2048"]).state_dict()
        monkeypatch.setattr(port, "load_state_dict_from_url", lambda *rest, **options: state)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        return state

    def test_shapes_of_grey_and_coloured_images(self, weights: dict[str, Tensor], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="weights of Inception, 91 MB, are not at"):
            named("inception")
        net = named("inception", download=True)
        grey, colour = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)
        seen, logits = net.of(grey)
        assert logits is not None
        assert (seen.shape, logits.shape) == ((2, 2048), (2, 1008))
        assert torch.equal(seen, net.of(grey.expand(-1, 3, -1, -1))[0])
        assert not torch.equal(seen, net.of(colour)[0])
        torch.testing.assert_close(logits, seen @ weights["fc.weight"].T, rtol=1e-4, atol=1e-4)
        port = sys.modules["torch_fidelity.feature_extractor_inceptionv3"]
        kept = tmp_path / "checkpoints" / port.URL_INCEPTION_V3.rpartition("/")[2]
        kept.parent.mkdir()
        torch.save(weights, kept)
        assert named("inception").of(grey)[0].shape == (2, 2048), "kept weights need no download"

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
        with pytest.raises(DataError, match="pip install 'jointkl\\[metrics\\]'"):
            named("inception")
