"""A run's folder as a run leaves it, made by hand."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.worlds import MODELS

Make = Callable[..., Path]


def png(width: int = 8, height: int = 6, shade: int = 128) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), (shade, shade, 255 - shade)).save(content, format="png")
    return content.getvalue()


def lines(players: tuple[str, ...], count: int) -> str:
    records = (
        {"round": 10 * i, "seconds": i / 10, "losses": {p: math.exp(-i / 9) + k for k, p in enumerate(players)}}
        for i in range(1, count + 1)
    )
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """A run of a model; `config` and `files` replace or add to what it has."""

    def make(
        name: str = "gan",
        players: tuple[str, ...] = ("D", "G"),
        *,
        config: dict[str, Any] | None = None,
        files: dict[str, str | bytes] | None = None,
        folder: str = "run",
    ) -> Path:
        place = tmp_path / folder
        (place / "samples").mkdir(parents=True)
        options: dict[str, Any] = {
            "spec": f"models/{name}.jkl", "rounds": 60, "batch": 256, "seed": 2, "device": "cpu",
            "ways": [{"player": p, "way": "eager", "trials": [], "notes": {}} for p in players],
            "lets": {}, "settings": {"steps": "60"},
            "data": {"data(x)": {"source": "ring8(std=0.02)", "rows": 100000}},
            "phases": [{"player": p, "kind": "other", "optimizer": "adam", "lr": 0.001, "clip": None} for p in players],
            "parameters": {p: 17154 for p in players}, "notes": [],
            "versions": {"python": "3.11.7", "jointkl": "0.1.0", "torch": "2.15.0"},
        }  # fmt: skip
        content: dict[str, str | bytes] = {
            "spec.jkl": (MODELS / f"{name}.jkl").read_text(encoding="utf-8"),
            "config.json": json.dumps(options | (config or {})),
            "metrics.jsonl": lines(players, 6),
            **{
                f"samples/{number:08d}{kind}.png": png(shade=number)
                for number in (20, 40, 60)
                for kind in ("", "-interpolation")
            },
            **(files or {}),
        }
        for path, text in content.items():
            (place / path).write_bytes(text.encode() if isinstance(text, str) else text)
        return place

    return make
