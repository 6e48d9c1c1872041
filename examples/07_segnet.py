"""SegNet and SegNet-Basic (Badrinarayanan, Kendall & Cipolla, PAMI 2017).

Their batch-norm statistics are computed by one pass over training images after training, as in the release.
"""

from paper import CLASSES, INFO, SIZE, beside, mean_iou, picture, train, validation

import tinyseg as ts
from tinyseg.data import Loader, Shapes, transforms

prepare = transforms.Normalize(INFO.mean, INFO.std)
passes = Loader(Shapes(size=SIZE, length=64, seed=1, num_classes=CLASSES), 8, seed=0, transform=prepare)
rows = []
for name, paper, width in (("segnet_basic", "47.7", 16), ("segnet", "60.1", 8)):
    model = train(ts.models.create(name, CLASSES, width=width), steps=150)
    before = mean_iou([ts.predict(model, s.image) for s in validation()])
    ts.nn.batch_norm_statistics(model, (ts.tensor(batch.images) for batch in passes.batches(0)))
    masks = [ts.predict(model, s.image) for s in validation()]
    print(f"{name}: {before:.1f} by running statistics, {mean_iou(masks):.1f} by those of one pass")
    rows.append((f"{name}, CamVid test", paper, f"{mean_iou(masks):.1f}"))
    picture(f"runs/07_{name}.png", masks)

beside(rows, ["an eighth to a quarter of the width", "no pretraining", "150 steps of 8 by AdamW, classes unweighted"])
