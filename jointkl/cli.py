"""The command line. What needs torch is imported inside the commands that need it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from jointkl import compiler, disk, revision
from jointkl.console import WRONG, example, pairs, refuse, say, show, telling, together
from jointkl.derivation.derive import Derivation
from jointkl.derivation.show import COLOURS, Colours
from jointkl.diagnostics import MOST_TOLD, DataError, Elsewhere, JklError, Terminated, printable, render

if TYPE_CHECKING:
    from jointkl.training.replicas import Replicas
    from jointkl.training.run import Run

BUG, INTERRUPTED, TERMINATED = 70, 130, 143
"""Exit codes beside 0, `console.WRONG` and click's 2: our bug; Ctrl-C; SIGTERM."""

MARK = "compiled by jointkl"
"""Stands in the first line of every emitted module."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; returns the exit code. Nobody sees a traceback unasked."""
    try:
        code = verbs.main(arguments, prog_name="jointkl", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Elsewhere:
        return WRONG
    except (JklError, DataError) as error:
        return refuse(error)
    except Terminated:
        return TERMINATED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # who reads our output has enough, as `head` has; click exits then
        return 0
    except Exception as error:
        if os.environ.get("JOINTKL_TRACEBACK"):
            traceback.print_exc()
        say(f"error: this is a bug in jointkl: {type(error).__name__}: {error}")
        say("help: JOINTKL_TRACEBACK=1 shows where; please report it, with the spec")
        return BUG


def warn(derivation: Derivation) -> None:
    for report in derivation.warnings[:MOST_TOLD]:
        say(render(report))
    others = len(derivation.warnings) - MOST_TOLD
    if others > 0:
        say(f"and {others} more {'warnings' if others > 1 else 'warning'}")


# --- the verbs


LET = click.option("--let", "lets", multiple=True, metavar="NAME=VALUE", help="Another value of the spec's constant.")
ALLOW = click.option(
    "--allow-import", "allowed", multiple=True, metavar="MODULE",
    help="Import this module of yours, which the spec names in python(...); it is looked for here too.",
)  # fmt: skip
RAW = click.option("--raw", is_flag=True, help="By the parameters, even where the run keeps averages of them.")
DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="auto takes a GPU if there is one.",
)  # fmt: skip
FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")


def lets_of(texts: Iterable[str]) -> dict[str, str]:
    return pairs("--let", texts, "a constant and its value, as in --let K=3")


def look_here(allowed: tuple[str, ...]) -> None:
    """Modules that may be imported are looked for in the current folder too, behind what is installed."""
    if allowed and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


class Verbs(click.Group):
    """Lists its verbs in the order in which they are written here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("jointkl train models/gan.jkl")
)
@click.version_option(package_name="jointkl")
def verbs() -> None:
    """A language and compiler for generative models: the loss is derived from KL between joints."""


@verbs.command(epilog=example("jointkl check models/gan.jkl", "jointkl check models/*.jkl"))
@FILES
@LET
def check(files: tuple[str, ...], lets: tuple[str, ...]) -> int:
    """Read, check and derive specs, and say what is wrong."""
    constants = lets_of(lets)
    return max([_checked(file, constants) for file in files])


def _checked(file: str, lets: dict[str, str]) -> int:
    try:
        derivation = _derived(file, lets)
    except (JklError, DataError) as error:
        return refuse(error)
    names = [player.name for player in derivation.facts.players]
    click.echo(f"ok {printable(file)}: {'players' if len(names) > 1 else 'player'} {', '.join(names)}")
    return 0


FORMATS: Mapping[str, Callable[[Derivation], str]] = {
    "text": Derivation.text,
    "latex": Derivation.latex,
    "markdown": Derivation.markdown,
    "html": Derivation.html,
}


@verbs.command(
    epilog=example(
        "jointkl derive models/gan.jkl",
        "jointkl derive models/em.jkl --let K=3",
        "jointkl derive --format html models/gan.jkl > gan.html",
        "jointkl derive --diff models/ali.jkl models/ali_nonsaturating.jkl",
    )
)
@FILES
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True,
    help="What to print: plain text, or a document.",
)  # fmt: skip
@click.option("--diff", is_flag=True, help="Show the losses of two specs side by side, and what differs.")
@LET
def derive(files: tuple[str, ...], form: str, diff: bool, lets: tuple[str, ...]) -> None:
    """Print how each player's loss follows from the goal."""
    if diff and (len(files) != 2 or form != "text"):
        raise click.UsageError("--diff compares two specs, as text: jointkl derive --diff A.jkl B.jkl")
    if len(files) > 1 and form in ("latex", "html"):
        raise click.UsageError(f"{len(files)} specs do not fit into one {form} document: derive them one by one")
    constants = lets_of(lets)
    derivations = (_derived(file, constants) for file in files)
    if diff:
        from jointkl.derivation import difference

        show(difference.text(*(d.outline() for d in derivations)), COLOURS)
        return
    for i, derivation in enumerate(derivations):
        show(("\n" if i else "") + FORMATS[form](derivation), COLOURS if form == "text" else ())


