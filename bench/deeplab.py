"""A whole training step and inference of ResNet-50 DeepLab v3, output stride 16, beside its twin in PyTorch."""

from collections.abc import Iterator
from functools import partial

import tinyseg as ts

from .case import LAYOUTS, Case, Result, Settings, agree, contest, from_torch, layout, to_torch, torch
from .example import CLASSES, example

NAME, SIZE, BATCH = "deeplabv3_resnet50_paper", 256, 2


def cases() -> Iterator[Case]:
    for work in ("step", "inference"):
        yield Case(f"deeplab v3 resnet50 {work} {SIZE}x{SIZE} batch {BATCH}", partial(measure, work), 0.60)


def measure(work: str, settings: Settings) -> Result:
    model = ts.models.create(NAME, CLASSES)
    for module in model.modules():
        if isinstance(module, ts.nn.Dropout):
            module.p = 0.0  # the two libraries would drop different values
    images, masks = example(SIZE, BATCH)
    x, target = ts.tensor(images), ts.tensor(masks)
    optimizer = ts.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    theirs = {name: twin(model, images, masks, name) for name in LAYOUTS} if torch else {}

    def infer():
        with ts.no_grad():
            return model.eval()(x)

    def step() -> float:
        loss = ts.ops.cross_entropy(model.train()(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    logits = infer().numpy()
    for name, (_, infer_torch) in theirs.items():
        agree(f"logits, PyTorch, {name}", logits, from_torch(infer_torch()), 1e-3)
    if work == "inference":
        return contest(settings, infer, {name: calls[1] for name, calls in theirs.items()}, 0, "")
    losses = [step() for _ in range(2)]
    for name, (step_torch, _) in theirs.items():
        agree(f"losses of two steps, PyTorch, {name}", losses, [step_torch() for _ in range(2)], 1e-2)
    return contest(settings, step, {name: calls[0] for name, calls in theirs.items()}, 0, "")


def twin(model, images, masks, memory: str):
    """(step, inference) of PyTorch's network with the same weights, in one of its two layouts."""
    from .twins import twin

    network = twin(NAME, CLASSES)
    network.load_state_dict({k: torch.tensor(v) for k, v in ts.interop.to_torch(model).items()}, strict=False)
    network = network.to(memory_format=layout(memory))
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x, target = to_torch(images, memory), torch.tensor(masks, dtype=torch.long)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def infer():
        with torch.no_grad():
            return network.eval()(x)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(network.train()(x), target, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, infer
