"""The micro-kernel of every fast convolution: a ROWS x COLUMNS tile of the result, held in vector registers.

    C[m, j] = sum_{t < taps} sum_{i < run} A[t, m, i] B[t, i, j]        m < ROWS, j < COLUMNS

For each step i one element of each of the ROWS rows of A is broadcast and multiplied into COLUMNS / LANES vectors of B:
ROWS * COLUMNS multiply-adds for ROWS + COLUMNS / LANES loads, so that the multiply-add units are the only limit. The
rows of A are *addresses in a table*, one for each tap and row. So a convolution needs no copy of its input: the table
names the pixels that a tap sees, padding is the address of a row of zeros, and a tap that sees no more has no entry.
What stands behind a convolution - a bias, a norm, a shortcut, ReLU - is done to the tile before it leaves them.

Numba's own vectoriser does not keep such a tile in registers; here it is written in LLVM's language, which Numba
compiles like any other code. The tile's size follows from the machine's vector registers.
"""

import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..prefetch import LINE, emit_prefetch


def _vector_shape() -> tuple[int, int, int]:
    """(lanes, rows, vectors) for this CPU; rows * vectors accumulators + vectors + 1 must fit its registers."""
    if os.environ.get("NUMBA_CPU_NAME"):  # compiling for another CPU than this one: assume little
        wide = {"avx2": "haswell" in os.environ["NUMBA_CPU_NAME"]}
    else:
        wide = llvm.get_host_cpu_features()
    if wide.get("avx512f"):
        return 16, 8, 2  # 32 registers of 512 bits
    if wide.get("avx2"):
        return 8, 6, 2  # 16 registers of 256 bits
    if wide.get("neon"):
        return 4, 8, 2  # 32 registers of 128 bits
    return 4, 4, 2  # 16 registers of 128 bits


LANES, ROWS, VECTORS = _vector_shape()
COLUMNS = LANES * VECTORS
ENTRY = ROWS + 1  # int64 numbers of a table entry: the offset of B in bytes, then the address of each row of A
AHEAD = 64  # rows of B before they are needed memory is asked for them
FINISH = 3  # int64 numbers that say what is done to a tile in the end

_f32, _i32, _i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_vector, _mask = ir.VectorType(_f32, LANES), ir.VectorType(ir.IntType(1), LANES)
_FIRST = ir.Constant(ir.VectorType(_i32, LANES), [0] * LANES)  # a shuffle that puts the first lane into all


def _lanes_below(b, count):
    """A mask of the first `count` lanes."""
    lanes = ir.Constant(ir.VectorType(_i64, LANES), list(range(LANES)))
    undefined = ir.Constant(ir.VectorType(_i64, LANES), ir.Undefined)
    one = b.insert_element(undefined, count, ir.Constant(_i32, 0))
    return b.icmp_signed("<", lanes, b.shuffle_vector(one, undefined, _FIRST))


def _load_masked(b, at, mask):
    """The lanes of a mask from memory, zero in the others."""
    kind = ir.FunctionType(_vector, [_vector.as_pointer(), _i32, _mask, _vector])
    load = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return b.call(load, [at, ir.Constant(_i32, 4), mask, ir.Constant(_vector, [0.0] * LANES)])


def _store_masked(b, value, at, mask):
    """The lanes of a mask into memory; the others stay as they are there."""
    kind = ir.FunctionType(ir.VoidType(), [_vector, _vector.as_pointer(), _i32, _mask])
    store = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    b.call(store, [value, at, ir.Constant(_i32, 4), mask])


@intrinsic
def address(typing_context, array):
    """address(array) -> int64: where its first element lies.

    Numba frees an array after the last line that names it, and does not know of addresses: an array made in a function
    must be named once more, by `keep`, behind the last use of its address (tests/test_architecture.py looks).
    """

    def emit(context, builder, signature, args):
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, args[0]).data, _i64)

    return types.int64(array), emit


@intrinsic
def keep(typing_context, *arrays):
    """keep(array, ...): nothing, but arrays that are named here are not freed before."""
    named = types.StarArgTuple.from_types(arrays)
    return types.void(named), lambda context, builder, signature, args: context.get_dummy_value()


def _loader(numba_type, ir_type):
    @intrinsic
    def load(typing_context, at):
        """The number at an address."""
        return numba_type(types.int64), lambda context, builder, signature, args: builder.load(
            builder.inttoptr(args[0], ir_type.as_pointer())
        )

    return load


