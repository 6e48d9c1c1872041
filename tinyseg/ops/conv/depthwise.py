"""Depth-wise convolution: each channel has its own filter (groups = C), so there is no sum over channels.

    y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

The inner loop runs over neighbouring channels, which a vector holds side by side. Memory, not arithmetic, is the limit,
and so three taps (or pixels) go into each visit of the result.
"""

from numba import prange

from ...kernel import kernel


@kernel
def depthwise_forward(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """The equation above. Parallel over the rows (n, p) of y."""
    for row in prange(N * P):
        n, p = row // P, row % P
        for q in range(Q):
            v0 = q * stride_w - pad_w
            first, behind = max(0, -(v0 // dil_w)), min(S, -((v0 - W) // dil_w))  # taps inside the image
            for c in range(C):
                y[n, p, q, c] = b[c]
            for r in range(R):
                h = p * stride_h + r * dil_h - pad_h
                if 0 <= h and h < H:
                    for s in range(first, behind - 2, 3):
                        v, v1, v2 = v0 + s * dil_w, v0 + (s + 1) * dil_w, v0 + (s + 2) * dil_w
                        for c in range(C):
                            total = y[n, p, q, c] + w[r, s, 0, c] * x[n, h, v, c]
                            total += w[r, s + 1, 0, c] * x[n, h, v1, c]
                            y[n, p, q, c] = total + w[r, s + 2, 0, c] * x[n, h, v2, c]
                    for s in range(behind - max(behind - first, 0) % 3, behind):
                        v = v0 + s * dil_w
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
                        v0 = s * dil_w - pad_w
                        first, behind = max(0, -(v0 // stride_w)), min(Q, (W - 1 - v0) // stride_w + 1)
                        tap = parts[i, (r * S + s) * C : (r * S + s + 1) * C]
                        for q in range(first, behind - 2, 3):
                            v, step = q * stride_w + v0, stride_w
                            for c in range(C):
                                total = tap[c] + x[n, h, v, c] * dy[n, p, q, c]
                                total += x[n, h, v + step, c] * dy[n, p, q + 1, c]
                                tap[c] = total + x[n, h, v + 2 * step, c] * dy[n, p, q + 2, c]
                        for q in range(behind - max(behind - first, 0) % 3, behind):
                            v = q * stride_w + v0
                            for c in range(C):
                                tap[c] += x[n, h, v, c] * dy[n, p, q, c]
