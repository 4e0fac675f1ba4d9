"""The command line, and the verbs of specs. What needs torch is imported inside the verbs that need it."""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from jointkl import compiler, disk, manual, revision, runs
from jointkl.arguments import ALLOW, FILES, LET, lets_of, warn
from jointkl.console import WRONG, example, refuse, say, show
from jointkl.derivation.derive import Derivation
from jointkl.diagnostics import DataError, Elsewhere, JklError, Terminated, printable
from jointkl.exposition.text import COLOURS, Colours

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
    except (click.Abort, KeyboardInterrupt) as error:  # click raises the first from the second
        return TERMINATED if isinstance(error.__cause__ or error, Terminated) else INTERRUPTED
    except (BrokenPipeError, SystemExit):  # who reads our output has enough, as `head` has; click exits then
        return 0
    except Exception as error:
        if os.environ.get("JOINTKL_TRACEBACK"):
            traceback.print_exc()
        say(f"error: this is a bug in jointkl: {type(error).__name__}: {error}")
        say("help: JOINTKL_TRACEBACK=1 shows where; please report it, with the spec")
        return BUG


# --- the verbs


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
        from jointkl.exposition import difference

        show(difference.text(*derivations), COLOURS)
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
        text = compiler.compiled(_derived(file, constants), passes, allowed).source
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


for verb in runs.VERBS:
    verbs.add_command(verb)


@verbs.command(epilog=example("jointkl audit models/gan.jkl", "jointkl audit models/*.jkl"))
@FILES
@LET
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random weights.")
def audit(files: tuple[str, ...], lets: tuple[str, ...], seed: int) -> int:
    """Hold what is emitted against what the spec says: exact sums on a small instance, player by player."""
    from jointkl.audit.findings import text
    from jointkl.audit.judge import audit as audited

    constants = lets_of(lets)
    failed = 0
    for file in files:
        findings = audited(compiler.load(file, constants), seed, constants)
        click.echo(text(file, findings))
        failed = max(failed, int(any(f.failed for f in findings)))
    return failed


@verbs.command("help", epilog=example("jointkl help KL", "jointkl help Normal", "jointkl help E-RATIO"))
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain words: statements, options, families, sources, builders, rules, error codes."""
    known = manual.sections()
    if not words:
        assert context.parent is not None
        click.echo(context.parent.get_help())
        click.echo("\n`jointkl help WORD` explains these and what is listed under them:")
        for title, below in manual.contents(known):
            line = f"  {title}: {', '.join(below)}" if below else f"\n{title}"
            click.echo(textwrap.fill(line, 100, subsequent_indent="    ") if below else line)
    for i, word in enumerate(words):
        told = [f"{click.style(e.title, bold=True)}\n{e.text}" for e in manual.explained(word, known)]
        if word in verbs.commands:
            told.append(f"jointkl {word} --help tells how the command is called")
        if not told:
            near = manual.near(word, known)
            guess = f"did you mean {' or '.join(near)}?" if near else "`jointkl help` lists the words"
            raise click.UsageError(f"nothing is known of `{word}`: {guess}")
        click.echo(("\n" if i else "") + "\n\n".join(told))


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
