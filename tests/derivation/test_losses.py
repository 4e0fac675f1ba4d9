"""The losses follow from the joints by the rules: names, orders and labels are the spec's alone."""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

import jointkl
from jointkl.derivation.derive import table
from jointkl.semantics.catalogue import BUILDERS, SOURCES
from jointkl.semantics.families import FAMILIES
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS
from jointkl.semantics.spaces import KINDS
from jointkl.syntax.stop import RESERVED
from tests.worlds import GAN, MODELS, VAE, losses

GAN_LOSSES = {
    "D": "E data(x) {-log p(1|x)} + E q(z) q(x|z) {-log p(0|x)}",  # Su 16
    "G": "E q(z) {-log p(1|G(z))}",  # Su 20
}
VAE_LOSSES = {"enc+dec": "E data(x) p(z|x) {-log q(x|z) + KL[p(z|x) || q(z)]}"}  # Su 7


def test_gan_is_su_16_and_20() -> None:
    assert losses((MODELS / "gan.jkl").read_text()) == GAN_LOSSES


def test_vae_is_su_7() -> None:
    assert losses((MODELS / "vae.jkl").read_text()) == VAE_LOSSES


# --- names


def words(text: str) -> set[str]:
    """What a spec names itself: variables, laws, nets."""
    declared = set(re.findall(r"(?:var|net)\s+(\w+)", text))
    return declared | set(re.findall(r"^\s*(\w+)\s*\(", text, re.MULTILINE)) - {"train"}


def renamed(text: str, names: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda m: names.get(m.group(), m.group()), text)


KNOWN = {*FAMILIES, *SOURCES, *BUILDERS, *FUNCTIONS, *CONSTANT_FUNCTIONS, *KINDS}
KNOWN |= {"Free", "KL", "log", "E", "data"} | RESERVED
NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,5}", fullmatch=True).filter(lambda n: n not in KNOWN)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([(GAN, GAN_LOSSES), (VAE, VAE_LOSSES)]))
def test_every_name_may_change(data: st.DataObject, case: tuple[str, dict[str, str]]) -> None:
    text, expected = case
    old = sorted(words(text) - {"data"})
    new = data.draw(st.lists(NAMES, min_size=len(old), max_size=len(old), unique=True))
    names = dict(zip(old, new, strict=True))
    found = losses(renamed(text, names))
    # players are named by their members, in order of declaration, which renaming keeps
    assert found == {renamed(k, names): renamed(v, names) for k, v in expected.items()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(GAN, GAN_LOSSES), (VAE, VAE_LOSSES)]))
def test_the_order_of_statements_is_free(seed: int, case: tuple[str, dict[str, str]]) -> None:
    text, expected = case
    lines = [line for line in text.strip().split("\n") if line]
    nets = [line for line in lines if line.startswith("net")]
    random.Random(seed).shuffle(lines)
    if len(expected) == 1:  # one player of two nets bears their names in order of declaration
        places = [i for i, line in enumerate(lines) if line.startswith("net")]
        for place, net in zip(places, nets, strict=True):
            lines[place] = net
    assert losses("\n".join(lines)) == expected


def test_the_order_of_factors_is_free() -> None:
    gan = GAN.replace("q(z) * q(x|z)", "q(x|z) * q(z)").replace("data(x) * p(y|x)", "p(y|x) * data(x)")
    vae = VAE.replace("data(x) * p(z|x)", "p(z|x) * data(x)").replace("q(z) * q(x|z)", "q(x|z) * q(z)")
    assert (losses(gan), losses(vae)) == (GAN_LOSSES, VAE_LOSSES)


# --- labels and weights


def test_swapped_labels_swap_the_classifier_alone() -> None:
    swapped = GAN.replace("y=1: data(x); y=0: q(z)", "y=0: data(x); y=1: q(z)")
    assert losses(swapped) == {
        "D": "E data(x) {-log p(0|x)} + E q(z) q(x|z) {-log p(1|x)}",
        "G": "E q(z) {-log p(0|G(z))}",
    }


def test_the_order_of_branches_is_free() -> None:
    turned = GAN.replace("{ y=1: data(x); y=0: q(z) * q(x|z) }", "{ y=0: q(z) * q(x|z); y=1: data(x) }")
    assert losses(turned) == {
        "D": "E q(z) q(x|z) {-log p(0|x)} + E data(x) {-log p(1|x)}",
        "G": "E q(z) {-log p(1|G(z))}",
    }


def test_a_label_may_have_any_two_values() -> None:
    other = GAN.replace("{0, 1}", "{3, 7}").replace("y=1", "y=7").replace("y=0", "y=3")
    other = other.replace("Bernoulli(D(x))", "Categorical(D(x))")
    assert losses(other) == {
        "D": "E data(x) {-log p(7|x)} + E q(z) q(x|z) {-log p(3|x)}",
        "G": "E q(z) {-log p(7|G(z))}",
    }


