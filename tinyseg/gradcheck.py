"""Is a gradient right? Two checks that cost a few evaluations, whatever the number of coordinates.

    gradcheck       <dL/dx, v> = (L(x + h v) - L(x - h v)) / 2h + O(h^2)    for L(x) = <u, fn(x)>, u and v random
    adjoint_check   <A x, y> = <x, A' y>                                    for a linear fn, A' being its backward

Both run in float64. A failure is traced to the coordinate where it is worst. Where fn has a kink (relu at 0, a tie of
max), the two one-sided differences differ however small the step: such coordinates are found by bisection, named in
the report and held still, while all others are checked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .device import Device, get_device
from .precision import precision
from .tensor import Function, Tensor, no_grad, tensor

EPS = np.finfo(np.float64).eps
MOST_KINKS = 200


class GradcheckError(AssertionError):
    """A gradient, an adjoint or the linearity of a function is wrong; the message says where."""


@dataclass(frozen=True)
class Direction:
    """One comparison: in gradcheck the slope of L along a direction, by differences and by backward."""

    where: str
    expected: float
    found: float
    error: float  # |expected - found|
    tolerance: float

    def __str__(self):
        return f"{self.where}: expected {self.expected:.9g}, found {self.found:.9g} (error {self.error:.1e})"


@dataclass(frozen=True)
class Report:
    """What was compared and agreed, and which coordinates were left out because fn has a kink there."""

    title: str
    directions: list[Direction] = field(default_factory=list)
    kinks: list[str] = field(default_factory=list)

    def __bool__(self):
        return True

    def __str__(self):
        lines = [f"{self.title}: {len(self.directions)} comparisons agree", *(f"  {d}" for d in self.directions)]
        if self.kinks:
            more = f" and {len(self.kinks) - 8} more" if len(self.kinks) > 8 else ""
            lines.append(f"  not checked, fn has a kink there: {', '.join(self.kinks[:8])}{more}")
        return "\n".join(lines)


class Dot(Function):
    """L = sum_k <u_k, y_k>,  dy_k = u_k dL: one number from all results, so that one backward pass reaches them."""

    def __init__(self, weights):
        self.weights = weights

    def forward(self, *results):
        self.u = [self.device.array(u) for u in self.weights]
        return self.device.xp.asarray(sum((u * y).sum() for u, y in zip(self.u, results)))

    def backward(self, dL):
        return tuple(u * dL for u in self.u)


class Point:
    """fn at one point: its float inputs as one flat vector x, its float results as one flat vector y."""

    def __init__(self, fn, inputs, device, title):
        self.fn, self.device, self.title = fn, get_device(device), title
        self.inputs = [np.array(i.numpy() if isinstance(i, Tensor) else i) for i in inputs]
        self.inputs = [i.astype(np.float64) if i.dtype.kind == "f" else i for i in self.inputs]
        self.floats = [i for i, a in enumerate(self.inputs) if a.dtype.kind == "f"]
        if not self.floats:
            kinds = [str(a.dtype) for a in self.inputs]
            raise ValueError(f"{title}: expected at least one array of floats, got {kinds}")
        self.ends = np.cumsum([0] + [self.inputs[i].size for i in self.floats]).tolist()
        self.x = np.concatenate([self.inputs[i].ravel() for i in self.floats])

    def tensors(self, x, requires_grad=False):
        """The inputs of fn, with the floats taken from x."""
        arrays = list(self.inputs)
        for i, start, end in zip(self.floats, self.ends, self.ends[1:]):
            arrays[i] = x[start:end].reshape(arrays[i].shape)
        return [tensor(a, self.device, requires_grad and i in self.floats) for i, a in enumerate(arrays)]

    def results(self, tensors) -> list[Tensor]:
        """The float tensors among what fn returns."""
        results = self.fn(*tensors)
        results = list(results) if isinstance(results, tuple | list) else [results]
        if not all(isinstance(r, Tensor) for r in results):
            raise GradcheckError(f"{self.title}: fn returned {[type(r).__name__ for r in results]}, expected Tensors")
        results = [r for r in results if r.dtype.kind == "f"]
        if not results or any(r.dtype != np.float64 for r in results):
            kinds = [str(r.dtype) for r in results] or "no floats"
            raise GradcheckError(f"{self.title}: fn of float64 inputs returned {kinds}, expected float64")
        return results

    def y(self, x) -> np.ndarray:
        """fn at x, flat."""
        with no_grad():
            return np.concatenate([r.numpy().ravel() for r in self.results(self.tensors(x))])

    def gradient(self, u, y):
        """dL/dx of L = <u, fn(x)> by backward; fn's results must be y, and its inputs must stay what they were."""
        leaves = self.tensors(self.x, requires_grad=True)
        results = self.results(leaves)
        if not np.allclose(np.concatenate([r.numpy().ravel() for r in results]), y, 1e-9, 1e-12, equal_nan=True):
            raise GradcheckError(f"{self.title}: fn gave two results for the same inputs; cure: give it a fixed seed")
        parts = np.split(u, np.cumsum([r.size for r in results])[:-1])
        L = Dot([part.reshape(r.shape) for part, r in zip(parts, results)])(*results)
        del results
        if L.requires_grad:
            L.backward()
        gradient = np.zeros_like(self.x)
        for i, start, end in zip(self.floats, self.ends, self.ends[1:]):
            leaf = leaves[i]
            if leaf.numpy().tobytes() != self.x[start:end].tobytes():
                raise GradcheckError(f"{self.title}: fn or its backward changed the values of input {i}")
            if leaf.grad is not None:
                if leaf.grad.shape != leaf.shape or leaf.grad.dtype != np.float64:
                    got = f"shape {leaf.grad.shape} and dtype {leaf.grad.dtype}"
                    raise GradcheckError(
                        f"{self.title}: the gradient of input {i} has {got}, expected {leaf.shape} and float64"
                    )
                gradient[start:end] = leaf.grad.numpy().ravel()
        return gradient

    def name(self, coordinate) -> str:
        """Input and index of one coordinate of x."""
        which = int(np.searchsorted(self.ends, coordinate, "right")) - 1
        while self.ends[which] == self.ends[which + 1]:
            which += 1
        index = np.unravel_index(coordinate - self.ends[which], self.inputs[self.floats[which]].shape)
        return f"input {self.floats[which]}[{', '.join(str(int(k)) for k in index)}]"

    def worst(self, coordinates, error):
        """The coordinate with the greatest error, found through halves while there are many."""
        size = lambda c: np.nan_to_num(error(c), nan=np.inf)  # noqa: E731
        while len(coordinates) > 256:
            coordinates = max(np.array_split(coordinates, 2), key=size)
        return max(([c] for c in coordinates), key=size)[0]


