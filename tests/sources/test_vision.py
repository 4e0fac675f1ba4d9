"""torchvision's data sets, from small files in their own layout: what is read, what is refused, what is fetched."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import functional

from jointkl.diagnostics import DataError
from jointkl.semantics.spaces import Space
from jointkl.sources import bind, load
from tests import layouts
from tests.sources.test_evidence_files import Trap

Patch = pytest.MonkeyPatch
MAKERS: dict[str, Callable[[Path, Patch], layouts.Made]] = {
    "mnist": lambda root, patch: layouts.mnist(root),
    "fashion_mnist": lambda root, patch: layouts.mnist(root, "FashionMNIST"),
    "cifar10": layouts.cifar10,
    "svhn": layouts.svhn,
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: Patch) -> Path:
    """Where data sets are looked for; nothing there."""
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: Patch) -> list[object]:
    """No test reaches the network; what would is noted."""
    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("no network in tests")

    def unknown(host: object, *rest: object, **more: object) -> None:
        asked.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return asked


def told(source: str, *, download: bool = False, **options: object) -> str:
    """What is said of a source that cannot be read."""
    with pytest.raises(DataError) as caught:
        load(source, options, download=download)
    assert caught.value.help
    return str(caught.value)


# --- what is read


@pytest.mark.parametrize("source", sorted(MAKERS))
def test_parts_are_those_of_the_files(source, root, monkeypatch):
    made = MAKERS[source](root, monkeypatch)
    for part, bytes_ in made.images.items():
        images, classes = load(source, {"split": part})
        assert images.dtype == torch.float32
        assert np.array_equal(images.numpy() * 255, bytes_.astype(np.float32))
        assert classes.tolist() == made.targets[part].tolist()
    assert torch.equal(load(source, {})[0], load(source, {"split": "train"})[0])


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10"])
def test_all_is_train_and_then_test(source, root, monkeypatch):
    MAKERS[source](root, monkeypatch)
    train, test, whole = (load(source, {"split": part}) for part in ("train", "test", "all"))
    for i in range(2):
        assert torch.equal(whole[i], torch.cat([train[i], test[i]]))


@pytest.mark.parametrize("folder", ["a" * 300, "a\0b", "~nobody-of-this-name"])
def test_a_root_that_cannot_be(folder, root):
    assert "found no MNIST/raw/" in told("mnist", root=folder)


def test_a_root_of_one_s_own(tmp_path, root):
    layouts.mnist(tmp_path / "elsewhere")
    assert load("mnist", {"root": str(tmp_path / "elsewhere")})[0].shape == (40, 1, 28, 28)
    assert str(root) in told("mnist")


def test_the_root_is_the_environment_s_else_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JOINTKL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    layouts.mnist(tmp_path / "caches" / "jointkl")
    assert len(load("mnist", {})[0]) == 40
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / ".cache" / "jointkl") in told("mnist")


@pytest.mark.parametrize("size", [16, 40, (20, 30)], ids=str)
@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_scaling_is_torchvision_s(source, size, root, monkeypatch):
    made = MAKERS[source](root, monkeypatch)
    expected = functional.resize(
        torch.from_numpy(made.images["test"]).float() / 255, [size, size] if isinstance(size, int) else list(size)
    )
    found = load(source, {"split": "test", "size": size})[0]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("source", ["cifar10", "svhn"])
def test_grey_is_the_brightness_that_pil_sees(source, root, monkeypatch):
    made = MAKERS[source](root, monkeypatch)
    grey = load(source, {"split": "test", "grey": True})[0]
    expected = [np.asarray(Image.fromarray(x.transpose(1, 2, 0)).convert("L")) for x in made.images["test"]]
    assert grey.shape == (20, 1, 32, 32)
    assert np.abs(grey[:, 0].numpy() * 255 - np.stack(expected)).max() < 1  # PIL cuts to whole steps


def test_a_threshold_makes_binary_pixels(root, monkeypatch):
    made = layouts.mnist(root)
    assert np.array_equal(load("mnist", {"threshold": 0.5})[0].numpy(), made.images["train"] > 127.5)


def test_faces_and_their_attributes(root, monkeypatch):
    made = layouts.celeba(root, monkeypatch)
    for part, pixels in made.images.items():
        faces, attributes = load("celeba", {"split": part, "crop": 178, "size": 178})
        assert np.array_equal(faces.numpy() * 255, pixels[:, :, 20:198].astype(np.float32))
        assert np.array_equal(attributes.numpy(), made.targets[part])
    assert len(load("celeba", {"split": "all"})[0]) == 17


def test_faces_are_cut_and_scaled_as_papers_do(root, monkeypatch):
    """148 by 148 from the centre, then 64 by 64."""
    made = layouts.celeba(root, monkeypatch)
    faces, _ = load("celeba", {})
    image = Image.fromarray(made.images["train"][0].transpose(1, 2, 0))
    cut = functional.center_crop(image, [148, 148]).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(faces[0].numpy() * 255, np.asarray(cut, np.float32).transpose(2, 0, 1))


def test_several_sources_at_once(spec, root, monkeypatch):
    """Digits on paper and on houses in one spec, as adaptation from one to the other has them."""
    layouts.mnist(root)
    layouts.svhn(root, monkeypatch)
    model = spec(
        {"x": Space("unit", (1, 32, 32)), "c": Space("finite", (), tuple(range(10)))},
        ("source", ("x", "c"), "mnist", {"size": 32}),
        ("target", ("x",), "svhn", {"grey": True, "split": "extra"}, (0,)),
    )
    source, target = bind(model)
    assert (source.keys, target.keys) == (("source.x", "c"), ("target.x",))
    assert (len(source), len(target)) == (40, 30)
    held_out = bind(model, split="test")
    assert [len(bound) for bound in held_out] == [20, 20]


# --- what is refused


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("svhn", "train_32x32.mat"),
        ("celeba", "celeba/list_attr_celeba.txt"),
        ("colour_mnist", "MNIST/raw/train-images-idx3-ubyte"),
    ],
)
def test_what_is_not_there_is_not_fetched_unasked(source, file, root, unconnected):
    text = told(source)
    for word in (f"source `{source}`", str(root), f"found no {file}", "--download", f'{source}(root="FOLDER")'):
        assert word in text
    assert not unconnected
    assert not root.exists()


@pytest.mark.parametrize(("source", "make"), MAKERS.items())
def test_reading_reaches_for_no_network(source, make, root, monkeypatch, unconnected):
    make(root, monkeypatch)
    load(source, {})
    assert not unconnected


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "svhn"])
def test_a_download_that_fails_says_so(source, root, unconnected):
    text = told(source, download=True)
    assert unconnected
    assert f"the download to {root} failed" in text
    assert "no network in tests" in text
    assert socket.getdefaulttimeout() is None


def test_faces_are_fetched_by_a_library_of_their_own(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    text = told("celeba", download=True)
    assert "its download needs gdown" in text
    assert "uv pip install gdown" in text


def test_what_google_refuses_is_no_lack_of_a_library(root, monkeypatch):
    """The most frequent failure of CelebA: gdown's own message names gdown."""
    gdown = types.ModuleType("gdown")

    def download(**options: object) -> None:
        raise RuntimeError(
            "Too many users have viewed or downloaded this file recently. But Gdown can't; see gdown's FAQ"
        )

    monkeypatch.setattr(gdown, "download", download, raising=False)
    monkeypatch.setitem(sys.modules, "gdown", gdown)
    text = told("celeba", download=True)
    assert f"the download to {root} failed" in text
    assert "Too many users" in text
    assert "uv pip install" not in text


