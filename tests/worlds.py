"""Specs that several tests use, written out and taken apart: a spec's lines, and its losses as formulas."""

from __future__ import annotations

from pathlib import Path

import jointkl
from jointkl.exposition.formula import formula

MODELS = Path(__file__).resolve().parent.parent / "models"

GAN = """
data(x) = ring8(std=0.02)
var x: real[2]
var z: real[2]
var y: {0, 1}
net G = mlp(16)
net D = mlp(16)
q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
"""

VAE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[8]
net enc = mlp(16)
net dec = mlp(16)
p(z | x) = Normal(enc(x))
q(z)     = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
p(x, z) = data(x) * p(z|x)
q(x, z) = q(z) * q(x|z)
minimize KL(p(x,z) || q(x,z))
"""


def losses(text: str) -> dict[str, str]:
    """Each player's loss as a formula."""
    derivation = jointkl.derive(jointkl.parse(text))
    return {player: formula(derivation.facts, entries) for player, entries in derivation.losses.items()}