def _derived(file: str, lets: dict[str, str]) -> Derivation:
    derivation = compiler.derive(compiler.load(file, lets))
    warn(derivation)
    return derivation


@verbs.command(
    epilog=example(
        "jointkl graph models/gan.jkl",
        "jointkl graph models/gan.jkl --joint 'q(x, y)' --format mermaid",
        "jointkl graph models/gan.jkl --format svg > gan.svg",
    )
)
@FILES
@click.option(
    "--format", "form", type=click.Choice(compiler.DRAWINGS), default="text", show_default=True,
    help="What to print; svg needs Graphviz.",
)  # fmt: skip
@click.option("--joint", metavar="LAW", help="This joint alone, as in 'q(x, y)'.")
@LET
def graph(files: tuple[str, ...], form: str, joint: str | None, lets: tuple[str, ...]) -> None:
    """Print the factor graph of every joint."""
    if len(files) > 1 and form != "text":
        raise click.UsageError(f"{len(files)} specs do not fit into one {form} drawing: draw them one by one")
    constants = lets_of(lets)
    for i, file in enumerate(files):
        if len(files) > 1:
            click.echo(("\n" if i else "") + f"{file}:")
        click.echo(compiler.graph(compiler.load(file, constants), form, joint))


CHANGES: Colours = (
    (r"((?:---|\+\+\+) .*)", {"bold": True}),
    (r"(@@ .*)", {"fg": "cyan"}),
    (r"(\+.*)", {"fg": "green"}),
    (r"(-.*)", {"fg": "red"}),
)
"""A difference of two texts as `git diff` colours it."""


@verbs.command(
    epilog=example(
        "jointkl fmt models/*.jkl", "jointkl fmt --check models/*.jkl", "jointkl fmt - < mine.jkl > ours.jkl"
    )
)
@FILES
@click.option("--check", "checks", is_flag=True, help="Write nothing; exit 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Show what would change; otherwise as --check.")
def fmt(files: tuple[str, ...], checks: bool, diff: bool) -> int:
    """Lay out specs in one way, comments kept.

    The file - is read from the standard input and printed.
    """
    return max([_formatted(file, checks, diff) for file in files])


def _formatted(file: str, checks: bool, diff: bool) -> int:
    piped = file == "-"
    try:
        text = sys.stdin.buffer.read().decode(errors="replace") if piped else compiler.read(file)
        name = "<stdin>" if piped else file
        new = compiler.fmt(text, name)
        changed = new != text if piped else new.encode() != Path(file).read_bytes()
        if changed and diff:
            show(revision.difference(name, text, new), CHANGES)
        elif changed and checks:
            click.echo(f"would change {name}")
        elif piped and not (checks or diff):
            click.echo(new, nl=False)
        elif changed:
            revision.write(Path(file), new)
            click.echo(f"formatted {file}")
    except (JklError, DataError) as error:
        return refuse(error)
    return int(changed and (checks or diff))