def test_what_is_there_and_damaged_is_no_failed_download(root):
    layouts.mnist(root)
    file = _raw(root, IMAGES)
    file.write_bytes(file.read_bytes()[:-100])
    text = told("mnist", download=True)
    assert "cannot be read (RuntimeError: shape" in text
    assert "delete its files" in text


def test_what_old_versions_of_torchvision_wrote_is_not_read(root, unconnected):
    """`MNIST/processed/training.pt`, pickled, which torchvision prefers to the files themselves."""
    made = layouts.mnist(root)
    (root / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5)), root / "MNIST" / "processed" / name)
    assert load("mnist", {})[1].tolist() == made.targets["train"].tolist()
    shutil.rmtree(root / "MNIST" / "raw")
    assert "found no MNIST/raw/" in told("mnist")
    assert not unconnected
    assert f"the download to {root} failed" in told("mnist", download=True)
    assert unconnected


def test_what_is_there_is_not_fetched_again(root, monkeypatch, unconnected):
    made = layouts.cifar10(root, monkeypatch)
    assert len(load("cifar10", {}, download=True)[0]) == len(made.images["train"])
    assert not unconnected


def test_what_was_fetched_is_unpacked_if_it_is_the_right_file(root, monkeypatch, unconnected):
    """The files as they are downloaded, whose checksums torchvision compares before it unpacks them."""
    made = layouts.mnist(root, zipped=True)
    assert "found no MNIST/raw/train-images-idx3-ubyte" in told("mnist")
    files = [(name, (root / "MNIST" / "raw" / name).read_bytes()) for name, _ in datasets.MNIST.resources]
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, hashlib.md5(b).hexdigest()) for name, b in files])
    images, _ = load("mnist", {}, download=True)
    assert np.array_equal(images.numpy() * 255, made.images["train"].astype(np.float32))
    assert not unconnected


