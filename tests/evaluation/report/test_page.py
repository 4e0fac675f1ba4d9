"""The page of a run: all of it is there, nothing is loaded, and nothing that a folder holds becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import jointkl
from jointkl import cli
from jointkl.diagnostics import DataError
from jointkl.evaluation.report import folder
from jointkl.evaluation.report.page import SECTIONS, how_far, page, report
from jointkl.training import plan
from jointkl.training.folder import record
from tests import mathml
from tests.evaluation.report.conftest import Make, png
from tests.worlds import MODELS

VOID = {"meta", "wbr", "img", "input"}


class Seen(HTMLParser):
    """The tags of a page with their attributes, and its words by the tag they stand in; raises where tags cross."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "".join(words for tag, words in self.words if tag not in ("style", "script"))

    def within(self, tag: str) -> str:
        return "".join(words for where, words in self.words if where == tag)


def shown(place: Path) -> tuple[str, Seen]:
    text = page(folder.read(place))
    return text, Seen(text)


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.jkl")))
def test_every_model_has_a_page(name: str, made: Make) -> None:
    place = made(name)
    text, seen = shown(place)
    assert [h for h in re.findall(r"<h2>([^<]*)</h2>", text)] == list(SECTIONS)
    ids = [section["id"] for section in seen.all("section") if "id" in section]
    assert [a["href"] for a in seen.all("a")] == [f"#{id}" for id in ids]
    derivation = jointkl.derive(jointkl.load(MODELS / f"{name}.jkl"))
    for line in folder.read(place).spec.splitlines():
        assert line.rstrip() in seen.text.replace("\xa0", " ")
    for rule in {step.rule for step in derivation.steps}:
        assert f">{rule}</h5>" in text
    assert len([s for s in seen.all("svg") if s.get("class") == "curve"]) == 2
    assert len(mathml.formulas(text)) > len(derivation.losses)


def test_what_is_on_the_page_is_what_the_run_has(made: Make) -> None:
    _, seen = shown(made())
    assert "gan.jkl: 60 rounds in 0.6 s on cpu" in seen.text
    assert "first 1.895, lowest 1.513, last 1.513" in seen.text
    sources = [image["src"] for image in seen.all("img")]
    wanted = [png(shade=n) for _ in range(2) for n in (20, 40, 60)]
    assert [base64.b64decode((s or "").removeprefix("data:image/png;base64,")) for s in sources] == wanted
    assert [f["data-round"] for f in seen.all("figure") if f.get("class") == "frame"] == ["20", "40", "60"] * 2
    assert "ring8(std=0.02), 100,000 rows" in seen.text
    assert "17,154" in seen.text
    assert "jointkl eval RUN" in seen.text
    assert "torch2.15.0" in seen.text


def test_a_run_that_goes_on_and_one_that_has_just_begun(made: Make) -> None:
    place = made(config={"rounds": 25000})
    assert how_far(folder.read(place)) == "gan.jkl: 60 of 25,000 rounds so far in 0.6 s on cpu"
    (place / "metrics.jsonl").write_text("")
    for picture in (place / "samples").iterdir():
        picture.unlink()
    _, seen = shown(place)
    assert "0 of 25,000 rounds so far" in seen.text
    assert "Nothing has been recorded yet." in seen.text
    assert "No pictures have been kept yet." in seen.text
    assert seen.all("script") == [], "there is nothing to slide"


def test_notes_stand_at_the_top(made: Make) -> None:
    text, _ = shown(made(config={"notes": ["the batch is all data"]}, files={"metrics.jsonl": '{"round": 3, "lo'}))
    notes = re.search(r'<ul class="notes">(.*?)</ul>', text, re.DOTALL)
    assert notes is not None
    assert "cut short" in notes[1]
    assert "the batch is all data" in notes[1]


def test_samples_without_a_picture_are_named(made: Make) -> None:
    files = {f"samples/{n:08d}.npy": b"" for n in (15, 30)}
    place = made("em", files=files)
    for picture in (place / "samples").glob("*.png"):
        picture.unlink()
    _, seen = shown(place)
    assert "00000015.npy to 00000030.npy" in seen.text


