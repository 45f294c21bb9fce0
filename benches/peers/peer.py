"""What a peer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensors import Bytes, Tensor


class Unavailable(Exception):
    """Why a peer cannot run on this machine."""


@dataclass(frozen=True)
class Stored:
    """A stored form: whatever a peer decodes from, and the bytes that it takes, headers and tables included."""

    size: int
    payload: Any


class Peer(ABC):
    """A lossless codec of tensors, set up for one thread. Making one raises where it cannot run."""

    name: str
    source: str
    """Package, paper and configuration."""
    delta = True
    """Whether it takes tensors with an earlier version."""
    solo = True
    """Whether it takes tensors without one."""
    whole = False
    """Whether it takes all tensors end to end, as one."""

    @abstractmethod
    def encode(self, tensor: Tensor) -> Stored:
        """The stored form."""

    @abstractmethod
    def decode(self, stored: Stored, tensor: Tensor) -> Bytes:
        """The bytes of the tensor, from the stored form; of the tensor only type, length and base may be looked at."""


class ResidualPeer(Peer):
    """A peer for buffers: it gets the XOR with the earlier version, where there is one."""

    @abstractmethod
    def compress(self, residual: Bytes, tensor: Tensor) -> Stored:
        """The stored form of the residual."""

    @abstractmethod
    def decompress(self, stored: Stored, tensor: Tensor) -> Bytes:
        """The residual."""

    def encode(self, tensor: Tensor) -> Stored:
        return self.compress(tensor.residual(), tensor)

    def decode(self, stored: Stored, tensor: Tensor) -> Bytes:
        return tensor.restored(self.decompress(stored, tensor))


def as_bytes(buffer: Any) -> Bytes:
    """A view of a buffer's bytes."""
    return np.frombuffer(buffer, np.uint8)


def made(peers: Sequence[type[Peer]]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that run here, and by name why others do not. Each has encoded something, so that what is built or loaded at
    the first use is not measured."""
    running: list[Peer] = []
    missing: dict[str, str] = {}
    data = np.arange(1 << 15, dtype=np.uint16).view(np.uint8)
    probe = Tensor("probe", "BF16", data, np.roll(data, 2))
    alone = Tensor("probe", "BF16", data, None)
    for kind in peers:
        try:
            peer = kind()
            tensor = probe if peer.delta else alone
            peer.decode(peer.encode(tensor), tensor)
            running.append(peer)
        except (ImportError, OSError, AttributeError, Unavailable) as error:
            missing[kind.name] = f"{type(error).__name__}: {error}"
    return running, missing
