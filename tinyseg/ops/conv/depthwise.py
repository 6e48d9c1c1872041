"""Depth-wise convolution: each channel has its own filter (groups = C), so there is no sum over channels.

    y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

The inner loop runs over neighbouring channels, which a vector holds side by side. Memory, not arithmetic, is the limit.
"""

from numba import prange

from ...kernel import kernel


@kernel
def depthwise_forward(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """The equation above. Parallel over the rows (n, p) of y."""
    for row in prange(N * P):
        n, p = row // P, row % P
        for q in range(Q):
            for c in range(C):
                y[n, p, q, c] = b[c]
            for r in range(R):
                h = p * stride_h + r * dil_h - pad_h
                if 0 <= h and h < H:
                    for s in range(S):
                        v = q * stride_w + s * dil_w - pad_w
                        if 0 <= v and v < W:
                            for c in range(C):
                                y[n, p, q, c] += w[r, s, 0, c] * x[n, h, v, c]


@kernel
def depthwise_backward_x(dx, dy, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """dx[n,h,w,c] = b[c] + sum_{r,s} w[r,s,0,c] dy[n,p,q,c] over the p, q that see (h, w). Parallel over rows of dx."""
    for row in prange(N * H):
        n, h = row // H, row % H
        for v in range(W):
            for c in range(C):
                dx[n, h, v, c] = b[c]
            for r in range(R):
                p = (h + pad_h - r * dil_h) // stride_h
                if p * stride_h + r * dil_h - pad_h == h and 0 <= p and p < P:
                    for s in range(S):
                        q = (v + pad_w - s * dil_w) // stride_w
                        if q * stride_w + s * dil_w - pad_w == v and 0 <= q and q < Q:
                            for c in range(C):
                                dx[n, h, v, c] += w[r, s, 0, c] * dy[n, p, q, c]


@kernel
def depthwise_backward_w(parts, dy, x, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, splits):
    """parts[i, (r,s,c)] = the filters' gradient over the i-th share of the rows (n, p) of dy. Parallel over shares."""
    for i in prange(splits):
        for j in range(R * S * C):
            parts[i, j] = 0
        for row in range(N * P * i // splits, N * P * (i + 1) // splits):
            n, p = row // P, row % P
            for r in range(R):
                h = p * stride_h + r * dil_h - pad_h
                if 0 <= h and h < H:
                    for s in range(S):
                        for q in range(Q):
                            v = q * stride_w + s * dil_w - pad_w
                            if 0 <= v and v < W:
                                at = (r * S + s) * C
                                for c in range(C):
                                    parts[i, at + c] += x[n, h, v, c] * dy[n, p, q, c]
