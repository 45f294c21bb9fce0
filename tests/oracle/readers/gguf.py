"""GGUF, by the reader of the package `gguf`."""

import gguf

from . import Tensor

FORMAT = "gguf"


def claims(path):
    return path.suffix == ".gguf"


def tensors(path):
    # Q8_1 has blocks of another length in the package than in llama.cpp.
    return [
        Tensor(tensor.name, tensor.tensor_type.name, tuple(int(dim) for dim in reversed(tensor.shape)), tensor.data.tobytes())
        for tensor in gguf.GGUFReader(path).tensors
        if tensor.tensor_type.name != "Q8_1"
    ]
