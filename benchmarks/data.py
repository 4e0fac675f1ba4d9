"""What data cost before and during a run: memory against size, for rows that are held and rows that stay in their file.

    uv run python -m benchmarks.data [--sizes MIB ...] [--only WORD] [--beyond] [--json FILE]

For each form and size a file is written, and a process of its own binds it to a variable, every value checked, and
draws batches of 128 as training does. The peak is of anonymous memory, which the system cannot take back, beyond what
the process has once torch is loaded; it is looked at every few milliseconds. Pages of a mapped file are the system's,
which drops them as it needs to. `--beyond` maps a file with holes that is a quarter larger than the machine's memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

MIB = 2**20
WIDTH, SIDE = 768, 16
"""Numbers in a row: those of an image (3, 16, 16)."""

BATCH, DRAWN = 128, 200


@dataclass(frozen=True)
class Measured:
    """`size` of all values as float32 and `peak` in MiB; `check` in seconds, `batch` in milliseconds."""

    form: str
    size: int
    where: str
    peak: float
    check: float
    batch: float


def blocks(rows: int) -> list[np.ndarray]:
    """Rows from 0 to 1, a thousand at most at a time; all blocks but the last are one and the same in memory."""
    block = np.random.default_rng(0).random((1000, WIDTH), dtype=np.float32)
    return [block[: min(1000, rows - start)] for start in range(0, rows, 1000)]


def npy(folder: Path, rows: int) -> Path:
    file = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    for i, block in enumerate(blocks(rows)):
        file[i * 1000 : i * 1000 + len(block)] = block
    return folder / "x.npy"


def holes(folder: Path, rows: int) -> Path:
    np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    return folder / "x.npy"


def npz(folder: Path, rows: int) -> Path:
    np.savez(folder / "x.npz", x=np.concatenate(blocks(rows)))
    return folder / "x.npz"


def compressed(folder: Path, rows: int) -> Path:
    np.savez_compressed(folder / "x.npz", x=np.concatenate(blocks(rows)))
    return folder / "x.npz"


def csv(folder: Path, rows: int) -> Path:
    with (folder / "x.csv").open("w") as file:
        for block in blocks(rows):
            np.savetxt(file, block, fmt="%.6f", delimiter=",")
    return folder / "x.csv"


def parquet(folder: Path, rows: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), WIDTH)
    with pq.ParquetWriter(folder / "x.parquet", pa.schema([("x", kind)])) as file:
        for block in blocks(rows):
            column = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), WIDTH)
            file.write_table(pa.table({"x": column}))
    return folder / "x.parquet"


def images(folder: Path, rows: int) -> Path:
    from PIL import Image

    (folder / "faces").mkdir()
    made = (255 * blocks(1000)[0]).astype(np.uint8).reshape(-1, SIDE, SIDE, 3)
    for row in range(rows):
        Image.fromarray(made[row % 1000]).save(folder / "faces" / f"{row}.jpg")
    return folder / "faces"


FORMS: dict[str, Callable[[Path, int], Path]] = {
    "npy": npy,
    "npz": npz,
    "npz, compressed": compressed,
    "parquet": parquet,
    "csv": csv,
    "images, jpeg": images,
}

FEWER = {"csv": 16, "images, jpeg": 16}
"""Forms that take long to write have so many times fewer rows."""


def spec(path: Path) -> str:
    source = f'images("{path}")' if path.is_dir() else "evidence()"
    return f"data(x) = {source}\nvar x: real[3,{SIDE},{SIDE}]\nparam m: real[3,{SIDE},{SIDE}]\n" + (
        "q(x) = Normal(m, 1)\nminimize KL(data(x) || q(x))\n"
    )


def anonymous() -> float:
    """MiB of this process's memory that stand in no file."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


class Peak(threading.Thread):
    """The most anonymous memory since it was started."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = anonymous()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.003):
            self.most = max(self.most, anonymous())


def probe(path: Path, large: float) -> dict[str, float | str]:
    """What it costs to bind a file and to draw from it, in this process."""
    import torch

    import jointkl
    from jointkl.sources import bind, streams
    from jointkl.training.minibatches import Minibatches

    model = jointkl.parse(spec(path))
    streams.LARGE = int(min(large, sys.maxsize))
    torch.ones(64, 64) @ torch.ones(64, 64)
    before = anonymous()
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    data = bind(model, {} if path.is_dir() else {"data": path})
    checked = time.perf_counter()
    batches = Minibatches(data, BATCH, 0, torch.device("cpu"))
    count = min(DRAWN, len(data[0]) // BATCH)
    first = time.perf_counter()
    for _ in range(count):
        batches.draw()
    last = time.perf_counter()
    peak.over.set()
    peak.join()
    column = data[0].columns[0]
    where = (
        "memory" if isinstance(column, torch.Tensor) else "memory, as bytes" if column.resident is not None else "file"
    )
    return {
        "where": where,
        "peak": max(peak.most, anonymous()) - before,
        "check": checked - start,
        "batch": 1000 * (last - first) / count,
    }


def measure(form: str, make: Callable[[Path, int], Path], size: int, large: float) -> Measured:
    """A file of so many MiB of float32 values, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder), max(2 * BATCH, size * MIB // (4 * WIDTH)))
        command = [sys.executable, "-m", "benchmarks.data", "--probe", str(path), "--large", str(large)]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"JOINTKL_DATA": folder}
        )
    return Measured(form, size, **json.loads(found.stdout))


HEAD = """| rows | float32, MiB | drawn from | peak, MiB | before the first step, s | a batch of 128, ms |
|---|---|---|---|---|---|"""


def row(found: Measured) -> str:
    return (
        f"| {found.form} | {found.size:,} | {found.where} | {found.peak:.0f} | {found.check:.1f} | {found.batch:.2f} |"
    )


def main() -> None:
    from jointkl.sources.streams import LARGE

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", metavar="MIB", type=int, nargs="+", default=[64, 256, 1024])
    options.add_argument("--only", metavar="WORD", default="", help="the forms with this in their name")
    options.add_argument(
        "--beyond", action="store_true", help="a file larger than memory, with holes, and nothing else"
    )
    options.add_argument("--large", type=float, default=LARGE, help="bytes from which on rows stay in their file")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.probe:
        print(json.dumps(probe(chosen.probe, chosen.large)))
        return
    print(HEAD)
    results: list[Measured] = []

    def told(form: str, make: Callable[[Path, int], Path], size: int, large: float) -> None:
        results.append(measure(form, make, size, large))
        print(row(results[-1]), flush=True)

    if chosen.beyond:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
        told(f"npy, with holes; memory has {whole:,} MiB", holes, whole * 5 // 4, chosen.large)
    else:
        for size in chosen.sizes if chosen.only in "npy, all held" else ():
            told("npy, all held", npy, size, math.inf)
        for form in (form for form in FORMS if chosen.only in form):
            for size in chosen.sizes:
                told(form, FORMS[form], size // FEWER.get(form, 1), chosen.large)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
