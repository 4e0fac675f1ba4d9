"""Whatever became of the files of a run: it is refused, or what is loaded are the bits that were saved."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError, JklError
from jointkl.training.folder.run import load_run
from tests.training.specs import GAN

ROUNDS, LATER = 8, 12

Mutation = Callable[[random.Random, bytes], bytes]


def flipped(chance: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def replaced(chance: random.Random, content: bytes) -> bytes:
    start = chance.randrange(len(content))
    length = chance.choice((1, 2, 8, 100))
    return content[:start] + chance.randbytes(length) + content[start + length :]


def cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def removed(chance: random.Random, content: bytes) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.choice((1, 2, 8, 100)) :]


def repeated(chance: random.Random, content: bytes) -> bytes:
    start = chance.randrange(len(content))
    end = start + chance.choice((1, 2, 8, 100))
    return content[:end] + content[start:end] + content[end:]


def said_otherwise(chance: random.Random, content: bytes) -> bytes:
    """A number, text or name of JSON is another value."""
    found = list(re.finditer(rb'"[^"\n]*"|-?\d+(\.\d+)?', content))
    if not found:
        return flipped(chance, content)
    place = chance.choice(found)
    return content[: place.start()] + chance.choice(VALUES) + content[place.end() :]


VALUES = (b"0", b"-1", b"1", b"1e400", b"1e9", b"9" * 400, b"9" * 5000, b"0.5", b"null", b"true", b"[]", b"{}", b'""',
          b'"x"', b'"1"', b'"\\ud800"', b'"\\u0000"', b'"../x"', b"NaN", b"[" * 3000, b'{"a": [0]}')  # fmt: skip

MUTATIONS: tuple[Mutation, ...] = (flipped, replaced, cut, removed, repeated, said_otherwise)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without pictures, which nothing reads again."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return jointkl.train(GAN, steps=ROUNDS, out=out, quiet=True, pictures=0).folder


def bits(program: jointkl.Program) -> Mapping[str, Tensor]:
    return {name: value.clone() for name, value in program.emitted.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_mutated_runs(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> None:
    """One file mutated, now and then several: loaded, and gone on with."""
    chance = random.Random(request.config.getoption("--fuzz-seed") + 2)
    saved = {path.stem: path for path in (whole / "checkpoints").glob("*.safetensors")}
    first = {}
    for stem in saved:  # what each checkpoint holds, loaded from a folder that has no other
        shutil.copytree(whole, tmp_path / stem, ignore=lambda folder, names, stem=stem: [
            name for name in names if Path(folder).name == "checkpoints" and not name.startswith(stem)
        ])  # fmt: skip
        first[int(stem)] = bits(load_run(tmp_path / stem).program)
    end = bits(jointkl.train(GAN, steps=LATER, out=tmp_path / "end", quiet=True, pictures=0).program)
    counts = Counter[str]()
    for i in range(max(150, request.config.getoption("--fuzz") // 100)):
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py")
        names: list[str] = []
        for path in chance.sample(files, chance.choice((1, 1, 1, 2, 4))):
            path.write_bytes(chance.choice(MUTATIONS)(chance, path.read_bytes()))
            names.append(path.name)
        about = f"mutation {i} of {names}"
        try:
            run = load_run(folder)
        except (DataError, JklError):
            counts["refused"] += 1
        else:
            assert same(bits(run.program), first[run.rounds]), about
            counts["loaded"] += 1
        if i % 3 == 0:
            try:
                run = jointkl.resume(folder, steps=LATER, quiet=True)
            except (DataError, JklError):
                counts["not gone on with"] += 1
            else:
                if "config.json" not in names:  # which may say another rate of learning
                    assert same(bits(run.program), end), about
                counts["gone on with"] += 1
        shutil.rmtree(folder)
    assert min(counts.values()) > 5, counts
    assert len(counts) == 4, counts
