"""ScribbleSup: from scribbles to labels for every pixel, by graph cuts and a network that take turns.

    python examples/18_scribblesup.py            synthetic shapes, scribbles made from their masks
    python examples/18_scribblesup.py DIR        pictures of DIR/images with DIR/scribbles (.txt, .xml or .png)
                                                 of VOC's classes, or of those in DIR/classes.txt; no network

The energy E(labels, network) is printed at each half turn. New labels never raise it, the network held; training
lowers what the network says of the labels, the labels held.
"""

import sys
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg.data import Shapes, overlay, read_image, voc, weaken, write_image
from tinyseg.data.labels import class_file, read_classes
from tinyseg.data.weak_files import read_scribbles

Path("runs").mkdir(exist_ok=True)


def seen(image, mask):
    """The picture with the labels over it; the background, black in VOC's palette, is shown too."""
    return overlay(image, np.where(mask == 255, 255, mask + 7))


def thick(drawn, width):
    """The labels of a thin drawing spread to squares of this width, for pictures."""
    spread = drawn.copy()
    for dy in range(-(width // 2), width // 2 + 1):
        for dx in range(-(width // 2), width // 2 + 1):
            moved = np.roll(drawn, (dy, dx), (0, 1))
            spread = np.where((spread == 255) & (moved != 255), moved, spread)
    return spread


def mean_iou(masks, samples, classes):
    """Of masks against those of the samples."""
    confusion = ts.metrics.ConfusionMatrix(classes)
    for mask, sample in zip(masks, samples):
        confusion.update(mask, sample.mask)
    return confusion.mean_iou()


def real(root: Path):
    """The labels of graph cuts without a network, for each image of a folder."""
    names = read_classes(class_file(root))[0] if class_file(root) else voc.CLASSES
    for file in sorted((root / "images").iterdir()):
        image = read_image(file, 3)
        drawn = [root / "scribbles" / f"{file.stem}{ending}" for ending in (".txt", ".xml", ".png")]
        scribbles = read_scribbles(next(f for f in drawn if f.exists()), image.shape[:2], names)
        graph = ts.losses.ScribbleGraph(image, scribbles)
        labels, energy = graph.label()
        mask = graph.paint(labels)
        write_image(f"runs/18_{file.stem}.png", np.hstack([seen(image, thick(scribbles, 5)), seen(image, mask)]))
        shares = ", ".join(f"{names[k]} {100 * (mask == k).mean():.1f} %" for k in graph.classes)
        print(f"{file.stem}: {graph.count} superpixels, E = {energy.total:.1f}; {shares}; runs/18_{file.stem}.png")


def synthetic(steps=(200, 60)):
    """Two turns on the shapes: how good the labels are that the network learns from, and how good it is."""
    train, val = Shapes(size=48, length=80, seed=1), Shapes(size=48, length=20, seed=2)
    samples = [train[i] for i in range(len(train))]
    scribbles = [weaken.scribbles(s.mask, s.instances, width=2, seed=i) for i, s in enumerate(samples)]
    graphs = [ts.losses.ScribbleGraph(s.image, drawn) for s, drawn in zip(samples, scribbles)]
    images = np.stack([s.image for s in samples]) / np.float32(255)
    model = ts.models.UNet(num_classes=train.num_classes, width=8)
    optimizer = ts.optim.AdamW(model.parameters(), lr=4e-3)
    rng, labels, opinions = np.random.default_rng(0), [None] * len(graphs), [None] * len(graphs)

    def total():
        return sum(g.energy(y, p).total for g, y, p in zip(graphs, labels, opinions))

    print(f"{100 * np.mean([d != 255 for d in scribbles]):.1f} % of the pixels are labelled")
    for turn, length in enumerate(steps):
        for i, graph in enumerate(graphs):
            labels[i] = graph.label(opinions[i], labels[i])[0]
        masks = np.stack([graph.paint(y) for graph, y in zip(graphs, labels)])
        iou = mean_iou(masks, samples, train.num_classes)
        print(f"turn {turn + 1}: labels by graph cuts      E {total():9.1f}   mean IoU of the labels {iou:.3f}")
        for _ in range(length):
            at = rng.choice(len(images), 8, replace=False)
            loss = ts.losses.cross_entropy(model(ts.tensor(images[at])), masks[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        opinions = [ts.predict(model, s.image, probabilities=True) for s in samples]
        unseen = [val[i] for i in range(len(val))]
        iou = mean_iou([ts.predict(model, s.image) for s in unseen], unseen, train.num_classes)
        print(f"        the network learns them   E {total():9.1f}   mean IoU of the network {iou:.3f}")
    rows = [[s.image, seen(s.image, drawn), seen(s.image, m)] for s, drawn, m in zip(samples[:4], scribbles, masks)]
    write_image("runs/18_scribblesup.png", np.vstack([np.hstack(row) for row in rows]).repeat(3, 0).repeat(3, 1))
    print("runs/18_scribblesup.png: image | scribbles | labels")


real(Path(sys.argv[1])) if len(sys.argv) > 1 else synthetic()
