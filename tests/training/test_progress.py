"""What a terminal shows while a run goes on."""

from __future__ import annotations

import io
import sys

import pytest

from jointkl.training.progress import shown


def test_the_bar_has_rounds_losses_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with shown("gan", 1000, quiet=False) as show:
        show(250, {"D": 1.25, "G": 0.5}, 400.0)
    for part in ("gan", "250/1000", "D 1.25", "G 0.5", "400 steps/s", "0:00:00"):
        assert part in stream.getvalue().replace("-:--:--", "0:00:00"), part


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("gan", 10, quiet=True) as show:
        show(10, {"D": 1.0}, 1.0)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_log_has_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("gan", 100, quiet=False) as show:
        for number in range(1, 101):
            show(number, {"D": 1.0}, 50.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[4] == "gan  50/100  D 1  50 steps/s  00:00:01 left"
