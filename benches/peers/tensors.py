"""The tensors of safetensors files, matched with an earlier version by name."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

WORD_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
"""Types that the recorded checkpoints have, by their name in safetensors."""


@dataclass(frozen=True)
class Tensor:
    """A tensor to encode, and its earlier version where it has one: as many bytes."""

    name: str
    dtype: str
    data: Bytes
    base: Bytes | None

    @property
    def word(self) -> int:
        """Bytes of a word."""
        return WORD_BYTES[self.dtype]

    def residual(self) -> Bytes:
        """The XOR with the earlier version; without one, the bytes themselves."""
        return self.data if self.base is None else self.data ^ self.base

    def restored(self, residual: Bytes) -> Bytes:
        """The inverse of `residual`."""
        return residual if self.base is None else residual ^ self.base


@dataclass(frozen=True)
class Workload:
    """Tensors that are measured together."""

    name: str
    tensors: list[Tensor]
    """Those to encode: tensors that equal their earlier version are free, for everyone."""
    raw: int
    """Bytes of all tensors, the free ones included."""
    dtype: str
    """The type of most bytes."""
    base: Path | None
    file: Path

    @property
    def coded(self) -> int:
        """Bytes of the tensors to encode."""
        return sum(tensor.data.size for tensor in self.tensors)

    def whole(self) -> Tensor:
        """All tensors to encode, end to end as one."""
        bases = [tensor.base for tensor in self.tensors if tensor.base is not None]
        base = np.concatenate(bases) if len(bases) == len(self.tensors) else None
        return Tensor("all", self.dtype, np.concatenate([tensor.data for tensor in self.tensors]), base)


def read(path: Path) -> dict[str, tuple[str, Bytes]]:
    """Type and bytes of each tensor of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    data = np.frombuffer(content, np.uint8)[8 + length :]
    views = sorted((name, view) for name, view in header.items() if name != "__metadata__")
    # A copy of its own each: aligned, as a program that holds tensors has them.
    return {name: (view["dtype"], data[slice(*view["data_offsets"])].copy()) for name, view in views}


def load(name: str, base: Path | None, file: Path, min_bytes: int) -> Workload:
    """The tensors of `file` of at least `min_bytes`, against those of `base`."""
    bases = read(base) if base is not None else {}
    tensors, raw, types = [], 0, Counter[str]()
    for tensor, (dtype, data) in read(file).items():
        if data.size < min_bytes:
            continue
        raw += data.size
        types[dtype] += data.size
        earlier_dtype, earlier = bases.get(tensor, ("none", data))
        parent = earlier if earlier_dtype == dtype and earlier.size == data.size else None
        if parent is None or not np.array_equal(parent, data):
            tensors.append(Tensor(tensor, dtype, data, parent))
    return Workload(name, tensors, raw, types.most_common(1)[0][0], base, file)