@verbs.command(
    "compile",
    epilog=example(
        "jointkl compile models/gan.jkl            writes gan.py",
        "jointkl compile models/gan.jkl -o -       prints it",
        "jointkl compile models/*.jkl -o build/    writes build/gan.py and so on",
        "jointkl compile models/gan.jkl --emit objective",
    ),
)
@FILES
@click.option("-o", "--out", metavar="PATH", help="The file or folder to write; - prints.  [default: NAME.py]")
@LET
@ALLOW
@click.option("--no-share", is_flag=True, help="Leave out the passes that share work; the losses are the same.")
@click.option(
    "--emit", type=click.Choice([*compiler.STAGES, "python"]), default="python", show_default=True,
    help="The stage to stop at; all but python are printed.",
)  # fmt: skip
def compile_(
    files: tuple[str, ...], out: str | None, lets: tuple[str, ...], allowed: tuple[str, ...], no_share: bool, emit: str
) -> None:
    """Write a spec as a Python module that needs torch and pyro alone."""
    into_folder = out is None or out.endswith(("/", os.sep)) or Path(out).is_dir()
    if len(files) > 1 and not into_folder:
        raise click.UsageError(f"{len(files)} specs do not fit into one file: give -o a folder, as in -o build/")
    from jointkl.objective.share import Passes

    constants = lets_of(lets)
    passes = Passes(branches=False, frozen=False, copies=False) if no_share else None
    if emit != "python":
        if out not in (None, "-"):
            raise click.UsageError(f"-o is where the module goes; --emit {emit} is printed")
        for file in files:
            click.echo(compiler.stage(emit, file, constants, passes))
        return
    for file in files:
        model = compiler.load(file, constants)
        warn(compiler.derive(model))
        text = compiler.python(model, passes, allowed)
        if out == "-":
            click.echo(text, nl=False)
            continue
        path = Path(out or ".") / f"{Path(file).stem}.py" if into_folder else Path(out or "")
        _write_module(path, text)
        click.echo(f"wrote {printable(str(path))}")


def _write_module(path: Path, text: str) -> None:
    """Write an emitted module; another file of that name is left alone."""
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
            raise DataError(f"{path} exists, and jointkl did not write it", "give another name with -o")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk.cannot_write(path, error) from error