METRICS = {
    "round": 60, "samples": 2500, "seed": 0,
    "data": {"data(x)": {"rows": 100000, "from": "ring8(seed=1), fresh points", "unseen": True}},
    "metrics": [
        {"metric": "modes", "law": "q(x)", "evidence": "data(x)", "value": 8, "interval": None, "samples": 2500,
         "data": 0, "training_data": None, "better": "higher", "notes": []},
        {"metric": "mmd", "law": "q(x)", "evidence": "data(x)", "value": 0.00123, "interval": [-0.001, 0.0035],
         "samples": 2500, "data": 2000, "training_data": 0.0001, "better": "lower", "notes": ["few data"]},
        {"metric": "reconstruction", "law": "p(z|x), q(x|z)", "evidence": "data(x)", "value": 0.5},
    ],
    "failed": {"frechet": "no features"},
}  # fmt: skip


def test_what_was_judged_stands_in_a_table_for_each_law(made: Make) -> None:
    text, _ = shown(made(files={"eval.json": json.dumps(METRICS)}))
    section = text[text.index('id="metrics"') : text.index('id="environment"')]
    assert section.count("<caption>") == 2
    assert section.count("100,000 rows of ring8(seed=1), fresh points</caption>") == 2
    assert "Judged at round 60." in section
    assert section.count("Training data: ") == 1
    assert "0.00123</strong></td>" in section
    assert "−0.001 to 0.0035" in section
    assert "2,500 + 2,000" in section
    assert "few data" in section
    assert "frechet: left out, no features" in section
    assert "Not judged yet" not in section


@pytest.mark.parametrize(
    "found",
    [{}, {"metrics": 3}, {"metrics": [1, None, {"value": "x"}, {"value": 1e400}]}, {"metrics": {"mmd": 0.5, "x": {}}},
     {"metrics": [{"value": 1, "interval": [1], "notes": 7, "samples": "a"}], "failed": []},
     {"metrics": [{"value": 1, "compared_by": [3]}], "data": {"": 7}, "round": "x"},
     {"metrics": [{"value": 10**400, "metric": {"a": []}, "law": 5}]}],
)  # fmt: skip
def test_an_evaluation_of_any_form_makes_a_page(found: object, made: Make) -> None:
    _, seen = shown(made(files={"eval.json": json.dumps(found)}))
    assert "Environment" in seen.text


# --- nothing gets in


