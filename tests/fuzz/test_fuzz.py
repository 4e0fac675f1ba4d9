"""Whatever the text: a report or a result, soon; what is emitted is a module of torch and pyro, and only that."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jointkl import cli
from tests.fuzz.mutations import mutated
from tests.fuzz.trial import ENDS, outcome, shrunk


@dataclass
class Tried:
    """How many inputs ended how, and the shortest of each that should not have."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, tuple[str, str]] = field(default_factory=dict)
    ends: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, text: str, name: str) -> None:
        """One in ten has been tried before, to the letter."""
        found = self.ends.get((text, name)) or outcome(text, name)
        self.ends[text, name] = found
        self.counts[found] += 1
        if found not in ENDS and len(text) < len(self.wrong.get(found, (text + " ",))[0]):
            self.wrong[found] = (text, name)

    def told(self, folder: Path) -> Iterable[str]:
        """Each fault with the text that makes it, shrunk and kept in a file to run again."""
        for i, (found, (text, name)) in enumerate(self.wrong.items()):
            least = shrunk(text, lambda t, found=found, name=name: outcome(t, name) == found)
            path = folder / f"wrong{i}.jkl"
            path.write_bytes(least.encode("utf-8", "surrogatepass"))
            yield f"{found} ({self.counts[found]} times)\njointkl compile {path}, as {name!r}:\n{least}"


@pytest.mark.slow
def test_mutated_specs(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each is refused or compiled: no other exception, no hang, nothing in the module that is not its own."""
    count = request.config.getoption("--fuzz")
    chance = random.Random(request.config.getoption("--fuzz-seed"))
    tried = Tried()
    for _ in range(count):
        tried.add(*mutated(chance))
    assert not tried.wrong, "\n\n".join([str(tried.counts), *tried.told(tmp_path)])
    assert sum(tried.counts.values()) == count
    assert tried.counts["emitted"] > count / 20, tried.counts
    assert tried.counts["refused"] > count / 20, tried.counts


def test_mutated_files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line: 0 and a module, or 1, a report and no file; never 70, never a traceback."""
    monkeypatch.chdir(tmp_path)
    chance = random.Random(request.config.getoption("--fuzz-seed") + 1)
    codes = Counter[int]()
    for i in range(max(100, request.config.getoption("--fuzz") // 100)):
        text, _ = mutated(chance)
        Path("in.jkl").write_bytes(broken(chance, text.encode("utf-8", "surrogatepass")))
        out = Path(f"out{i}.py")
        code = cli.main(["compile", "in.jkl", "-o", str(out)])
        told = capsys.readouterr()
        assert (code, out.exists()) in ((0, True), (1, False)), f"{code}: {told.err}\n{text}"
        assert "Traceback" not in told.err
        assert (code == 1) == bool(re.search(r"^error", told.err, re.MULTILINE)), told.err
        assert cli.main(["check", "in.jkl"]) == code, text
        assert cli.main(["derive", "in.jkl"]) == code, text
        capsys.readouterr()
        codes[code] += 1
    assert min(codes[0], codes[1]) > 2, codes


def broken(chance: random.Random, text: bytes) -> bytes:
    """Now and then no UTF-8."""
    if chance.random() < 0.9:
        return text
    i = chance.randrange(len(text) + 1)
    return text[:i] + bytes(chance.randrange(256) for _ in range(3)) + text[i:]


def test_a_fault_would_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A traceback, a hang and a foreign name are told as what they are, and shrunk to what makes them."""
    import jointkl
    from tests.fuzz import trial

    real = jointkl.python

    def faulty(model: jointkl.Model) -> str:
        if "2/0" in model.source.text:
            raise IndexError("out of range")
        while "endless" in model.source.text:
            pass
        return real(model) + ("\nprint(open)\n" if "open" in model.source.text else "")

    monkeypatch.setattr(jointkl, "python", faulty)
    text = "var x: real param a: real q(x) = Normal(a, 1) minimize KL(data(x) || q(x))"
    tried = Tried()
    tried.add(text, "<text>")
    monkeypatch.setattr(trial, "SECONDS", 0.1)
    for mark in ("2/0", "endless", "open"):
        tried.add(f"{text}\n# more\n# {mark}\n", "<text>")
    assert tried.counts["emitted"] == 1
    told = list(tried.told(tmp_path))
    assert [t.split(" ")[0] for t in told] == ["IndexError", "longer", "AssertionError"]
    assert all(mark in t and "more" not in t for mark, t in zip(("2/0", "endless", "open"), told, strict=True))
    assert len(list(tmp_path.glob("*.jkl"))) == 3
