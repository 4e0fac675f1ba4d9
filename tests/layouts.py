"""Small data sets in the very layout of the real ones, made of random numbers, and what they hold."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision import datasets

COUNTS = {"train": 40, "test": 20, "extra": 30, "valid": 10}


@dataclass(frozen=True)
class Made:
    """Bytes (N, C, H, W) and classes (N,), or attributes (N, 40), of each part."""

    images: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]


def _numbers(seed: int, count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng([seed, count]).integers(0, 256, (count, *shape), dtype=np.uint8)


def _classes(count: int) -> np.ndarray:
    return np.arange(count) * 7 % 10


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """Bytes as MNIST's files hold them: 0, 0, the type (8: bytes), the number of axes, their lengths, the numbers."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def mnist(root: Path, name: str = "MNIST", zipped: bool = False) -> Made:
    """`MNIST/raw/train-images-idx3-ubyte` and so on; `zipped` as they are downloaded."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    made = Made({}, {})
    for part, file in (("train", "train"), ("test", "t10k")):
        images, classes = _numbers(len(name), COUNTS[part], 28, 28), _classes(COUNTS[part])
        made.images[part], made.targets[part] = images[:, None], classes
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", classes)):
            path = folder / f"{file}-{kind}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return made


def cifar10(root: Path, patch: pytest.MonkeyPatch) -> Made:
    """`cifar-10-batches-py/data_batch_1` to `_5`, `test_batch`, `batches.meta`, whose checksums torchvision expects."""
    folder = root / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    images = {part: _numbers(10, COUNTS[part], 3, 32, 32) for part in ("train", "test")}
    classes = {part: _classes(COUNTS[part]) for part in ("train", "test")}
    fifth = COUNTS["train"] // 5
    pieces = {f"data_batch_{i + 1}": ("train", slice(i * fifth, (i + 1) * fifth)) for i in range(5)}
    pieces["test_batch"] = ("test", slice(None))
    for name, (part, rows) in pieces.items():
        content = {"data": images[part][rows].reshape(-1, 3072), "labels": classes[part][rows].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    trust_cifar10(root, patch)
    return Made(images, classes)


def trust_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    folder = root / datasets.CIFAR10.base_folder
    patch.setattr(
        datasets.CIFAR10, "train_list", [[f"data_batch_{i}", _md5(folder / f"data_batch_{i}")] for i in range(1, 6)]
    )
    patch.setattr(datasets.CIFAR10, "test_list", [["test_batch", _md5(folder / "test_batch")]])
    patch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": _md5(folder / "batches.meta")})


def svhn(root: Path, patch: pytest.MonkeyPatch) -> Made:
    """`train_32x32.mat` and so on: X (32, 32, 3, N), y (N, 1), where the digit 0 is 10."""
    root.mkdir(parents=True, exist_ok=True)
    made, known = Made({}, {}), {}
    for part, (url, name, _) in datasets.SVHN.split_list.items():
        images, classes = _numbers(12, COUNTS[part], 3, 32, 32), _classes(COUNTS[part])
        made.images[part], made.targets[part] = images, classes
        labels = np.where(classes == 0, 10, classes).astype(np.uint8)
        scipy.io.savemat(root / name, {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None]})
        known[part] = [url, name, _md5(root / name)]
    patch.setattr(datasets.SVHN, "split_list", known)
    return made


def celeba(root: Path, patch: pytest.MonkeyPatch) -> Made:
    """`celeba/img_align_celeba/000001.jpg` and the five lists; faces of noise in 178 by 218."""
    folder = root / datasets.CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    made = Made({}, {})
    rows: list[tuple[str, int, np.ndarray]] = []
    for number, part in enumerate(("train", "valid", "test")):
        count = COUNTS[part] // 4
        made.targets[part] = _numbers(9, count, 40) % 2
        decoded = []
        for attributes, pixels in zip(made.targets[part], _numbers(8, count, 218, 178, 3), strict=True):
            name = f"{len(rows) + 1:06d}.jpg"
            Image.fromarray(pixels).save(folder / "img_align_celeba" / name, quality=95)
            with Image.open(folder / "img_align_celeba" / name) as image:
                decoded.append(np.asarray(image).transpose(2, 0, 1))
            rows.append((name, number, attributes))
        made.images[part] = np.stack(decoded)
    lists = {
        "list_eval_partition.txt": [f"{name} {part}" for name, part, _ in rows],
        "identity_CelebA.txt": [f"{name} {i}" for i, (name, _, _) in enumerate(rows)],
        "list_bbox_celeba.txt": [
            str(len(rows)),
            "image_id x_1 y_1 width height",
            *(f"{r[0]}  95 71 226 313" for r in rows),
        ],
        "list_landmarks_align_celeba.txt": [
            str(len(rows)),
            " ".join(map(str, range(10))),
            *(f"{r[0]} " + "7 " * 9 + "7" for r in rows),
        ],
        "list_attr_celeba.txt": [
            str(len(rows)),
            " ".join(f"Attribute_{i}" for i in range(40)),
            *(f"{name} {' '.join(f'{2 * a - 1:2d}' for a in attributes.astype(int))}" for name, _, attributes in rows),
        ],
    }
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    known = [(i, _md5(folder / n) if n in lists else m, n) for i, m, n in datasets.CelebA.file_list]
    patch.setattr(datasets.CelebA, "file_list", known)
    return made


def faces(
    folder: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 3, size: tuple[int, int] = (6, 5)
) -> np.ndarray:
    """A folder of .png images (H, W, 3), `count` in a folder for each class; their bytes (N, 3, H, W) in order."""
    pixels = _numbers(3, count * len(classes), *size, 3)
    for number, image in enumerate(pixels):
        path = folder / classes[number // count] / f"{number % count}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return pixels.transpose(0, 3, 1, 2)


def everything(root: Path, patch: pytest.MonkeyPatch) -> None:
    """All of them, where `JOINTKL_DATA` says."""
    mnist(root)
    mnist(root, "FashionMNIST")
    cifar10(root, patch)
    svhn(root, patch)
    celeba(root, patch)
    faces(root / "faces")
    patch.setenv("JOINTKL_DATA", str(root))
