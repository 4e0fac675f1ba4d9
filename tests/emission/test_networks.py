"""Every builder makes the network that its row says, equal to the same one written by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import jointkl
from jointkl.program import Program
from jointkl.semantics.catalogue import ACTIVATIONS, BUILDERS, NORMS
from tests.bounds import share_reach


def program(builder: str, given: str = "real[3]", taken: str = "real[2]", law: str = "Normal(f({}), 1)") -> Program:
    """A model whose net f maps variables of the spaces `given`, separated by `;`, to one of the space `taken`."""
    spaces = given.split(";")
    names = ", ".join(f"x{i}" for i in range(len(spaces)))
    declared = "\n".join(f"var x{i}: {s}" for i, s in enumerate(spaces))
    torch.manual_seed(3)
    return jointkl.compile(
        f"{declared}\nvar z: {taken}\nnet f = {builder}\np(z | {names}) = {law.format(names)}\nq(z) = Normal(0, 1)\n"
        f"minimize KL(data({names}) * p(z|{names}) || data({names}) * q(z))"
    )


def network(builder: str, given: str = "real[3]", taken: str = "real[2]", law: str = "Normal(f({}), 1)") -> nn.Module:
    return program(builder, given, taken, law).nets["f"].double()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_values(ours: nn.Module, hand: nn.Module, *inputs: Tensor) -> None:
    """The hand-written module, given our parameters and buffers in order, maps as ours does, in both modes."""
    own, theirs = ours.state_dict(), hand.state_dict()
    assert [v.shape for v in own.values()] == [v.shape for v in theirs.values()]
    hand.load_state_dict(dict(zip(theirs, own.values(), strict=True)))
    hand.double()
    for mode in (False, True):
        ours.train(mode)
        hand.train(mode)
        found, wanted = ours(*inputs), hand(*inputs)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours.state_dict().values(), hand.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


# --- shapes

IMAGE, VECTOR = "real[1,8,8]", "real[3]"
CASES = [
    ("mlp(5)", VECTOR, (2,)),
    ("mlp(5, 4)", IMAGE, (2,)),
    ("conv(4, 6)", IMAGE, (2,)),
    ("conv(4, 6, hidden=5)", f"{IMAGE};{VECTOR}", (2,)),
    ("conv(4, kernel=3, hidden=5)", f"{{0..3}};{IMAGE}", (3,)),
    ("deconv(6, 4)", VECTOR, (1, 8, 8)),
    ("deconv(6, 4)", f"{VECTOR};{{0..3}};real", (2, 7, 5)),
    ("deconv(6, 4, kernel=3)", IMAGE, (3, 16, 9)),
    ("resnet(5, 6)", VECTOR, (2,)),
    ("resnet(4, 6, hidden=5)", IMAGE, (2,)),
    ("resnet(4, 4, blocks=2, stride=1)", IMAGE, (1, 8, 8)),
    ("resnet(4, hidden=5)", f"{IMAGE};real", (2,)),
]


def values(space: str, *leading: int) -> Tensor:
    if space.startswith("{"):
        return torch.arange(math.prod(leading)).reshape(leading) % 4
    inner = space.partition("[")[2].rstrip("]")
    return noise(*leading, *(int(n) for n in inner.split(",") if n))


@pytest.mark.parametrize(("builder", "given", "taken"), CASES, ids=[f"{b} of {g}" for b, g, _ in CASES])
@pytest.mark.parametrize("norm", NORMS)
def test_values_have_the_shape_of_their_space_and_gradients_reach_all(
    builder: str, given: str, taken: tuple[int, ...], norm: str
) -> None:
    spaces = given.split(";")
    net = network(f"{builder[:-1]}, norm={norm}, activation=tanh)", given, f"real[{','.join(map(str, taken))}]")
    inputs = [values(s, 6) for s in spaces]
    found = net(*inputs)
    assert found.shape == (6, *taken)
    (found * noise(*found.shape)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    net.eval()
    wanted = net(*inputs)
    leading = net(*(torch.stack([v, v.flip(0)]) for v in inputs))
    torch.testing.assert_close(leading[0], wanted)
    torch.testing.assert_close(leading[1], wanted.flip(0))
    torch.testing.assert_close(net(*(v[2] for v in inputs)), wanted[2])
    if len(spaces) > 1:  # copies of one input beside another that has none
        spread = net(torch.stack([inputs[0]] * 3), *inputs[1:])
        torch.testing.assert_close(spread, torch.stack([wanted] * 3))


@pytest.mark.parametrize("name", [n for n, row in BUILDERS.items() if any(o.name == "activation" for o in row.options)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_stands_in_every_builder(name: str, activation: str) -> None:
    taken = "real[1,8,8]" if name == "deconv" else "real[2]"
    net = network(f"{name}(4, activation={activation})", IMAGE, taken)
    kinds = [type(m).__name__ for m in net.modules()]
    assert kinds.count(ACTIVATIONS[activation]) == {"resnet": 3}.get(name, 1)
    others = set(ACTIVATIONS.values()) - {ACTIVATIONS[activation]}
    assert not others & set(kinds)


SIZES = [(8, 8), (28, 28), (32, 32), (64, 64), (7, 5), (9, 16), (5, 31)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (5, 2), (3, 1), (4, 3), (1, 2), (2, 2), (5, 3)])
@pytest.mark.parametrize("widths", [(2,), (3, 2)])
def test_a_deconv_gives_exactly_the_image_of_its_space(
    size: tuple[int, int], kernel: int, stride: int, widths: tuple[int, ...]
) -> None:
    """And its maps are those that a conv with the same numbers makes on the way back."""
    options = f"{', '.join(map(str, widths))}, kernel={kernel}, stride={stride}"
    space = f"real[2,{size[0]},{size[1]}]"
    there = network(f"deconv({options})", "real[3]", space)
    assert there(noise(4, 3)).shape == (4, 2, *size)
    back = network(f"conv({options})", space, "real[3]")
    assert back(noise(4, 2, *size)).shape == (4, 3)
    (unflatten,) = (m for m in there.modules() if isinstance(m, nn.Unflatten))
    convolutions = nn.Sequential(*itertools.takewhile(lambda m: not isinstance(m, nn.Flatten), back.layers))
    smallest = convolutions(noise(4, 2, *size)).shape
    assert tuple(unflatten.unflattened_size)[1:] == smallest[2:]


def test_heads_of_an_image_are_channels() -> None:
    net = network("deconv(4)", "real[3]", "real[2,8,6]", "Normal(f({}))")
    loc, scale = net(noise(5, 3))
    assert loc.shape == scale.shape == (5, 2, 8, 6)
    last = net.layers[-1]
    assert last.out_channels == 4
    both = net.layers(noise(5, 3))
    torch.testing.assert_close(loc, both[:, :2])
    torch.testing.assert_close(scale, both[:, 2:].exp())


# --- how many parameters


@pytest.mark.parametrize(
    ("builder", "given", "taken", "count"),
    [
        ("mlp(5)", VECTOR, "real[2]", 3 * 5 + 5 + 5 * 2 + 2),
        ("mlp(5, norm=batch)", VECTOR, "real[2]", 3 * 5 + 5 + 2 * 5 + 5 * 2 + 2),
        ("mlp(5, norm=spectral)", VECTOR, "real[2]", 3 * 5 + 5 + 5 * 2 + 2),
        ("linear(norm=spectral, bias=false)", VECTOR, "real[2]", 3 * 2),
        ("conv(4)", IMAGE, "real[2]", 4 * 16 + 4 + 4 * 4 * 4 * 2 + 2),
        ("conv(4, kernel=3, norm=layer)", IMAGE, "real[2]", 4 * 9 + 4 + 2 * 4 + 4 * 16 * 2 + 2),
        ("conv(4, hidden=7)", f"{IMAGE};{VECTOR}", "real[2]", 68 + (64 + 3) * 7 + 7 + 7 * 2 + 2),
        ("deconv(4)", VECTOR, IMAGE, 3 * 64 + 64 + 4 * 16 + 1),
        ("resnet(5)", VECTOR, "real[2]", 3 * 5 + 5 + 2 * (25 + 5) + 5 * 2 + 2),
        ("resnet(5, 6)", VECTOR, "real[2]", 20 + 60 + (30 + 6 + 36 + 6) + (30 + 6) + 6 * 2 + 2),
        ("resnet(4)", IMAGE, "real[2]", 40 + 2 * (4 * 4 * 9 + 4) + (4 * 4 + 4) + 64 * 2 + 2),
        ("resnet(4, stride=1)", IMAGE, "real[2]", 40 + 2 * (4 * 4 * 9 + 4) + 256 * 2 + 2),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(builder: str, given: str, taken: str, count: int) -> None:
    assert parameters(network(builder, given, taken)) == count


# --- the same, written by hand


class Shaped(nn.Module):
    """Layers on the input as it is, their output reshaped."""

    def __init__(self, *layers: nn.Module, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(len(x), *self.shape)


def plain(layer: nn.Module) -> nn.Module:
    return layer


def nothing(size: int) -> list[nn.Module]:
    return []


NORM_1D = {
    "none": nothing,
    "batch": lambda n: [nn.BatchNorm1d(n)],
    "layer": lambda n: [nn.LayerNorm(n)],
    "spectral": nothing,
}
NORM_2D = {
    "none": nothing,
    "batch": lambda n: [nn.BatchNorm2d(n)],
    "layer": lambda n: [nn.GroupNorm(1, n)],
    "spectral": nothing,
}


@pytest.mark.parametrize("norm", NORMS)
def test_an_mlp_by_hand(norm: str) -> None:
    s = spectral_norm if norm == "spectral" else plain
    hand = Shaped(
        s(nn.Linear(3, 5)), *NORM_1D[norm](5), nn.ELU(), s(nn.Linear(5, 4)), *NORM_1D[norm](4), nn.ELU(),
        s(nn.Linear(4, 2)),
    )  # fmt: skip
    same_values(network(f"mlp(5, 4, norm={norm}, activation=elu)"), hand, noise(6, 3))


@pytest.mark.parametrize("norm", NORMS)
def test_a_conv_by_hand(norm: str) -> None:
    s = spectral_norm if norm == "spectral" else plain
    hand = Shaped(
        s(nn.Conv2d(1, 4, 4, stride=2, padding=1)), *NORM_2D[norm](4), nn.LeakyReLU(),
        s(nn.Conv2d(4, 6, 4, stride=2, padding=1)), *NORM_2D[norm](6), nn.LeakyReLU(),
        nn.Flatten(), s(nn.Linear(24, 2)),
    )  # fmt: skip
    net = network(f"conv(4, 6, norm={norm}, activation=leaky_relu)", IMAGE)
    same_values(net, hand, noise(6, 1, 8, 8))


@pytest.mark.parametrize("norm", NORMS)
def test_a_deconv_by_hand(norm: str) -> None:
    """7 x 5 by way of 3 x 2 and 1 x 1."""
    s = spectral_norm if norm == "spectral" else plain
    hand = Shaped(
        s(nn.Linear(3, 6)), nn.Unflatten(1, (6, 1, 1)), *NORM_2D[norm](6), nn.ReLU(),
        s(nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, output_padding=(1, 0))), *NORM_2D[norm](4), nn.ReLU(),
        s(nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1, output_padding=1)), shape=(2, 7, 5),
    )  # fmt: skip
    same_values(network(f"deconv(6, 4, norm={norm})", VECTOR, "real[2,7,5]"), hand, noise(6, 3))


class Block(nn.Module):
    def __init__(self, layers: list[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return (x if self.shortcut is None else self.shortcut(x)) + self.layers(x)


@pytest.mark.parametrize("norm", NORMS)
def test_a_resnet_on_images_by_hand(norm: str) -> None:
    s, between = spectral_norm if norm == "spectral" else plain, NORM_2D[norm]

    def conv(a: int, b: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        return s(nn.Conv2d(a, b, kernel, stride=stride, padding=kernel // 2))

    def block(a: int, b: int, stride: int) -> Block:
        layers = [*between(a), nn.ReLU(), conv(a, b, 3, stride), *between(b), nn.ReLU(), conv(b, b)]
        return Block(layers, conv(a, b, 1, stride) if (a, stride) != (b, 1) else None)

    hand = Shaped(
        conv(1, 4), block(4, 4, 2), block(4, 4, 1), block(4, 6, 2), block(6, 6, 1), *between(6), nn.ReLU(),
        nn.Flatten(), s(nn.Linear(24, 2)),
    )  # fmt: skip
    same_values(network(f"resnet(4, 6, blocks=2, norm={norm})", IMAGE), hand, noise(6, 1, 8, 8))


@pytest.mark.parametrize("norm", NORMS)
def test_a_resnet_on_vectors_by_hand(norm: str) -> None:
    s, between = spectral_norm if norm == "spectral" else plain, NORM_1D[norm]

    def block(a: int, b: int) -> Block:
        layers = [*between(a), nn.SiLU(), s(nn.Linear(a, b)), *between(b), nn.SiLU(), s(nn.Linear(b, b))]
        return Block(layers, s(nn.Linear(a, b)) if a != b else None)

    hand = Shaped(
        s(nn.Linear(3, 4)), block(4, 4), block(4, 6), *between(6), nn.SiLU(), s(nn.Linear(6, 2))
    )  # fmt: skip
    same_values(network(f"resnet(4, 6, norm={norm}, activation=silu)"), hand, noise(6, 3))


class Beside(nn.Module):
    """A vector and a class behind an image's features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(64 + 3 + 4, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, a: Tensor, x: Tensor, k: Tensor) -> Tensor:
        return self.head(torch.cat([self.layers(x), a, F.one_hot(k, 4).double()], 1))


