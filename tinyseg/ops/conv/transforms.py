"""Winograd's small linear maps: how they follow from interpolation points, and their vector code.

A filter of 3 taps slides over 6 inputs and gives 4 outputs: 12 products. Seen as polynomials, the 4 outputs and 3 taps
multiply to a polynomial of degree 5, which its values at 6 points fix; so 6 products, one a point, are enough
(Toom, Cook 1966; Winograd 1980). Transposed, as a convolution needs it, and in both directions of the image:

    y = A^T [ (G g G^T) . (B^T d B) ] A        d (6,6) inputs, g (3,3) filter, y (4,4) outputs, "." element-wise

which takes 36 products for 144. The points decide the rounding error; 0, +-sqrt(1/2), +-sqrt(2) and infinity keep it
at about 2e-6, a third of that of the usual 0, +-1, +-2 (Lavin & Gray 2016 have the latter). With 2 outputs, 16 products
for 36, the points 0, +-1 and infinity are enough; their maps hold no number but 1 and 1/2, and the error is that of the
equation's own sum.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import LANES

POINTS = {4: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)), 2: (0.0, 1.0, -1.0)}  # by outputs; and infinity


def winograd_matrices(points, outputs: int, taps: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (outputs, n), G (n, taps) and B^T (n, n) for n = outputs + taps - 1 points, the last of them infinity.

    Row j of G and of A evaluates a polynomial at point j: its entries are powers of p_j. Row j of B^T holds the
    coefficients of prod_{i != j} (x - p_i), the Lagrange polynomial of the point, whose denominator goes into G.
    """
    n = outputs + taps - 1
    at, g, bt = np.zeros((outputs, n)), np.zeros((n, taps)), np.zeros((n, n))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        at[:, j] = [p**i for i in range(outputs)]
        g[j] = np.array([p**i for i in range(taps)]) / np.prod([p - q for q in others])
        bt[j, : n - 1] = np.poly(others)[::-1]
    at[-1, -1] = g[-1, -1] = 1
    bt[-1] = np.poly(points)[::-1]
    for m in (at, g, bt):
        m[np.abs(m) < 1e-12] = 0
    return at, g, bt



# ------------------------------------------------------------------------------ from a matrix to vector code

_f32, _i64 = ir.FloatType(), ir.IntType(64)
_vector = ir.VectorType(_f32, LANES)


class _Emitter:
    """Emits y = T x for vectors x, with as few instructions as the structure of T allows."""

    def __init__(self, builder, fma):
        self.b, self.fma = builder, fma

    def apply(self, matrix, x):
        """The rows of T x. Points come as +p, -p, so rows (or columns) come in pairs that differ in the sign of every
        other entry: the parts of even and odd entries are computed once, and added for +p, subtracted for -p."""
        matrix = np.asarray(matrix)
        pairs = [j for j in range(1, matrix.shape[1] - 1, 2) if _alternates(matrix[:, j], matrix[:, j + 1])]
        if pairs:
            matrix = matrix.copy()
            x = list(x)
            even = np.arange(len(matrix)) % 2 == 0
            for j in pairs:
                x[j], x[j + 1] = self.b.fadd(x[j], x[j + 1]), self.b.fsub(x[j], x[j + 1])
                matrix[:, j], matrix[:, j + 1] = matrix[:, j] * even, matrix[:, j] * ~even
            return [self.dot(row, x) for row in matrix]
        y, i = [], 0
        even = np.arange(matrix.shape[1]) % 2 == 0
        while i < len(matrix):
            if i + 1 < len(matrix) and _alternates(matrix[i], matrix[i + 1]):
                part = self.dot(matrix[i] * even, x), self.dot(matrix[i] * ~even, x)
                y += [self.b.fadd(*part), self.b.fsub(*part)]
                i += 2
            else:
                y.append(self.dot(matrix[i], x))
                i += 1
        return y

    def dot(self, row, x):
        terms = sorted(((c, v) for c, v in zip(row, x) if c != 0), key=lambda t: abs(t[0]) != 1 or t[0] < 0)
        total = None
        for c, v in terms:
            if total is None:
                total = v if c == 1 else self.b.fmul(v, _constant(c))
            elif abs(c) == 1:
                total = self.b.fadd(total, v) if c > 0 else self.b.fsub(total, v)
            else:
                total = self.b.call(self.fma, [v, _constant(c), total])
        return total


def _alternates(u, v) -> bool:
    signs = (-1.0) ** np.arange(len(u))
    return np.count_nonzero(u) > 1 and np.allclose(u * signs, v)


def _constant(value):
    return ir.Constant(_vector, [ir.Constant(_f32, float(np.float32(value)))] * LANES)


