"""Asking the memory for what will be needed soon.

The hardware follows a stream of addresses by itself, but stops at each page and is late where a kernel reads several;
and a kernel that multiplies has time to let memory work. A prefetch is a hint: beyond an array's end nothing happens.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64  # bytes of a cache line
_byte, _i32, _i64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)


def emit_prefetch(builder, at, write: int, level: int):
    """The instruction itself: the line at an address, an integer, to be read or written, into the L1 (3) or L2 (2)."""
    kind = ir.FunctionType(ir.VoidType(), [_byte, _i32, _i32, _i32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(fetch, [builder.inttoptr(at, _byte), *(ir.Constant(_i32, n) for n in (write, level, 1))])


def _prefetcher(write: int):
    @intrinsic
    def prefetch(typing_context, array, first, count):
        """Let `count` numbers of a C-contiguous array, from its number `first` on, be brought into the L2 cache."""

        def emit(context, builder, signature, args):
            b, kind = builder, signature.args[0]
            size = ir.Constant(_i64, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
            data = b.ptrtoint(context.make_array(kind)(context, b, args[0]).data, _i64)
            begin, room = b.add(data, b.mul(args[1], size)), b.mul(args[2], size)
            lines = b.udiv(b.add(room, ir.Constant(_i64, LINE - 1)), ir.Constant(_i64, LINE))
            with cgutils.for_range(b, lines) as line:
                emit_prefetch(b, b.add(begin, b.mul(line.index, ir.Constant(_i64, LINE))), write, 2)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), emit

    return prefetch


prefetch, prefetch_to_write = _prefetcher(0), _prefetcher(1)
