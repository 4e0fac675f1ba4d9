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
    Mutation("derivation/rules/expand.py", "Expectation(divergence.weight * weight, drawn(path), body, at, goal", "Expectation(weight, drawn(path), body, at, goal", "a term's weight is lost"),
    Mutation("derivation/rules/expand.py", "own = _log_side(facts, left, branch, head, row.own)",
             "own = _log_side(facts, left, branch, head, 2 * row.own)", "log P counts twice"),
    Mutation("derivation/rules/expand.py", "(Term(against, LogFactor(c, value), span=c.span),",
             "(Term(-against, LogFactor(c, value), span=c.span),", "the classifier's sign"),
    Mutation("derivation/rules/expand.py", "tuple((b.weight * w, path) for b in branches for w, path in paths(facts, b.factors))",
             "tuple((w, path) for b in branches for w, path in paths(facts, b.factors))", "hidden branches lose their shares"),
    Mutation("derivation/inline.py", "tuple((b.weight, tuple(applied(law, factor, b.factors, set(taken)))) for b in law.body.branches)",
             "tuple((Fraction(1, len(law.body.branches)), tuple(applied(law, factor, b.factors, set(taken)))) for b in law.body.branches)",
             "the shares of a mixture that is a factor"),
    Mutation("derivation/inline.py", "yield replace(f.applied(names), old=f.old or factor.old)",
             "yield f.applied(names)", "old is lost inside of a joint"),
    Mutation("derivation/inline.py", "names[v] = fresh(v, taken)", "names[v] = v", "hidden variables are not renamed apart"),
    Mutation("derivation/rules/game.py", 'term = Term(Fraction(1), LogFactor(c, value), span=c.span)',
             'term = Term(Fraction(-1), LogFactor(c, value), span=c.span)', "minimax with the wrong sign"),
    Mutation("derivation/rules/game.py", 'term = Term(Fraction(-1), LogFactor(c, other), span=c.span)',
             'term = Term(Fraction(-1), LogFactor(c, value), span=c.span)', "nonsaturating without the flip"),
    Mutation("derivation/rules/optimal_discriminator.py", "replace(t, coefficient=mu * t.coefficient)", "replace(t, coefficient=-mu * t.coefficient)",
             "the identity with the wrong sign"),
    Mutation("derivation/rules/optimal_discriminator.py", "difference = collect((*(replace(t, coefficient=-t.coefficient) for t in b1), *b0))",
             "difference = collect((*(replace(t, coefficient=-t.coefficient) for t in b0), *b1))", "the branches of the identity swapped"),
    Mutation("derivation/rules/residual.py", "kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)",
             "kept = Term(pair.coefficient, pair.new, span=term.span)", "a residual at samples that are not detached"),
    Mutation("derivation/rules/residual.py", "kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)",
             "kept = Term(-pair.coefficient, pair.new, detached=True, span=term.span)", "a residual's sign"),
    Mutation("derivation/rules/ratio.py", "logit = Term(-c, planned.logit", "logit = Term(c, planned.logit", "the ratio's sign"),
    Mutation("derivation/critics.py", "for up in (True, False))",
             "for up in (False, True))", "the critic's labels"),
    Mutation("derivation/critics.py", "*((down, *p) for p in planned.moving_paths)",
             "*((down, 2 * w, path) for w, path in planned.moving_paths)", "the critic's weights"),
    Mutation("derivation/integrals.py", "isinstance(other.atom, LogFactor) and other.coefficient == -t.coefficient:",
             "isinstance(other.atom, LogFactor):", "a closed form of unequal weights"),
    Mutation("derivation/rules/cross_entropy.py", "terms.append(replace(t, coefficient=-t.coefficient, atom=ClosedCE",
             "terms.append(replace(t, coefficient=t.coefficient, atom=ClosedCE", "a closed cross-entropy's sign"),
    Mutation("derivation/integrals.py", 'return "what the second is given descends from it" if below else ""',
             'return ""', "a closed form whose second law sees what is drawn"),
    Mutation("derivation/rules/prune.py", "path = ancestors(entry.path, used)", "path = ancestors(entry.path, used)[-1:]",
             "PRUNE cuts too much"),
    Mutation("derivation/rules/free.py", "others = tuple(replace(t, coefficient=t.coefficient / own.coefficient) for t in entry.terms if t is not own)",
             "others = tuple(replace(t, coefficient=t.coefficient * 2) for t in entry.terms if t is not own)", "FREE's temperature"),
    Mutation("derivation/facts.py", "return not factor.old and not self.feeds[factor.law].isdisjoint(player.members)",
             "return not self.feeds[factor.law].isdisjoint(player.members)", "an old law is somebody's"),
    Mutation("derivation/expr.py", "sums[key] = replace(known, coefficient=known.coefficient + term.coefficient)",
             "sums[key] = replace(known, coefficient=known.coefficient - term.coefficient)", "CANCEL subtracts"),
    Mutation("derivation/shifts.py", "    used.add(shift)\n", "", "two evidence factors read the same rows"),
    Mutation("derivation/sampled.py", "{b: w / sum(found.values(), Fraction(0)) for b, w in found.items()} == wanted for",
             "found.keys() == wanted.keys() for", "a mixture is own whatever its weights"),
    Mutation("derivation/live.py", "detached=t.detached or not live.isdisjoint(t.atom.variables)", "detached=t.detached", "a classifier's samples move with it"),
    Mutation("derivation/snapshot.py", "replace(factor, old=True)", "replace(factor, old=False)", "an identity at the present parameters"),
    # lowering
    Mutation("objective/terms.py", "return ir.Term(entry.weight * t.coefficient, node,", "return ir.Term(t.coefficient, node,",
             "an entry's weight is lost"),
    Mutation("objective/atoms.py", "place = b.model.space(f.outputs[0]).values.index(value)", "place = 0", "a label's place"),
    Mutation("objective/atoms.py", "b.log(float(share))", "b.log(1 / len(named))", "a mixture's shares in its density"),
    Mutation("objective/atoms.py", "(ONE, b.log(float(share))), ", "", "log shares of a mixture"),
    Mutation("objective/terms.py", 'ir.Over("sum", product, ordered(summed))', 'ir.Over("mean", product, ordered(summed))',
             "an enumerated mean divided by its count"),
    Mutation("objective/phases.py", "return tuple(Phase(p.name, p.kind, p is first) for p in ordered)",
             "return tuple(Phase(p.name, p.kind, p is first) for p in ordered[::-1])", "the order of a round"),
    Mutation("objective/together.py", "return (c, 0, False) if up == judge_up else (-c, power, False)",
             "return (c, 0, False) if up == judge_up else (c, power, False)", "a rescaled gradient's sign"),
    # emission
    Mutation("emission/losses.py", "weight = t.coefficient * found.sign", "weight = t.coefficient", "a formula's sign"),
    Mutation("emission/losses.py", "return replace(term, summed=over_n(w, term.value, t.sources), divided=False) if t.over_n else term",
             "return term", "1/N of globals"),
    Mutation("emission/densities.py", "minus(logits) if node.fixed == 1", "minus(logits) if node.fixed == 0", "log D1 and log D0 swapped"),
    Mutation("emission/places.py", "return self.found[i].lead - 1 - self.order[dim]", "return -1", "a softmax over the batch"),
    Mutation("emission/likelihood.py", 'R.do("sum", 1)', 'R.do("mean", 1)', "a closed step's total"),
    Mutation("emission/library.py", "return values.roll(rows, 0)", "return values.roll(1, 0)", "two copies of one row"),
    Mutation("objective/programs.py", "tuple(float(b.weight) for b in branches)", "tuple(1 / len(branches) for _ in branches)",
             "a mixture's shares in its Pyro program"),
    Mutation("emission/densities.py", 'call("F.softplus", each) - Binary(', 'call("F.softplus", each) + Binary(',
             "a cross-entropy written out"),
    # the program
    Mutation("program.py", "weights = torch.tensor([float(w) for w, _ in query.branches])", "weights = torch.tensor([1.0 for w, _ in query.branches])",
             "a mixture's shares in sample"),
    Mutation("density.py", "whole = stacked.logsumexp(0)", "whole = stacked.mean(0)", "a mixture's log density"),
    Mutation("emission/values.py", 'return w.text(node.node).do("detach")\n', "return w.text(node.node)\n", "sg does nothing"),
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
    """Specs that are accepted, known ones by their files, among random ones."""
    from tests.audit.drawing import spec

    known = [*sorted(Path("models").glob("*.jkl")), *sorted(Path("tests/audit/specs").glob("*.jkl"))]
    for k in range(SEEDS):
        yield "", spec(f"mutations {k}")
        if k % 3 == 0 and k // 3 < len(known):
            yield known[k // 3].name, known[k // 3].read_text(encoding="utf-8")


def caught() -> str:
    """Of which spec something is not met first, or nothing. The compiler may not break, nor refuse a known spec."""
    import jointkl
    from jointkl.audit.judge import audit

    for k, (name, written) in enumerate(corpus()):
        try:
            found = audit(jointkl.parse(written), gradients_only=not name)
        except jointkl.JklError:
            if name:
                return f"{name}: refused"
            continue
        except Exception as error:  # whatever breaks shows the fault
            return f"{name or k}: {type(error).__name__}"
        for f in found:
            if f.failed:
                return f"{name or k}: {f.subject}, {f.what}"
        if name and not any(f.met for f in found):
            return f"{name}: refused"
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
