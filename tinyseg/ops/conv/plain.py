"""The definition: convolution as the loops of its equation, for every dtype and geometry.

    y [n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]
    dx[n,h,w,c] = sum_{r,s,k} w[r,s,c,k] dy[n,p,q,k]       over the p, q for which the pixel above is (h, w)
    dw[r,s,c,k] = sum_{n,p,q} x[n, ...above..., c] dy[n,p,q,k]

c runs over the channels of k's group. Gradient checks use these bodies in float64; the fast ones
are tested against them.
"""

from numba import prange

from ...kernel import kernel


@kernel
def plain_forward(y, x, w, b, N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups):
    """The first equation. Parallel over the rows (n, p) of y."""
    Cg, Kg = C // groups, K // groups
    for row in prange(N * P):
        n, p = row // P, row % P
        for q in range(Q):
            for k in range(K):
                y[n, p, q, k] = b[k]
            for r in range(R):
                h = p * stride_h + r * dil_h - pad_h
                for s in range(S):
                    v = q * stride_w + s * dil_w - pad_w
                    if 0 <= h and h < H and 0 <= v and v < W:
                        for g in range(groups):
                            for c in range(Cg):
                                a = x[n, h, v, g * Cg + c]
                                for k in range(g * Kg, (g + 1) * Kg):
                                    y[n, p, q, k] += a * w[r, s, c, k]


@kernel
def plain_backward_x(dx, dy, w, b, N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups):
    """The second equation plus b[c] (the bias of a transposed convolution). Parallel over the rows (n, h) of dx."""
    Cg, Kg = C // groups, K // groups
    for row in prange(N * H):
        n, h = row // H, row % H
        for v in range(W):
            for c in range(C):
                dx[n, h, v, c] = b[c]
            for r in range(R):
                p = (h + pad_h - r * dil_h) // stride_h
                for s in range(S):
                    q = (v + pad_w - s * dil_w) // stride_w
                    touches = p * stride_h + r * dil_h - pad_h == h and q * stride_w + s * dil_w - pad_w == v
                    if touches and 0 <= p and p < P and 0 <= q and q < Q:
                        for c in range(C):
                            g = c // Cg
                            total = dx[n, h, v, c]
                            for k in range(g * Kg, (g + 1) * Kg):
                                total += w[r, s, c - g * Cg, k] * dy[n, p, q, k]
                            dx[n, h, v, c] = total


@kernel
def plain_backward_w(dw, dy, x, N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups):
    """The third equation. Parallel over the filters' taps and channels (r, s, c)."""
    Cg, Kg = C // groups, K // groups
    for job in prange(R * S * Cg):
        r, s, c = job // (S * Cg), job // Cg % S, job % Cg
        for k in range(K):
            dw[r, s, c, k] = 0
        for n in range(N):
            for p in range(P):
                h = p * stride_h + r * dil_h - pad_h
                for q in range(Q):
                    v = q * stride_w + s * dil_w - pad_w
                    if 0 <= h and h < H and 0 <= v and v < W:
                        for g in range(groups):
                            a = x[n, h, v, g * Cg + c]
                            for k in range(g * Kg, (g + 1) * Kg):
                                dw[r, s, c, k] += a * dy[n, p, q, k]


@kernel
def channel_sums(total, dy, rows, K, parts):
    """total[i, k] = sum of dy over the i-th share of its rows: summed in float64. Parallel over shares."""
    for i in prange(parts):
        for k in range(K):
            total[i, k] = 0
        for row in range(rows * i // parts, rows * (i + 1) // parts):
            for k in range(K):
                total[i, k] += dy[row, k]