@verbs.command(
    epilog=example(
        "jointkl train models/gan.jkl",
        "jointkl train models/gan.jkl --steps 2000 --set lr=1e-4 --set D.repeat=2",
        "jointkl train mine.jkl --data data=points.npy --out runs/mine",
        "jointkl train models/gan.jkl --seed 0 --replicas 10      seeds 0 to 9 at once",
    )
)
@click.argument("file")
@click.option(
    "--set", "settings", multiple=True, metavar="[PLAYER.]NAME=VALUE",
    help="An option of train(...), for everyone or for one player.",
)  # fmt: skip
@LET
@ALLOW
@click.option("--data", multiple=True, metavar="LABEL=FILE", help="Rows for evidence: .npy, .npz, .csv or .parquet.")
@click.option("--download", is_flag=True, help="Fetch the data sets that the spec names and that are not there.")
@click.option("--steps", type=click.IntRange(0), help="Rounds, in place of the spec's.")
@click.option("--seed", type=click.IntRange(0), help="Of all random numbers.")
@DEVICE
@click.option(
    "--way", type=click.Choice(["auto", "eager", "compile", "graph"]),
    help="How steps are taken; auto measures what is fastest.  [default: auto on a GPU, else eager]",
)  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "bf16"]), help="Of the networks' arithmetic.")
@click.option("--stop-on", metavar="METRIC", help="End early by this metric, as loss:G; the best checkpoint is kept.")
@click.option("--patience", type=click.IntRange(1), help="Judgements without anything better.  [default: 10]")
@click.option("--judge-every", type=click.IntRange(1), metavar="ROUNDS", help="[default: a 50th of the run]")
@click.option("--dry-run", is_flag=True, help="Try a step of each phase, tell shapes, memory and time, keep nothing.")
@click.option(
    "--track", multiple=True, type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Follow the run there too: each is an extra, none needs an account.",
)  # fmt: skip
@click.option(
    "--replicas", type=click.IntRange(1), metavar="N",
    help="Train the N seeds from --seed on at once, each as it would be alone.",
)  # fmt: skip
@click.option("--out", metavar="DIR", help="The run's folder.  [default: runs/NAME]")
@click.option("--quiet", is_flag=True, help="Show neither progress nor result.")
@together
def train(
    file: str,
    settings: tuple[str, ...],
    lets: tuple[str, ...],
    allowed: tuple[str, ...],
    data: tuple[str, ...],
    download: bool,
    steps: int | None,
    seed: int | None,
    device: str,
    way: str | None,
    precision: str | None,
    stop_on: str | None,
    patience: int | None,
    judge_every: int | None,
    dry_run: bool,
    track: tuple[str, ...],
    replicas: int | None,
    out: str | None,
    quiet: bool,
) -> None:
    """Train every player of a spec, and leave a run folder."""
    constants = lets_of(lets)
    options = pairs("--set", settings, "an option and its value, as in --set lr=1e-4 or --set D.repeat=2")
    files = pairs("--data", data, "a label and a file, as in --data data=points.npy")
    model = compiler.load(file, constants)
    warn(compiler.derive(model))  # before torch is imported: a mistake is shown at once
    from jointkl.emission.python import verify_allowed

    verify_allowed(model, allowed)
    look_here(allowed)
    if dry_run:
        if replicas is not None:
            raise click.UsageError("--dry-run is of one seed: leave out --replicas")
        from jointkl.training.loop import dry_run as rehearsed
        from jointkl.training.rehearsal import show as tabulate

        found = rehearsed(
            model, files, steps=steps, seed=seed, device=device, way=way, settings=options, lets=constants,
            precision=precision, stop_on=stop_on, patience=patience, judge_every=judge_every, allow_imports=allowed,
        )  # fmt: skip
        for note in found.notes:
            say(f"note: {note}")
        tabulate(found)
        return
    from jointkl.training.loop import train as trained

    with telling(quiet):
        run = trained(
            model, files, steps=steps, seed=seed, out=out, device=device, way=way, settings=options, lets=constants,
            precision=precision, stop_on=stop_on, patience=patience, judge_every=judge_every, track=track,
            quiet=quiet, replicas=replicas, allow_imports=allowed, download=download,
        )  # fmt: skip
    if not quiet:
        click.echo(_result(run))


@verbs.command(epilog=example("jointkl resume runs/gan", "jointkl resume runs/gan --steps 50000      trains longer"))
@click.argument("folder", metavar="RUN")
@click.option("--steps", type=click.IntRange(0), help="Rounds in all, in place of the run's.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Another than the run's.")
@click.option("--patience", type=click.IntRange(1), help="More of it, for a run that ended early.")
@click.option("--data", multiple=True, metavar="LABEL=FILE", help="Rows for evidence that has moved.")
@click.option("--quiet", is_flag=True, help="Show neither progress nor result.")
@ALLOW
@together
def resume(
    folder: str,
    steps: int | None,
    device: str | None,
    patience: int | None,
    data: tuple[str, ...],
    quiet: bool,
    allowed: tuple[str, ...],
) -> None:
    """Go on with a run that was interrupted.

    On a CPU it ends with the bits of a run that was not.
    """
    files = pairs("--data", data, "a label and a file, as in --data data=points.npy")
    look_here(allowed)
    from jointkl.training.loop import resume as resumed

    with telling(quiet):
        run = resumed(
            folder, files, steps=steps, device=device, patience=patience, quiet=quiet, allow_imports=allowed
        )  # fmt: skip
    if not quiet:
        click.echo(_result(run))


