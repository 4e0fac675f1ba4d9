"""What is read of a run's folder: as far as it is whole, and nothing from outside it."""

from __future__ import annotations

import json
import os
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from jointkl.diagnostics import DataError
from jointkl.evaluation.report import folder
from jointkl.evaluation.report.folder import Series, read
from tests.evaluation.report.conftest import Make, lines, png


def test_a_whole_run(made: Make) -> None:
    found = read(made())
    assert found.spec.startswith("# Generative adversarial network")
    assert [(s.group, s.name, s.rounds) for s in found.series] == [
        ("losses", "D", (10, 20, 30, 40, 50, 60)),
        ("losses", "G", (10, 20, 30, 40, 50, 60)),
    ]
    assert found.series[1].values[0] == pytest.approx(1.8948393)
    assert (found.last, found.seconds, found.notes, found.judged) == (60, 0.6, (), None)
    assert [(p.round, p.kind, p.width, p.height) for p in found.pictures] == [
        (20, "", 8, 6), (20, "interpolation", 8, 6), (40, "", 8, 6), (40, "interpolation", 8, 6),
        (60, "", 8, 6), (60, "interpolation", 8, 6),
    ]  # fmt: skip
    assert found.pictures[0].content == png(shade=20)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_cut_short_by_a_kill_is_left_out(made: Make, cut: int) -> None:
    whole = lines(("D",), 4)
    found = read(made(files={"metrics.jsonl": whole[:-cut]}))
    kept = 4 if cut == 1 else 3  # without its end of line the last one is whole
    assert found.series == (Series("losses", "D", *zip(*list(zip(*values(whole), strict=True))[:kept], strict=True)),)
    assert [note for note in found.notes if "cut short" in note] == list(found.notes)
    assert len(found.notes) == (kept == 3)


def values(text: str) -> tuple[list[int], list[float]]:
    records = [json.loads(line) for line in text.splitlines()]
    return [r["round"] for r in records], [r["losses"]["D"] for r in records]


def test_what_is_no_record_is_left_out_and_counted(made: Make) -> None:
    odd = [
        "", "[]", "7", '{"round": true, "losses": {"D": 1}}', '{"round": -1, "losses": {"D": 1}}', '{"round": 1e3}',
        "\xff", "[" * 100_000, '{"round": 5, "losses": {"D": NaN, "E": "1", "F": null, "G": 1e999, "H": 2}}',
        '{"round": 6, "seconds": "long", "losses": 3}', '{"round": 7, "losses": {"D": 4}}', "{}",
    ]  # fmt: skip
    found = read(made(files={"metrics.jsonl": "\n".join(odd) + "\n"}))
    assert found.series == (Series("losses", "H", (5,), (2.0,)), Series("losses", "D", (7,), (4.0,)))
    assert found.notes == ("8 lines of metrics.jsonl are not whole and left out: 2, 3, 4, 5, 6, …",)
    assert found.last == 7


def test_rounds_done_again_after_a_kill_count_once(made: Make) -> None:
    again = '{"round": 10, "losses": {"D": 1}}\n{"round": 20, "losses": {"D": 2}}\n{"round": 10, "losses": {"D": 3}}\n'
    assert read(made(files={"metrics.jsonl": again})).series == (Series("losses", "D", (10, 20), (3.0, 2.0)),)


def test_numbers_beside_the_losses_are_curves_of_their_own(made: Make) -> None:
    text = '{"round": 1, "losses": {"D": 1}, "rates": {"D": 0.1}, "note": "x"}\n'
    assert [(s.group, s.name) for s in read(made(files={"metrics.jsonl": text})).series] == [
        ("losses", "D"),
        ("rates", "D"),
    ]


def test_a_run_that_has_just_begun(made: Make) -> None:
    place = made()
    (place / "metrics.jsonl").unlink()
    for path in (place / "samples").iterdir():
        path.unlink()
    (place / "samples").rmdir()
    found = read(place)
    assert (found.series, found.pictures, found.last) == ((), (), 0)
    assert found.notes == ("there is no metrics.jsonl: the run has recorded nothing yet",)


@pytest.mark.parametrize("name", ["spec.jkl", "config.json"])
def test_no_run(made: Make, name: str) -> None:
    place = made()
    (place / name).unlink()
    with pytest.raises(DataError, match=rf"is no run: it has no {name}"):
        read(place)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "7", "\xff", '{"a": ' + "1" * 5000 + "}"])
def test_damaged_options(made: Make, content: str) -> None:
    with pytest.raises(DataError, match=r"config\.json cannot be read: no JSON object"):
        read(made(files={"config.json": content}))


