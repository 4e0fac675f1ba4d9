"""Folders of images: what is seen of each, which class it has, and what is no image."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from jointkl.diagnostics import DataError
from jointkl.semantics.spaces import Space
from jointkl.sources import bind, load, streams
from jointkl.sources.conversions import FOLDER
from jointkl.sources.images import ENDINGS, FORMATS
from tests import layouts


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pixels(folder: Path, **options: object) -> np.ndarray:
    """The bytes (N, C, H, W) of the images as the source gives them."""
    found = load("images", {"folder": str(folder), **options}, columns=(0,))[0][:]
    return (found * 255).numpy()


def told(folder: Path, *words: str, **options: object) -> None:
    with pytest.raises(DataError) as caught:
        load("images", {"folder": str(folder), **options})
    assert caught.value.help
    for word in ("source `images`", *words):
        assert word in str(caught.value)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


# --- what is seen


@pytest.mark.parametrize("large", [2**30, 1000, 0])
def test_images_and_classes_are_those_of_torchvision(faces, large, monkeypatch):
    """In memory as numbers, as bytes, or decoded when drawn."""
    monkeypatch.setattr(streams, "LARGE", large)
    made = layouts.faces(faces, ("dog", "ant", "cat"))
    theirs = ImageFolder(str(faces))
    images, classes = load("images", {"folder": str(faces)})
    assert isinstance(images, torch.Tensor) == (large == 2**30)
    found = images[torch.arange(len(images))]
    for i, (image, number) in enumerate(theirs):
        assert np.array_equal(found[i].numpy() * 255, np.asarray(image, np.float32).transpose(2, 0, 1))
        assert classes[torch.tensor([i])].tolist() == [number]
    assert sorted(map(bytes, made)) == sorted(map(bytes, pixels(faces).astype(np.uint8)))


def test_images_are_what_torchvision_takes_for_one():
    assert ENDINGS == IMG_EXTENSIONS


@pytest.mark.parametrize("kind", FORMATS)
def test_what_an_image_is_its_bytes_say(faces, kind):
    faces.mkdir()
    image = noise(6, 5)
    image.save(faces / "0.png", format=kind)
    with Image.open(faces / "0.png") as file:
        assert np.array_equal(pixels(faces)[0], np.asarray(file.convert("RGB"), np.float32).transpose(2, 0, 1))


def test_folders_may_be_deep_and_hidden_files_are_none(faces):
    made = layouts.faces(faces, ("a", "b"))
    (faces / "b" / "deeper").mkdir()
    (faces / "b" / "2.png").rename(faces / "b" / "deeper" / "0.PNG")
    (faces / "a" / "._0.png").write_bytes(b"not an image")
    (faces / ".thumbnails").mkdir()
    (faces / ".thumbnails" / "0.png").write_bytes(b"not an image")
    (faces / "a" / "notes.txt").write_text("none either")
    assert np.array_equal(pixels(faces), made.astype(np.float32))
    assert load("images", {"folder": str(faces)})[1].tolist() == [0, 0, 0, 1, 1, 1]


def test_links_are_followed_but_not_round_and_a_pipe_is_no_image(faces, tmp_path):
    made = layouts.faces(faces, ("a", "b"))
    (faces / "a" / "round").symlink_to(faces)
    (faces / "a" / "self").symlink_to(faces / "a")
    (faces / "a" / "gone.png").symlink_to(faces / "nowhere.png")
    (faces / "a" / "itself.png").symlink_to(faces / "a" / "itself.png")
    os.mkfifo(faces / "a" / "9.png")
    assert np.array_equal(pixels(faces), made.astype(np.float32))
    elsewhere = tmp_path / "elsewhere"
    layouts.faces(elsewhere, ("x",))
    (elsewhere / "x" / "back").symlink_to(faces / "c")
    (faces / "c").symlink_to(elsewhere / "x")
    assert load("images", {"folder": str(faces)})[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_folder_that_may_not_be_searched_is_named(faces, monkeypatch):
    """Its entries can be listed, and nothing said of them."""
    layouts.faces(faces)
    asked = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.parent == faces / "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return asked(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    told(faces, f"the folder {faces / 'b'} cannot be read (Permission denied)")


def test_a_flat_folder_has_images_and_no_classes(spec, refused, faces):
    layouts.faces(faces, (".",))
    options = {"folder": str(faces)}
    space = Space("unit", (3, 6, 5))
    (data,) = bind(spec({"x": space}, ("data", ("x",), "images", options)))
    assert data.columns[0].shape == (3, 3, 6, 5)
    model = spec({"x": space, "c": Space("finite", (), (0, 1))}, ("data", ("x", "c"), "images", options))
    refused(model, None, "data(x,c)", "0.png, which lies in none", "a folder of their own")


def test_the_space_decides_over_shape_and_classes(spec, refused, faces):
    layouts.faces(faces, ("a", "b", "c"))
    options = {"folder": str(faces)}
    wide = spec({"x": Space("unit", (3, 64, 64))}, ("data", ("x",), "images", options))
    refused(wide, None, "`x` of `data(x)`, from source `images`", "(9, 3, 6, 5)", "unit[3,6,5]", "size=64")
    two = spec(
        {"x": Space("unit", (3, 6, 5)), "c": Space("finite", (), (0, 1))}, ("data", ("x", "c"), "images", options)
    )
    refused(two, None, "`c` of `data(x,c)`", "2 in row 6", "{0, 1}")


@pytest.mark.parametrize("size", [4, 9, (4, 9), (12, 3)], ids=str)
def test_to_scale_is_to_cut_to_the_proportions_first(faces, size):
    faces.mkdir()
    image = noise(20, 30)
    image.save(faces / "0.png")
    height, width = (size, size) if isinstance(size, int) else size
    cut = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels(faces, size=size)[0], np.asarray(cut, np.float32).transpose(2, 0, 1))


def test_a_square_in_the_middle_stays_a_square(faces):
    faces.mkdir()
    drawn = np.zeros((40, 80, 3), np.uint8)
    drawn[10:30, 30:50] = 255
    Image.fromarray(drawn).save(faces / "0.png")
    found = pixels(faces, size=20)[0, 0] > 127
    assert np.array_equal(np.flatnonzero(found.any(0)), np.arange(5, 15))
    assert np.array_equal(np.flatnonzero(found.any(1)), np.arange(5, 15))


def test_crop_takes_the_centre_as_it_is(faces):
    faces.mkdir()
    image = noise(21, 30)
    image.save(faces / "0.png")
    whole = np.asarray(image, np.float32).transpose(2, 0, 1)
    assert np.array_equal(pixels(faces, crop=(11, 10))[0], whole[:, 5:16, 10:20])
    assert pixels(faces, crop=11, size=4).shape == (1, 3, 4, 4)


def test_grey_colour_and_other_kinds_of_images(faces):
    """Grey ones and those with a palette or an opacity come as red, green and blue, or all as brightness."""
    faces.mkdir()
    image = noise(5, 6)
    for i, mode in enumerate(("RGB", "L", "P", "RGBA", "CMYK", "1")):
        image.convert(mode).save(faces / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}")
    colour, grey = pixels(faces), pixels(faces, grey=True)
    assert (colour.shape, grey.shape) == ((6, 3, 5, 6), (6, 1, 5, 6))
    assert np.array_equal(colour[0], np.asarray(image, np.float32).transpose(2, 0, 1))
    assert np.array_equal(colour[3], colour[0])
    assert np.array_equal(colour[1], np.repeat(grey[1], 3, axis=0))
    assert np.array_equal(grey[0, 0], np.asarray(image.convert("L"), np.float32))


def test_a_photograph_is_turned_as_its_camera_was(faces):
    faces.mkdir()
    image = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(faces / "0.png", exif=exif)
    upright = np.rot90(np.asarray(image, np.float32), -1)
    assert np.array_equal(pixels(faces)[0], upright.transpose(2, 0, 1))


FORKED = """
import os, signal, sys
import torch
from jointkl.sources import load, streams
streams.LARGE = 0
torch.set_num_threads(1)