def _result(run: Run | Replicas) -> str:
    from jointkl.training.progress import text_of
    from jointkl.training.replicas import Replicas, table

    rate = f", {run.rounds / run.seconds:.0f} steps/s" if run.seconds else ""
    took = f"{run.folder}: {run.rounds} steps in {run.seconds:.1f} s{rate}"
    if isinstance(run, Replicas):
        return f"{took}, of {len(run)} seeds at once\n{table(run)}"
    pictures = sorted((run.folder / "samples").iterdir())
    lines = [f"{took}; {text_of(run.losses)}"]
    lines += [f"samples: {pictures[-1]}"] if pictures else []
    return "\n".join(lines)


@verbs.command(
    epilog=example(
        "jointkl sample runs/gan",
        "jointkl sample runs/vae -n 64 -o out.png",
        "jointkl sample runs/vae --law 'p(z|x)' -n 1000 -o codes.npy",
    )
)
@click.argument("folder", metavar="RUN")
@click.option("-n", "size", type=click.IntRange(1), default=64, show_default=True, help="How many.")
@click.option("-o", "--out", metavar="PATH", help="A .png, .npy or .npz file.  [default: RUN/samples/NAME.png]")
@click.option("--law", metavar="LAW", help="What to draw, as in q(x).  [default: what training shows]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the samples.")
@RAW
@click.option("--best", is_flag=True, help="From the best checkpoint of a run that was judged.")
@ALLOW
def sample(
    folder: str,
    size: int,
    out: str | None,
    law: str | None,
    seed: int,
    raw: bool,
    best: bool,
    allowed: tuple[str, ...],
) -> None:
    """Draw samples from a run, by the averages of its parameters where it keeps any."""
    from jointkl.evaluation import samples
    from jointkl.training.run import load_run

    if out is not None:
        samples.verify_ending(Path(out))
    look_here(allowed)
    run = load_run(folder, best=best, allow_imports=allowed)
    for note in run.notes:
        say(f"note: {note}")
    text = law or samples.default(run.program).text
    values = run.sample(size, text, seed=seed, averaged=not raw)
    path = Path(out) if out else disk.folder(run.folder / "samples") / f"{text.replace(' ', '')}.png"
    written = samples.write(path, run.program, values, run.background(values), f"{text}, round {run.rounds}")
    if written.suffix != path.suffix and path.suffix:
        shape = ", ".join(f"{name}: {run.program.model.space(name)}" for name in values)
        say(f"note: {shape} has no picture; the numbers are kept")
    click.echo(f"wrote {written}")


@verbs.command(epilog=example("jointkl report runs/gan", "jointkl report runs/gan -o gan.html"))
@click.argument("folder", metavar="RUN")
@click.option("-o", "--out", metavar="FILE", help="Where the page goes.  [default: RUN/report.html]")
def report(folder: str, out: str | None) -> None:
    """Tell a run on one page: spec, graph, derivation, curves, samples, metrics, environment.

    The page needs no other file. A run that still goes on has one too.
    """
    from jointkl.evaluation.report.page import report as reported

    click.echo(f"wrote {printable(str(reported(folder, out)))}")


@verbs.command(
    epilog=example(
        "jointkl export runs/gan -o sampler.pt2",
        "jointkl export runs/vae --law 'p(z|x)' -o encoder.onnx",
    )
)
@click.argument("folder", metavar="RUN")
@click.option("-o", "--out", metavar="PATH", help="A .pt2 file, or .onnx.  [default: RUN/LAW.pt2]")
@click.option("--law", metavar="LAW", help="What the sampler draws, as in q(x).  [default: what training shows]")
@click.option(
    "--noise", type=click.Choice(["given", "drawn"]), default="given", show_default=True,
    help="Is noise an input of the sampler, or drawn inside it?",
)  # fmt: skip
@RAW
@ALLOW
def export(
    folder: str, out: str | None, law: str | None, noise: Literal["given", "drawn"], raw: bool, allowed: tuple[str, ...]
) -> None:
    """Write a sampler as a file that torch runs alone, or ONNX."""
    from jointkl.exports import files
    from jointkl.training.run import load_run

    if out is not None:
        files.format_of(Path(out), noise)
    look_here(allowed)
    click.echo(files.text(load_run(folder, allow_imports=allowed).export(out, law, noise=noise, averaged=not raw)))


