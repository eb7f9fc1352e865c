from __future__ import annotations

import sys

import moved_clock
import pytest

from models.shown_progress import EVERY, ShownProgress, spoken


def test_without_a_terminal_a_line_about_every_ten_seconds_says_how_much_is_left(
    clock: moved_clock.MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with ShownProgress("texts", total=1_200, unit="text") as progress:
        for _ in range(12):
            clock.move(EVERY / 2)
            progress.update(100, "loss 4.3" if progress.done == 300 else "")
    assert caplog.messages == [
        "texts: 200 of 1,200, 0:50 left",
        "texts: 400 of 1,200, 0:40 left, loss 4.3",
        "texts: 600 of 1,200, 0:30 left",
        "texts: 800 of 1,200, 0:20 left",
        "texts: 1,000 of 1,200, 0:10 left",
        "texts: all 1,200 in 1:00",
    ]


def test_short_work_has_no_line_and_broken_work_no_last_one(
    clock: moved_clock.MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with ShownProgress("texts", total=2, unit="text") as progress:
        progress.update(2)
    assert not caplog.messages
    with pytest.raises(KeyboardInterrupt), ShownProgress("texts", total=2, unit="text") as progress:  # noqa: PT012
        clock.move(EVERY)
        progress.update(0)
        raise KeyboardInterrupt
    assert caplog.messages == ["texts: 0 of 2, – left"]


def test_a_terminal_shows_a_bar_with_the_note_and_no_lines(
    clock: moved_clock.MovedClock,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ShownProgress("texts", total=4, unit="text") as progress:
        clock.move(3 * EVERY)
        progress.update(1, "loss 4.3")
    shown = capsys.readouterr().err
    assert "1/4" in shown
    assert "loss 4.3" in shown
    assert not caplog.messages


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (3_725, "1:02:05")])
def test_a_duration_is_spoken_in_minutes_and_hours(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