def test_sizes_are_bounded(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LARGEST", {"spec.jkl": 10**4, "config.json": 10**4, "metrics.jsonl": 150})
    found = read(made())
    assert found.last == 10, "one line is whole in the first 150 bytes"
    assert "the first 0 MiB are read" in found.notes[0]
    monkeypatch.setattr(folder, "LARGEST", {"spec.jkl": 10**4, "config.json": 100})
    with pytest.raises(DataError, match=r"config\.json cannot be read: larger than"):
        read(made(folder="other"))


def test_of_metrics_that_are_too_large_whole_lines_are_read(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LARGEST", {**folder.LARGEST, "metrics.jsonl": 150})
    found = read(made())
    assert found.last == 10
    assert len(found.notes) == 1, "nothing was cut short by a kill"


def test_numbers_that_nothing_can_be_computed_with_are_left_out(made: Make) -> None:
    text = '{"round": 1, "losses": {"D": 1.7e308, "G": -1e300}}\n{"round": 2, "losses": {"D": 3, "G": 1e300}}\n'
    found = read(made(files={"metrics.jsonl": text}))
    assert found.series == (Series("losses", "G", (1, 2), (-1e300, 1e300)), Series("losses", "D", (2,), (3.0,)))


def test_a_folder_of_several_seeds(made: Make, tmp_path: Path) -> None:
    made(folder="many/seed-3")
    (tmp_path / "many" / "replicas.json").write_text('{"seeds": [3]}')
    with pytest.raises(DataError, match="holds the runs of 1 seeds, not one run") as refused:
        read(tmp_path / "many")
    assert "seed-3" in refused.value.help[0]


# --- pictures


def test_of_too_many_pictures_some_are_kept_the_first_and_the_last_among_them(made: Make) -> None:
    files = {f"samples/{i:08d}.png": png() for i in range(100, 300)}
    rounds = [p.round for p in read(made(files=files)).pictures if not p.kind]
    assert len(rounds) == folder.FRAMES
    assert (rounds[0], rounds[-1]) == (20, 299)
    assert max(b - a for a, b in pairwise(rounds[2:])) <= 7


def test_other_files_are_no_pictures(made: Make) -> None:
    other = ("q(x).png", "1.png", "00000001.gif", "00000001-A.png", "00000001-a-b-c.png", "00000001<b>.png", "x.html")
    found = read(made(files={f"samples/{name}": png() for name in other} | {"samples/00000007.npy": b"numbers"}))
    assert {p.round for p in found.pictures} == {20, 40, 60}
    assert found.numbers == ("00000007.npy",)
    assert found.notes == ()


def damaged(kind: str) -> bytes:
    content = bytearray(png())
    if kind == "html":
        return b"<html><script>alert(1)</script>"
    if kind == "wide":
        content[16:20] = struct.pack(">I", 100_000)
    if kind == "flat":
        content[20:24] = struct.pack(">I", 0)
    return bytes(content[:20] if kind == "short" else content)


@pytest.mark.parametrize("kind", ["html", "wide", "flat", "short"])
def test_what_is_no_png_of_some_size_is_left_out(made: Make, kind: str) -> None:
    found = read(made(files={"samples/00000040.png": damaged(kind)}))
    assert [p.round for p in found.pictures if not p.kind] == [20, 60]
    assert "left out" in found.notes[0]
    assert "00000040.png" in found.notes[0]


def test_pictures_are_bounded(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made()
    monkeypatch.setattr(folder, "ALL_PICTURES", 2 * len(png(shade=20)) + 5)
    assert len(read(place).pictures) == 2
    monkeypatch.setattr(folder, "PICTURE", 10)
    assert read(place).pictures == ()


# --- links


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and pipes")
def test_nothing_is_read_through_a_link_out_of_the_folder(made: Make, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(shade=1))
    place = made()
    (place / "samples/00000080.png").symlink_to(secret)
    (place / "samples/00000081.png").symlink_to("00000081.png")
    os.mkfifo(place / "samples/00000082.png")
    (place / "samples/00000083.png").symlink_to("00000060.png")
    (place / "eval.json").symlink_to("/dev/zero")
    found = read(place)
    assert [p.round for p in found.pictures if not p.kind] == [20, 40, 60, 83]
    assert "3 of the pictures are left out" in found.notes[0]
    assert found.judged is None


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
@pytest.mark.parametrize("name", ["spec.jkl", "config.json", "samples"])
def test_a_part_of_another_folder_is_none_of_the_run(made: Make, name: str) -> None:
    other, place = made(folder="other"), made(folder="mine")
    part = place / name
    if part.is_dir():
        for path in part.iterdir():
            path.unlink()
        part.rmdir()
        part.symlink_to(other / name)
        assert read(place).pictures == ()
        return
    part.unlink()
    part.symlink_to(other / name)
    with pytest.raises(DataError, match="is no run: it has no"):
        read(place)


def test_an_evaluation_that_cannot_be_read_is_a_note(made: Make) -> None:
    assert read(made(files={"eval.json": '{"metrics": '})).notes == ("eval.json cannot be read, and is left out",)
    found = read(made(folder="b", files={"eval.json": '{"metrics": []}'}))
    assert (found.judged, found.notes) == ({"metrics": []}, ())
