"""Convolution as its equation says it, in NumPy: what the kernels are compared with.

    y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, q*stride + s*dilation - padding, c]

`conv2d` gathers, pixel of y by pixel of y; `conv_transpose2d` scatters, pixel of x by pixel of x; `conv2d_backward_w`
is the third of the maps that one equation defines. Each is written from the equation alone, without the others.
"""

import numpy as np


def pairs_inside(size, out_size, taps, stride, padding, dilation):
    """All (output, tap, input) along one axis for which the input lies inside the image."""
    found = []
    for o in range(out_size):
        for t in range(taps):
            i = o * stride + t * dilation - padding
            if 0 <= i < size:
                found.append((o, t, i))
    return found


def conv2d(x, w, b, g):
    """y of x (n,h,w,c), w (r,s,c/groups,k) and b (k,) or None, with the options of g, a ConvGeometry."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    y = np.zeros((x.shape[0], g.p, g.q, g.k))
    for c, k in channels_of_groups(g):
        for p, r, h in pairs_inside(g.h, g.p, g.r, g.stride[0], g.padding[0], g.dilation[0]):
            for q, s, v in pairs_inside(g.w, g.q, g.s, g.stride[1], g.padding[1], g.dilation[1]):
                y[:, p, q, k] += x[:, h, v, c] @ w[r, s, :, k]
    return y if b is None else y + b


def conv_transpose2d(x, w, b, g):
    """The adjoint: x (n,p,q,k) is scattered over an image of the shape of the input of the conv2d that g describes."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    y = np.zeros((x.shape[0], g.h, g.w, g.c))
    for c, k in channels_of_groups(g):
        for p, r, h in pairs_inside(g.h, g.p, g.r, g.stride[0], g.padding[0], g.dilation[0]):
            for q, s, v in pairs_inside(g.w, g.q, g.s, g.stride[1], g.padding[1], g.dilation[1]):
                y[:, h, v, c] += x[:, p, q, k] @ w[r, s, :, k].T
    return y if b is None else y + b


def conv2d_backward_w(dy, x, g):
    """dw: how <dy, y> changes with w."""
    dy, x = np.asarray(dy, np.float64), np.asarray(x, np.float64)
    dw = np.zeros(g.w_shape)
    for c, k in channels_of_groups(g):
        for p, r, h in pairs_inside(g.h, g.p, g.r, g.stride[0], g.padding[0], g.dilation[0]):
            for q, s, v in pairs_inside(g.w, g.q, g.s, g.stride[1], g.padding[1], g.dilation[1]):
                dw[r, s, :, k] += x[:, h, v, c].T @ dy[:, p, q, k]
    return dw


def channels_of_groups(g):
    """(input channels, output channels) of each group, as slices."""
    c, k = g.c // g.groups, g.k // g.groups
    return [(slice(i * c, (i + 1) * c), slice(i * k, (i + 1) * k)) for i in range(g.groups)]
