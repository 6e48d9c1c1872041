"""Optimisers and clipping against PyTorch's over several steps with a changing learning rate."""

import numpy as np
import pytest

import tinyseg as ts

torch = pytest.importorskip("torch")

PAIRS = {
    "sgd": (ts.optim.SGD, torch.optim.SGD, {"lr": 0.1}),
    "momentum": (ts.optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (ts.optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    "adam": (ts.optim.Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": (ts.optim.AdamW, torch.optim.AdamW, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ten_steps(name):
    ours, theirs, options = PAIRS[name]
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype(np.float32) for shape in [(3, 3, 4, 5), (5,), (100, 90)]]
    p, q = [ts.nn.Parameter(a) for a in start], [torch.nn.Parameter(torch.tensor(a)) for a in start]
    groups = [{"params": [0, 1]}, {"params": [2], "lr": 0.003, "weight_decay": 0.0}]  # an option of its own
    a = ours([g | {"params": [p[i] for i in g["params"]]} for g in groups], **options)
    b = theirs([g | {"params": [q[i] for i in g["params"]]} for g in groups], **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(b, ts.optim.poly(10))
    for step in range(10):
        for x, y in zip(p, q):
            g = rng.standard_normal(x.shape).astype(np.float32)
            x.grad, y.grad = ts.tensor(g), torch.tensor(g)
        if step == 5:
            p[1].grad = q[1].grad = None
        ours_norm = ts.optim.clip_grad_norm(p, 50.0)
        assert ours_norm == pytest.approx(torch.nn.utils.clip_grad_norm_(q, 50.0).item(), rel=1e-5)
        a.step(ts.optim.poly(10)(step))
        b.step()
        schedule.step()
        for x, y in zip(p, q):
            np.testing.assert_allclose(x.numpy(), y.detach().numpy(), rtol=1e-4, atol=1e-6)
