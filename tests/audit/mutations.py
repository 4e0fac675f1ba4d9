"""Faults put into the compiler on purpose, one at a time: the judge must catch each.

`python -m tests.audit.mutations` copies the sources, changes one place, and lets the judge loose on the models and on random
specs there, until something is not met; `python -m tests.audit.mutations NAME ..` tries those whose file or note holds a
word. What is not caught is printed, and the exit code is 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SEEDS = 400
"""Random specs that the judge sees of each changed compiler, after the models."""


@dataclass(frozen=True)
class Mutation:
    """One place of one file, `before`, which stands there once, and what takes its place."""

    file: str
    before: str
    after: str
    note: str


MUTATIONS = (
    # rules
    Mutation("derivation/rules/expand.py", "divergence.weight * weight, path", "weight, path", "a term's weight is lost"),
    Mutation("derivation/rules/expand.py", "own = _log_side(facts, left, branch, head, Fraction(1))",
             "own = _log_side(facts, left, branch, head, Fraction(2))", "log P counts twice"),
    Mutation("derivation/rules/expand.py", "(Term(Fraction(-1), LogFactor(c, value), span=c.span),",
             "(Term(Fraction(1), LogFactor(c, value), span=c.span),", "the classifier's sign"),
    Mutation("derivation/rules/expand.py", "tuple((b.weight * w, path) for b in branches for w, path in paths(facts, b.factors))",
             "tuple((w, path) for b in branches for w, path in paths(facts, b.factors))", "hidden branches lose their shares"),
    Mutation("derivation/rules/marginalise.py", "tuple((b.weight, tuple(applied(law, factor, b.factors, set(taken)))) for b in law.body.branches)",
             "tuple((Fraction(1, len(law.body.branches)), tuple(applied(law, factor, b.factors, set(taken)))) for b in law.body.branches)",
             "the shares of a mixture that is a factor"),
    Mutation("derivation/rules/marginalise.py", "yield replace(f.applied(names), old=f.old or factor.old)",
             "yield f.applied(names)", "old is lost inside of a joint"),
    Mutation("derivation/rules/marginalise.py", "names[v] = fresh(v, taken)", "names[v] = v", "hidden variables are not renamed apart"),
    Mutation("derivation/rules/player.py", 'term = Term(Fraction(1), LogFactor(c, value), span=c.span)',
             'term = Term(Fraction(-1), LogFactor(c, value), span=c.span)', "minimax with the wrong sign"),
    Mutation("derivation/rules/player.py", 'term = Term(Fraction(-1), LogFactor(c, other), span=c.span)',
             'term = Term(Fraction(-1), LogFactor(c, value), span=c.span)', "nonsaturating without the flip"),
    Mutation("derivation/rules/optimal.py", "replace(t, coefficient=mu * t.coefficient)", "replace(t, coefficient=-mu * t.coefficient)",
             "the identity with the wrong sign"),
    Mutation("derivation/rules/optimal.py", "(k1, _, b1), (k0, _, b0) = sorted(labelled.branches, key=lambda b: -b[0])",
             "(k1, _, b1), (k0, _, b0) = sorted(labelled.branches, key=lambda b: b[0])[::-1][::-1]", "the labels of the identity swapped"),
    Mutation("derivation/rules/pairs.py", "kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)",
             "kept = Term(pair.coefficient, pair.new, span=term.span)", "a residual at samples that are not detached"),
    Mutation("derivation/rules/pairs.py", "kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)",
             "kept = Term(-pair.coefficient, pair.new, detached=True, span=term.span)", "a residual's sign"),
    Mutation("derivation/rules/ratio.py", "logit = Term(-c, planned.logit", "logit = Term(c, planned.logit", "the ratio's sign"),
    Mutation("derivation/rules/ratio.py", "(Term(minus, LogSigmoid(planned.logit, True), span=span),)",
             "(Term(minus, LogSigmoid(planned.logit, False), span=span),)", "the critic's labels"),
    Mutation("derivation/rules/ratio.py", "Entry(w, path, (Term(minus, LogSigmoid(planned.logit, False), span=span),)",
             "Entry(2 * w, path, (Term(minus, LogSigmoid(planned.logit, False), span=span),)", "the critic's weights"),
    Mutation("derivation/rules/closing.py", "if other is None or not isinstance(other.atom, LogFactor) or other.coefficient != -t.coefficient:",
             "if other is None or not isinstance(other.atom, LogFactor):", "a closed form of unequal weights"),
    Mutation("derivation/rules/closing.py", 'return "what the second is given descends from it" if below else ""',
             'return ""', "a closed form whose second law sees what is drawn"),
    Mutation("derivation/rules/closing.py", "path = ancestors(entry.path, used)", "path = ancestors(entry.path, used)[-1:]",
             "PRUNE cuts too much"),
    Mutation("derivation/rules/player.py", "others = tuple(replace(t, coefficient=t.coefficient / own.coefficient) for t in entry.terms if t is not own)",
             "others = tuple(replace(t, coefficient=t.coefficient * 2) for t in entry.terms if t is not own)", "FREE's temperature"),
    Mutation("derivation/facts.py", "return not factor.old and not self.feeds[factor.law].isdisjoint(player.members)",
             "return not self.feeds[factor.law].isdisjoint(player.members)", "an old law is somebody's"),
    Mutation("derivation/expr.py", "sums[key] = replace(known, coefficient=known.coefficient + term.coefficient)",
             "sums[key] = replace(known, coefficient=known.coefficient - term.coefficient)", "CANCEL subtracts"),
    Mutation("derivation/players.py", "return goal.over is None or named", "return True", "over is not heeded"),
    # lowering
    Mutation("objective/builder.py", "return ir.Term(entry.weight * t.coefficient, node,", "return ir.Term(t.coefficient, node,",
             "an entry's weight is lost"),
    Mutation("objective/builder.py", "taken = [replace(f, old=f.old or m.old) for f in factors]", "taken = list(factors)",
             "an old marginal is a new one"),
    Mutation("objective/builder.py", "place = self.model.space(f.outputs[0]).values.index(value)", "place = 0", "a label's place"),
    Mutation("objective/builder.py", "self.add(ir.LogMixture(branches))",
             "self.add(ir.LogMixture(tuple((Fraction(1, len(branches)), i) for _, i in branches)))", "a mixture's shares in its density"),
    Mutation("objective/phases.py", "return tuple(Phase(p.name, p.kind, p is first) for p in ordered)",
             "return tuple(Phase(p.name, p.kind, p is first) for p in ordered[::-1])", "the order of a round"),
    # emission
    Mutation("emission/losses.py", "weight = t.coefficient * found.sign", "weight = t.coefficient", "a formula's sign"),
    Mutation("emission/losses.py", 'text = Text(formulas.over_n(writer, text, t.sources), PRODUCT)', "pass", "1/N of globals"),
    Mutation("emission/densities.py", 'sign = "-" if node.fixed == 1 else ""', 'sign = "" if node.fixed == 1 else "-"',
             "log D1 and log D0 swapped"),
    Mutation("emission/formulas.py", 'return Formula(Text(f"({text}){\'.sum(0)\' * node.sums}", ATOM), inner.sign)',
             'return Formula(Text(f"({text}){\'.mean(0)\' * node.sums}", ATOM), inner.sign)', "an enumerated mean divided by its count"),
    Mutation("emission/formulas.py", 'first, last = (f"math.log({number(float(w))}) + {log}"',
             'first, last = (f"{log}"', "log shares of a mixture"),
    Mutation("emission/formulas.py", '.softmax(0).detach()', '.softmax(-1).detach()', "a softmax over the batch"),
    Mutation("emission/lines.py", 'return Text(f"{self.text(inner).atom}.detach()", ATOM)', "return self.text(inner)", "sg does nothing"),
)  # fmt: skip


def changed(mutation: Mutation, folder: Path) -> None:
    """A copy of the sources with one place changed. Raises `ValueError` where that place is gone."""
    for part in ("jointkl", "grammars", "models", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "modules", "bad"))
    path = folder / "jointkl" / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.before) != 1:
        raise ValueError(f"{mutation.file} holds {text.count(mutation.before)} times: {mutation.before}")
    path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")


def corpus() -> Iterator[tuple[str, str]]:
    from tests.audit.drawing import spec

    for k in range(SEEDS):
        yield f"seed {k}", spec(f"mutations {k}")
        if k % 8 == 0 and k // 8 < len(MODELS := sorted(Path("models").glob("*.jkl"))):
            path = MODELS[k // 8]
            yield path.stem, path.read_text(encoding="utf-8")


def caught() -> str:
    """The first spec of which something is not met, or nothing. A spec that the compiler breaks at is one."""
    import jointkl
    from jointkl.audit.judge import audit

    for name, written in corpus():
        try:
            found = audit(jointkl.parse(written))
        except jointkl.JklError:
            continue
        except Exception as error:  # the compiler breaks: so does the suite
            return f"{name}: {type(error).__name__}"
        for f in found:
            if f.failed:
                return f"{name}: {f.subject}, {f.what}"
    return ""


def tried(mutation: Mutation) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        changed(mutation, folder)
        command = [sys.executable, "-m", "tests.audit.mutations", "--inside"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
        if run.returncode not in (0, 1):
            return f"broken: {run.stderr.strip().splitlines()[-1:]}"
        return run.stdout.strip()


def main(words: list[str]) -> int:
    wanted = [m for m in MUTATIONS if not words or any(w in m.file or w in m.note for w in words)]
    missed: list[Mutation] = []
    for m in wanted:
        start = time.perf_counter()
        found = tried(m)
        print(
            f"{'caught' if found else 'MISSED'}  {m.file}: {m.note} ({time.perf_counter() - start:.0f} s) {found}",
            flush=True,
        )
        missed += [] if found else [m]
    print(f"{len(wanted) - len(missed)} of {len(wanted)} caught")
    return int(bool(missed))


if __name__ == "__main__":
    if sys.argv[1:] == ["--inside"]:
        shown = caught()
        print(shown)
        sys.exit(int(bool(shown)))
    sys.exit(main(sys.argv[1:]))
