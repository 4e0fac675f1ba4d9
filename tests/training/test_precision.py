"""Networks in bfloat16 while they train, everything else in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import jointkl
from jointkl.training.folder.run import load_run
from jointkl.training.precision import arithmetic
from tests.training.speed.test_backends import needs_compiler, steppers_of
from tests.worlds import MODELS

NORMS = ("none", "batch", "layer", "spectral")


def losses(program: jointkl.Program, precision: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    batch = {"x": torch.rand(64, 1, 8, 8).round() if "enc" in program.nets else torch.randn(64, 2)}
    with arithmetic(program, precision):
        found = {player: program.loss(player, batch) for player in program.players}
    return found


@pytest.mark.statistical
@pytest.mark.parametrize("spec", ["gan", "vae"])
def test_the_loss_is_close_to_float32_s_and_its_gradients_flow(spec: str, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(request.getfixturevalue(spec))
    full, lower = losses(program, "float32"), losses(program, "bf16")
    for player, loss in lower.items():
        assert loss.dtype == torch.float32
        assert loss.item() != full[player].item(), "it is another arithmetic"
        assert loss.item() == pytest.approx(full[player].item(), rel=1e-2)
        own = program.parameters_of(player)
        found, exact = (torch.autograd.grad(value, own) for value in (loss, full[player]))
        assert {g.dtype for g in found} == {torch.float32}
        a, b = (torch.cat([g.flatten() for g in gradient]) for gradient in (found, exact))
        assert 0 < (a - b).norm() < 0.05 * b.norm()


@pytest.mark.parametrize("norm", NORMS)
def test_layers_are_in_bfloat16_and_hand_back_float32(gan: str, norm: str) -> None:
    program = jointkl.compile(gan.replace("D = mlp(16)", f"D = mlp(16, norm={norm}, dropout=0.1)"))
    inside: list[torch.dtype] = []
    (*_, last) = (part for part in program.emitted.D.modules() if isinstance(part, nn.Linear))
    last.register_forward_hook(lambda net, inputs, output: inside.append(output.dtype))
    with arithmetic(program, "bf16"):
        loss = program.loss("D", {"x": torch.randn(8, 2)})
        loss.backward()
        assert set(inside) == {torch.bfloat16}
        assert {p.grad.dtype for p in program.parameters_of("D") if p.grad is not None} == {torch.float32}
        assert program.emitted.D(torch.randn(8, 2)).dtype == torch.float32
    program.loss("D", {"x": torch.randn(8, 2)})
    assert inside[-1] == torch.float32, "afterwards as before"


def test_maps_into_a_space_and_densities_are_in_float32(vae: str) -> None:
    """A scale is exp of a head: of a head in bfloat16, but not rounded to it again."""
    program = jointkl.compile(vae)
    with arithmetic(program, "bf16"):
        _, scale = program.nets["enc"](torch.rand(64, 1, 8, 8))
    assert scale.dtype == torch.float32
    assert not torch.equal(scale, scale.bfloat16().float())


def test_a_spectral_norm_is_of_the_float32_weights(gan: str) -> None:
    spec = gan.replace("D = mlp(16)", "D = mlp(16, norm=spectral)")
    found = []
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        program = jointkl.compile(spec)
        with arithmetic(program, precision):
            for _ in range(5):
                program.loss("D", {"x": torch.randn(8, 2)})
        found.append({name: value for name, value in program.emitted.named_buffers() if name.endswith(("_u", "_v"))})
    assert found[0]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_samples_are_in_float32(gan: str) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(gan)
    found = []
    for precision in ("float32", "bf16"):
        torch.manual_seed(1)
        with arithmetic(program, precision):
            found.append(program.sample("q(x)", 5)["x"])
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["vae", "gan", "ali_proximal", "infogan", "iwgan", "cyclegan"])
def test_models_step_in_bf16(name: str) -> None:
    program, steppers, batch = steppers_of((MODELS / f"{name}.jkl").read_text())
    with arithmetic(program, "bf16"):
        for stepper in steppers:
            stepper.step(batch, 1)
    assert all(bool(p.isfinite().all()) and p.dtype == torch.float32 for p in program.parameters())


@pytest.mark.slow
@needs_compiler
def test_a_compiled_step_is_in_bf16_too(gan: str) -> None:
    ends = []
    for way in ("eager", "compile"):
        from jointkl.training.speed.backends import BACKENDS

        program, steppers, batch = steppers_of(gan)
        with arithmetic(program, "bf16"):
            (row,) = (row for row in BACKENDS if row.name == way)
            take = row.build(steppers[0], batch)
            torch.manual_seed(3)
            ends.append(take(batch).item())
    assert ends[0] == pytest.approx(ends[1], rel=2**-8), "a rounding to bfloat16"


@pytest.mark.slow
@pytest.mark.statistical
def test_a_run_in_bf16_learns_and_is_said(vae: str, halfway: float, tmp_path: Path) -> None:
    run = jointkl.train(vae, out=tmp_path / "run", precision="bf16", quiet=True, pictures=0)
    assert run.losses["enc+dec"] < halfway
    plain = jointkl.train(vae, out=tmp_path / "plain", steps=2, quiet=True, pictures=0)
    lower = jointkl.train(vae, out=tmp_path / "lower", precision="bf16", steps=2, quiet=True, pictures=0)
    assert lower.losses != plain.losses
    assert '"precision": "bf16"' in (run.folder / "config.json").read_text()
    assert all(p.dtype == torch.float32 for p in load_run(run.folder).program.parameters())
    assert not any("forward" in vars(part) for part in run.program.modules()), "the program is given back as it came"
