"""U-Net in tinyseg: one training step, and inference. Imports no PyTorch, so that it can be measured alone."""

import tinyseg as ts

from .example import CLASSES, DEPTH, example


class Training:
    """A U-Net, its optimiser, and a batch to train it on."""

    def __init__(self, width: int, size: int, batch: int):
        self.model = ts.models.UNet(num_classes=CLASSES, width=width, depth=DEPTH, seed=0)
        self.optimizer = ts.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        images, masks = example(size, batch)
        self.images, self.masks = ts.tensor(images), ts.tensor(masks)

    def step(self) -> float:
        self.model.train()
        loss = ts.ops.cross_entropy(self.model(self.images), self.masks)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self):
        self.model.eval()
        with ts.no_grad():
            return self.model(self.images)