load_float, load_address = _loader(types.float32, _f32), _loader(types.int64, _i64)


def _emit_tile_function(module, whole: bool) -> ir.Function:
    """The micro-kernel as an LLVM function of int64 arguments (see `multiply_tile`).

    Where the tile is not whole, the columns of C from `width` on are neither read nor written.
    """
    name = f"multiply_{'tile' if whole else 'part'}_{ROWS}x{VECTORS}x{LANES}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_i64] * 12), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    table, taps, run, a_step, a_shift, panel, b_step, c_rows, c_shift, width, accumulate, finish = function.args
    fma = cgutils.get_or_insert_function(
        module, ir.FunctionType(_vector, [_vector] * 3), f"llvm.fma.v{LANES}f32"
    )
    names = ("entry", "old", "tap", "fetch", "step", "body", "next", "done", "store", "finish", "shortcut", "clip")
    block = {n: function.append_basic_block(n) for n in names}
    b = ir.IRBuilder(block["entry"])
    tile = [(m, j) for m in range(ROWS) for j in range(VECTORS)]

    def number(value):
        return ir.Constant(_i64, value)

    def load_i64(base, index):
        return b.load(b.gep(b.inttoptr(base, _i64.as_pointer()), [index]))

    def vector_at(base, j):
        return b.inttoptr(b.add(base, number(4 * LANES * j)), _vector.as_pointer())

    def broadcast(pointer):
        undefined = ir.Constant(_vector, ir.Undefined)
        one = b.insert_element(undefined, b.load(pointer, align=4), ir.Constant(_i32, 0))
        return b.shuffle_vector(one, undefined, _FIRST)

    masks = None if whole else [_lanes_below(b, b.sub(width, number(LANES * j))) for j in range(VECTORS)]

    def load_c(base, j):
        return b.load(vector_at(base, j), align=4) if whole else _load_masked(b, vector_at(base, j), masks[j])

    def store_c(value, base, j):
        if whole:
            b.store(value, vector_at(base, j), align=4)
        else:
            _store_masked(b, value, vector_at(base, j), masks[j])

    # the tile starts from C itself or from zeros
    zero = ir.Constant(_vector, [0.0] * LANES)
    c = [b.add(load_i64(c_rows, number(m)), c_shift) for m in range(ROWS)]
    b.cbranch(b.icmp_signed("!=", accumulate, number(0)), block["old"], block["tap"])
    b.position_at_end(block["old"])
    old = {(m, j): load_c(c[m], j) for m, j in tile}
    b.branch(block["tap"])

    # for each tap ...
    b.position_at_end(block["tap"])
    t = b.phi(_i64)
    outer = {at: b.phi(_vector) for at in tile}
    t.add_incoming(number(0), block["old"])
    t.add_incoming(number(0), block["entry"])
    for m, j in tile:
        outer[m, j].add_incoming(old[m, j], block["old"])
        outer[m, j].add_incoming(zero, block["entry"])
    b.cbranch(b.icmp_signed("<", t, taps), block["fetch"], block["done"])

    b.position_at_end(block["fetch"])
    entry = b.mul(t, number(ENTRY))
    b_first = b.inttoptr(b.add(panel, load_i64(table, entry)), ir.IntType(8).as_pointer())
    far = b.icmp_signed("!=", b_step, number(4 * COLUMNS))  # rows of B behind one another the hardware fetches itself
    ahead = b.select(far, b.mul(b_step, number(AHEAD)), number(0))
    a = [
        b.inttoptr(b.add(load_i64(table, b.add(entry, number(1 + m))), a_shift), ir.IntType(8).as_pointer())
        for m in range(ROWS)
    ]
    b.branch(block["step"])

    # ... for each step of the run: VECTORS loads of B, ROWS broadcasts of A, ROWS * VECTORS multiply-adds
    b.position_at_end(block["step"])
    i, offset, b_row = b.phi(_i64), b.phi(_i64), b.phi(ir.IntType(8).as_pointer())
    inner = {at: b.phi(_vector) for at in tile}
    for phi, value in ((i, number(0)), (offset, number(0)), (b_row, b_first)):
        phi.add_incoming(value, block["fetch"])
    for at in tile:
        inner[at].add_incoming(outer[at], block["fetch"])
    b.cbranch(b.icmp_signed("<", i, run), block["body"], block["next"])

    b.position_at_end(block["body"])
    vectors = [
        b.load(b.bitcast(b.gep(b_row, [number(4 * LANES * j)]), _vector.as_pointer()), align=4) for j in range(VECTORS)
    ]
    fetched = b.ptrtoint(b.gep(b_row, [ahead]), _i64)
    for j in range(0, 4 * COLUMNS, LINE):
        emit_prefetch(b, b.add(fetched, number(j)), write=0, level=3)
    for m in range(ROWS):
        element = broadcast(b.bitcast(b.gep(a[m], [offset]), _f32.as_pointer()))
        for j in range(VECTORS):
            inner[m, j].add_incoming(b.call(fma, [element, vectors[j], inner[m, j]]), block["body"])
    i.add_incoming(b.add(i, number(1)), block["body"])
    offset.add_incoming(b.add(offset, a_step), block["body"])
    b_row.add_incoming(b.gep(b_row, [b_step]), block["body"])
    b.branch(block["step"])

    b.position_at_end(block["next"])
    t.add_incoming(b.add(t, number(1)), block["next"])
    for at in tile:
        outer[at].add_incoming(inner[at], block["next"])
    b.branch(block["tap"])

    b.position_at_end(block["done"])
    b.cbranch(b.icmp_signed("!=", finish, number(0)), block["finish"], block["store"])
    b.position_at_end(block["store"])
    for m, j in tile:
        store_c(outer[m, j], c[m], j)
    b.ret_void()

    # C = max(factor * the sum + addend + Z, floor), NaN stays NaN
    b.position_at_end(block["finish"])
    first, row_bytes, to_z = (load_i64(finish, number(i)) for i in range(FINISH))
    rows = [b.add(first, b.mul(row_bytes, number(i))) for i in range(3)]
    factor, addend, floor = ([b.load(vector_at(row, j), align=4) for j in range(VECTORS)] for row in rows)
    normal = {(m, j): b.call(fma, [outer[m, j], factor[j], addend[j]]) for m, j in tile}
    b.cbranch(b.icmp_signed("!=", to_z, number(0)), block["shortcut"], block["clip"])
    b.position_at_end(block["shortcut"])
    added = {(m, j): b.fadd(normal[m, j], load_c(b.add(c[m], to_z), j)) for m, j in tile}
    b.branch(block["clip"])
    b.position_at_end(block["clip"])
    last = {at: b.phi(_vector) for at in tile}
    for (m, j), y in last.items():
        y.add_incoming(normal[m, j], block["finish"])
        y.add_incoming(added[m, j], block["shortcut"])
    for (m, j), y in last.items():
        y = b.select(b.fcmp_ordered("<", y, floor[j]), floor[j], y)
        store_c(y, c[m], j)
    b.ret_void()
    return function


