"""Labels that follow the picture: a dense CRF on coarse probabilities, and one object cut out of a scribble.

    python examples/17_dense_crf.py              synthetic shapes
    python examples/17_dense_crf.py PHOTO x1 y1 x2 y2    cut out the object under the stroke from (x1,y1) to (x2,y2)

The first is what DeepLab does behind its network (Krahenbuhl & Koltun 2011); the second is the graph cut of Boykov &
Jolly 2001: what a pixel costs on either side comes from the colours under the scribbles, a cut between neighbours
costs the less the more they differ, and the smallest cut is the outline.
"""

import sys
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg.data.image import overlay, read_image, write_image
from tinyseg.structured import dense_crf, grid_edges, max_flow

BINS = 8  # of a colour channel


def iou(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def coarse(mask, classes, side, rng):
    """Probabilities (H,W,K) as a network of stride `side` gives them: blocky, and wrong here and there."""
    votes = (mask[:, :, None] == np.arange(classes)).astype(np.float32)
    H, W = (n // side for n in mask.shape)
    cells = votes.reshape(H, side, W, side, classes).mean((1, 3))
    cells = 0.6 * cells + 0.4 * rng.dirichlet(np.full(classes, 0.5), (H, W)).astype(np.float32)
    return ts.ops.interpolate(cells[None], size=mask.shape).numpy()[0]


def cut_out(image, inside, outside, smoothness=50.0):
    """The object (H,W) bool whose pixels `inside` are known, and those `outside` known to be none of it."""
    cell = (image // (256 // BINS)).astype(int) @ [BINS * BINS, BINS, 1]
    cost = []
    for known in (inside, outside):  # - log of how often a colour was seen under the scribble
        histogram = np.bincount(cell[known], minlength=BINS**3) + 0.05
        cost.append(-np.log(histogram / histogram.sum())[cell])
    edges = grid_edges(*image.shape[:2], neighbours=8)
    flat = image.reshape(-1, 3).astype(np.float64)
    difference = ((flat[edges[:, 0]] - flat[edges[:, 1]]) ** 2).sum(1)
    straight = 2 * image.shape[0] * image.shape[1] - sum(image.shape[:2])  # edges to the right and down come first
    apart = np.repeat([1, 2**0.5], [straight, len(edges) - straight])
    capacity = smoothness * np.exp(-difference / (2 * difference.mean())) / apart
    source = np.where(inside, np.inf, cost[1])  # paid by what lies outside
    sink = np.where(outside, np.inf, cost[0])
    flow, on_sink_side = max_flow(source, sink, edges, capacity, capacity)
    return ~on_sink_side, flow


def stroke(shape, x1, y1, x2, y2, width=2):
    """The pixels within `width` of a line."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    along = np.array([x2 - x1, y2 - y1])
    t = ((x - x1) * along[0] + (y - y1) * along[1]) / max((along**2).sum(), 1)
    t = t.clip(0, 1)
    return np.hypot(x - x1 - t * along[0], y - y1 - t * along[1]) <= width


def frame(shape, width=3):
    """The pixels along the border of the picture."""
    ring = np.ones(shape, bool)
    ring[width:-width, width:-width] = False
    return ring


def shapes():
    data, rng = ts.data.Shapes(size=160, seed=11), np.random.default_rng(0)
    sample, classes = data[0], len(data.class_names)
    p = coarse(sample.mask, classes, 8, rng)
    q = dense_crf(sample.image, p, bilateral_sxy=30, bilateral_srgb=13, bilateral_weight=5)
    scores = []
    for labels in (p.argmax(-1), q.argmax(-1)):
        confusion = ts.metrics.ConfusionMatrix(classes)
        confusion.update(labels.astype(np.int32), sample.mask)
        scores.append(confusion.mean_iou())
    print(f"dense CRF: mean IoU {scores[0]:.3f} before, {scores[1]:.3f} after")
    seen = [overlay(sample.image, labels.astype(np.int32)) for labels in (p.argmax(-1), q.argmax(-1), sample.mask)]
    write_image("runs/17_dense_crf.png", np.hstack([sample.image, *seen]))
    print("runs/17_dense_crf.png: picture | coarse labels | after the CRF | truth")

    thing = np.bincount(sample.instances[sample.instances > 0]).argmax()  # the largest
    truth = sample.instances == thing
    inside = ts.data.weaken.scribbles(truth.astype(np.int32), None, 1.0, 3, seed=0) == 1
    outside = frame(truth.shape) & ~truth
    found, flow = cut_out(sample.image, inside, outside)
    print(f"graph cut from one scribble: IoU {iou(found, truth):.3f}, the cut costs {flow:.1f}")
    drawn = sample.image.copy()
    drawn[inside], drawn[outside] = (255, 255, 0), (0, 255, 255)
    write_image("runs/17_graph_cut.png", np.hstack([drawn, np.where(found[:, :, None], sample.image, 255)]))
    print("runs/17_graph_cut.png: scribbles | what was cut out")


def photo(path, *ends):
    image = read_image(path, 3)
    inside = stroke(image.shape[:2], *map(float, ends), width=4)
    found, _ = cut_out(image, inside, frame(image.shape[:2]) & ~inside)
    target = f"runs/17_{Path(path).stem}.png"
    write_image(target, np.hstack([image, np.where(found[:, :, None], image, 255).astype(np.uint8)]))
    print(f"{100 * found.mean():.1f} % of the picture; {target}")


if __name__ == "__main__":
    Path("runs").mkdir(exist_ok=True)
    photo(*sys.argv[1:]) if len(sys.argv) > 1 else shapes()
