"""Slow answers in NumPy, one loop per sum in the equation: what the operators are compared with.

Each oracle takes and returns NumPy arrays, computes in the dtype it is given (tests give float64), and is written
from the equation in the operator's docstring, never from its code.
"""
