"""Sums of weighted rows in vector registers: what a sparse matrix with few columns of output does to each row.

    out[row, k] = base[row, k] + sum_{e = begin}^{end - 1} weight[e] x[entry[e], k]          0 <= k < K

Numba's vectoriser would take the sum through memory and test at each e whether out and x overlap. Here chunks of up to
four vectors of the sum stay in registers while all e pass by; what is left of K is taken by halves of a vector.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_i32, _i64, _bool = ir.IntType(32), ir.IntType(64), ir.IntType(1)
BYTES = 32  # of a vector: half or all of a register, and K need not be a multiple of much


@intrinsic
def weighted_rows(typing_context, out, base, row, x, entry, weight, begin, end, K, based):
    """weighted_rows(out, base, row, x, entry, weight, begin, end, K, based): the equation above.

    out, base, x: C-contiguous (.., K) of one float dtype; entry (E,) int32; weight (E,). based: whether base counts.
    """

    def emit(context, builder, signature, args):
        def data(i):
            return context.make_array(signature.args[i])(context, builder, args[i]).data

        def integer(i):
            return context.cast(builder, args[i], signature.args[i], types.int64)

        number = context.get_value_type(signature.args[0].dtype)
        function = _emit_function(builder.module, number)
        flag = context.cast(builder, args[9], signature.args[9], types.boolean)
        start = builder.mul(integer(2), integer(8))
        operands = [builder.gep(data(0), [start]), builder.gep(data(1), [start]), data(3), data(4), data(5)]
        builder.call(function, [*operands, integer(6), integer(7), integer(8), flag])
        return context.get_dummy_value()

    return types.void(out, base, row, x, entry, weight, begin, end, K, based), emit


def _emit_function(module, number) -> ir.Function:
    """weighted_rows as an LLVM function (out, base, x, entry, weight, begin, end, K, based)."""
    name = f"weighted_rows_{number}"
    if name in module.globals:
        return module.globals[name]
    pointer = number.as_pointer()
    kind = ir.FunctionType(
        ir.VoidType(), [pointer, pointer, pointer, _i32.as_pointer(), pointer, _i64, _i64, _i64, _bool]
    )
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    out, base, x, entry, weight, begin, end, K, based = function.args
    for a in (out, x, entry, weight):
        a.add_attribute("noalias")
    lanes = BYTES // (4 if isinstance(number, ir.FloatType) else 8)
    sizes = [(lanes, n) for n in (4, 3, 2, 1)]
    while sizes[-1][0] > 1:
        sizes.append((sizes[-1][0] // 2, 1))

    b = ir.IRBuilder(function.append_basic_block("entry"))
    choose, done = function.append_basic_block("choose"), function.append_basic_block("done")
    b.branch(choose)
    b.position_at_end(choose)
    k = b.phi(_i64)
    k.add_incoming(ir.Constant(_i64, 0), function.entry_basic_block)
    left = b.sub(K, k)
    for width, count in sizes:
        this, other = function.append_basic_block(f"sum{width}x{count}"), function.append_basic_block("other")
        b.cbranch(b.icmp_signed(">=", left, ir.Constant(_i64, width * count)), this, other)
        b.position_at_end(this)
        _emit_chunk(function, b, number, width, count, k)
        k.add_incoming(b.add(k, ir.Constant(_i64, width * count)), b.block)
        b.branch(choose)
        b.position_at_end(other)
    b.branch(done)
    b.position_at_end(done)
    b.ret_void()
    return function


def _emit_chunk(function, b, number, width, count, k):
    """The sum for `count` vectors of `width` lanes from k on."""
    out, base, x, entry, weight, begin, end, K, based = function.args
    vector = ir.VectorType(number, width)
    zero = ir.Constant(vector, [0.0] * width)
    align = 4 if isinstance(number, ir.FloatType) else 8
    fma = cgutils.get_or_insert_function(
        function.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fmuladd.v{width}f{8 * align}",
    )

    def at(array, j):
        first = b.gep(array, [b.add(k, ir.Constant(_i64, j * width))])
        return b.bitcast(first, vector.as_pointer())

    def broadcast(value):
        one = b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_i32, 0))
        return b.shuffle_vector(
            one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_i32, width), [0] * width)
        )

    before, old, loop, body, store = (
        function.append_basic_block(n) for n in ("before", "old", "loop", "body", "store")
    )
    b.branch(before)
    b.position_at_end(before)
    b.cbranch(based, old, loop)
    b.position_at_end(old)
    given = [b.load(at(base, j), align=align) for j in range(count)]
    b.branch(loop)
    b.position_at_end(loop)
    e = b.phi(_i64)
    sums = [b.phi(vector) for _ in range(count)]
    for block, start in ((before, [zero] * count), (old, given)):
        e.add_incoming(begin, block)
        for s, v in zip(sums, start):
            s.add_incoming(v, block)
    b.cbranch(b.icmp_signed("<", e, end), body, store)
    b.position_at_end(body)
    row = b.gep(x, [b.mul(b.zext(b.load(b.gep(entry, [e])), _i64), K)])
    w = broadcast(b.load(b.gep(weight, [e])))
    new = [b.call(fma, [w, b.load(at(row, j), align=align), s]) for j, s in enumerate(sums)]
    e.add_incoming(b.add(e, ir.Constant(_i64, 1)), body)
    for s, v in zip(sums, new):
        s.add_incoming(v, body)
    b.branch(loop)
    b.position_at_end(store)
    for j, s in enumerate(sums):
        b.store(s, at(out, j), align=align)
