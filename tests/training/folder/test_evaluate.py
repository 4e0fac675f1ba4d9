"""A run judged from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder.run import load_run

GAUSSIAN = """
data(x) = evidence()
var x, z: real[2]
net E = mlp(8)
net G = mlp(8)
p(z | x) = Normal(E(x))
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), 0.5)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=64, steps=5)
"""


def test_a_run_is_judged_and_keeps_it(tmp_path: Path) -> None:
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    run = jointkl.train(GAUSSIAN, {"data": points}, out=tmp_path / "run", quiet=True, device="cpu")
    found = run.evaluate(["mmd", "log_likelihood"], samples=100, particles=20)
    assert [j.metric for j in found.judged] == ["log_likelihood", "mmd"]
    assert not found.origins["data(x)"].unseen
    kept = json.loads((run.folder / "eval.json").read_text())
    assert [m["value"] for m in kept["metrics"]] == [j.value.value for j in found.judged]
    assert kept["round"] == 5

    other = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    held = run.evaluate(["mmd"], samples=100, data={"data": other}, save=False)
    assert held.origins["data(x)"].unseen
    assert held.rows == {"data(x)": 50}
    assert held.judged[0].reference is not None, "rows of training in the samples' place"
    assert json.loads((run.folder / "eval.json").read_text()) == kept

    again = load_run(run.folder)
    with pytest.raises(DataError, match="given from Python"):
        again.evaluate(["mmd"], save=False)
    alone = again.evaluate(["mmd"], samples=100, data={"data": other}, save=False)
    assert alone.judged[0].value == held.judged[0].value
    assert alone.judged[0].reference is None, "the rows of training are lost"
    assert load_run(run.folder, {"data": points}).evaluate(["mmd"], samples=100, save=False).judged[0].value == (
        found.judged[1].value
    )
