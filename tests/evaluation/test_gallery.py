"""The pictures that a run keeps: what is in them, against the networks called by hand; the same noise every time."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import jointkl
from jointkl.evaluation import gallery, routes, samples
from jointkl.program import Program
from jointkl.sources import bind
from tests.worlds import MODELS

MIXTURE = """
data(x) = ring8(n=200)
let K = 4
var x: real[2]
var k: {0..K-1}
param mu: real[K,2]
param w: simplex[K]
p(k | x) = Free
q(k) = Categorical(w)
q(x | k) = Normal(mu[k], 0.05)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
"""


def compiled(name: str) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(MODELS / f"{name}.jkl")


def way(program: Program) -> routes.Descent:
    found = routes.descent(program.derivation.facts)
    assert found is not None
    return found


def kept(program: Program, folder: Path, seed: int = 0) -> dict[str, bytes]:
    paths = gallery.keep(program, bind(program.model), folder / "samples" / "00000010.png", seed, "round 10")
    assert sorted(paths) == sorted((folder / "samples").iterdir())
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("gan", ["-interpolation"]),
        ("vae", ["-interpolation", "-reconstruction"]),
        ("ali", ["-interpolation", "-reconstruction"]),
        ("infogan", ["-interpolation", "-traversal"]),
        ("wake_sleep", ["-reconstruction"]),
    ],
)
def test_what_a_run_keeps(name: str, more: list[str], tmp_path: Path) -> None:
    found = kept(compiled(name), tmp_path)
    assert sorted(found) == [*(f"00000010{kind}.png" for kind in more), "00000010.png"]
    for content in found.values():
        assert np.asarray(Image.open(io.BytesIO(content))).std() > 10


def test_several_variables_are_told_apart_and_without_a_law_from_noise_there_are_no_samples(tmp_path: Path) -> None:
    assert sorted(kept(compiled("cyclegan"), tmp_path)) == [
        "00000010-reconstruction-a.png",
        "00000010-reconstruction-b.png",
    ]


def test_what_has_no_picture_is_kept_as_numbers(tmp_path: Path) -> None:
    assert sorted(kept(compiled("em"), tmp_path)) == ["00000010.npy"]


def test_nothing_to_look_at(tmp_path: Path) -> None:
    program = compiled("domain_adaptation")
    assert not gallery.shows(program.derivation.facts, bind(program.model))
    assert gallery.keep(program, bind(program.model), tmp_path / "00000010.png", 0, "") == ()
    assert list(tmp_path.iterdir()) == []


def test_the_same_noise_every_time_and_torch_left_alone(tmp_path: Path) -> None:
    program = compiled("infogan")
    torch.manual_seed(3)
    first = kept(program, tmp_path / "a")
    after = torch.rand(3)
    again = kept(program, tmp_path / "b")
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))
    assert first == again
    other = kept(program, tmp_path / "c", seed=1)
    assert all(other[name] != content for name, content in first.items())


# --- what is in them


def test_a_round_trip_is_the_decoder_of_the_encoder() -> None:
    program = compiled("aae")
    (trip,) = routes.round_trips(program.model)
    data = bind(program.model)
    x, z, again = gallery.round_trip(program, data, trip, 7)
    rows = {tuple(row.flatten().tolist()) for row in data[0].columns[0]}
    assert all(tuple(row.flatten().tolist()) in rows for row in x)
    with torch.no_grad():
        codes = program.nets["E"](x)
        assert torch.allclose(z, codes)
        assert torch.allclose(again, program.nets["G"](codes).reshape(again.shape), atol=1e-6)


def test_a_round_trip_by_a_copy() -> None:
    """The code is `x'`, a copy of what it is made of and of what is drawn again."""
    program = jointkl.compile("""
        data(x) = digits(threshold=0.5)
        var x: binary[1,8,8]
        net M = mlp(8)
        c(x' | x) = Delta(1 - x)
        r(x | x') = Bernoulli(M(x'))
        minimize CE(data(x) * c(x'|x) || r(x|x'))
    """)
    trip = next(routes.round_trips(program.model))
    assert trip.text == "data(x) c(x'|x) r(x|x')"
    data = bind(program.model)
    x, copy, again = gallery.round_trip(program, data, trip, 7)
    assert torch.equal(copy, 1 - x)
    with torch.no_grad():
        assert torch.allclose(again, program.nets["M"](copy).sigmoid().reshape(again.shape), atol=1e-6)
    assert [plan.kind for plan in gallery.reconstructions(program.derivation.facts, data)]
    assert program.distribution("r(x|x')", {"x'": copy}).batch_shape == (7,)
    assert program.pyro("c(x'|x)")(x)["x'"].equal(1 - x)


def test_a_round_trip_ends_in_the_mean(tmp_path: Path) -> None:
    program = compiled("vae")
    (trip,) = routes.round_trips(program.model)
    _, z, again = gallery.round_trip(program, bind(program.model), trip, 50)
    assert z.shape == (50, 8)
    with torch.no_grad():
        assert torch.allclose(again, program.nets["dec"](z).sigmoid().reshape(again.shape), atol=1e-6)


def test_bands_have_each_stage_below_the_one_before() -> None:
    numbers = torch.arange(50)
    found = gallery.banded([numbers, numbers + 100], 20)
    wanted = [*range(20), *range(100, 120), *range(20, 40), *range(120, 140)]
    assert found.tolist() == wanted, "ten that fill no row are left out"
    assert gallery.banded([torch.arange(3), torch.arange(3) + 10], 20).tolist() == [0, 1, 2, 10, 11, 12]


@pytest.mark.parametrize("centre", [0.0, 2.5, None])
def test_a_way_goes_from_one_draw_to_the_other(centre: float | None) -> None:
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = gallery.turned(a, b, 9, centre)
    assert found.shape == (5, 9, 3)
    assert torch.allclose(found[:, 0], a)
    assert torch.allclose(found[:, -1], b)
    middle = (a + b) / 2 if centre is None else centre + (a - centre + b - centre) / math.sqrt(2)
    assert torch.allclose(found[:, 4], middle)


@pytest.mark.statistical
def test_turned_draws_of_a_normal_are_draws_of_it_all_the_way() -> None:
    """m + s N(0, 1) has mean m and variance s^2: at every step, within 5 standard errors of 40,000 draws."""
    torch.manual_seed(0)
    n, m, s = 40_000, 1.5, 2.0
    a, b = (m + s * torch.randn(n, dtype=torch.float64) for _ in range(2))
    found = gallery.turned(a, b, 5, m)
    assert ((found.mean(0) - m).abs() < 5 * s / math.sqrt(n)).all()
    assert ((found.var(0) - s * s).abs() < 5 * s * s * math.sqrt(2 / n)).all()
    straight = gallery.turned(a, b, 5, None)
    assert float(straight.var(0)[2]) < 0.6 * s * s


def test_what_lies_between_is_what_the_generator_makes_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled("infogan")
    drawn: dict[str, list[Tensor]] = {}
    real = gallery.draw

    def draw(program: Program, root: routes.Root, count: int) -> Tensor:
        drawn.setdefault(root.variable, []).append(real(program, root, count))
        return drawn[root.variable][-1]

    monkeypatch.setattr(gallery, "draw", draw)
    found = gallery.between(program, way(program), 4, 3)
    assert found.shape == (4, 3, 1, 8, 8)
    (a, b), c = drawn["z"], drawn["c"][0]
    z = gallery.turned(a, b, 3, 0.0)
    for step in range(3):
        with torch.no_grad():
            made = program.sample("q(x|z,c)", batch={"z": z[:, step], "c": c})["x"]
        assert torch.allclose(found[:, step], made, atol=1e-6)


def test_a_traversal_changes_one_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled("infogan")
    root = way(program).finite
    assert root is not None
    drawn: list[Tensor] = []
    real = gallery.draw
    monkeypatch.setattr(gallery, "draw", lambda *args: drawn.append(real(*args)) or drawn[-1])
    found = gallery.through(program, way(program), root, 6, ("x",))
    assert found.shape == (10, 6, 1, 8, 8)
    for c in range(10):
        made = program.sample("q(x|z,c)", batch={"z": drawn[0], "c": torch.full((6,), c)})["x"]
        assert torch.allclose(found[c], made, atol=1e-6)


@pytest.mark.statistical
def test_the_components_of_a_mixture_are_gone_through(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(MIXTURE)
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    with torch.no_grad():
        next(p for name, p in program.emitted.named_parameters() if name.startswith("mu")).copy_(centres)
    descent = way(program)
    assert descent.finite is not None
    found = gallery.through(program, descent, descent.finite, 400, ())
    assert torch.allclose(found.mean(1), centres, atol=5 * 0.05 / 400**0.5)
    assert sorted(kept(program, tmp_path)) == [
        "00000010-reconstruction.png", "00000010-traversal.png", "00000010.png",
    ]  # fmt: skip


# --- held and means


def test_what_is_held_is_not_drawn() -> None:
    program = compiled("gan")
    z = torch.randn(5, 2)
    x = program.sample("q(x)", 5, held={"z": z})["x"]
    with torch.no_grad():
        assert torch.allclose(x, program.nets["G"](z))
    assert torch.equal(program.sample("q(z)", 5, held={"z": z})["z"], z)


def test_a_mean_stands_for_a_draw_where_there_is_one() -> None:
    program = compiled("vae")
    z = torch.randn(4, 8)
    with torch.no_grad():
        wanted = program.nets["dec"](z).sigmoid().reshape(4, 1, 8, 8)
    assert torch.allclose(program.sample("q(x)", 4, held={"z": z}, means=("x",))["x"], wanted)
    assert set(program.sample("q(x)", 4, held={"z": z})["x"].unique().tolist()) == {0.0, 1.0}
    classes = compiled("infogan").sample("q(c)", 200, means=("c",))["c"]
    assert len(classes.unique()) > 5, "classes have no mean: they are drawn"
    assert samples.default(program).text == "q(x)"
