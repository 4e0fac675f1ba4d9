"""The verbs of runs: train, go on, sample, judge, report, export. torch is imported where it is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from jointkl import compiler, disk
from jointkl.arguments import ALLOW, BEST, DEVICE, LET, RAW, lets_of, look_here, warn
from jointkl.console import example, pairs, say, telling, together
from jointkl.diagnostics import printable

if TYPE_CHECKING:
    from jointkl.training.folder.run import Run
    from jointkl.training.seeds.replicas import Replicas


@click.command(
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
@click.option(
    "--stop-on", metavar="METRIC", help="End early by this metric, as loss:G or modes; the best checkpoint stays."
)
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
    dry_run: bool,
    **others: Any,
) -> None:
    """Train every player of a spec, and leave a run folder."""
    constants = lets_of(lets)
    stated = pairs("--set", settings, "an option and its value, as in --set lr=1e-4 or --set D.repeat=2")
    files = pairs("--data", data, "a label and a file, as in --data data=points.npy")
    derivation = compiler.derive(compiler.load(file, constants))
    warn(derivation)  # before torch is imported: a mistake is shown at once
    from jointkl.emission.python import verify_allowed

    verify_allowed(derivation.model.nets, allowed)
    look_here(allowed)
    if dry_run and others["replicas"] is not None:
        raise click.UsageError("--dry-run is of one seed: leave out --replicas")
    from jointkl.training.loop import rehearsal, start
    from jointkl.training.options import Options
    from jointkl.training.speed.dry_run import show as tabulate

    options = Options(settings=stated, lets=constants, allow_imports=allowed, **others)
    if dry_run:
        found = rehearsal(derivation, files, options)
        for note in found.notes:
            say(f"note: {note}")
        tabulate(found)
        return
    with telling(options.quiet):
        run = start(derivation, files, options)
    if not options.quiet:
        click.echo(_result(run))


@click.command(epilog=example("jointkl resume runs/gan", "jointkl resume runs/gan --steps 50000      trains longer"))
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
    from jointkl.training.seeds.replicas import Replicas, table
    from jointkl.training.watching.progress import text_of

    rate = f", {run.rounds / run.seconds:.0f} steps/s" if run.seconds else ""
    took = f"{run.folder}: {run.rounds} steps in {run.seconds:.1f} s{rate}"
    if isinstance(run, Replicas):
        return f"{took}, of {len(run)} seeds at once\n{table(run)}"
    pictures = sorted((run.folder / "samples").iterdir())
    lines = ["; ".join(filter(None, [took, text_of(run.losses)]))]
    lines += [f"samples: {pictures[-1]}"] if pictures else []
    return "\n".join(lines)


def _loaded(folder: str, best: bool, allowed: tuple[str, ...]) -> Run:
    """The run, after telling what loading it passed over and which files of this machine it names."""
    from jointkl.training.folder.run import load_run

    look_here(allowed)
    run = load_run(folder, best=best, allow_imports=allowed)
    for note in run.notes:
        say(f"note: {note}")
    return run


@click.command(
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
@BEST
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

    if out is not None:
        samples.verify_ending(Path(out))
    run = _loaded(folder, best, allowed)
    text = law or samples.default(run.program).text
    values = run.sample(size, text, seed=seed, averaged=not raw)
    path = Path(out) if out else disk.folder(run.folder / "samples") / f"{text.replace(' ', '')}.png"
    written = samples.write(path, run.program, values, run.background(values), f"{text}, round {run.rounds}")
    if written.suffix != path.suffix and path.suffix:
        shape = ", ".join(f"{name}: {run.program.model.space(name)}" for name in values)
        say(f"note: {shape} has no picture; the numbers are kept")
    click.echo(f"wrote {written}")


@click.command(epilog=example("jointkl report runs/gan", "jointkl report runs/gan -o gan.html"))
@click.argument("folder", metavar="RUN")
@click.option("-o", "--out", metavar="FILE", help="Where the page goes.  [default: RUN/report.html]")
def report(folder: str, out: str | None) -> None:
    """Tell a run on one page: spec, graph, derivation, curves, samples, metrics, environment.

    The page needs no other file. A run that still goes on has one too.
    """
    from jointkl.evaluation.report.page import report as reported

    click.echo(f"wrote {printable(str(reported(folder, out)))}")


@click.command(
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
@BEST
@ALLOW
def export(
    folder: str,
    out: str | None,
    law: str | None,
    noise: Literal["given", "drawn"],
    raw: bool,
    best: bool,
    allowed: tuple[str, ...],
) -> None:
    """Write a sampler as a file that torch runs alone, or ONNX."""
    from jointkl.exports import files

    if out is not None:
        files.format_of(Path(out), noise)
    run = _loaded(folder, best, allowed)
    click.echo(files.text(run.export(out, law, noise=noise, averaged=not raw)))


@click.command(
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
@RAW
@BEST
@DEVICE
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
    raw: bool,
    best: bool,
    device: str,
    allowed: tuple[str, ...],
    lists: bool,
) -> None:
    """Judge a run against held-out data; the result is kept in RUN/eval.json."""
    from jointkl.evaluation import verdict
    from jointkl.evaluation.features import named
    from jointkl.training.folder.run import EVALUATION
    from jointkl.training.machine import device_of

    if lists:
        click.echo(verdict.listed())
        return
    if folder is None:
        raise click.UsageError("name the RUN to judge, as in runs/gan, or give --list")
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    rows = pairs("--data", data, "a label and a file, as in --data data=held_out.npy")
    run = _loaded(folder, best, allowed)
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


VERBS = (train, resume, sample, eval_, report, export)
