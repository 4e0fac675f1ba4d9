"""Options of `train`, the caller's settings and the objective's phases, merged into one table."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import jointkl
from jointkl.compiler import lower
from jointkl.diagnostics import DataError, JklError
from jointkl.training.phases import STEPS, Length, Phase, length, phases, rounds

GAN = """
data(x) = ring8()
var x, z: real[2]
var y: {0, 1}
net G = mlp(8)
net D = mlp(8)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
"""


def table(text: str, settings: Mapping[str, object] | None = None) -> dict[str, Phase]:
    model = jointkl.parse(text)
    derivation = jointkl.derive(model)
    found = phases(model, lower(derivation), derivation.facts.players, settings or {})
    return {phase.player: phase for phase in found}


def run_length(text: str, settings: Mapping[str, object] | None = None) -> Length:
    return length(jointkl.parse(text), settings or {})


def test_defaults_and_order() -> None:
    found = table(GAN)
    assert list(found) == ["D", "G"]
    assert found["D"] == Phase("D", "classifier", False, "adam", 1e-3, (0.9, 0.999), 0.0, None, 1, 1)
    assert found["G"] == Phase("G", "other", True, "adam", 1e-3, (0.9, 0.999), 0.0, None, 1, 1)
    assert run_length(GAN) == Length(128, None, None, 0)
    assert rounds(run_length(GAN), 128, [1000]) == STEPS


def test_a_player_goes_before_everyone_and_a_setting_before_the_spec() -> None:
    spec = GAN + "train(lr=0.1, beta1=0.5, clip=3)\ntrain D(lr=0.2, repeat=5)\ntrain G(beta2=0.9)"
    found = table(spec)
    assert (found["D"].lr, found["D"].repeat, found["D"].betas, found["D"].clip) == (0.2, 5, (0.5, 0.999), 3.0)
    assert (found["G"].lr, found["G"].repeat, found["G"].betas) == (0.1, 1, (0.5, 0.9))
    found = table(spec, {"lr": "0.3", "D.repeat": "2", "G.every": 3, "optimizer": "sgd", "D.optimizer": "rmsprop"})
    assert (found["D"].lr, found["D"].repeat, found["D"].optimizer) == (0.2, 2, "rmsprop")
    assert (found["G"].lr, found["G"].every, found["G"].optimizer) == (0.3, 3, "sgd")
    assert table(spec, {"D.lr": "1e-4"})["D"].lr == 1e-4


def test_a_player_is_known_by_its_name_or_by_what_it_holds() -> None:
    vae = (
        """
    data(x) = digits(threshold=0.5)
    var x: binary[1,8,8]
    var z: real[2]
    net enc, = mlp(4)
    """.replace("enc, =", "enc =")
        + """
    net dec = mlp(4)
    p(z | x) = Normal(enc(x))
    q(z) = Normal(0, 1)
    q(x | z) = Bernoulli(dec(z))
    minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
    """
    )
    for key in ("enc+dec.lr", "enc.lr", "dec.lr"):
        assert table(vae, {key: "0.5"})["enc+dec"].lr == 0.5
    assert table(vae, {"enc.lr": "0.5", "dec.lr": "5e-1"})["enc+dec"].lr == 0.5
    with pytest.raises(DataError, match=r"`lr` of player enc\+dec is set twice"):
        table(vae, {"enc.lr": "0.5", "dec.lr": "0.6"})
    with pytest.raises(JklError, match="set twice") as found:
        table(vae + "train enc(lr=0.1)\ntrain dec(lr=0.2)")
    assert "train dec(lr=0.2)" in str(found.value)
    assert table(vae + "train enc(lr=0.1)\ntrain dec(lr=0.1)")["enc+dec"].lr == 0.1


def test_steps_and_epochs() -> None:
    assert rounds(run_length(GAN + "train(steps=70)"), 128, [1000]) == 70
    assert rounds(run_length(GAN + "train(epochs=3, batch=100)"), 100, [1050, 300]) == 30
    assert rounds(run_length(GAN + "train(epochs=0.25)"), 100, [1000]) == 3
    assert rounds(run_length(GAN + "train(epochs=3)", {"steps": 7}), 128, [1000]) == 7
    assert rounds(run_length(GAN + "train(steps=3)", {"epochs": "2"}), 100, [1000]) == 20
    for spec, settings in ((GAN + "train(steps=3, epochs=3)", {}), (GAN, {"steps": 3, "epochs": 3})):
        with pytest.raises((DataError, JklError), match="`steps` and `epochs`"):
            run_length(spec, settings)
    with pytest.raises(DataError, match="no evidence"):
        rounds(Length(8, None, 1.0, 0), 8, [])


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("lrr", "1", "did you mean `lr`"),
        ("D.lrr", "1", "did you mean `lr`"),
        ("E.lr", "1", "no player, net or param `E`"),
        ("repeat", "2", "say whose: G.repeat=2"),
        ("D.batch", "2", "the whole run"),
        ("lr", "fast", "a finite number; found `fast`"),
        ("lr", "nan", "a finite number"),
        ("lr", "inf", "a finite number"),
        ("lr", "-1", "0 or more"),
        ("beta1", "1", "below 1"),
        ("D.repeat", "1.5", "a whole number"),
        ("D.every", "0", "1 or more"),
        ("optimizer", "adan", "did you mean `adam`"),
        ("schedule", "cosin", "did you mean `cosine`"),
        ("warmup", "-3", "0 or more"),
        ("ema", "1", "below 1"),
        ("D.ema", "-0.1", "0 or more"),
        ("D.precision", "bf16", "the whole run"),
        ("precision", "bf", "did you mean `bf16`"),
        ("lr", "1e100", "no number beyond 1e100"),
        ("warmup", "1" + "0" * 400, "no number beyond 1e100"),
        ("epochs", "1e308", "no number beyond 1e100"),
    ],
)
def test_a_wrong_setting_is_explained(key: str, text: str, says: str) -> None:
    with pytest.raises(DataError) as found:
        table(GAN, {key: text})
    assert says in str(found.value)


@pytest.mark.parametrize("key", ["batch", "steps", "epochs", "seed"])
def test_a_wrong_length_is_explained(key: str) -> None:
    with pytest.raises(DataError, match=f"setting `{key}`"):
        run_length(GAN, {key: "-1"})
    with pytest.raises(DataError, match=f"setting `{key}`"):
        run_length(GAN, {key: "many"})


def test_everyone_s_average_is_not_a_referee_s() -> None:
    found = table(GAN + "train(ema=0.99)")
    assert (found["D"].ema, found["G"].ema) == (None, 0.99)
    found = table(GAN + "train(ema=0.99)\ntrain D(ema=0.9)", {"G.ema": "0"})
    assert (found["D"].ema, found["G"].ema) == (0.9, None)
    found = table(GAN, {"ema": "0.5"})
    assert (found["D"].ema, found["G"].ema) == (None, 0.5)


def test_schedules_are_everyone_s_or_a_player_s() -> None:
    found = table(GAN + "train(schedule=cosine, warmup=50)\ntrain D(schedule=linear)", {"D.warmup": "7"})
    assert (found["D"].schedule, found["D"].warmup) == ("linear", 7)
    assert (found["G"].schedule, found["G"].warmup) == ("cosine", 50)


def test_the_precision_is_the_whole_run_s() -> None:
    assert run_length(GAN).precision == "float32"
    assert run_length(GAN + "train(precision=bf16)").precision == "bf16"
    assert run_length(GAN + "train(precision=bf16)", {"precision": "float32"}).precision == "float32"


def test_a_free_law_has_no_phase_and_takes_no_options() -> None:
    em = """
    data(x) = iris()
    var x: real[4]
    var k: {0, 1}
    param mu: real[2,4]
    p(k | x) = Free
    q(k) = Categorical()
    q(x | k) = Normal(mu[k], 1)
    minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
    """
    assert list(table(em, {"lr": "0.1"})) == ["mu"]
    with pytest.raises(DataError, match="solved in closed form"):
        table(em, {"p(k|x).lr": "0.1"})
