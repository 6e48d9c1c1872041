"""What a run shows: its progress line, tables of IoU, curves.png and samples.png. Pictures are drawn with Pillow alone.

curves:   the loss of every step and its running mean; mean IoU and pixel accuracy of every validation.
samples:  image | truth | prediction, one row an image, under them the colour of each class.
"""

import logging
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from .data.image import to_uint8, voc_palette

INK, FAINT, PAPER = (40, 40, 48), (226, 226, 230), (255, 255, 255)
BLUE, ORANGE = (31, 103, 178), (226, 120, 32)
GAP, LINE = 8, 18  # pixels between pictures, and the height of a line of text
VOID = (224, 224, 192)  # 255, the label that says nothing
PANEL = (460, 260)  # width and height of one diagram


def samples(path: str | Path, rows: list[tuple], class_names: list[str], palette, cell: int = 192) -> None:
    """Draw image | truth | prediction, and a legend of the class colours.

    rows: (image, truth, prediction): image (H, W, C) uint8, uint16 or float in [0, 1]; truth (H, W) class ids with
        255 = ignore, or None; prediction (H, W) class ids. cell: width of one picture in pixels; heights follow.
    palette: (K, 3) colours in [0, 255].

    Raises: ValueError without rows.
    Example: report.samples("samples.png", [(image, mask, ts.predict(model, image))], names, palette)
    """
    if not rows:
        raise ValueError("samples: no rows; give at least one (image, truth, prediction)")
    colours = np.full((256, 3), VOID, np.uint8)
    colours[: len(palette)] = palette
    pictures = []
    for image, truth, prediction in rows:
        size = (cell, max(1, round(cell * image.shape[0] / image.shape[1])))
        pictures.append(
            [_scaled(_rgb(image), size, smooth=image.shape[1] > cell)]
            + [_scaled(_colour(ids, colours, image.shape), size, smooth=False) for ids in (truth, prediction)]
        )
    ignored = any(truth is not None and (truth == 255).any() for _, truth, _ in rows)
    entries = [*zip(class_names, map(tuple, np.asarray(palette).tolist())), *([("ignored", VOID)] if ignored else [])]
    width = 3 * cell + 4 * GAP
    legend = _legend(entries, width - 2 * GAP)
    heights = [row[0].height for row in pictures]
    sheet, draw = _sheet(width, LINE + GAP + sum(h + GAP for h in heights) + len(legend) * LINE + GAP // 2)
    for i, title in enumerate(("image", "truth", "prediction")):
        draw.text((GAP + i * (cell + GAP), GAP // 2), title, INK, _font(12))
    y = LINE + GAP
    for row, height in zip(pictures, heights):
        for i, picture in enumerate(row):
            sheet.paste(picture, (GAP + i * (cell + GAP), y))
        y += height + GAP
    for line in legend:
        for x, name, colour in line:
            draw.rectangle((GAP + x, y + 2, GAP + x + 12, y + 13), tuple(colour), INK)
            draw.text((GAP + x + 18, y), name, INK, _font(12))
        y += LINE
    _write(path, sheet)


def draw_objects(image, objects, names: list[str], palette, least: float = 0.0) -> np.ndarray:
    """The image with each object's pixels in a colour of its own, its box, its class and (where it has one) its score.

    objects: anything with labels, boxes, mask(k) and perhaps scores; those of a score below `least` are not drawn. The
    best is on top. Returns (H, W, 3) uint8.
    Example: report.draw_objects(image, ts.detect(model, image), names, palette)
    """
    from PIL import Image, ImageDraw

    scores = getattr(objects, "scores", None)
    # a colour for each class, shifted from object to object; where there is one class only, VOC's colours
    seen, colours = _rgb(image).copy(), (np.asarray(palette) if len(palette) > 2 else voc_palette())[1:21]
    drawn = [k for k in range(len(objects)) if scores is None or scores[k] >= least]
    own = {k: colours[(objects.labels[k] - 1 + 7 * k) % len(colours)] for k in drawn}
    for k in drawn[::-1]:
        inside = objects.mask(k) > 0
        seen[inside] = np.rint(0.5 * seen[inside] + 0.5 * own[k]).astype(np.uint8)
    sheet = Image.fromarray(seen)
    draw = ImageDraw.Draw(sheet)
    for k in drawn[::-1]:
        x1, y1, x2, y2 = objects.boxes[k].tolist()
        colour = tuple(own[k].tolist())
        draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour)
        text = names[objects.labels[k]] + (f" {scores[k]:.2f}" if scores is not None else "")
        at = (max(x1, 0), max(y1 - 11, 0))
        draw.rectangle(draw.textbbox(at, text, _font(10)), fill=colour)
        draw.text(at, text, INK if sum(colour) > 380 else PAPER, _font(10))
    return np.asarray(sheet)


def object_samples(path: str | Path, rows: list[tuple], names: list[str], palette, cell: int = 256) -> None:
    """Draw truth | found, one row an image: rows of (image, objects, detections), see `draw_objects`.

    Raises: ValueError without rows.
    """
    if not rows:
        raise ValueError("object_samples: no rows; give at least one (image, objects, detections)")
    pictures = []
    for image, objects, found in rows:
        size = (cell, max(1, round(cell * image.shape[0] / image.shape[1])))
        both = (draw_objects(image, each, names, palette, 0.5) for each in (objects, found))
        pictures.append([_scaled(each, size, smooth=image.shape[1] > cell) for each in both])
    sheet, draw = _sheet(2 * cell + 3 * GAP, LINE + GAP + sum(row[0].height + GAP for row in pictures))
    for i, title in enumerate(("truth", "found, score 0.5 and above")):
        draw.text((GAP + i * (cell + GAP), GAP // 2), title, INK, _font(12))
    y = LINE + GAP
    for row in pictures:
        for i, picture in enumerate(row):
            sheet.paste(picture, (GAP + i * (cell + GAP), y))
        y += row[0].height + GAP
    _write(path, sheet)


def ap_table(names: list[str], classes: dict[int, dict[str, float]], ids) -> str:
    """Lines 'name  AP  AP50  AR100'; a class that does not occur has a dash. classes: see `metrics.coco_table`."""
    width = max([5, *map(len, names)])
    lines = [f"{'class':{width}}      AP    AP50   AR100"]
    for k, name in enumerate(names):
        if k:
            row = classes[ids[k]]
            cells = (f"{v:8.4f}" if np.isfinite(v) else "       -" for v in row.values())
            lines.append(f"{name:{width}}" + "".join(cells))
    return "\n".join(lines)


def curves(path: str | Path, losses, steps: list[int], curves: dict[str, list[float]]) -> None:
    """Draw the loss of every step on the left, and validation curves in [0, 1] on the right.

    losses: (steps,) floats. steps: the step at which each validation was made. curves: name -> a value a validation.

    Example: report.curves("curves.png", losses, [100, 200], {"mean IoU": [0.4, 0.6], "pixel accuracy": [0.7, 0.8]})
    """
    from PIL import Image

    losses = np.asarray(losses, float)
    last = max(len(losses), *steps, 1) if steps else max(len(losses), 1)
    at = np.arange(1, len(losses) + 1)
    top = _round_up(np.nanpercentile(losses, 99)) if len(losses) else 1.0
    left = _diagram("training loss", last, top, [(FAINT, at, losses), (BLUE, at, _running_mean(losses))])
    colours = (BLUE, ORANGE, INK)
    right = _diagram(
        "validation",
        last,
        1.0,
        [(c, steps, v) for c, v in zip(colours, curves.values())],
        names=[(c, f"{n} {v[-1]:.3f}" if v else n) for c, (n, v) in zip(colours, curves.items())],
    )
    sheet = Image.new("RGB", (2 * PANEL[0], PANEL[1]), PAPER)
    sheet.paste(left, (0, 0))
    sheet.paste(right, (PANEL[0], 0))
    _write(path, sheet)


def class_table(class_names: list[str], iou, share=None) -> str:
    """Lines 'name  IoU  share of the pixels'; a class that is absent has a dash. iou, share: (K,) in [0, 1]."""
    width = max([5, *map(len, class_names)])
    head = f"{'class':{width}}     IoU" + ("   pixels" if share is not None else "")
    lines = [head]
    for i, name in enumerate(class_names):
        value = f"{iou[i]:8.4f}" if np.isfinite(iou[i]) else "       -"
        lines.append(f"{name:{width}}{value}" + (f"{100 * share[i]:7.2f} %" if share is not None else ""))
    return "\n".join(lines)


def _diagram(title, last, top, lines, names=()):
    """One panel, drawn three times too large and shrunk, which smooths the lines."""
    from PIL import Image

    k = 3
    sheet, draw = _sheet(PANEL[0] * k, PANEL[1] * k)
    x0, y0, x1, y1 = 48 * k, 30 * k, (PANEL[0] - 16) * k, (PANEL[1] - 26) * k
    draw.text((x0, 8 * k), title, INK, _font(13 * k))
    for i in range(5):
        y = y1 - (y1 - y0) * i / 4
        draw.line((x0, y, x1, y), FAINT, k)
        draw.text((x0 - 6 * k, y), f"{top * i / 4:.3g}", INK, _font(11 * k), anchor="rm")
        step = round(last * i / 4)  # the label is a whole step, and stands where that step is
        x = x0 + (x1 - x0) * step / last
        draw.text((x, y1 + 6 * k), f"{step}", INK, _font(11 * k), anchor="mt" if i < 4 else "rt")
    for colour, at, values in lines:
        points = [
            (x0 + (x1 - x0) * a / last, y1 - (y1 - y0) * min(max(v / top, 0), 1))
            for a, v in zip(at, values)
            if np.isfinite(v)
        ]
        if len(points) > 1:
            draw.line(points, colour, 2 * k, joint="curve")
        for x, y in points if len(points) < 40 else []:
            draw.ellipse((x - 2.5 * k, y - 2.5 * k, x + 2.5 * k, y + 2.5 * k), colour)
    x = x1
    for colour, name in names:
        draw.text((x, 8 * k), name, colour, _font(12 * k), anchor="rt")
        x -= _font(12 * k).getlength(name) + 16 * k
    return sheet.resize(PANEL, Image.Resampling.LANCZOS)


def _legend(entries, width):
    """Lines of (x, name, colour), filled from the left as text is."""
    lines, x = [[]], 0
    for name, colour in entries:
        length = 18 + round(_font(12).getlength(name)) + 14
        if lines[-1] and x + length > width:
            lines.append([])
            x = 0
        lines[-1].append((x, name, colour))
        x += length
    return lines


def _sheet(width, height):
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (int(width), int(height)), PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _font(size):
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _rgb(image):
    pixels = to_uint8(np.asarray(image))
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _colour(ids, colours, shape):
    return np.full((*shape[:2], 3), PAPER, np.uint8) if ids is None else colours[np.clip(ids, 0, 255)]


def _scaled(pixels, size, smooth):
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how, reducing_gap=None)


def _running_mean(values, share=0.02):
    """Each value averaged with those before it, over a window of 2 % of the run."""
    n = max(1, int(len(values) * share))
    total = np.cumsum(np.nan_to_num(values))
    before = np.concatenate([np.zeros(min(n, len(values))), total[:-n]])
    return (total - before) / np.minimum(np.arange(1, len(values) + 1), n)


def _round_up(value):
    """The next of 1, 2, 2.5, 4, 5, 10 times a power of ten."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return power * next(s for s in (1, 2, 2.5, 4, 5, 10) if s * power >= value * 0.999)


def _write(path, sheet):
    from .checkpoint import write_atomically

    write_atomically(Path(path), lambda file: sheet.save(file, "PNG", optimize=True))


class Progress:
    """What a command says while it works: lines that stay (`say`), and one that changes (`show`).

    On a terminal the changing line is rewritten in place; in a file or a pipe it is printed every ten seconds. As a
    handler of the logger "tinyseg" it also tells when kernels are compiled, in one quiet line.
    """

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.rewrites = self.stream.isatty()
        self.compiled = 0
        self._shown, self._last = 0, time.monotonic()

    def say(self, text: str) -> None:
        """Print lines that stay."""
        self._write(text + "\n")
        self._shown = 0

    def show(self, text: str) -> None:
        """Change the line that changes."""
        if self.rewrites:
            width = shutil.get_terminal_size().columns - 1
            self._write(text[:width])
            self._shown = min(len(text), width)
        elif time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            self._write(text + "\n")

    def log(self, record: logging.LogRecord) -> None:
        """Show a record of the logger."""
        text = record.getMessage()
        if not text.startswith("compiling "):
            self.say(text)
            return
        self.compiled += 1
        if self.rewrites:
            self.show(f"{text} (kernel {self.compiled}; once on this machine)")
        elif self.compiled == 1:
            self.say("compiling kernels (once on this machine) ...")

    def _write(self, text):
        clear = "\r" + " " * self._shown + "\r" if self._shown else ""
        self.stream.write(clear + text)
        self.stream.flush()


def duration(seconds: float) -> str:
    """'48 s', '3:07', '1:02:45'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}:{seconds:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def peak_memory() -> str:
    """The most memory that this process held so far, in words; "" where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB"
