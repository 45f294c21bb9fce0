"""Peers that are packages made for floats: ZipNN, lmz, OpenZL, z4ai, pcodec."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import MagicMock

import numpy as np

from peer import Peer, ResidualPeer, Stored, Unavailable, as_bytes
from tensors import Bytes, Tensor
from words import UNSIGNED, add_ulps, ordered, ulp_difference, unordered

ZIPNN_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
Z4AI_TYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}
PCODEC_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


class ZipNN(ResidualPeer):
    """The codec of “ZipNN: Lossless Compression for AI Models”."""

    name = "ZipNN"
    source = (
        "`zipnn` (Hershcovitch et al., “ZipNN: Lossless Compression for AI Models”, 2024), its interface for bytes with the "
        "type of most words, one thread, on the XOR of all tensors end to end, as it takes files"
    )
    whole = True

    def __init__(self) -> None:
        try:
            import torch  # noqa: F401
        except ImportError:
            # zipnn imports torch for its interface to tensors; the one to bytes does not call it.
            sys.modules.update({"torch": MagicMock(), "safetensors": MagicMock(), "safetensors.torch": MagicMock()})
        import zipnn

        self._zipnn = zipnn.ZipNN

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        # It may write to the buffer that it compresses.
        frame = self._coder(tensor).compress(residual.tobytes())
        return Stored(len(frame), frame)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        return as_bytes(self._coder(tensor).decompress(stored.payload))

    def _coder(self, tensor: Tensor) -> Any:
        return self._zipnn(bytearray_dtype=ZIPNN_TYPES.get(tensor.dtype, "float32"), threads=1)


class Lmz(ResidualPeer):
    """The codec inside lmz."""

    name = "lmz"
    source = (
        "`lmzip`, the codec of its archives at their default level and chunk size, on the XOR of each tensor as for its delta "
        "chunks; a record of its chunk table counts for each chunk. Made for bf16; other floats it takes as byte planes"
    )

    def __init__(self) -> None:
        from lmz import DEFAULT_CHUNK_SIZE, DEFAULT_LEVEL, codec, kernels, planner
        from lmz.format import RECORD

        if not kernels.backend().startswith("native"):
            raise Unavailable("its kernels could not be built, which takes a C compiler")
        self._codec, self._level, self._chunk, self._record = codec, DEFAULT_LEVEL, DEFAULT_CHUNK_SIZE, RECORD.size
        self._kinds = {"BF16": planner.KIND_BF16}
        self._other = planner.KIND_BYTES

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        kind = self._kinds.get(tensor.dtype, self._other)
        chunks, size = [], 0
        for start in range(0, residual.size, self._chunk):
            chunk = residual[start : start + self._chunk].tobytes()
            parts, codec, flags, crc = self._codec.encode_chunk(chunk, tensor.word, self._level, kind=kind)
            payload = b"".join(bytes(part) for part in parts)
            size += len(payload) + self._record
            chunks.append((payload, codec, tensor.word, flags, len(chunk), crc))
        return Stored(size, chunks)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        chunks = [as_bytes(self._codec.decode_chunk(*chunk)) for chunk in stored.payload]
        return chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, np.empty(0, np.uint8)])


class Z4ai(Peer):
    """Its own delta, and its plain codec where there is no earlier version."""

    name = "z4ai"
    source = "`z4ai`, `compress_delta` (XOR) of each tensor, `compress` where there is no parent, at default settings"

    def __init__(self) -> None:
        import z4ai
        from z4ai import rans

        if not rans.available():
            raise Unavailable("its entropy coder could not be built, which takes a C compiler")
        self._z4ai = z4ai

    def encode(self, tensor: Tensor) -> Stored:
        dtype = Z4AI_TYPES.get(tensor.dtype)
        data = tensor.data.tobytes()
        if tensor.base is None:
            frame = self._z4ai.compress(data, dtype=dtype)
        else:
            frame = self._z4ai.compress_delta(data, reference=tensor.base.tobytes(), dtype=dtype)
        return Stored(len(frame), frame)

    def decode(self, stored: Stored, tensor: Tensor) -> Bytes:
        if tensor.base is None:
            return as_bytes(self._z4ai.decompress(stored.payload))
        return as_bytes(self._z4ai.decompress_delta(stored.payload, reference=tensor.base.tobytes()))


class OpenZL(ResidualPeer):
    """A graph of OpenZL's nodes for floats."""

    name = "OpenZL"
    source = (
        "`openzl`, on the XOR of each tensor: its node that takes floats apart, and its entropy coder for the exponents and "
        "for the signs and fractions (fp32: for each of their bytes); its generic compressor for other types"
    )

    def __init__(self) -> None:
        import openzl.ext as openzl

        self._openzl = openzl
        self._compressors = {dtype: self._graph(dtype) for dtype in ("BF16", "F16", "F32", "")}

    def _graph(self, dtype: str) -> Any:
        graphs, nodes = self._openzl.graphs, self._openzl.nodes
        compressor = self._openzl.Compressor()
        compressor.set_parameter(self._openzl.CParam.FormatVersion, self._openzl.MAX_FORMAT_VERSION)
        entropy = graphs.Entropy()(compressor)
        if dtype == "BF16":
            graph = nodes.BFloat16Deconstruct()(compressor, entropy, entropy)
        elif dtype == "F16":
            graph = nodes.Float16Deconstruct()(compressor, entropy, entropy)
        elif dtype == "F32":
            graph = nodes.Float32Deconstruct()(compressor, nodes.TransposeSplit()(compressor, entropy), entropy)
        else:
            graph = graphs.Compress()(compressor)
        compressor.select_starting_graph(graph)
        return compressor

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        context = self._openzl.CCtx()
        context.ref_compressor(self._compressors.get(tensor.dtype, self._compressors[""]))
        words = residual.view(UNSIGNED[tensor.word])
        frame = context.compress([self._openzl.Input(self._openzl.Type.Numeric, words)])
        return Stored(len(frame), frame)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        (output,) = self._openzl.DCtx().decompress(stored.payload)
        words: Bytes = output.content.as_nparray().view(np.uint8)
        return words


class Pcodec(Peer):
    """pcodec on differences in units in the last place."""

    name = "pcodec"
    source = (
        "`pcodec` (Loncaric et al., “Pcodec: Better Compression for Numerical Sequences”, 2025) at default settings, on the "
        "difference in units in the last place of each tensor; without a parent on the floats, or for bf16, which it does not "
        "know, on integers in their order"
    )

    def __init__(self) -> None:
        from pcodec import ChunkConfig, standalone

        self._standalone, self._config = standalone, ChunkConfig()

    def encode(self, tensor: Tensor) -> Stored:
        if tensor.base is not None:
            numbers: Any = ulp_difference(tensor, tensor.base)
        elif tensor.dtype in PCODEC_FLOATS:
            numbers = tensor.data.view(PCODEC_FLOATS[tensor.dtype])
        else:
            numbers = ordered(tensor.data, tensor.dtype, tensor.word)
        frame = self._standalone.simple_compress(numbers, self._config)
        return Stored(len(frame), frame)

    def decode(self, stored: Stored, tensor: Tensor) -> Bytes:
        numbers = self._standalone.simple_decompress(stored.payload)
        if tensor.base is not None:
            return add_ulps(tensor, tensor.base, numbers)
        if tensor.dtype in PCODEC_FLOATS:
            floats: Bytes = numbers.view(np.uint8)
            return floats
        return unordered(numbers, tensor.dtype)
