"""What a terminal shows while a run goes on."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from jointkl.training.watching.progress import shown


def test_the_bar_has_rounds_losses_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with shown("gan", 1000, quiet=False) as show:
        show(248, {"D": 1.0, "G": 1.0}, 400.0)
        time.sleep(0.05)
        show(250, {"D": 1.25, "G": 0.5}, 400.0)
    for part in ("gan", "250/1000", "D 1.25", "G 0.5", "400 steps/s"):
        assert part in stream.getvalue(), part
    assert re.search(r"m0:00:\d\d", stream.getvalue()), "750 rounds are left, at 2 in 0.05 s"


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
    assert lines[4] == "gan  50/100  D 1  50 steps/s  0:00:01 left"


def test_what_takes_days_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("gan", 1_000_000, quiet=False) as show:
        show(100_000, {"D": 1.0}, 2.0)
    assert capsys.readouterr().err == "gan  100000/1000000  D 1  2 steps/s  5 days, 5:00:00 left\n"
