"""What must change nothing, and what must change the losses just so (properties 1-6, 17, 21)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor, nn

import jointkl
from tests.properties.compiled import LEGITIMATE, compiled, examples, gradients, losing, network, replaced, same
from tests.properties.drawn import ANY, likelihoods, mixtures, ratios, several
from tests.properties.making import Making
from tests.properties.specs import (
    Divergence,
    Factor,
    Goal,
    Joint,
    Law,
    Spec,
    Var,
    renamed,
    shuffled,
)
from tests.worlds import losses

NASTY = (
    "self batch n rows torch nn F dist pyro math Tensor forward training anchor lambda_ class def None True is and"
    " loss_x size full normal snapshot players laws losses nets params copy joined super len __init__ __class__ _ print"
    " exec eval import_ os device dtype layers both x_2 z_prime value score Q P D1 T_destination double"
).split()
"""Names that the emitted module, torch or Python might want for itself."""


def names_of(spec: Spec) -> list[str]:
    labels = {law.label for law in spec.laws} - {"data"}
    hidden = {law.body.label for law in spec.laws if isinstance(law.body, Joint) and law.body.label}
    variables = {v.name for v in spec.variables} | hidden
    return sorted(labels | variables | {n for n, _ in (*spec.params, *spec.nets)})


# --- names and order


@pytest.mark.slow
@examples(40)
@given(ANY, st.integers(0, 10**6))
def test_1_names_change_nothing(spec: Spec, seed: int) -> None:
    """Names change nothing, whatever they mean elsewhere."""
    fresh = random.Random(seed).sample(NASTY, len(NASTY))
    names = dict(zip(names_of(spec), fresh, strict=False))
    changed = renamed(spec, names)
    back = {new: old for old, new in names.items()}
    found = gradients(changed, compiled(changed, names=back))
    same({_first(k, back): g for k, g in found.items()}, gradients(spec, compiled(spec)), changed.text)


def _first(name: str, names: dict[str, str]) -> str:
    first, dot, rest = name.partition(".")
    return names[first] + dot + rest


@pytest.mark.slow
@examples(40)
@given(ANY, st.integers(0, 10**6))
def test_1_order_changes_nothing(spec: Spec, seed: int) -> None:
    """Factor order, branch order and statement order change nothing."""
    mixed, text = shuffled(spec, seed)
    same(gradients(mixed, compiled(mixed, text)), gradients(spec, compiled(spec)), text)


@pytest.mark.slow
@examples(30)
@given(st.one_of(several(), mixtures(), ratios()), st.sampled_from(["pq", "xz", "pq xz"]))
def test_3_4_mirrored(spec: Spec, pairs: str) -> None:
    """A GAN under x<->z, p<->q is an AAE's adversarial part; p and q swapped with the direction swapped."""
    names = {n: n for n in names_of(spec)}
    for a, b in pairs.split():
        names |= {a: b, b: a}
    mirrored = renamed(spec, names)
    note(mirrored.text)
    formulas, codes = outcome(spec.text)
    assert outcome(mirrored.text) == (sorted(_words(f, names) for f in formulas), codes)


def outcome(text: str) -> tuple[list[str], set[str]]:
    """The formulas of the losses, or the codes with which the spec is refused."""
    try:
        return sorted(losses(text).values()), set()
    except jointkl.JklError as error:
        codes = {r.code for r in error.reports}
        if not codes <= set(LEGITIMATE):
            raise
        return [], codes


def _words(formula: str, names: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z][A-Za-z0-9]*", lambda m: names.get(m.group(), m.group()), formula)


