import numpy as np
import pytest

import tinyseg as ts
from tests.strategies import normal
from tinyseg.gradcheck import GradcheckError
from tinyseg.tensor import Function


class Square(Function):
    """x^2, with one thing made wrong."""

    def __init__(self, wrong="nothing"):
        self.wrong = wrong

    def forward(self, x):
        self.x = x
        if self.wrong == "changes its input":
            x += 1
        if self.wrong == "float32":
            return (x * x).astype(np.float32)
        return x * x

    def backward(self, dy):
        dx = 2 * self.x * dy
        if self.wrong == "one index":
            dx[1, 2] *= 1.001
        if self.wrong == "factor":
            dx *= 0.5
        if self.wrong == "nan":
            dx[0, 1] = np.nan
        if self.wrong == "shape":
            dx = dx.reshape(-1)
        return dx


def square(wrong):
    return lambda x: Square(wrong)(x)


def test_right_gradients_pass_with_a_readable_report(device):
    report = ts.gradcheck(lambda x, w: (x @ w).exp(), normal((2, 3), 0), normal((3, 4), 1), device=device)
    assert report and f"on '{device.name}': 6 comparisons agree" in str(report)
    assert "input 0 (2, 3): expected" in str(report) and "all inputs" in str(report)


@pytest.mark.parametrize(
    "wrong, match",
    [
        ("one index", r"the gradient is wrong(.|\n)*worst at input 0\[1, 2\]: expected .*, found"),
        ("factor", r"the gradient is wrong"),
        ("nan", r"worst at input 0\[0, 1\]: expected .*, found nan"),
        ("shape", r"the gradient of input 0 has shape \(12,\) and dtype float64, expected \(3, 4\) and float64"),
        ("changes its input", r"changed the values of input 0|two results for the same inputs"),
        ("float32", r"fn of float64 inputs returned \['float32'\], expected float64"),
    ],
)
def test_wrong_gradients_are_found(wrong, match):
    with pytest.raises(GradcheckError, match=match):
        ts.gradcheck(square(wrong), normal((3, 4), 0))
    assert ts.gradcheck(square("nothing"), normal((3, 4), 0))


def test_the_second_input_alone_can_be_wrong():
    class Product(Function):
        def forward(self, a, b):
            self.a, self.b = a, b
            return a * b

        def backward(self, dy):
            return self.b * dy, self.a * dy * (1 + (np.arange(dy.size) == 2))

    with pytest.raises(GradcheckError, match=r"input 1 \(4,\): (.|\n)*worst at input 1\[2\]") as caught:
        ts.gradcheck(lambda a, b: Product()(a, b), normal(4, 0), normal(4, 1))
    assert isinstance(caught.value, AssertionError)


def test_the_worst_of_many_coordinates_is_found():
    class Wrong(Function):
        def forward(self, x):
            return 3 * x

        def backward(self, dy):
            dx = 3 * dy
            dx[123, 45] += 1
            return dx

    with pytest.raises(GradcheckError, match=r"worst at input 0\[123, 45\]"):
        ts.gradcheck(lambda x: Wrong()(x), normal((200, 50), 0))
    with pytest.raises(GradcheckError, match=r"not the adjoint(.|\n)*worst at input 0\[123, 45\]"):
        ts.adjoint_check(lambda x: Wrong()(x), normal((200, 50), 0))


def test_coordinates_on_kinks_are_left_out_and_named():
    x = normal((3, 4), 0)
    x[0, 1] = x[2, 3] = 0
    report = ts.gradcheck(ts.ops.relu, x)
    assert report.kinks == ["input 0[0, 1]", "input 0[2, 3]"]
    assert "not checked, fn has a kink there: input 0[0, 1], input 0[2, 3]" in str(report)
    assert not ts.gradcheck(ts.ops.relu, normal((3, 4), 0)).kinks


def test_a_kink_does_not_hide_an_error():
    x = normal((3, 4), 0)
    x[0, 1] = 0
    with pytest.raises(GradcheckError, match=r"worst at input 0\[1, 2\]"):
        ts.gradcheck(lambda x: Square("one index")(x) + x.relu(), x)
    with pytest.raises(GradcheckError, match=r"the gradient is wrong"):
        ts.gradcheck(lambda x: Square("factor")(x).abs() + x.abs(), x)


def test_a_kink_near_by_is_no_kink():
    for offset in (3e-6, -3e-6, 3e-7):
        report = ts.gradcheck(ts.ops.abs, np.array([offset, 1.0, 2.0]))
        assert not report.kinks
    assert ts.gradcheck(lambda x: 1 / x, np.array([1e-3, 1.0])).kinks == []  # steep, but smooth


