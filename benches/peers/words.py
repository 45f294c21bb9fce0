"""Words of tensors as integers: the transforms that need no package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensors import Bytes, Tensor

Words = NDArray[np.unsignedinteger[Any]]

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
FLOATS = {"BF16", "F16", "F32", "F64"}


def ordered(data: Bytes, dtype: str, word: int) -> Words:
    """Words as unsigned integers, for floats in the order of their values: their difference is one in units in the last place."""
    words: Words = data.view(UNSIGNED[word])
    if dtype not in FLOATS:
        return words
    top = words.dtype.type(1 << (8 * word - 1))
    return np.where(words & top, ~words, words | top)


def unordered(integers: Words, dtype: str) -> Bytes:
    """The inverse of `ordered`."""
    if dtype not in FLOATS:
        return integers.view(np.uint8)
    top = integers.dtype.type(1 << (8 * integers.itemsize - 1))
    return np.where(integers & top, integers & ~top, ~integers).view(np.uint8)


def ulp_difference(tensor: Tensor, base: Bytes) -> NDArray[np.signedinteger[Any]]:
    """How many units in the last place each word is above its earlier version, wrapping."""
    new, old = (ordered(data, tensor.dtype, tensor.word) for data in (tensor.data, base))
    return (new - old).view(SIGNED[tensor.word])


def add_ulps(tensor: Tensor, base: Bytes, difference: NDArray[Any]) -> Bytes:
    """The inverse of `ulp_difference`; of the tensor only its type is looked at."""
    old = ordered(base, tensor.dtype, tensor.word)
    return unordered(old + difference.view(old.dtype), tensor.dtype)


def planes(residual: Bytes, word: int) -> list[Bytes]:
    """BitX's planes. Words of two bytes: the eight bits below the sign, which are bf16's exponent, and the sign with the seven
    lowest bits. Other words: their bytes."""
    if word != 2:
        return [np.ascontiguousarray(residual[plane::word]) for plane in range(word)]
    words = residual.view(np.uint16)
    return [(words >> 7).astype(np.uint8), ((words >> 8 & 0x80) | (words & 0x7F)).astype(np.uint8)]


def from_planes(planes: list[Bytes], word: int) -> Bytes:
    """The inverse of `planes`."""
    if word != 2:
        return np.stack(planes, axis=1).reshape(-1)
    high, low = (plane.astype(np.uint16) for plane in planes)
    return ((low & 0x80) << 8 | high << 7 | low & 0x7F).view(np.uint8)