class Slopes:
    """The directional derivatives of L = <u, fn(x)> at a point, by differences and by backward."""

    def __init__(self, point, step, rtol, rng):
        self.point, self.step, self.rtol, self.rng = point, step, rtol, rng
        self.y = point.y(point.x)
        if not np.isfinite(self.y).all():
            raise GradcheckError(f"{point.title}: fn gave nan or inf at these inputs; cure: choose others")
        self.u = rng.standard_normal(self.y.shape)
        self.gradient = point.gradient(self.u, self.y)

    def differences(self, v, h):
        """The slopes ahead of and behind x along v, and the error that their mean may have."""
        ahead, behind = self.point.y(self.point.x + h * v), self.point.y(self.point.x - h * v)
        change = np.linalg.norm(self.u * (ahead - behind)) / (2 * h)
        rounding = 64 * EPS * np.linalg.norm(self.u * (np.abs(ahead) + np.abs(behind))) / (2 * h)
        return self.u @ (ahead - self.y) / h, self.u @ (self.y - behind) / h, self.rtol * change + rounding

    def compare(self, v, where) -> tuple[Direction, bool]:
        """The two slopes along v; smaller steps are tried where a nearby kink or a great curvature spoils the first."""
        moved = v != 0  # a gradient that is nan elsewhere is no matter of this direction
        found = float(self.gradient[moved] @ v[moved])
        for h in (self.step, self.step / 10, self.step / 100):
            ahead, behind, tolerance = self.differences(v, h)
            expected = (ahead + behind) / 2
            error = abs(expected - found)
            if error <= tolerance:
                break
        return Direction(where, float(expected), found, float(error), float(tolerance)), bool(error <= tolerance)

    def kink(self, v) -> bool:
        """Whether the slopes ahead and behind differ, and go on differing as the step shrinks."""
        ahead, behind, _ = self.differences(v, self.step)
        nearer_ahead, nearer_behind, tolerance = self.differences(v, self.step / 100)
        gap, nearer_gap = abs(ahead - behind), abs(nearer_ahead - nearer_behind)
        return not (nearer_gap <= 4 * tolerance or nearer_gap <= gap / 4)

    def kinks(self, v, coordinates) -> list[int]:
        """The coordinates, of those given, along which there is a kink: by bisection."""
        if not len(coordinates) or not self.kink(only(v, coordinates)):
            return []
        if len(coordinates) == 1:
            return [int(coordinates[0])]
        left, right = np.array_split(coordinates, 2)
        found = self.kinks(v, left) + self.kinks(v, right)
        if len(found) > MOST_KINKS:
            raise GradcheckError(f"{self.point.title}: more than {MOST_KINKS} coordinates lie on kinks; choose others")
        return found

    def explain(self, v, direction) -> str:
        """What to tell of a direction that failed: where it is worst, and by how much."""

        def error(coordinates):
            return self.compare(only(v, coordinates), "")[0].error

        worst = self.point.worst(np.flatnonzero(v), error)
        one, _ = self.compare(only(np.ones_like(v), [worst]), f"worst at {self.point.name(worst)}")
        head = f"{self.point.title}: the gradient is wrong (expected: by differences, found: by backward)"
        return f"{head}\n  {direction}\n  {one}"


