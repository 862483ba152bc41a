"""A hint to the processor: memory that will be needed soon."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


@functools.cache
def hint() -> Callable[..., None]:
    """``ask(array, i, j)`` for numba's loops: element ``[i, j]`` of a matrix will be read.

    Rows that lie apart are read twice as fast if they are asked for while the row before is
    worked on. Nothing is read, and an address need not be valid.
    """
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    # Few levels of functions and constants: brainevent names a loop by its content, to some depth.
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, row, column = signature.args
        array = context.make_array(kind)(context, builder, args[0])
        index = [
            context.cast(builder, args[1], row, types.intp),
            context.cast(builder, args[2], column, types.intp),
        ]
        place = cgutils.get_item_pointer(
            context, builder, kind, array, index, wraparound=False, boundscheck=False
        )
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]),
            "llvm.prefetch.p0",
        )
        read, second_cache, data = ir.Constant(flag, 0), ir.Constant(flag, 2), ir.Constant(flag, 1)
        builder.call(function, [builder.bitcast(place, byte), read, second_cache, data])
        return context.get_dummy_value()

    def ask(_typing: Any, array: Any, i: Any, j: Any) -> Any:
        return types.void(array, i, j), codegen

    made: Any = intrinsic(ask)
    made.py_func = ask  # what a loop that calls it is known by (support.compiled)
    found: Callable[..., None] = made
    return found
