"""A sampler as the bytes of a file, and such bytes run: `torch.export`'s archive, and ONNX."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from jointkl.diagnostics import DataError
from jointkl.emission.names import Names
from jointkl.exports import errors
from jointkl.exports.sampler import PROBED, Sampler, tracing
from jointkl.program import own_place

TOLD = "jointkl.json"
"""The name of the description: among the extra files of an archive, a key of ONNX's metadata."""

Told = dict[str, Any]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Format:
    """`outputs` is what the file calls the sampler's variables. `write` makes its bytes, or raises `DataError`; `run`
    calls them, by the means of the format alone."""

    name: str
    outputs: Callable[[Sampler], dict[str, str]]
    write: Callable[[Sampler, Told], bytes]
    run: Callable[[bytes, Tensors], Tensors]


def traced(sampler: Sampler, name: str) -> ExportedProgram:
    """The graph of a sampler, the number of rows free. It names no place in anybody's files."""
    rows = Dim("batch")
    try:
        with tracing(), _quiet():
            found = torch.export.export(
                sampler,
                (),
                sampler.example(PROBED),
                dynamic_shapes={i.name: None if i.need.once else {0: rows} for i in sampler.inputs},
                strict=False,
            )
    except Exception as error:
        raise _failed(sampler, name, error) from error
    for node in found.graph.nodes:
        node.meta.pop("stack_trace", None)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs and prints all of a graph that it cannot make; the error says why."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _failed(sampler: Sampler, name: str, error: Exception) -> DataError:
    own = next(((net.name, "") for net in sampler.model.nets.values() if net.target), None)
    return errors.not_exported(sampler.query.text, name, error, own_place(sampler.model, error) or own)


# --- torch


def _write_archive(sampler: Sampler, told: Told) -> bytes:
    content = io.BytesIO()
    torch.export.save(traced(sampler, "torch"), content, extra_files={TOLD: json.dumps(told, indent=1)})
    return content.getvalue()


def _run_archive(content: bytes, arguments: Tensors) -> Tensors:
    return torch.export.load(io.BytesIO(content)).module()(**arguments)


# --- ONNX

EXTRA = ("onnx", "onnxscript", "onnxruntime")


def _write_onnx(sampler: Sampler, told: Told) -> bytes:
    for package in EXTRA:
        if importlib.util.find_spec(package) is None:
            raise errors.extra_missing(package)
    for law, family in sampler.inside.items():
        raise errors.no_draw_in_onnx(law, family)
    graph = traced(sampler, "ONNX")
    rows = {i.name: {0: "batch"} if i is sampler.counting else None for i in sampler.inputs}
    names = list(_legal_names(sampler).values())
    try:
        program = torch.onnx.export(graph, output_names=names, dynamic_shapes=rows, dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise _untranslated(sampler, error) from error
    assert program is not None
    program.model.metadata_props[TOLD] = json.dumps(told)
    return program.model_proto.SerializeToString()


def _untranslated(sampler: Sampler, error: Exception) -> DataError:
    """torch tells the operator that it could not translate in the first of a chain of errors."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    operator = re.search(r"op='([\w.]+)'", str(first))
    return errors.no_operator(sampler.query.text, operator[1]) if operator else _failed(sampler, "ONNX", error)


def _legal_names(sampler: Sampler) -> dict[str, str]:
    """Outputs by names of Python that no input has: `x_out` where one is called x."""
    inputs = {i.name for i in sampler.inputs}
    names = Names.without(inputs)
    return {v: names.of(v, v if v not in inputs else f"{v}_out") for v in sampler.outputs}


def _run_onnx(content: bytes, arguments: Tensors) -> Tensors:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {i.name: arguments[i.name].numpy() for i in session.get_inputs()}
    return dict(zip(names, map(torch.from_numpy, session.run(names, given)), strict=True))


FORMATS: Mapping[str, Format] = {
    ".pt2": Format("torch", lambda sampler: {v: v for v in sampler.outputs}, _write_archive, _run_archive),
    ".onnx": Format("ONNX", _legal_names, _write_onnx, _run_onnx),
}
"""By the ending of a file's name."""
