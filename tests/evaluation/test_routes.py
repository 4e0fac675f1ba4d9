"""Which ways through a model are found: read off the spec by eye, for every model."""

from __future__ import annotations

import pytest

import jointkl
from jointkl.derivation.facts import facts_of
from jointkl.evaluation import routes
from tests.worlds import MODELS

CODED = """
aae adversary_activated_vae age ali ali_dropped ali_minimax ali_nonsaturating ali_proximal alpha_gan avb bigan introvae
iwae vae vae_gan wake_sleep
"""
TRIPS = {name: ["data(x) p(z|x) q(x|z)"] for name in CODED.split()} | {
    "cyclegan": ["data(a) q(b|a) p(a|b)", "data(b) p(a|b) q(b|a)"],
    "em": ["data(x) p(k|x) q(x|k)"],
}
FROM_DATA_TOO = {"cyclegan", "domain_adaptation", "vi"}
"""What they generate is made of data, or has globals."""


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.jkl")))
def test_the_ways_through_every_model(name: str) -> None:
    facts = facts_of(jointkl.load(MODELS / f"{name}.jkl"))
    assert [trip.text for trip in routes.round_trips(facts.model)] == TRIPS.get(name, [])
    way = routes.descent(facts)
    assert (way is None) == (name in FROM_DATA_TOO)
    if way is not None:
        assert way.others == ("x",)
        moving, finite = [root.variable for root in way.moving], way.finite and (way.finite.variable, way.finite.values)
        assert (moving, finite) == {
            "em": ([], ("k", 3)),
            "infogan": (["z"], ("c", 10)),
            "wake_sleep": ([], None),  # 2^16 values of z
        }.get(name, (["z"], None))


def test_codes_of_codes_and_what_data_give_beside() -> None:
    text = """
        data(x, c) = digits()
        var x: real[1,8,8]
        var c: {0..9}
        var z, w: real[2]
        net E = mlp(4)
        net F = mlp(4)
        net D = mlp(4)
        net H = mlp(4)
        p(z | x, c) = Normal(E(x, c))
        p(w | z) = Normal(F(z))
        q(w) = Normal(0.5, 2)
        q(z | w) = Normal(H(w))
        q(x | w, c) = Normal(D(w, c), 1)
        minimize KL(data(x, c) * p(z|x,c) * p(w|z) || data(c) * q(w) * q(z|w) * q(x|w,c))
        """
    model = jointkl.parse(text)
    (trip,) = routes.round_trips(model)
    assert trip == routes.RoundTrip("x", "data(x,c)", ("p(z|x,c)", "p(w|z)"), "q(x|w,c)")