def test_what_was_fetched_and_is_another_file_is_not_unpacked(root):
    layouts.mnist(root, zipped=True)
    assert "failed" in told("mnist", download=True)
    assert not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_nothing_is_unpickled_that_is_not_the_very_file(name, root, monkeypatch):
    layouts.cifar10(root, monkeypatch)
    file = root / "cifar-10-batches-py" / name
    file.write_bytes(pickle.dumps(Trap()))
    text = told("cifar10")
    assert f"{file} is not the file that belongs there" in text
    assert "not opened" in text
    assert not Trap.sprung


@pytest.mark.parametrize(("source", "name"), [("svhn", "train_32x32.mat"), ("celeba", "celeba/identity_CelebA.txt")])
def test_a_file_with_another_checksum_is_refused(source, name, root, monkeypatch):
    {"svhn": layouts.svhn, "celeba": layouts.celeba}[source](root, monkeypatch)
    file = root / name
    file.write_bytes(file.read_bytes()[:-7])
    assert f"{file} is not the file that belongs there" in told(source)


def _raw(root: Path, name: str) -> Path:
    return root / "MNIST" / "raw" / name


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (IMAGES, lambda b: b[:-100], ["cannot be read", "fetch them anew"]),
        (IMAGES, lambda b: b[:10], ["cannot be read"]),
        (IMAGES, lambda b: b"", ["cannot be read"]),
        (IMAGES, gzip.compress, ["cannot be read"]),
        (IMAGES, lambda b: layouts.idx(np.zeros((40, 20, 20))), ["(1, 28, 28)", "(1, 20, 20)", "another data set"]),
        (IMAGES, lambda b: layouts.idx(np.zeros(40)), ["cannot be read", "3 dimension"]),
        (LABELS, lambda b: layouts.idx(np.zeros(39)), ["40 of them, and 39 classes"]),
        (LABELS, lambda b: layouts.idx(np.zeros((40, 1))), ["cannot be read", "1 dimension"]),
    ],
)
def test_files_of_another_kind_are_refused(name, content, words, root):
    layouts.mnist(root)
    file = _raw(root, name)
    file.write_bytes(content(file.read_bytes()))
    text = told("mnist")
    for word in [str(root), *words]:
        assert word in text


def test_a_class_beyond_the_ten_is_refused(spec, root, refused):
    layouts.mnist(root)
    file = _raw(root, LABELS)
    file.write_bytes(file.read_bytes()[:-2] + b"\x0a\x01")
    model = spec(
        {"c": Space("finite", (), tuple(range(10))), "x": Space("unit", (1, 28, 28))}, ("data", ("x", "c"), "mnist")
    )
    refused(model, None, "`c` of `data(x,c)`, from source `mnist`", "10 in row 38", "{0..9}")


def test_a_matrix_file_without_its_arrays_is_refused(root, monkeypatch):
    layouts.svhn(root, monkeypatch)
    scipy.io.savemat(root / "train_32x32.mat", {"Z": np.zeros(3)})
    row = datasets.SVHN.split_list["train"]
    digest = hashlib.md5((root / "train_32x32.mat").read_bytes()).hexdigest()
    monkeypatch.setitem(datasets.SVHN.split_list, "train", [*row[:2], digest])
    assert "cannot be read (KeyError: 'X')" in told("svhn")


def test_a_face_that_is_missing_or_broken_is_named(root, monkeypatch):
    layouts.celeba(root, monkeypatch)
    file = root / "celeba" / "img_align_celeba" / "000003.jpg"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "000003.jpg cannot be read as an image (OSError: image file is truncated" in told("celeba")
    file.unlink()
    (root / "celeba" / "img_align_celeba" / "000001.jpg").unlink()
    for cache in (False, True):
        text = told("celeba", cache=cache)
        assert "2 of its images are not in img_align_celeba, 000001.jpg among them" in text
        assert "delete its files, and fetch them anew" in text


def test_a_folder_without_its_faces_is_refused(root, monkeypatch):
    layouts.celeba(root, monkeypatch)
    (root / "celeba" / "img_align_celeba").rename(root / "celeba" / "faces")
    assert "found no celeba/img_align_celeba" in told("celeba")