@intrinsic
def multiply_tile(
    typing_context, table, taps, run, a_step, a_shift, panel, b_step, c_rows, c_shift, width, accumulate, finish
):
    """The micro-kernel; every argument an int64, addresses and steps in bytes.

    table       taps entries of ENTRY numbers: offset of the tap's B in the panel, address of each of ROWS rows of A
    run         length of the inner sum; a_step: from A[t, m, i] to A[t, m, i + 1]; a_shift: added to every row of A
    panel       address of B, whose rows of COLUMNS floats are b_step bytes apart
    c_rows      address of ROWS addresses: where the rows of C lie (several may be one, if they are equal sums or nobody
                reads it); c_shift: added to each; width: how many of their COLUMNS are C's, of whole panels of B
    accumulate  1: the sum is added to C. 0: it takes C's place
    finish      0, or the address of FINISH numbers: the address of three rows of COLUMNS floats, factor, addend and
                floor; how many bytes these lie apart; from C to Z, of C's form, which is added, or 0 for none
    """

    def emit(context, builder, signature, args):
        whole = builder.icmp_signed("==", args[9], ir.Constant(_i64, COLUMNS))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                builder.call(_emit_tile_function(builder.module, whole=True), args)
            with otherwise:
                builder.call(_emit_tile_function(builder.module, whole=False), args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12), emit


