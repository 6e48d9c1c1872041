"""The micro-kernels of depth-wise convolution: rows of channels times rows of channels, in vector registers.

    weigh_rows      out[j, c] = start[c] + sum_t x[t, j, c] w[t, c]
    sum_products    sums[t, c] += sum_j x[t, j, c] y[j, c]

for neighbouring pixels j, all of which see the same taps t. The taps form *chains*: the row of x that pixel j sees by
one tap of a chain, pixel j + 1 sees by the tap before. So a chain needs one new row of x for each of its taps, and the
others are in registers already, which loads from the near cache would be too slow to fill. A table names the chains,
so padding needs no zeros: a tap that sees none of x is in no chain.

Several pixels are taken at a time, and of these a vector of channels, so that memory is read in the order in which it
lies. But rows and pixels take turns, so that the machine does not foresee it: what the next pixels need first of all,
the rows of their own and those that they see by the last chain, is asked for as these are computed. Both float types
have a body.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..prefetch import emit_prefetch
from .simd import LANES

PIXELS = 4  # taken at a time: as many sums, and the rows of x that they see by a chain, fit the registers
TAPS = 3  # of the longest chain
CHAIN = 3  # int64 numbers of a table entry: where the first pixel sees x, the row beside it, and how many taps follow

_i1, _i32, _i64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


class _Emitter:
    """Loads, stores and multiply-adds of a chunk of channels: a vector, of which the last chunk uses a part."""

    def __init__(self, function, number):
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.module, self.number = function.module, number
        self.bytes = 4 if isinstance(number, ir.FloatType) else 8
        self.lanes = LANES * 4 // self.bytes
        self.vector = ir.VectorType(number, self.lanes)
        self.mask = None  # which lanes count; None: all
        self.offset = None  # of the chunk in a row, in bytes

    def over_chunks(self, channels, body):
        """body() for each chunk of a row."""
        b, lanes = self.b, self.constant(self.lanes)
        whole, rest = b.udiv(channels, lanes), b.urem(channels, lanes)
        with cgutils.for_range(b, whole) as chunk:
            self.mask, self.offset = None, b.mul(chunk.index, self.constant(self.lanes * self.bytes))
            body()
        with b.if_then(b.icmp_signed(">", rest, self.constant(0))):
            places = ir.Constant(ir.VectorType(_i64, self.lanes), list(range(self.lanes)))
            self.mask = b.icmp_signed("<", places, self.broadcast(rest))
            self.offset = b.mul(whole, self.constant(self.lanes * self.bytes))
            body()

    def over_pixels(self, pixels, body):
        """body(j, count) for pixels j, j + 1, ... j + count - 1: as many as are taken at a time, at the end fewer."""
        b, first, count = self.b, self.constant(0), PIXELS
        while count:
            windows = b.udiv(b.sub(pixels, first), self.constant(count))
            with cgutils.for_range(b, windows) as window:
                body(b.add(first, b.mul(window.index, self.constant(count))), count)
            first = b.add(first, b.mul(windows, self.constant(count)))
            count //= 2

    def over_chains(self, table, chains, x_step, beside_step, j, count, body):
        """body(rows of x, rows beside) for each chain: pixel j + m sees by tap t the x of place m + t."""
        b, entries = self.b, self.b.inttoptr(table, _i64.as_pointer())
        with cgutils.for_range(b, chains) as chain:
            at = b.mul(chain.index, self.constant(CHAIN))
            x, beside, taps = (b.load(b.gep(entries, [b.add(at, self.constant(i))])) for i in range(CHAIN))
            x = b.add(x, b.mul(x_step, j))
            with b.if_then(b.icmp_signed("==", chain.index, b.sub(chains, self.constant(1)))):
                self.fetch(self.rows(x, x_step, count), x_step, count)
            for length in range(1, TAPS + 1):
                with b.if_then(b.icmp_signed("==", taps, self.constant(length))):
                    rows = [self.load(row) for row in self.rows(x, x_step, count + length - 1)]
                    body(rows, self.rows(beside, beside_step, length))

    def rows(self, first, step, count):
        """The addresses of so many rows, a step apart."""
        return [self.b.add(first, self.b.mul(step, self.constant(m))) for m in range(count)]

    def variables(self, values):
        """A place for each value, which LLVM makes a register."""
        places = [cgutils.alloca_once(self.b, self.vector) for _ in values]
        for place, value in zip(places, values):
            self.b.store(value, place)
        return places

    def load(self, row):
        at = self._pointer(row)
        if self.mask is None:
            return self.b.load(at, align=self.bytes)
        kinds = [at.type, _i32, self.mask.type, self.vector]
        load = self._intrinsic("masked.load", ".p0", self.vector, kinds)
        return self.b.call(load, [at, self._align, self.mask, ir.Constant(self.vector, [0.0] * self.lanes)])

    def store(self, value, row):
        at = self._pointer(row)
        if self.mask is None:
            self.b.store(value, at, align=self.bytes)
        else:
            store = self._intrinsic("masked.store", ".p0", ir.VoidType(), [self.vector, at.type, _i32, self.mask.type])
            self.b.call(store, [value, at, self._align, self.mask])

    def fetch(self, rows, step, count, write=False):
        """Have the near cache fetch the chunk of the rows that lie so many steps behind these, if there are any."""
        ahead = self.b.add(self.b.mul(step, self.constant(count)), self.offset)
        for row in rows:
            emit_prefetch(self.b, self.b.add(row, ahead), int(write), 3)

    def multiply_add(self, x, y, place):
        """place += x y"""
        fma = self._intrinsic("fma", "", self.vector, [self.vector] * 3)
        self.b.store(self.b.call(fma, [x, y, self.b.load(place)]), place)

    def broadcast(self, value):
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        one = self.b.insert_element(undefined, value, ir.Constant(_i32, 0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_i32, self.lanes), [0] * self.lanes))

    @staticmethod
    def constant(value):
        return ir.Constant(_i64, value)

    def _pointer(self, row):
        return self.b.inttoptr(self.b.add(row, self.offset), self.vector.as_pointer())

    @property
    def _align(self):
        return ir.Constant(_i32, self.bytes)

    def _intrinsic(self, name, ending, result, kinds):
        name = f"llvm.{name}.v{self.lanes}f{8 * self.bytes}{ending}"
        return cgutils.get_or_insert_function(self.module, ir.FunctionType(result, kinds), name)


def _weigh_rows(e: _Emitter, out, out_step, pixels, table, chains, x_step, w_step, start, channels):
    def window(j, count):
        targets = e.rows(e.b.add(out, e.b.mul(out_step, j)), out_step, count)

        def chunk():
            e.fetch(targets, out_step, count, write=True)
            sums = e.variables([e.load(start)] * count)

            def chain(rows, ws):
                for t, w in enumerate(ws):
                    weight = e.load(w)
                    for row, total in zip(rows[t:], sums):
                        e.multiply_add(row, weight, total)

            e.over_chains(table, chains, x_step, w_step, j, count, chain)
            for target, total in zip(targets, sums):
                e.store(e.b.load(total), target)

        e.over_chunks(channels, chunk)

    e.over_pixels(pixels, window)


def _sum_products(e: _Emitter, y, y_step, pixels, table, chains, x_step, sums_step, channels):
    def window(j, count):
        sources = e.rows(e.b.add(y, e.b.mul(y_step, j)), y_step, count)

        def chunk():
            e.fetch(sources, y_step, count)
            factors = [e.load(source) for source in sources]

            def chain(rows, places):
                for t, place in enumerate(places):
                    (total,) = e.variables([e.load(place)])
                    for row, factor in zip(rows[t:], factors):
                        e.multiply_add(row, factor, total)
                    e.store(e.b.load(total), place)

            e.over_chains(table, chains, x_step, sums_step, j, count, chain)

        e.over_chunks(channels, chunk)

    e.over_pixels(pixels, window)


def _call(context, builder, signature, args, name, emit):
    """Call the LLVM function of a body for the dtype of the first argument; the others are int64."""
    number = context.get_value_type(signature.args[0].dtype)
    name, module = f"{name}_{number}", builder.module
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_i64] * (len(args) - 1)), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        e = _Emitter(function, number)
        emit(e, *function.args)
        e.b.ret_void()
    numbers = [context.cast(builder, a, kind, types.int64) for a, kind in zip(args[1:], signature.args[1:])]
    builder.call(module.globals[name], numbers)
    return context.get_dummy_value()


@intrinsic
def weigh_rows(typing_context, like, out, out_step, pixels, table, chains, x_step, w_step, start, channels):
    """The first equation, in the dtype of the array `like`; all else int64, addresses and steps in bytes.

    out         address of the first pixel's row of `channels` numbers; the others lie out_step apart
    table       `chains` entries: address of the row of x that the first pixel sees by the first tap, address of the
                row of w, number of taps (1 to TAPS)
    x_step      from the row of x that a pixel sees to that of the next, and from tap to tap; w_step: of w, tap to tap
    """

    def emit(context, builder, signature, args):
        return _call(context, builder, signature, args, "weigh_rows", _weigh_rows)

    return types.void(like, out, out_step, pixels, table, chains, x_step, w_step, start, channels), emit


@intrinsic
def sum_products(typing_context, like, y, y_step, pixels, table, chains, x_step, sums_step, channels):
    """The second equation; as `weigh_rows`, but that the row beside a tap is that of its sums."""

    def emit(context, builder, signature, args):
        return _call(context, builder, signature, args, "sum_products", _sum_products)

    return types.void(like, y, y_step, pixels, table, chains, x_step, sums_step, channels), emit
