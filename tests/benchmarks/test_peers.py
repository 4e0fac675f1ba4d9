"""The peers compute the losses that are emitted, and their steps run. Pixyz is tested where it is installed:

uv run --with pixyz==0.3.3 pytest tests/benchmarks/test_peers.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType

import pyro
import pytest
import torch

import jointkl

BATCH = 8

PEERS = (
    ("Pyro SVI, Trace_ELBO", "VAE"),
    ("Pyro, fastest", "VAE"),
    ("Pixyz", "VAE"),
    ("Pixyz, fastest", "VAE"),
    ("Pixyz", "GAN"),
    ("Pixyz, fastest", "GAN"),
)


@pytest.fixture
def peers(benchmark: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    yield benchmark("peers")
    pyro.clear_param_store()


def named(peers: ModuleType, name: str, system: str):
    if name.startswith("Pixyz") and find_spec("pixyz") is None:
        pytest.skip("Pixyz is not installed")
    (found,) = (p for p in peers.PEERS if p.name == name and p.system.name.startswith(system))
    return found


def test_every_peer_is_tested(peers: ModuleType) -> None:
    assert [(p.name, p.system.name.split()[0]) for p in peers.PEERS] == list(PEERS)


@pytest.mark.parametrize(("name", "system"), PEERS)
def test_losses_are_equal_and_a_step_changes_every_parameter(peers: ModuleType, name: str, system: str) -> None:
    peer = named(peers, name, system)
    torch.manual_seed(0)
    program = jointkl.compile(peer.system.spec)
    with peer.settings():
        peers.verify_agree(peer, program, BATCH)
        theirs, _ = peers.sides(peer, program)
        before = [p.detach().clone() for p in theirs.parameters()]
        theirs.step()(peer.system.data((BATCH, *peer.system.shape)))
    assert not any(torch.equal(a, b) for a, b in zip(before, theirs.parameters(), strict=True))


def test_losses_that_differ_are_refused(peers: ModuleType) -> None:
    """`Trace_ELBO` draws what the default loss has in closed form: equal on average, not for the same noise."""
    peer = named(peers, "Pyro SVI, Trace_ELBO", "VAE")

    def other():
        module, ((_, losses), _) = peer.side()
        return module, ((peers.VAE.spec, losses),)

    with pytest.raises(AssertionError, match="not close"):
        peers.verify_agree(replace(peer, side=other), jointkl.compile(peer.system.spec), BATCH)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.slow
def test_a_pair_is_measured(peers: ModuleType, benchmark: Callable[[str], ModuleType]) -> None:
    peer = named(peers, "Pyro SVI, Trace_ELBO", "VAE")
    found = benchmark("step").measure(peers.pair(replace(peer, targets={BATCH: 0.5}), BATCH), rounds=2, seconds=0.01)
    assert found.ratio > 0
    assert f"{peer.system.name}, batch {BATCH}: {peer.name}" in peers.row(found)
