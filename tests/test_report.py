"""The pictures have the right size and the right colours; the tables and the progress line say what they should."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from tinyseg import report

NAMES, PALETTE = ["sky", "a building of some kind", "road"], [(10, 20, 30), (200, 0, 0), (0, 200, 0)]


def test_samples_has_a_row_an_image_and_a_legend(tmp_path):
    image = np.full((40, 80, 3), 77, np.uint8)
    truth, found = np.full((40, 80), 255), np.ones((40, 80), np.int32)
    truth[:, 40:] = 2
    report.samples(
        tmp_path / "s.png", [(image, truth, found), (image[:, :, :1], None, found)], NAMES, PALETTE, cell=160
    )
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    gap, line = report.GAP, report.LINE
    assert picture.shape == (line + gap + 2 * (80 + gap) + line + gap // 2, 3 * 160 + 4 * gap, 3)
    y = line + gap + 40
    assert picture[y, gap + 80].tolist() == [77] * 3
    assert picture[y, 2 * gap + 160 + 20].tolist() == list(report.VOID)
    assert picture[y, 2 * gap + 160 + 140].tolist() == [0, 200, 0]
    assert picture[y, 3 * gap + 320 + 80].tolist() == [200, 0, 0]
    legend = picture[-line - gap // 2 :].reshape(-1, 3)
    for colour in (*PALETTE, report.VOID):
        assert (legend == colour).all(-1).any()


def test_a_long_legend_takes_more_lines(tmp_path):
    names = [f"class number {i}" for i in range(30)]
    colours = [(i, i, i) for i in range(30)]
    row = (np.zeros((8, 8, 3), np.uint8), None, np.zeros((8, 8), np.int32))
    report.samples(tmp_path / "few.png", [row], names[:2], colours[:2])
    report.samples(tmp_path / "many.png", [row], names, colours)
    few, many = (Image.open(tmp_path / f"{name}.png") for name in ("few", "many"))
    assert many.width == few.width and many.height >= few.height + 5 * report.LINE


def test_samples_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        report.samples(tmp_path / "s.png", [], NAMES, PALETTE)


@pytest.mark.parametrize(
    "losses, steps, values",
    [
        ([], [], []),
        ([1.0], [1], [0.5]),
        ([0.0, 0.0], [2], [float("nan")]),
        (np.linspace(3, 0.1, 500), [250, 500], [0.2, 0.9]),
    ],
)
def test_curves_are_drawn_for_any_history(tmp_path, losses, steps, values):
    report.curves(tmp_path / "c.png", losses, steps, {"mean IoU": values, "pixel accuracy": values})
    assert Image.open(tmp_path / "c.png").size == (2 * report.PANEL[0], report.PANEL[1])


def test_the_running_mean_is_the_mean_of_its_window():
    values = np.random.default_rng(0).random(500)
    mean = report._running_mean(values)
    assert (
        np.isclose(mean[0], values[0])
        and np.isclose(mean[4], values[:5].mean())
        and np.isclose(mean[400], values[391:401].mean())
    )


def test_the_class_table():
    lines = report.class_table(["sky", "car"], [0.98765, np.nan], [0.75, 0.25]).splitlines()
    assert lines[1].split() == ["sky", "0.9877", "75.00", "%"] and lines[2].split() == ["car", "-", "25.00", "%"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_one_line_is_rewritten():
    stream = Terminal()
    progress = report.Progress(stream)
    progress.show("step 1, a long line")
    progress.show("step 2")
    progress.say("done")
    assert stream.getvalue() == "step 1, a long line\r" + " " * 19 + "\rstep 2\r" + " " * 6 + "\rdone\n"


def test_elsewhere_the_changing_line_is_rare():
    stream = io.StringIO()
    progress = report.Progress(stream)
    for i in range(100):
        progress.show(f"step {i}")
    assert stream.getvalue() == ""
    progress._last -= 11
    progress.show("step 100")
    assert stream.getvalue() == "step 100\n"


def test_compiling_is_told_once():
    stream = io.StringIO()
    progress = report.Progress(stream)
    for name in ("a", "b"):
        progress.log(logging.makeLogRecord({"msg": "compiling %s", "args": (name,)}))
    progress.log(logging.makeLogRecord({"msg": "something else"}))
    assert stream.getvalue() == "compiling kernels (once on this machine) ...\nsomething else\n"


def test_durations():
    assert [report.duration(s) for s in (0.4, 59, 60, 187, 3765)] == ["0 s", "59 s", "1:00", "3:07", "1:02:45"]
