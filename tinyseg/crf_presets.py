"""Settings of `structured.dense_crf` that were published; numbers alone, so that a command line can name them quickly.

All were chosen on photographs of about 500 pixels: on other sizes the space that the bilateral kernel looks at
(bilateral_sxy) should grow and shrink with the image. `structured.search_crf` finds those of one's own data.
"""

CRF_PRESETS = {
    # the example of the library that most people used
    "pydensecrf": dict(iterations=5, gaussian_sxy=3, gaussian_weight=3, bilateral_sxy=80, bilateral_srgb=13,
                       bilateral_weight=10),
    # Chen et al. 2015, the authors' scripts: LargeFOV, its multi-scale variant, and that trained on COCO too
    "deeplabv1": dict(iterations=10, gaussian_sxy=3, gaussian_weight=3, bilateral_sxy=50, bilateral_srgb=10,
                      bilateral_weight=5),
    "deeplabv1_msc": dict(iterations=10, gaussian_sxy=3, gaussian_weight=3, bilateral_sxy=95, bilateral_srgb=3,
                          bilateral_weight=3),
    "deeplabv1_coco": dict(iterations=10, gaussian_sxy=3, gaussian_weight=3, bilateral_sxy=67, bilateral_srgb=3,
                           bilateral_weight=5),
    # Chen et al. 2017, as its best-known reproduction has it
    "deeplabv2": dict(iterations=10, gaussian_sxy=1, gaussian_weight=3, bilateral_sxy=67, bilateral_srgb=3,
                      bilateral_weight=4),
}  # fmt: skip
