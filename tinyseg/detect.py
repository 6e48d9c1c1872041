"""Objects in an image of any size: what `predict` is for classes of pixels, `detect` is for Mask R-CNN."""

import numpy as np

from .predict import evaluating, normalised


def detect(model, image, score: float = 0.0, scale: float = 1.0):
    """The objects in an image: boxes, classes, scores, masks, best first (`models.mask_rcnn.Detections`).

    The image is resized bilinearly as the model says (`min_size`, `max_size`), and the objects are brought back to its
    own size. score: leave out detections below it (the model has left out those below its own threshold). scale: resize
    it by this factor too.

    Shapes: image (H, W, C) or (H, W), uint8, uint16 or float in [0, 1].
    Raises: ValueError for a model that does not find objects, and for images that make no sense.
    Example: found = ts.detect(ts.load("runs/a/best.npz"), image); found.boxes, found.mask(0)
    """
    from . import ops
    from .checkpoint import info_of
    from .data.transforms import shortest_size
    from .tensor import no_grad, tensor

    if getattr(model, "task", None) != "instance":
        raise ValueError(f"detect: {type(model).__name__} does not find objects; cure: ts.predict(model, image)")
    info = info_of(model)
    pixels = np.ascontiguousarray(normalised(image, info))
    own = pixels.shape[:2]
    wanted = tuple(max(1, round(n * info.scale * scale)) for n in own)
    size = shortest_size(wanted, model.min_size, model.max_size)
    with evaluating(model), no_grad():
        x = tensor(pixels[None], next(iter(model.parameters())).device)
        if size != own:
            x = ops.interpolate(x, size=size, mode="bilinear", align_corners=False)
        found = model(x)[0]
    found = found if size == own else found.resized(own)
    return found.take(found.scores >= score) if score > 0 else found
