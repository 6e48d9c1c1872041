"""Weights from and for PyTorch: files are read without PyTorch and without running what is in them."""

from .files import FileError, read
from .weights import load_torch, to_torch

__all__ = ["FileError", "load_torch", "read", "to_torch"]
