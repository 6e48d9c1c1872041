"""VGG16: torchvision's layout and counts; the pooling before the ReLU changes nothing."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn
from tinyseg.models.vgg import VGG16, FullyConvolutional, VGGFeatures, pools, surgery


def image(h, w, c=3):
    return ts.tensor(np.random.default_rng(0).standard_normal((1, h, w, c)).astype(np.float32))


def test_names_are_torchvisions():
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [n for n, p in VGGFeatures(3, 2).named_parameters() if p.ndim == 4] == [f"{i}.weight" for i in convolutions]
    with_norm = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    names = [n for n, p in VGGFeatures(3, 2, batch_norm=True).named_parameters() if p.ndim == 4]
    assert names == [f"{i}.weight" for i in with_norm]
    dropped = VGGFeatures(3, 2, pooling=pools(strides=(2, 2, 2, 0, 0)))  # names do not depend on what is left out
    assert [n for n, p in dropped.named_parameters() if p.ndim == 4] == [f"{i}.weight" for i in convolutions]


@pytest.mark.parametrize("h, w, sizes", [(32, 64, [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]),
                                         (37, 53, [(19, 27), (10, 14), (5, 7), (3, 4), (2, 2)])])  # fmt: skip
def test_a_map_for_each_stride(h, w, sizes):
    features = VGGFeatures(3, 2)
    stages = features.stages(image(h, w))
    assert [s.shape[1:3] for s in stages] == sizes and [s.shape[3] for s in stages] == [2, 4, 8, 16, 16]
    assert np.array_equal(stages[-1].numpy(), features(image(h, w)).numpy())


def test_pooling_before_relu_gives_the_values_and_gradients_of_relu_before_pooling():
    ours, x = VGGFeatures(2, 3), image(37, 53, 2)
    layers = list(ours)
    for i in [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[i : i + 2] = layers[i + 1], layers[i]
    a, b = ours(x), nn.Sequential(*layers)(x)
    assert np.array_equal(a.numpy(), b.numpy())
    dy = np.random.default_rng(1).standard_normal(a.shape).astype(np.float32)
    gradients = []
    for y in (a, b):
        ours.zero_grad()
        y.backward(dy)
        gradients.append([p.grad.numpy() for p in ours.parameters()])
    for first, second in zip(*gradients):
        np.testing.assert_array_equal(first, second)


def test_dropout_before_relu_is_dropout_behind_it():
    fc = FullyConvolutional(4, 8, 3)
    x = image(5, 5, 4)
    state = fc.random_state()
    y = fc(x).numpy()
    fc.set_random_state(state)
    conv, drop, relu = fc[0], fc[1], fc[2]
    z = drop(relu(conv(x)))
    assert np.array_equal(y, fc[5](fc[4](fc[3](z))).numpy())


def test_surgery_hands_the_classifier_to_fully_convolutional_networks():
    state = VGG16(5, width=1).state_dict()
    moved = surgery(state)
    assert moved["fc.0.weight"] is state["classifier.0.weight"] and "fc.3.bias" in moved
    assert moved["features.28.weight"] is state["features.28.weight"]
    assert not any("classifier" in name for name in moved)


def test_the_classifier_takes_any_size():
    model = VGG16(5, in_channels=1, width=1, seed=3).eval()
    with ts.no_grad():
        assert model(image(40, 70, 1)).shape == (1, 5)
    assert VGG16(5, width=1, seed=1).state_dict().keys() == VGG16(5, width=2).state_dict().keys()