def test_further_inputs_stand_behind_the_image_s_features_in_order() -> None:
    net = network("conv(4, hidden=5)", f"{VECTOR};{IMAGE};{{0..3}}")
    same_values(net, Beside(), noise(6, 3), noise(6, 1, 8, 8), torch.arange(6) % 4)


@pytest.mark.statistical
def test_dropout_leaves_out_its_share_in_training_alone() -> None:
    net = network("mlp(4000, dropout=0.25, activation=sigmoid)", VECTOR)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25]
    hidden = net.layers[:3](noise(1, 3))
    assert (hidden == 0).double().mean() == pytest.approx(0.25, abs=share_reach(0.25, 4000))
    net.eval()
    assert not bool((net.layers[:3](noise(1, 3)) == 0).any())


def test_batch_statistics_are_over_all_leading_dimensions() -> None:
    net = network("mlp(5, norm=batch)")
    x = noise(3, 4, 3)
    found = net(x)
    hidden = net.layers[0](x.reshape(12, 3))
    standard = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(found.reshape(12, 2), net.layers[3](standard.relu()))


def test_one_hot_inputs_take_no_step_of_the_power_iteration() -> None:
    """The type of a spectral layer's weight is not read from the weight, whose reading is a step."""
    net = network("mlp(5, norm=spectral)", "{0..3}")
    hand = Shaped(spectral_norm(nn.Linear(4, 5)), nn.ReLU(), spectral_norm(nn.Linear(5, 2)))

    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = hand

        def forward(self, k: Tensor) -> Tensor:
            return self.inner(F.one_hot(k, 4).double())

    same_values(net, OneHot(), torch.arange(6) % 4)
