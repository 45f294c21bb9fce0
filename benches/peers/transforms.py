"""Peers that are a transform and a general compressor: BitX, zstd, Blosc2."""

from __future__ import annotations

from typing import Any

from peer import Peer, ResidualPeer, Stored, as_bytes
from tensors import Bytes, Tensor
from words import from_planes, planes


class BitX(ResidualPeer):
    """The published delta of ZipLLM."""

    name = "BitX"
    source = (
        "ZipLLM (“ZipLLM: Efficient LLM Storage via Model-Aware Synergistic Data Deduplication and Compression”, 2025), "
        "written from the paper: XOR, a plane of exponents and one of signs and mantissas (fp16 is cut at the same bits; byte "
        "planes for other words), zstd -3 for each plane of each tensor (`zstandard`)"
    )

    def __init__(self) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=3)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        frames = [self._compressor.compress(plane.data) for plane in planes(residual, tensor.word)]
        return Stored(sum(map(len, frames)), frames)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        frames = [as_bytes(self._decompressor.decompress(frame)) for frame in stored.payload]
        return from_planes(frames, tensor.word)


class Zstd(ResidualPeer):
    """The general compressor."""

    name = "zstd -3"
    source = "`zstandard`, level 3, on the bytes of each tensor"
    delta = False

    def __init__(self) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=3)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        frame = self._compressor.compress(residual.data)
        return Stored(len(frame), frame)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        return as_bytes(self._decompressor.decompress(stored.payload))


class PatchFrom(Peer):
    """What `zstd --patch-from` does."""

    name = "zstd -9 patch-from"
    source = (
        "`backports.zstd`, level 9, on all tensors end to end, the earlier ones as prefix, with long distance matching and a "
        "window over both, as `zstd -9 --patch-from` sets them"
    )
    solo = False
    whole = True

    def __init__(self) -> None:
        from backports import zstd

        self._zstd = zstd

    def encode(self, tensor: Tensor) -> Stored:
        parameter = self._zstd.CompressionParameter
        options: dict[int, int] = {
            parameter.compression_level: 9,
            parameter.enable_long_distance_matching: 1,
            parameter.window_log: max(10, min(27, (2 * tensor.data.size).bit_length())),
        }
        frame = self._zstd.compress(tensor.data.data, options=options, zstd_dict=self._prefix(tensor))
        return Stored(len(frame), frame)

    def decode(self, stored: Stored, tensor: Tensor) -> Bytes:
        return as_bytes(self._zstd.decompress(stored.payload, zstd_dict=self._prefix(tensor)))

    def _prefix(self, tensor: Tensor) -> Any:
        base = b"" if tensor.base is None else tensor.base.tobytes()
        return self._zstd.ZstdDict(base, is_raw=True).as_prefix


class Blosc2(ResidualPeer):
    """Blosc2 with one of its shuffles."""

    filter: str

    def __init__(self) -> None:
        import blosc2

        self._blosc2 = blosc2

    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        parameters = self._blosc2.CParams(
            codec=self._blosc2.Codec.ZSTD,
            clevel=5,
            typesize=tensor.word,
            filters=[self._blosc2.Filter[self.filter]],
            filters_meta=[0],
            nthreads=1,
        )
        frame = self._blosc2.compress2(residual, cparams=parameters)
        return Stored(len(frame), frame)

    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        parameters = self._blosc2.DParams(nthreads=1)
        return as_bytes(self._blosc2.decompress2(stored.payload, dparams=parameters))


class Blosc2Shuffle(Blosc2):
    """Byte planes."""

    name = "Blosc2 shuffle"
    source = "`blosc2`, shuffle, zstd, level 5, on the XOR of each tensor"
    filter = "SHUFFLE"


class Blosc2Bitshuffle(Blosc2):
    """Bit planes."""

    name = "Blosc2 bitshuffle"
    source = "`blosc2`, bitshuffle, zstd, level 5, on the XOR of each tensor"
    filter = "BITSHUFFLE"