@intrinsic
def copy_floats(typing_context, target, source, count, room):
    """target[i] = source[i] for i < count, 0 for count <= i < room; addresses, and numbers of floats.

    A loop over arrays would do, but that an index computed from variables may be negative as far as Numba knows: then
    it counts from the end, and the loop becomes one of gathered loads.
    """

    def emit(context, builder, signature, args):
        b = builder
        target, source, count, room = args

        def at(base, chunk):
            return b.inttoptr(b.add(base, b.mul(chunk, ir.Constant(_i64, 4 * LANES))), _vector.as_pointer())

        def below(end, chunk):
            return _lanes_below(b, b.sub(end, b.mul(chunk, ir.Constant(_i64, LANES))))

        whole = b.sdiv(count, ir.Constant(_i64, LANES))
        with cgutils.for_range(b, whole) as chunk:
            b.store(b.load(at(source, chunk.index), align=4), at(target, chunk.index), align=4)
        rest = b.sub(b.sdiv(b.add(room, ir.Constant(_i64, LANES - 1)), ir.Constant(_i64, LANES)), whole)
        with cgutils.for_range(b, rest) as chunk:
            i = b.add(whole, chunk.index)
            # lanes that a mask leaves out cost much where no memory is: a chunk behind the source is not looked at
            some = b.icmp_signed("<", b.mul(i, ir.Constant(_i64, LANES)), count)
            value = _load_masked(b, at(b.select(some, source, target), i), below(count, i))
            _store_masked(b, value, at(target, i), below(room, i))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def transpose_block(typing_context, target, target_step, source, source_step):
    """Transpose LANES x LANES floats: row i of the source goes to column i of the target; addresses and steps in bytes.

    log2(LANES) rounds, each of which exchanges, between rows a distance apart, the blocks of that distance.
    """

    def emit(context, builder, signature, args):
        b = builder
        to, to_step, of, of_step = args

        def row(base, step, i):
            return b.inttoptr(b.add(base, b.mul(step, ir.Constant(_i64, i))), _vector.as_pointer())

        rows = [b.load(row(of, of_step, i), align=4) for i in range(LANES)]
        distance = 1
        while distance < LANES:
            low = [i + (LANES - distance if i & distance else 0) for i in range(LANES)]
            high = [i + (LANES if i & distance else distance) for i in range(LANES)]
            for i in range(LANES):
                if not i & distance:
                    pair = rows[i], rows[i + distance]
                    for at, lanes in ((i, low), (i + distance, high)):
                        mask = ir.Constant(ir.VectorType(_i32, LANES), lanes)
                        rows[at] = b.shuffle_vector(*pair, mask)
            distance *= 2
        for i in range(LANES):
            b.store(rows[i], row(to, to_step, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def add_rows(typing_context, table, count, shift, channels, pivot, sums, squares):
    """sums[c] += sum_i d, squares[c] += sum_i d^2 of d = row[i][c] - pivot[c]: what batch norm asks of a convolution.

    `table` is the address of `count` addresses of rows, to each of which `shift` bytes are added; pivot, sums and
    squares are addresses; channels is a multiple of LANES.
    """

    def emit(context, builder, signature, args):
        b, module = builder, builder.module
        table, count, shift, channels, pivot, sums, squares = args
        fma = cgutils.get_or_insert_function(module, ir.FunctionType(_vector, [_vector] * 3), f"llvm.fma.v{LANES}f32")

        def at(base, offset):
            return b.inttoptr(b.add(base, offset), _vector.as_pointer())

        with cgutils.for_range(b, b.udiv(channels, ir.Constant(_i64, LANES))) as chunk:
            offset = b.mul(chunk.index, ir.Constant(_i64, 4 * LANES))
            middle = b.load(at(pivot, offset), align=4)
            before = b.load(at(sums, offset), align=4), b.load(at(squares, offset), align=4)
            start = b.block
            loop, done = b.append_basic_block("rows"), b.append_basic_block("done")
            b.cbranch(b.icmp_signed(">", count, ir.Constant(_i64, 0)), loop, done)
            b.position_at_end(loop)
            i, total, total_squares = b.phi(_i64), b.phi(_vector), b.phi(_vector)
            row = b.load(b.gep(b.inttoptr(table, _i64.as_pointer()), [i]))
            d = b.fsub(b.load(at(b.add(row, shift), offset), align=4), middle)
            after = b.fadd(total, d), b.call(fma, [d, d, total_squares])
            following = b.add(i, ir.Constant(_i64, 1))
            b.cbranch(b.icmp_signed("<", following, count), loop, done)
            of_loop = (i, ir.Constant(_i64, 0), following), *zip((total, total_squares), before, after)
            for phi, first, later in of_loop:
                phi.add_incoming(first, start)
                phi.add_incoming(later, loop)
            b.position_at_end(done)
            results = [b.phi(_vector) for _ in before]
            for base, result, first, last in zip((sums, squares), results, before, after):
                result.add_incoming(first, start)
                result.add_incoming(last, loop)
                b.store(result, at(base, offset), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), emit