@pytest.mark.slow
@examples(30)
@given(mixtures())
def test_5_flipped_labels_swap_the_classifier_alone(spec: Spec) -> None:
    """Label flip swaps D1/D0 only."""
    values = {v.value for law in spec.laws if isinstance(law.body, Joint) and law.body.label for v in law.body.branches}
    low, high = sorted(values)
    other = {low: high, high: low}
    flipped = replace(spec, laws=tuple(replace(law, body=_flipped(law.body, other)) for law in spec.laws))
    program, turned = compiled(spec), compiled(flipped)
    (key,) = spec.classifiers
    net = network(spec, key)
    for own in losing(turned, "classifier"):
        turned.emitted.losses = dict(turned.emitted.losses)
        turned.emitted.losses.pop(own)
        program.emitted.losses = dict(program.emitted.losses)
        program.emitted.losses.pop(own)
    replaced(turned, net, Turned(turned.nets[net]))
    same(gradients(flipped, turned), gradients(spec, program), flipped.text)
    swapped = {k: _swapped(v, low, high) for k, v in losses(spec.text).items()}
    assert losses(flipped.text) == swapped


class Turned(nn.Module):
    """A classifier whose labels are exchanged."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.net(*inputs)
        return found.flip(-1) if found.dim() and found.shape[-1] == 2 and _is_categorical(self.net) else -found


def _is_categorical(net: nn.Module) -> bool:
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    return last.out_features == 2


def _flipped(body: object, other: dict[int, int]) -> object:
    if not isinstance(body, Joint) or body.label is None:
        return body
    return Joint(tuple(replace(b, value=other[b.value or 0]) for b in body.branches), body.label)


def _swapped(formula: str, low: int, high: int) -> str:
    return formula.replace(f"d({low}|", "d(*|").replace(f"d({high}|", f"d({low}|").replace("d(*|", f"d({high}|")


# --- what cancels


@pytest.mark.slow
@examples(30)
@given(likelihoods(hidden=True), st.integers(0, 1000))
def test_2_a_joint_from_itself_has_no_loss(spec: Spec, seed: int) -> None:
    """KL(J||J) has no loss, however its factors are ordered."""
    (goal,) = spec.goals
    (d,) = goal.terms
    mixed, _ = shuffled(spec, seed)
    for side, again in ((d.left, mixed.goals[0].terms[0].left), (d.right, mixed.goals[0].terms[0].right)):
        laws = {law.key: law for law in spec.laws}
        other = tuple(again)
        if len(again) == 1 and isinstance((law := mixed.law(again[0].law)).body, Joint):
            twin = replace(law, label="twin")
            laws[twin.key] = twin
            other = (Factor(twin.key, again[0].outputs),)
        itself = replace(
            spec, laws=tuple(laws.values()), goals=(Goal((Divergence("KL", side, other, d.weight),)),)
        )  # fmt: skip
        trained = _trimmed(itself)
        note(trained.text)
        derivation = jointkl.derive(jointkl.parse(trained.text))
        assert all(not entries for entries in derivation.losses.values()), losses(trained.text)
        assert {w.code for w in derivation.warnings} <= {"W-NO-LOSS"}
        assert jointkl.compile(trained.text).emitted.losses == {}


def _trimmed(spec: Spec) -> Spec:
    """Without the laws that no goal reaches, and what only they are made of."""
    m = Making(lambda strategy: None)
    m.variables, m.laws = list(spec.variables), {law.key: law for law in spec.laws}
    m.params, m.nets = dict(spec.params), dict(spec.nets)
    return m.spec(*spec.goals, classifiers=spec.classifiers)


@st.composite
def with_a_common_factor(draw: Callable[..., object]) -> tuple[Spec, Spec]:
    """A spec, and the same with both sides times a further law r(v|..), in every branch."""
    spec: Spec = draw(st.one_of(likelihoods(), mixtures()))
    (goal,) = spec.goals
    (d,) = goal.terms
    heads = [v for f in d.right for v in _outputs(spec, f)]
    label = {law.body.label for law in spec.laws if isinstance(law.body, Joint)}
    visible = [v for v in heads if v not in label]
    given_ = tuple(v for v in visible if draw(st.booleans()))[:2]
    m = Making(draw)
    m.variables = [*spec.variables, Var("e", *draw(st.sampled_from((("{0..2}", 3), ("binary", 2)))))]
    m.laws = {law.key: law for law in spec.laws}
    m.params, m.nets = dict(spec.params), dict(spec.nets)
    extra = m.factor("extra", "e", given_)

    def more(fs: tuple[Factor, ...]) -> tuple[Factor, ...]:
        if len(fs) == 1 and isinstance(body := m.laws[fs[0].law].body, Joint):
            law = m.laws[fs[0].law]
            made = Joint(tuple(replace(b, factors=(*b.factors, extra)) for b in body.branches), body.label)
            wider = Law(law.label, (*law.outputs, "e"), (), made)
            m.laws[wider.key] = wider
            return (Factor(wider.key, (*fs[0].outputs, "e")),)
        return (*fs, extra)

    wider = m.spec(
        replace(goal, terms=(replace(d, left=more(d.left), right=more(d.right)),)), classifiers=spec.classifiers
    )
    return spec, wider


def _outputs(spec: Spec, f: Factor) -> tuple[str, ...]:
    return f.outputs


@pytest.mark.slow
@examples(30)
@given(with_a_common_factor())
def test_6_a_common_factor_changes_no_loss(specs: tuple[Spec, Spec]) -> None:
    """A common extra factor changes no loss."""
    spec, wider = specs
    program = compiled(wider)
    plain = gradients(spec, compiled(spec))
    found = gradients(wider, program)
    same(found, plain, wider.text)


@pytest.mark.slow
@examples(30)
@given(likelihoods(), st.booleans(), st.data())
def test_21_a_hidden_leaf_changes_nothing(spec: Spec, left: bool, data_: st.DataObject) -> None:
    """An unused hidden leaf changes nothing."""
    (goal,) = spec.goals
    (d,) = goal.terms
    m = Making(data_.draw)
    m.variables = [*spec.variables, Var("e", "{0..2}", 3)]
    m.laws = {law.key: law for law in spec.laws}
    m.params, m.nets = dict(spec.params), dict(spec.nets)
    side = d.left if left else d.right
    head = tuple(v for f in side for v in f.outputs)
    leaf = m.factor("extra", "e", head[:1])
    hidden = m.named("leafy", head, [*side, leaf])
    made = replace(d, left=(hidden,)) if left else replace(d, right=(hidden,))
    wider = m.spec(replace(goal, terms=(made,)))
    same(gradients(wider, compiled(wider)), gradients(spec, compiled(spec)), wider.text)


# --- weights


@pytest.mark.slow
@examples(30)
@given(st.one_of(several(), mixtures(), ratios()), st.sampled_from([Fraction(3), Fraction(1, 2), Fraction(7, 5)]))
def test_17_weights_scale(spec: Spec, scale: Fraction) -> None:
    """Weights scale, but a critic's own loss keeps weight 1."""
    larger = replace(
        spec,
        goals=tuple(
            replace(g, terms=tuple(replace(d, weight=d.weight * scale) for d in g.terms)) for g in spec.goals
        ),
    )  # fmt: skip
    plain = gradients(spec, compiled(spec))
    critic = [k for k in plain if k.split(".")[0] == "C"]
    wanted = {k: g if k in critic else float(scale) * g for k, g in plain.items()}
    same(gradients(larger, compiled(larger)), wanted, larger.text)


@pytest.mark.slow
@examples(30)
@given(several())
def test_17_sums_add(spec: Spec) -> None:
    """Sums add: the gradients of goals by themselves add up to those of all."""
    together = gradients(spec, compiled(spec))
    summed: dict[str, Tensor] = {}
    for goal in spec.goals:
        for d in goal.terms:
            alone = _trimmed(replace(spec, goals=(replace(goal, terms=(d,)),)))
            known = {n for n, _ in (*alone.params, *alone.nets)}
            if goal.over is not None:
                over = tuple(n for n in goal.over if n in known)
                if not over:
                    continue
                alone = replace(alone, goals=(replace(alone.goals[0], over=over),))
            for name, g in gradients(alone, compiled(alone)).items():
                summed[name] = summed[name] + g if name in summed else g
    same(together, summed, spec.text)