def test_the_policy_lets_in_nothing_but_what_stands_there(made: Make) -> None:
    text, seen = shown(made())
    (policy,) = [m["content"] for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert (rules["base-uri"], rules["form-action"]) == ("'none'", "'none'")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(seen.within(kind).encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert len(seen.all("style")) == len(seen.all("script")) == 1
    assert text.index("Content-Security-Policy") < text.index("<style")
    for tag, attributes in seen.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "use", "image", "foreignobject")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("style", "srcset", "action", "xlink:href")
            assert name != "href" or (value or "").startswith("#")
            assert name != "src" or (value or "").startswith("data:image/png;base64,")
    assert "url(" not in text
    assert "@import" not in text


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b[31m\x00</style></td>${{7*7}}"


def evil(value: object) -> object:
    """The same value, all of its words and names turned against the page."""
    match value:
        case dict():
            return {f"{k}": evil(v) for k, v in value.items()} | {EVIL: EVIL}
        case list():
            return [*map(evil, value), EVIL]
        case str():
            return EVIL
        case _:
            return value


def test_a_hostile_folder_shows_as_text(made: Make) -> None:
    plain = made(folder="plain", files={"eval.json": json.dumps(METRICS)})
    config = json.loads((plain / "config.json").read_text())
    hostile = {k: evil(v) for k, v in config.items() if k != "lets"} | {"lets": {}, EVIL: EVIL}
    metrics = {"metrics": [evil(record) for record in METRICS["metrics"]], "failed": {EVIL: EVIL}}
    line = json.dumps({"round": 5, "seconds": 1, "losses": {EVIL: 1.0, "D": 2.0}, EVIL: {EVIL: 3.0}})
    spec = (plain / "spec.jkl").read_text() + f"\n# {EVIL.replace(chr(0), '')}\n"
    files: dict[str, str | bytes] = {
        "config.json": json.dumps(hostile), "metrics.jsonl": line + "\n" + EVIL, "eval.json": json.dumps(metrics),
        "spec.jkl": spec, "samples/00000009-evil-x.png": png(),
    }  # fmt: skip
    place = made(folder="<b>bold<script>x()", files=files)
    text, seen = shown(place)
    clean = shown(plain)[1]
    assert len(seen.all("script")) == len(clean.all("script")) == 1
    assert seen.within("script") == clean.within("script")
    assert {tag for tag, _ in seen.tags} <= {tag for tag, _ in clean.tags} | {"ul", "li", "h3"}
    assert {name for _, attributes in seen.tags for name in attributes} <= {
        name for _, attributes in clean.tags for name in attributes
    }
    assert "alert(1)" in seen.text
    assert "<b>bold<script>x()" in seen.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)


@pytest.mark.parametrize(
    "config",
    [
        {"rounds": "many", "lets": 7, "phases": "x", "ways": {}, "data": [], "versions": None, "notes": "no"},
        {"rounds": None, "phases": [1, {}, {"player": []}], "ways": [3, {"player": {}}], "parameters": [1]},
        {"spec": 7, "device": ["cpu"], "settings": 1, "data": {"x": 3}, "versions": {"a": {"b": [{}]}}},
        {"spec": "x" * 10_000, "notes": ["y" * 10_000] * 300, "phases": [{"player": "D"}] * 1000},
    ],
)
def test_options_of_any_form_make_a_page(config: dict[str, object], made: Make) -> None:
    text, _ = shown(made(config=config))
    assert len(text) < 10**6


def test_constants_given_to_the_run_are_the_page_s_too(made: Make) -> None:
    spec = (MODELS / "em.jkl").read_text(encoding="utf-8")
    place = made(config={"lets": {"K": "7"}}, files={"spec.jkl": spec})
    assert "let K" in shown(place)[1].text
    with pytest.raises(jointkl.JklError):
        shown(made(folder="b", config={"lets": {"K": "no number"}}, files={"spec.jkl": spec}))


# --- the command


@pytest.mark.slow
def test_the_report_of_a_real_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.jkl").write_text((MODELS / "gan.jkl").read_text(encoding="utf-8"))
    assert cli.main(["train", "mine.jkl", "--steps", "4", "--quiet"]) == 0
    assert cli.main(["report", "runs/mine"]) == 0
    assert capsys.readouterr().out == "wrote runs/mine/report.html\n"
    seen = Seen(Path("runs/mine/report.html").read_text(encoding="utf-8"))
    assert "mine.jkl: 4 rounds in" in seen.text
    assert len(seen.all("img")) == 8, "samples and interpolations of four rounds"
    assert cli.main(["report", "runs/mine", "-o", "elsewhere.html"]) == 0
    assert Path("elsewhere.html").is_file()
    names = (record.SPEC, record.CONFIG, record.METRICS, record.SAMPLES, record.REPLICAS)
    assert names == (folder.SPEC, folder.CONFIG, folder.METRICS, folder.SAMPLES, folder.REPLICAS)
    assert folder.ENTRIES >= 8 * plan.MOST_KEPT, "samples, and pictures of some kinds and variables"


def test_what_the_command_refuses(made: Make, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    for arguments, words in (
        (["report", str(tmp_path / "gone")], "is no run: it has no spec.jkl"),
        (["report", str(made()), "-o", str(tmp_path / "no" / "where.html")], "cannot be written"),
    ):
        assert cli.main(arguments) == 1
        assert words in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_link_in_the_page_s_place_is_replaced_and_not_followed(made: Make, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place = made()
    (place / "report.html").symlink_to(victim)
    assert report(place) == place / "report.html"
    assert victim.read_text() == "mine"
    assert (place / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in place.iterdir()) == [
        "config.json", "metrics.jsonl", "report.html", "samples", "spec.jkl",
    ]  # fmt: skip


def test_a_disk_that_is_full_leaves_the_old_page(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made()
    report(place)
    before = (place / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="No space left"):
        report(place)
    assert (place / "report.html").read_bytes() == before
    assert len(list(place.iterdir())) == 5


@pytest.mark.slow
def test_a_report_imports_no_torch_and_runs_nothing_of_the_folder(made: Make) -> None:
    place = made(files={"gan.py": "raise SystemExit('executed')"})
    code = f"""
import sys
from jointkl.cli import main
assert main(["report", {str(place)!r}]) == 0
print([m for m in ("torch", "torchvision", "pyro", "matplotlib", "sklearn") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd=place)
    assert done.stdout.splitlines()[-1] == "[]"
