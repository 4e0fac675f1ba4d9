"""The keywords of `train`, and what a training costs before its first round."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import jointkl
from jointkl.cli import main
from jointkl.derivation.derive import derive
from jointkl.syntax.parse import parse_text
from jointkl.training.options import Options


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often texts are parsed and models derived, wherever these functions were imported."""
    found = Counter[str]()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            found[function.__name__] += 1
            return function(*arguments)

        return call

    for function in (parse_text, derive):
        replacement = counted(function)
        for module in [module for name, module in sys.modules.items() if name.startswith("jointkl")]:
            for name in [name for name, value in vars(module).items() if value is function]:
                monkeypatch.setattr(module, name, replacement)
    return found


ONCE = {"parse_text": 1, "derive": 1}


def test_train_parses_once_and_derives_once(gan: str, tmp_path: Path, counts: Counter[str]) -> None:
    program, model, path = jointkl.compile(gan), jointkl.parse(gan), tmp_path / "gan.jkl"
    path.write_text(gan)
    for i, source in enumerate((gan, str(path), model, program)):
        counts.clear()
        jointkl.train(source, steps=1, pictures=0, quiet=True, out=tmp_path / str(i))
        assert counts == ONCE, type(source)
    counts.clear()
    jointkl.resume(tmp_path / "0", steps=2, quiet=True)
    assert counts == ONCE
    counts.clear()
    jointkl.train(gan, steps=1, replicas=2, pictures=0, quiet=True, out=tmp_path / "replicas")
    assert counts == ONCE


@pytest.mark.parametrize("verb", ["train --steps 1 --quiet --out", "train --dry-run", "compile -o"])
def test_the_command_line_parses_once_and_derives_once(
    verb: str, gan: str, tmp_path: Path, counts: Counter[str]
) -> None:
    path = tmp_path / "gan.jkl"
    path.write_text(gan)
    place = [] if verb.endswith("run") else [str(tmp_path / "made")]
    assert main([*verb.split(), *place, str(path)]) == 0
    assert counts == ONCE


def test_every_keyword_is_named() -> None:
    """`help(jointkl.train)` and editors show the options, each with its default."""
    for function in (jointkl.train, jointkl.dry_run):
        shown = inspect.signature(function).parameters
        assert list(shown) == ["program", "data", *(field.name for field in fields(Options))]
        assert all(
            shown[f.name].default == f.default and shown[f.name].kind is shown[f.name].KEYWORD_ONLY
            for f in fields(Options)
        )
    assert all(field.name in str(jointkl.train.__doc__) for field in fields(Options))
    with pytest.raises(TypeError, match="stepz"):
        jointkl.train("", stepz=3)


def test_what_has_a_keyword_of_its_own_is_a_setting() -> None:
    options = Options(settings={"steps": "5", "lr": "1e-3"}, steps=7, lets={"K": 3})
    assert options.stated == {"steps": 7, "lr": "1e-3"}
    assert options.constants == {"K": "3"}
