"""What each library finds in a file. One module a library; each has

FORMAT          the name in the table
claims(path)    whether the library reads such a file
tensors(path)   the tensors that have bytes of their own in the file, as Tensor

and nothing in them looks at what shard says."""

import importlib
from typing import NamedTuple

LIBRARIES = ("safetensors", "torch", "onnx", "gguf", "numpy", "h5py")


class Tensor(NamedTuple):
    name: str
    dtype: str
    """The name that shard has for it."""
    shape: tuple
    data: bytes
    """In the order of the file."""
    strides: tuple | None = None
    """In elements; None for row-major order."""


class Unreadable(Exception):
    """A file that the library does not read, as far as it is asked to: without running what is in it."""


def readers():
    # Each is called like the library that it imports, so they are only known by their full names.
    return [importlib.import_module(f"{__name__}.{library}") for library in LIBRARIES]


def permuted(shape, strides):
    """Strides, in elements, as shard lists them: None for row-major order, False for elements that lie apart or share a place."""
    if 0 in shape:
        return None
    dims = [(stride, dim) for stride, dim in zip(strides, shape) if dim != 1]
    expected = 1
    for stride, dim in sorted(dims):
        if stride != expected:
            return False
        expected *= dim
    return None if dims == sorted(dims, key=lambda dim: -dim[0]) else tuple(strides)
