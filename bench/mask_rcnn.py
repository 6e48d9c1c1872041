"""Mask R-CNN beside torchvision's: a training step, an image, the most memory. `python -m bench.mask_rcnn`.

Each contender runs in a process of its own, on the same number of threads, from the same weights: the ResNet of
--depth with a feature pyramid, frozen batch norms, one image of --size with eight objects. Times are medians.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

CLASSES, OBJECTS = 21, 8


def scene(size: int):
    """An image (size, size, 3), normalised, and the boxes, classes and masks of its objects."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((size, size, 3)).astype(np.float32)
    masks, boxes = np.zeros((OBJECTS, size, size), np.uint8), []
    for mask in masks:
        w, h = rng.integers(size // 8, size // 2, 2)
        x, y = rng.integers(0, size - w), rng.integers(0, size - h)
        mask[y : y + h, x : x + w] = 1
        boxes.append([x, y, x + w, y + h])
    return image, np.float32(boxes), rng.integers(1, CLASSES, OBJECTS), masks


def ours(depth: int, size: int):
    import tinyseg as ts
    from tinyseg.data import Objects

    model = ts.models.create(f"mask_rcnn_resnet{depth}_fpn", CLASSES)
    optimizer = ts.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    image, _, labels, masks = scene(size)
    x, objects = ts.tensor(image[None]), [Objects.of((size, size), labels, masks)]

    def step():
        loss = sum(model.train()(x, None, objects).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def infer():
        with ts.no_grad():
            model.eval()(x)

    return step, infer


def theirs(depth: int, size: int):
    import torch
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.set_num_threads(int(os.environ["NUMBA_NUM_THREADS"]))
    backbone = resnet_fpn_backbone(backbone_name=f"resnet{depth}", weights=None, trainable_layers=5)
    model = MaskRCNN(backbone, CLASSES, min_size=size, max_size=size, image_mean=[0] * 3, image_std=[1] * 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    image, boxes, labels, masks = scene(size)
    x = [torch.from_numpy(image).permute(2, 0, 1)]
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "masks": torch.from_numpy(masks)}

    def step():
        loss = sum(model.train()(x, [target]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def infer():
        with torch.no_grad():
            model.eval()(x)

    return step, infer


def measure(make, depth: int, size: int, rounds: int) -> dict:
    """Median milliseconds of a step and of an image, and the most memory of the process in MiB."""
    found = {}
    for name, run in zip(("step", "image"), make(depth, size)):
        run()
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        found[name] = 1e3 * float(np.median(times))
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=50, choices=[50, 101])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=["tinyseg", "torchvision"], help="in this process, as JSON")
    options = parser.parse_args()
    if options.only:
        make = {"tinyseg": ours, "torchvision": theirs}[options.only]
        print(json.dumps(measure(make, options.depth, options.size, options.rounds)))
        return
    threads = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    print(f"mask_rcnn_resnet{options.depth}_fpn, one image of {options.size} pixels, {options.threads} threads")
    print(f"{'':14}{'ms a step':>12}{'ms an image':>14}{'MiB at most':>14}")
    for name in ("tinyseg", "torchvision"):
        command = [sys.executable, "-m", "bench.mask_rcnn", "--only", name, "--depth", str(options.depth)]
        command += ["--size", str(options.size), "--rounds", str(options.rounds)]
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:14}{done.stderr.strip().splitlines()[-1]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:14}{found['step']:12.0f}{found['image']:14.0f}{found['memory']:14.0f}", flush=True)


if __name__ == "__main__":
    main()