def make_transform(kind: str, matrices: dict[int, np.ndarray], accumulate: bool = False, epilogue: bool = False):
    """An intrinsic that computes Y = T X T^T for square tiles of vectors, T chosen from `matrices` by its outputs.

    transform(outputs, source, source_shift, target, target_shift, channels, last, last_row): `source` and `target` are
    addresses of tables of the addresses of the tile's elements, row by row; each element is a run of `channels` floats
    (a multiple of LANES), of which LANES are transformed at a time. Shifts, in bytes, are added to every address. With
    accumulate Y is added to what the target holds; with epilogue the target is max(factor Y + addend, floor): `last` is
    the address of a table of three rows, factor, addend and floor of each channel, `last_row` bytes apart.
    """
    emitters = {m: _transform(f"winograd_{kind}_{m}", t, accumulate, epilogue) for m, t in matrices.items()}
    (large, emit_large), (small, emit_small) = sorted(emitters.items(), reverse=True)

    @intrinsic
    def transform(typing_context, outputs, source, source_shift, target, target_shift, channels, last, last_row):
        def emit(context, builder, signature, args):
            with builder.if_else(builder.icmp_signed("==", args[0], ir.Constant(_i64, large))) as (then, otherwise):
                with then:
                    builder.call(emit_large(builder.module), args[1:])
                with otherwise:
                    builder.call(emit_small(builder.module), args[1:])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), emit

    return transform


def _transform(name: str, matrix, accumulate: bool, epilogue: bool):
    """A function of a module that gives the LLVM function of one matrix: see `make_transform`."""
    n_out, n_in = matrix.shape

    def emit_function(module):
        if name in module.globals:
            return module.globals[name]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_i64] * 7), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        source, source_shift, target, target_shift, channels, last, last_row = function.args
        fma = cgutils.get_or_insert_function(module, ir.FunctionType(_vector, [_vector] * 3), f"llvm.fma.v{LANES}f32")
        entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))
        b = ir.IRBuilder(entry)
        end = b.mul(channels, ir.Constant(_i64, 4))
        b.branch(loop)
        b.position_at_end(loop)
        offset = b.phi(_i64)
        offset.add_incoming(ir.Constant(_i64, 0), entry)
        emitter = _Emitter(b, fma)

        def pointer(base):
            return b.inttoptr(b.add(base, offset), _vector.as_pointer())

        def element(table, shift, at):
            return pointer(b.add(b.load(b.gep(b.inttoptr(table, _i64.as_pointer()), [ir.Constant(_i64, at)])), shift))

        columns = []  # T X, column by column
        for j in range(n_in):
            x = [b.load(element(source, source_shift, i * n_in + j), align=4) for i in range(n_in)]
            columns.append(emitter.apply(matrix, x))
        if epilogue:
            rows = [last, b.add(last, last_row), b.add(b.add(last, last_row), last_row)]
            factor, addend, floor = (b.load(pointer(row), align=4) for row in rows)
        for i in range(n_out):  # (T X) T^T, row by row
            for j, y in enumerate(emitter.apply(matrix, [column[i] for column in columns])):
                to = element(target, target_shift, i * n_out + j)
                if accumulate:
                    y = b.fadd(y, b.load(to, align=4))
                if epilogue:
                    y = b.call(fma, [y, factor, addend])
                    y = b.select(b.fcmp_ordered("<", y, floor), floor, y)  # NaN stays NaN
                b.store(y, to, align=4)
        following = b.add(offset, ir.Constant(_i64, 4 * LANES))
        offset.add_incoming(following, loop)
        b.cbranch(b.icmp_signed("<", following, end), loop, done)
        b.position_at_end(done)
        b.ret_void()
        return function

    return emit_function


_matrices = {outputs: winograd_matrices(points, outputs) for outputs, points in POINTS.items()}
A_T, G, B_T = ({outputs: maps[i] for outputs, maps in _matrices.items()} for i in range(3))
A = {outputs: a_t.T for outputs, a_t in A_T.items()}
G_T = {outputs: g.T for outputs, g in G.items()}

# for F(4x4); with 2 outputs 4 stands for 6, and 2 for 4
transform_input = make_transform("input", B_T)  # 6x6 inputs -> 6x6
transform_filter = make_transform("filter", G)  # 3x3 taps -> 6x6
transform_output = make_transform("output", A_T, epilogue=True)  # 6x6 -> 4x4 outputs
transform_output_gradient = make_transform("output_gradient", A)  # 4x4 -> 6x6: the adjoint of the last
transform_filter_gradient = make_transform("filter_gradient", G_T, accumulate=True)  # 6x6 -> 3x3 taps