def test_weights_scale_the_branches() -> None:
    """0.3/0.7 becomes 0.6/1.4; log(w1/w0) in the optimum is a constant."""
    weighted = GAN.replace("y=1: data(x); y=0: q(z)", "y=1: 0.3 * data(x); y=0: 0.7 * q(z)")
    assert losses(weighted) == {
        "D": "0.6 E data(x) {-log p(1|x)} + 1.4 E q(z) q(x|z) {-log p(0|x)}",
        "G": "1.4 E q(z) {-log p(1|G(z))}",
    }


def test_a_goal_s_weight_scales_every_loss() -> None:
    assert losses(GAN.replace("minimize KL", "minimize 3 * KL")) == {
        "D": "3 E data(x) {-log p(1|x)} + 3 E q(z) q(x|z) {-log p(0|x)}",
        "G": "3 E q(z) {-log p(1|G(z))}",
    }


def test_maximising_the_negative_is_minimising() -> None:
    assert losses(VAE.replace("minimize KL", "maximize -KL")) == VAE_LOSSES


# --- what cancels


def test_a_common_factor_changes_no_loss_of_the_vae() -> None:
    more = VAE.replace("data(x) * p(z|x)\n", "data(x) * p(z|x) * r(t|x)\n").replace(
        "q(z) * q(x|z)\n", "q(z) * q(x|z) * r(t|x)\n"
    )
    more = more.replace("(x, z) =", "(x, z, t) =").replace("p(x,z) || q(x,z)", "p(x,z,t) || q(x,z,t)")
    assert losses(more + "var t: real[3]\nr(t|x) = Normal(0, 1)") == VAE_LOSSES


def test_a_common_factor_changes_no_loss_of_the_gan() -> None:
    more = GAN.replace("data(x); y=0: q(z) * q(x|z) }", "data(x) * r(t|x); y=0: q(z) * q(x|z) * r(t|x) }")
    more = more.replace("data(x) * p(y|x)", "data(x) * p(y|x) * r(t|x)").replace("(x, y) =", "(x, y, t) =")
    more = more.replace("q(x,y) || p(x,y)", "q(x,y,t) || p(x,y,t)")
    assert losses(more + "var t: real\nr(t|x) = Normal(0, 1)") == GAN_LOSSES


def test_a_hidden_leaf_changes_no_loss() -> None:
    more = GAN.replace("data(x) * p(y|x)", "data(x) * p(y|x) * r(t|x)") + "var t: real\nr(t|x) = Normal(0, 1)"
    assert losses(more) == GAN_LOSSES


def test_the_divergence_of_a_joint_from_itself_has_no_loss() -> None:
    derivation = jointkl.derive(jointkl.parse(VAE.replace("p(x,z) || q(x,z)", "p(x,z) || p(x,z)").replace(
        "minimize", "minimize CE(data(x) * p(z|x) || q(x|z)) over dec minimize", 1) + " over enc"))  # fmt: skip
    assert derivation.losses["enc"] == ()
    assert [w.code for w in derivation.warnings] == ["W-NO-LOSS"]


def test_the_mirrored_gan_is_the_aae_s_adversarial_part() -> None:
    """x and z, p and q exchanged: Su 30 and 33, with y=1 the prior."""
    mirrored = renamed(GAN, {"x": "z", "z": "x", "p": "q", "q": "p", "G": "E"}).replace("data(z) = ring8(std=0.02)", "")
    assert losses(mirrored) == {
        "D": "E data(z) {-log q(1|z)} + E p(x) p(z|x) {-log q(0|z)}",
        "E": "E p(x) {-log q(1|E(x))}",
    }


# --- the record


def test_every_step_names_a_rule_that_has_a_law() -> None:
    derivation = jointkl.derive(jointkl.load(MODELS / "gan.jkl"))
    assert {s.rule for s in derivation.steps} <= {rule.name for rule in table() if rule.law}
    assert {"EXPAND", "CANCEL", "SCALE", "BLOCK", "OPTIMAL-DISCRIMINATOR", "NULL", "GRADIENT", "LOSS"} <= {
        s.rule for s in derivation.steps
    }


def test_no_rule_knows_a_system_by_name() -> None:
    names = {p.stem for p in MODELS.glob("*.jkl")} | {"GAN", "VAE", "AAE", "ALI"}
    rooms = MODELS.parent / "jointkl"
    for room in ("semantics", "derivation", "objective", "emission"):
        for path in (rooms / room).rglob("*.py"):
            strings = re.findall(r"""["']([A-Za-z_]+)["']""", path.read_text())
            assert not names & set(strings), path.name


def test_hidden_variables_of_two_joints_are_two_variables() -> None:
    """a(x) and b(t) both hide a z: inlined into one product they are renamed apart, and neither is evaluated."""
    text = """
        data(x, t) = evidence()
        var x, t, z: real
        net A = linear()
        net B = linear()
        net C = mlp(8)
        q(z) = Normal(0, 1)
        q(x | z) = Delta(A(z))
        q(t | z) = Delta(B(z))
        a(x) = q(z) * q(x|z)
        b(t) = q(z) * q(t|z)
        minimize KL(a(x) * b(t) || data(x, t)) with critic=C
    """
    assert losses(text)["A+B"] == "E q(z) q(z') {-l_C(A(z),B(z'))}"