def only(v, coordinates):
    """v with all but some coordinates set to 0."""
    part = np.zeros_like(v)
    part[coordinates] = v[coordinates]
    return part


@precision("exact")
def gradcheck(
    fn: Callable,
    *inputs,
    device: str | Device = "cpu",
    directions: int = 2,
    step: float = 1e-5,
    rtol: float = 1e-6,
    seed: int = 0,
) -> Report:
    """Compare the gradient of fn with central differences along random directions, in float64.

    Each float input alone, then all together. Coordinates where fn has a kink are left out and listed in the report.
    `inputs` are arrays or Tensors: floats are cast to float64 and checked, integers passed on; fn returns one Tensor
    or several. Raises GradcheckError (an AssertionError) that names input, index, expected and found; ValueError
    without a float input.

    Example:
        print(ts.gradcheck(lambda x, w: ts.ops.conv2d(x, w, padding=1), x, w, device="cpu"))
    """
    point = Point(fn, inputs, device, f"gradcheck of {_name(fn)} on {get_device(device).name!r}")
    slopes = Slopes(point, step, rtol, np.random.default_rng(seed))
    report, smooth = Report(point.title), np.ones(point.x.shape, bool)
    groups = [
        (f"input {i} {point.inputs[i].shape}", slice(start, end))
        for i, start, end in zip(point.floats, point.ends, point.ends[1:])
        if end > start
    ]
    if len(groups) > 1:
        groups.append(("all inputs", slice(0, point.x.size)))
    for where, part in groups * directions:
        while True:
            v = np.zeros_like(point.x)
            v[part] = slopes.rng.standard_normal(v[part].shape) * smooth[part]
            direction, agrees = slopes.compare(v, where)
            if agrees:
                break
            kinks = slopes.kinks(v, np.flatnonzero(v)) if slopes.kink(v) else []
            if not kinks:
                raise GradcheckError(slopes.explain(v, direction))
            smooth[kinks] = False
            if not smooth[part].any():
                raise GradcheckError(
                    f"{point.title}: fn has a kink at every coordinate of {where}, so nothing was checked; "
                    "cure: choose other values"
                )
        report.directions.append(direction)
    report.kinks.extend(point.name(k) for k in np.flatnonzero(~smooth))
    return report