def read():
    return load("images", {"folder": sys.argv[1]}, columns=(0,))[0][torch.arange(6)]

here = read()
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if torch.equal(read(), here) else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
def test_images_are_decoded_in_a_forked_process_too(faces):
    """It has none of its parent's threads."""
    layouts.faces(faces)
    found = subprocess.run([sys.executable, "-c", FORKED, str(faces)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


# --- what is refused


def test_folders_without_images(faces, tmp_path):
    told(faces, f"{faces} is not there", "read from where the program runs")
    (tmp_path / "file").write_text("")
    told(tmp_path / "file", "is no folder")
    told(Path("a\0b"), "is not there")
    told(Path("a" * 300), "is not there")
    told(Path("~nobody-of-this-name/faces"), "~nobody-of-this-name/faces is not there")
    faces.mkdir()
    (faces / "notes.txt").write_text("")
    told(faces, f"images in {faces}", "found none", ".png")
    layouts.faces(faces, ("a",))
    (faces / "b").mkdir()
    told(faces, f"{faces / 'b'} would be a class")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\n%%EndComments\n"
"""A program, which PIL would have run."""


@pytest.mark.parametrize("large", [2**30, 0])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda b: b[: len(b) // 2], "OSError"),
        (lambda b: b[:20], ""),
        (lambda b: b"", "UnidentifiedImageError"),
        (lambda b: b"GIF89a is what it is not", ""),
        (lambda b: b[:200] + bytes(len(b) - 200), ""),
        (lambda b: POSTSCRIPT, "UnidentifiedImageError"),
    ],
)
def test_a_broken_image_is_named_before_the_first_step(spec, refused, faces, content, reason, large, monkeypatch):
    monkeypatch.setattr(streams, "LARGE", large)
    layouts.faces(faces, size=(30, 30))
    file = faces / "b" / "1.png"
    file.write_bytes(content(file.read_bytes()))
    model = spec({"x": Space("unit", (3, 30, 30))}, ("data", ("x",), "images", {"folder": str(faces)}))
    refused(model, None, "`data(x)`, from source `images`: b/1.png cannot be read as an image", reason)


def test_images_of_different_sizes_want_a_size(faces):
    layouts.faces(faces)
    noise(7, 5).save(faces / "b" / "1.png")
    told(faces, "b/1.png is 7 high and 5 wide", "a/0.png, 6 high and 5 wide", "size=64")
    assert pixels(faces, size=4).shape == (6, 3, 4, 4)
    assert pixels(faces, crop=5).shape == (6, 3, 5, 5)
    told(faces, "a/0.png is 6 high and 5 wide, smaller than crop asks for, 6 high and 6 wide", crop=6)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_not_cut_silently(faces, mode):
    faces.mkdir()
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    Image.fromarray(np.full((4, 4), 70, dtype)).save(faces / "0.tiff")
    told(faces, "0.tiff has more than 8 bits", mode, "--data LABEL=FILE.npy")


# --- what is kept


def test_decoded_once_for_all_times(faces, root, monkeypatch):
    made = layouts.faces(faces)
    assert np.array_equal(pixels(faces, cache=True), made.astype(np.float32))
    (copy,) = (root / FOLDER).iterdir()
    assert np.array_equal(np.load(copy), made)
    written = copy.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("jointkl.sources.images.Pictures.__getitem__", lambda *_: pytest.fail("decoded again"))
        pixels(faces, cache=True)
    assert np.array_equal(pixels(faces, cache=True), made.astype(np.float32))
    assert copy.stat().st_mtime_ns == written
    noise(6, 5).save(faces / "a" / "0.png")
    assert not np.array_equal(pixels(faces, cache=True), made.astype(np.float32))
    pixels(faces, cache=True, grey=True)
    assert len(list((root / FOLDER).iterdir())) == 3