def test_ties_of_max():
    x = np.array([[1.0, 3, 3, 3], [2, 1, 0, -1]])
    assert ts.gradcheck(lambda x: x.max(axis=1), x).kinks == ["input 0[0, 1]", "input 0[0, 2]", "input 0[0, 3]"]


def test_nothing_but_kinks_is_an_error():
    with pytest.raises(GradcheckError, match=r"a kink at every coordinate of input 0 \(2, 2\), so nothing was checked"):
        ts.gradcheck(ts.ops.relu, np.zeros((2, 2)))
    with pytest.raises(GradcheckError, match=r"more than 200 coordinates lie on kinks"):
        ts.gradcheck(ts.ops.leaky_relu, np.concatenate([np.zeros(210), np.ones(10)]))


def test_integers_floats_tensors_and_tuples():
    labels = np.array([0, 2])
    report = ts.gradcheck(lambda x, i: (x[i], x.sum(), i), ts.tensor(normal((3, 2), 0).astype(np.float32)), labels)
    assert len(report.directions) == 2  # one input is checked, twice
    with pytest.raises(GradcheckError, match="the gradient is wrong"):
        ts.gradcheck(lambda x: (2 * x, Square("factor")(x)), normal((2, 2), 0))
    assert ts.gradcheck(lambda x: x.sum(), np.zeros((0, 3)))
    assert ts.gradcheck(lambda x, y: 2 * x, normal(3, 0), normal(3, 1))  # y has no part in it: its gradient is 0
    assert ts.gradcheck(lambda x: x * 2, 1.5)


def test_a_gradient_that_is_missing_is_found():
    with pytest.raises(GradcheckError, match="the gradient is wrong"):
        ts.gradcheck(lambda x: x * x.detach(), normal(3, 0))
    with pytest.raises(GradcheckError, match="the gradient is wrong"):
        ts.gradcheck(lambda x: x.detach() * 2, normal(3, 0))


def test_what_cannot_be_checked():
    with pytest.raises(ValueError, match=r"expected at least one array of floats, got \['int64'\]"):
        ts.gradcheck(lambda x: x, np.array([1]))
    with pytest.raises(GradcheckError, match=r"fn returned \['ndarray'\], expected Tensors"):
        ts.gradcheck(lambda x: x.numpy(), normal(3, 0))
    with pytest.raises(GradcheckError, match=r"returned no floats, expected float64"):
        ts.gradcheck(lambda x: x > 0, normal(3, 0))
    with pytest.raises(GradcheckError, match="nan or inf at these inputs"), np.errstate(all="ignore"):
        ts.gradcheck(ts.ops.log, -np.ones(2))
    noise = np.random.default_rng(0)
    with pytest.raises(GradcheckError, match="two results for the same inputs; cure: give it a fixed seed"):
        ts.gradcheck(lambda x: x * noise.standard_normal(3), normal(3, 0))


def test_adjoint_check(device):
    w = normal((3, 4), 1)
    report = ts.adjoint_check(lambda x: x @ w, normal((2, 3), 0), device=device)
    assert report and "3 comparisons agree" in str(report)
    assert ts.adjoint_check(lambda x: x @ w, normal((2, 3), 0), y=normal((2, 4), 2), device=device)
    assert ts.adjoint_check(lambda x: x.reshape(3, 0), np.zeros((0, 3)), device=device)


def test_adjoint_check_finds_what_is_not_linear_or_not_adjoint():
    x = normal((3, 4), 0)
    for fn in (lambda x: x * x, lambda x: x + 1, ts.ops.relu):
        with pytest.raises(GradcheckError, match=r"fn is not linear\n  .*worst at result\[\d, \d\]: expected"):
            ts.adjoint_check(fn, x)
    with pytest.raises(GradcheckError, match=r"backward is not the adjoint(.|\n)*<A x, y> = <x, A' y>"):
        ts.adjoint_check(lambda x: 2 * x.detach() + x - x, x)
    with pytest.raises(ValueError, match=r"y has shape \(2,\), expected that of fn\(x\), \(3, 4\)"):
        ts.adjoint_check(lambda x: 2 * x, x, y=np.ones(2))
    with pytest.raises(GradcheckError, match=r"fn returned 2 float tensors, expected one"):
        ts.adjoint_check(lambda x: (x, x), x)


def test_the_seed_decides_the_directions():
    def run(seed):
        return str(ts.gradcheck(lambda x: x.exp(), normal(3, 0), seed=seed))

    assert run(0) == run(0) != run(1)