@precision("exact")
def adjoint_check(fn: Callable, x, y=None, device: str | Device = "cpu", rtol: float = 1e-11, seed: int = 0) -> Report:
    """Check that fn is linear and that its backward is its adjoint: A(a x + b z) = a A x + b A z, <A x, y> = <x, A' y>.

    In float64 and to its accuracy. `x` is an array or Tensor; `y`, of the shape of fn(x), is drawn if not given; fn
    returns one Tensor. Raises GradcheckError (an AssertionError) that says what does not hold, and at which index of x
    the adjoint is worst; ValueError for a y of another shape.

    Example:
        ts.adjoint_check(lambda x: ts.ops.conv2d(x, w, stride=2), x)
    """
    point = Point(fn, [x], device, f"adjoint_check of {_name(fn)} on {get_device(device).name!r}")
    rng, x = np.random.default_rng(seed), point.x
    with no_grad():
        shapes = [r.shape for r in point.results(point.tensors(x))]
    if len(shapes) != 1:
        raise GradcheckError(f"{point.title}: fn returned {len(shapes)} float tensors, expected one")
    Ax = point.y(x)
    if y is not None and np.shape(y) != shapes[0]:
        raise ValueError(f"{point.title}: y has shape {np.shape(y)}, expected that of fn(x), {shapes[0]}")
    y = rng.standard_normal(Ax.shape) if y is None else np.asarray(y, np.float64).ravel()

    z, (a, b) = rng.standard_normal(x.shape), rng.uniform(0.5, 2, 2)
    Az, both = point.y(z), point.y(a * x + b * z)
    sum_of_both = a * Ax + b * Az
    gap = np.nan_to_num(np.abs(both - sum_of_both), nan=np.inf)
    at = int(np.argmax(gap)) if gap.size else ...
    index = [int(k) for k in np.unravel_index(at, shapes[0])] if gap.size else []
    linear = Direction(
        f"A(a x + b z) = a A x + b A z, worst at result{index}",
        *(float(v[at].sum()) for v in (sum_of_both, both, gap)),
        tolerance=rtol * float(np.abs(a * Ax).max(initial=0) + np.abs(b * Az).max(initial=0)),
    )
    if not linear.error <= linear.tolerance:
        raise GradcheckError(f"{point.title}: fn is not linear\n  {linear}")

    Aty = point.gradient(y, Ax)

    def compare(x, Ax, where):
        left, right = float(Ax @ y), float(x @ Aty)
        tolerance = rtol * (np.abs(Ax) @ np.abs(y) + np.abs(x) @ np.abs(Aty))
        return Direction(where, left, right, abs(left - right), float(tolerance))

    def error(coordinates):
        return (part := compare(only(z, coordinates), point.y(only(z, coordinates)), "")).error - part.tolerance

    adjoint = [compare(x, Ax, "<A x, y> = <x, A' y>"), compare(z, Az, "<A z, y> = <z, A' y>")]
    for direction in adjoint:
        if not direction.error <= direction.tolerance:
            worst = point.worst(np.arange(x.size), error)
            e = only(np.ones_like(x), [worst])
            raise GradcheckError(
                f"{point.title}: backward is not the adjoint\n  {direction}\n"
                f"  {compare(e, point.y(e), f'worst at {point.name(worst)}')}"
            )
    return Report(point.title, [linear, *adjoint])


def _name(fn) -> str:
    return getattr(fn, "__name__", type(fn).__name__)