@verbs.command(
    "eval",
    epilog=example(
        "jointkl eval runs/gan",
        "jointkl eval runs/vae --metrics log_likelihood,frechet --particles 5000",
        "jointkl eval runs/mine --data data=held_out.npy",
        "jointkl eval --list",
    ),
)
@click.argument("folder", metavar="RUN", required=False)
@click.option("--metrics", metavar="NAME,NAME", help="These alone.  [default: all that apply]")
@click.option("--samples", type=click.IntRange(4), default=2500, show_default=True, help="How many are drawn.")
@click.option(
    "--particles", type=click.IntRange(1), default=1000, show_default=True, help="Importance samples a datum."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn.")
@click.option("--split", metavar="NAME", help="Of the sources that have one.  [default: test]")
@click.option("--data", multiple=True, metavar="LABEL=FILE", help="Rows to judge against, as `train` takes them.")
@click.option("--features", metavar="NET", help="inception, a source such as digits, or package.module:factory.")
@click.option("--download", is_flag=True, help="Fetch what is not there: a split, the weights of inception.")
@DEVICE
@RAW
@ALLOW
@click.option("--list", "lists", is_flag=True, help="List the metrics instead.")
def eval_(
    folder: str | None,
    metrics: str | None,
    samples: int,
    particles: int,
    seed: int,
    split: str | None,
    data: tuple[str, ...],
    features: str | None,
    download: bool,
    device: str,
    raw: bool,
    allowed: tuple[str, ...],
    lists: bool,
) -> None:
    """Judge a run against held-out data; the result is kept in RUN/eval.json."""
    from jointkl.evaluation import verdict
    from jointkl.evaluation.features import named
    from jointkl.training.machine import device_of
    from jointkl.training.run import EVALUATION, load_run

    if lists:
        click.echo(verdict.listed())
        return
    if folder is None:
        raise click.UsageError("name the RUN to judge, as in runs/gan, or give --list")
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    look_here(allowed)
    rows = pairs("--data", data, "a label and a file, as in --data data=held_out.npy")
    run = load_run(folder, allow_imports=allowed)
    run.program.to(device_of(device))
    net = None if features is None else named(features, allowed, download)
    found = run.evaluate(
        names, samples=samples, particles=particles, seed=seed, split=split, data=rows or None, features=net,
        download=download, averaged=not raw,
    )  # fmt: skip
    click.echo(verdict.text(found, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    for note in verdict.notes(found):
        say(f"note: {note}")
    click.echo(f"\nwrote {run.folder / EVALUATION}")


@verbs.command(epilog=example("jointkl audit models/gan.jkl", "jointkl audit models/*.jkl"))
@FILES
@LET
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random worlds.")
def audit(files: tuple[str, ...], lets: tuple[str, ...], seed: int) -> int:
    """Check derivations in numbers: gradients against the exact target, in small worlds."""
    from jointkl.audit.findings import audit as audited
    from jointkl.audit.findings import text

    constants = lets_of(lets)
    failed = 0
    for file in files:
        derivation = compiler.derive(compiler.load(file, constants))
        findings = audited(derivation, seed)
        click.echo(text(file, findings))
        failed = max(failed, int(any(f.failed for f in findings)))
    return failed


@verbs.command(epilog=example("jointkl sources"))
def sources() -> None:
    """List what data a spec can name: each source, what it gives, its options."""
    from jointkl.semantics.catalogue import SOURCES

    for row in SOURCES.values():
        defaults = {o.name: o.default for o in row.options if o.default is not None}
        columns = ", ".join(map(str, row.columns(defaults))) if row.columns else "what its variables need"
        click.echo(f"{click.style(row.name, bold=True)}: {row.about}\n    gives {columns}")
        for option in row.options:
            value = "none" if option.default is None else str(option.default).lower()
            shown = f'"FOLDER"  {option.name}: ' if option.name == row.takes else f"{option.name}={value}  "
            choices = f" ({', '.join(option.choices)})" if option.choices else ""
            click.echo(f"    {shown}{option.about}{choices}")
