"""One pass over batches replaces the running statistics by the means over the batches."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn


def test_means_over_the_batches():
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((2, 4, 3, 5)).astype(np.float32) * (i + 1) + i for i in range(3)]
    model = nn.Sequential(nn.Dropout(0.5, seed=0), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5).freeze())
    model[1].running_mean.assign(np.full(5, 7.0))  # whatever was there
    frozen = model[3].running_var.numpy()
    assert nn.batch_norm_statistics(model, (ts.tensor(b) for b in batches)) == 3
    values = [b.reshape(-1, 5).astype(np.float64) for b in batches]
    np.testing.assert_allclose(model[1].running_mean.numpy(), np.mean([v.mean(0) for v in values], 0), rtol=1e-5)
    np.testing.assert_allclose(model[1].running_var.numpy(), np.mean([v.var(0, ddof=1) for v in values], 0), rtol=1e-5)
    assert np.array_equal(frozen, model[3].running_var.numpy())
    assert model.training and all(m.training for m in model) and model[1].momentum == 0.1


def test_no_batch_is_an_error_and_modes_come_back():
    model = nn.Sequential(nn.BatchNorm2d(2)).eval()
    with pytest.raises(ValueError, match="got no batch"):
        nn.batch_norm_statistics(model, [])
    with pytest.raises(ValueError, match="3 channels|2 channels|expected"):
        nn.batch_norm_statistics(model, [ts.tensor(np.ones((1, 2, 2, 3), np.float32))])
    assert not model[0].training and model[0].momentum == 0.1
