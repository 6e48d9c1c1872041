"""Reverse mode by hand and by machine: teach one neuron where a disc is.

A pixel at (u, v) has the features f = (1, u, v, u^2, v^2), and is inside with probability p = sigmoid(f . w). The loss
is the mean of -log p inside and -log(1 - p) outside. By hand, its gradient is dL/dw = F^T (p - t) / n.
"""

from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg.data.image import write_image

size = 96
v, u = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
features = np.stack([np.ones_like(u), u, v, u * u, v * v], axis=-1).reshape(-1, 5)
inside = (np.hypot(u - 0.2, v + 0.1) < 0.6).astype(np.float32).reshape(-1, 1)

f, t = ts.tensor(features), ts.tensor(inside)
w = ts.tensor(np.zeros((5, 1), np.float32), requires_grad=True)
for step in range(300):
    p = (f @ w).sigmoid()
    loss = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    w.grad = None
    loss.backward()
    by_hand = features.T @ (p.numpy() - inside) / len(features)
    if step == 0:
        print(f"gradient by hand and by machine differ by {np.abs(by_hand - w.grad.numpy()).max():.1e}")
    w.data -= 20 * w.grad.data

right = ((p.numpy() > 0.5) == (inside > 0.5)).mean()
print(f"loss {loss.item():.4f}, {100 * right:.2f} % of the pixels are right")
Path("runs").mkdir(exist_ok=True)
write_image("runs/01_disc.png", np.hstack([inside.reshape(size, size), p.numpy().reshape(size, size)]))
print("runs/01_disc.png: truth | probability")
