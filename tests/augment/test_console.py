"""Where there is no terminal, a line a minute says how far a command is, and no character controls anything."""

import subprocess
import sys
from threading import Event

from tinycohort.augment import console


def test_a_log_is_told_a_line_a_minute(capsys, monkeypatch):
    monkeypatch.setattr(console, "MINUTE", 0.01)
    said = Event()
    say = console.say
    monkeypatch.setattr(console, "say", lambda text: (say(text), said.set()))
    with console.progress("fitting [/AD]", 3) as advance:
        for step in range(3):
            advance(f"loss {step}")
            said.clear()
            assert said.wait(10)  # a step may take many minutes
    err = capsys.readouterr().err
    assert "fitting [/AD]: 1 of 3, loss 0, after 0 min" in err
    assert "\x1b" not in err
    assert "\r" not in err


def test_what_ends_within_a_minute_is_told_once():
    code = """
from tinycohort.augment import console
for item in console.tracked("checking")(range(5)):
    pass
"""
    err = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert err.count("checking") == 1
    assert "5/5" in err
    assert "\x1b" not in err
