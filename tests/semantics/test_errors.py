"""Every named mistake is shown by a bad spec; several are told together, and nothing that only follows from one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import jointkl
from jointkl.derivation import errors as derivation_errors
from jointkl.diagnostics import JklError, Report
from jointkl.emission import errors as emission_errors
from jointkl.semantics import errors, goal_errors, joint_errors, law_errors, net_errors
from tests.mistakes import Mistake, every
from tests.test_bad import CHECKS
from tests.worlds import VAE

ROOMS = (errors, law_errors, joint_errors, goal_errors, net_errors, derivation_errors, emission_errors)

UNREACHED: dict[str, str] = {
    "dropped": "a warning",
    "idle_option": "a warning",
    "inert_proximal": "a warning",
    "no_loss": "a warning",
}
"""Constructors that no bad spec reaches, with the reason."""


def constructors(room: ModuleType) -> Iterator[tuple[str, Callable[..., Report]]]:
    for name, function in inspect.getmembers(room, inspect.isfunction):
        made = function.__annotations__.get("return") == "Report" and not name.startswith("_")
        if made and function.__module__ == room.__name__:
            yield name, function


def reports(text: str, stage: str = "semantics") -> tuple[Report, ...]:
    with pytest.raises(JklError) as found:
        CHECKS[stage](text, "spec.jkl")
    return found.value.reports


@pytest.mark.slow
def test_every_constructor_is_shown_by_a_bad_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()
    known: set[str] = set()
    for room in ROOMS:
        for name, function in constructors(room):
            known.add(name)

            def noted(*args: object, _name: str = name, _made: Callable[..., Report] = function) -> Report:
                called.add(_name)
                return _made(*args)

            monkeypatch.setattr(room, name, noted)
    for m in every():
        if m.stage != "syntax":
            reports(m.spec, m.stage)
    assert known - called == set(UNREACHED)


@pytest.mark.parametrize("m", [m for m in every() if m.stage == "semantics"], ids=lambda m: m.name)
def test_the_place_is_words_on_one_line(m: Mistake) -> None:
    for report in reports(m.spec):
        for span in (report.span, *(cause for cause, _ in report.causes)):
            assert span.text.strip() == span.text != ""
            assert "\n" not in span.text


@pytest.mark.parametrize("line", [line for line in VAE.splitlines() if line.startswith(("var", "net"))])
def test_a_missing_declaration_is_told_once(line: str) -> None:
    name = line.split()[1].strip(":")
    (report,) = reports(VAE.replace(line + "\n", ""))
    assert f"`{name}`" in report.message


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("digits(threshold=0.5)", "digits(treshold=0.5)"),
        ("binary[1,8,8]", "binry[1,8,8]"),
        ("real[8]", "real[0]"),
        ("enc = mlp(16)", "enc = mpl(16)"),
        ("Normal(enc(x))", "Normal(enc(y))"),
        ("Normal(0, 1)", "Normal(0, -1)"),
        ("p(x, z) = data(x) * p(z|x)", "p(x, z) = data(x)"),
        ("q(x, z) = q(z) * q(x|z)", "q(x, z) = q(z) * q(x|x)"),
    ],
)
def test_a_broken_part_is_told_once_whatever_uses_it(good: str, bad: str) -> None:
    assert good in VAE
    (report,) = reports(VAE.replace(good, bad))
    (alone,) = reports(VAE.replace(good, bad) + "minimize CE(p(x,z) || q(x|z)) over enc, dec\nplayer all = enc, dec\n")
    assert (report.message, report.span.text) == (alone.message, alone.span.text)


def test_mistakes_are_told_in_order_of_place() -> None:
    text = "minimize KL(r(x) || q(x))\nlet K = L\nvar x: real[2]\nq(x) = Normal(0, 1, 2)\ntrain(lr=-1, lr=1)"
    assert [r.span.line for r in reports(text)] == [1, 2, 4, 5, 5]


def test_a_flood_of_mistakes_is_cut() -> None:
    text = "\n".join(f"let a{i} = b{i}" for i in range(200))
    assert len(reports(text)) == 50


def test_a_good_spec_has_none() -> None:
    jointkl.parse(VAE)
