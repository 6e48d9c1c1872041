"""Sizes and options of a convolution, checked once.

    P = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1        and Q likewise from W and S
"""

from dataclasses import dataclass

from ..checks import pair


@dataclass(frozen=True)
class Geometry:
    """All numbers of y = conv2d(x, w): x (N,H,W,C), w (R,S,C/groups,K), y (N,P,Q,K). Letters are cuDNN's."""

    N: int
    H: int
    W: int
    C: int
    R: int
    S: int
    K: int
    P: int
    Q: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def x_shape(self):
        return self.N, self.H, self.W, self.C

    @property
    def w_shape(self):
        return self.R, self.S, self.C // self.groups, self.K

    @property
    def y_shape(self):
        return self.N, self.P, self.Q, self.K


@dataclass(frozen=True)
class Options:
    """stride, padding, dilation and groups of a convolution, as pairs (vertical, horizontal)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @staticmethod
    def of(op: str, stride, padding, dilation, groups) -> "Options":
        if not isinstance(groups, int) or groups < 1:
            raise ValueError(f"{op}: groups is {groups!r}, expected an integer >= 1")
        return Options(
            pair(op, "stride", stride, 1), pair(op, "padding", padding, 0), pair(op, "dilation", dilation, 1), groups
        )

    def geometry(self, x_shape, w_shape) -> Geometry:
        """The geometry of conv2d on x and w. Raises ValueError where they do not fit each other."""
        shapes = f"(x {x_shape}, w {w_shape})"
        if len(x_shape) != 4 or len(w_shape) != 4:
            raise ValueError(f"conv2d: expected x (N,H,W,C) and w (R,S,C,K), got x {x_shape}, w {w_shape}")
        (N, H, W, C), (R, S, Cg, K) = x_shape, w_shape
        if Cg * self.groups != C:
            each = f" ({Cg} in each of {self.groups} groups)" if self.groups > 1 else ""
            raise ValueError(f"conv2d: x has {C} channels but w expects {Cg * self.groups}{each} {shapes}")
        if K % self.groups:
            raise ValueError(f"conv2d: {K} output channels do not divide into {self.groups} groups {shapes}")
        if not min(R, S, C, K, H, W):
            raise ValueError(f"conv2d: an image without pixels, or a filter without taps or channels {shapes}")
        P = (H + 2 * self.padding[0] - self.dilation[0] * (R - 1) - 1) // self.stride[0] + 1
        Q = (W + 2 * self.padding[1] - self.dilation[1] * (S - 1) - 1) // self.stride[1] + 1
        if P < 1 or Q < 1:
            span = self.dilation[0] * (R - 1) + 1, self.dilation[1] * (S - 1) + 1
            raise ValueError(
                f"conv2d: the filter spans {span} pixels but the padded image has only "
                f"{(H + 2 * self.padding[0], W + 2 * self.padding[1])}; cure: more padding or a larger image {shapes}"
            )
        return Geometry(N, H, W, C, R, S, K, P, Q, self.stride, self.padding, self.dilation, self.groups)
