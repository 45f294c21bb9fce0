"""Rounds: every peer in turn, every stored form decoded and compared."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np

from native import NATIVE_PEERS, NativeProcess
from peer import Peer
from tensors import Tensor, Workload


@dataclass(frozen=True)
class Pass:
    """What one peer took for a workload in one round: bytes, and seconds of processor time."""

    stored: int
    encode: float
    decode: float


@dataclass
class Measured:
    """The rounds of one peer."""

    passes: list[Pass] = field(default_factory=list)
    failure: str = ""
    """Why there is no result: a round trip that is not exact, or an error."""

    @property
    def stored(self) -> int:
        """Stored bytes; they are the same in every round."""
        return self.passes[0].stored

    @property
    def encode(self) -> float:
        """Seconds, median."""
        return median(each.encode for each in self.passes)

    @property
    def decode(self) -> float:
        """Seconds, median."""
        return median(each.decode for each in self.passes)


@dataclass
class Result:
    """What a workload gave."""

    name: str
    dtype: str
    delta: bool
    raw: int
    coded: int
    peers: dict[str, Measured]
    sha256: float = 0.0
    """Seconds, median, for the tensors that were coded."""

    def ratio(self, peer: str) -> float | None:
        """Raw bytes over stored bytes, if there is a result."""
        measured = self.peers.get(peer)
        if measured is None or measured.failure or not measured.passes:
            return None
        return self.raw / measured.stored


def measure(workload: Workload, peers: list[Peer], program: Path, rounds: int) -> Result:
    """Runs every peer that takes the workload, in turns."""
    delta = workload.base is not None
    result = Result(workload.name, workload.dtype, delta, workload.raw, workload.coded, {})
    hashes: list[float] = []
    whole = workload.whole()
    with NativeProcess(program, workload) as native:

        def python_pass(peer: Peer) -> Pass:
            return _pass(peer, [whole] if peer.whole else workload.tensors)

        def native_pass(codec: str) -> Pass:
            answer = native.round(codec)
            if answer["raw"] != workload.coded:
                raise RuntimeError("the native program coded other tensors")
            hashes.append(answer["sha256_s"])
            return Pass(answer["stored"], answer["encode_s"], answer["decode_s"])

        turns: dict[str, Callable[[], Pass]] = {}
        for peer in peers:
            if peer.delta if delta else peer.solo:
                turns[peer.name] = lambda peer=peer: python_pass(peer)  # type: ignore[misc]
        for each in NATIVE_PEERS:
            if each.delta if delta else each.solo:
                turns[each.name] = lambda codec=each.codec: native_pass(codec)  # type: ignore[misc]
        result.peers = {name: Measured() for name in turns}
        for _ in range(rounds):
            for name, turn in turns.items():
                _take(turn, result.peers[name])
    result.sha256 = median(hashes) if hashes else 0.0
    return result


def _take(turn: Callable[[], Pass], measured: Measured) -> None:
    """One turn. After a failure a peer has no more of them."""
    if measured.failure:
        return
    try:
        each = turn()
        if measured.passes and each.stored != measured.stored:
            raise ValueError(f"{each.stored} bytes stored, and {measured.stored} before")
        measured.passes.append(each)
    except Exception as error:  # noqa: BLE001, whatever a peer raises is its result
        measured.failure = f"{type(error).__name__}: {error}".splitlines()[0]


def _pass(peer: Peer, tensors: list[Tensor]) -> Pass:
    stored, encode, decode = 0, 0.0, 0.0
    gc.collect()
    gc.disable()
    try:
        for tensor in tensors:
            start = process_time()
            form = peer.encode(tensor)
            middle = process_time()
            data = peer.decode(form, tensor)
            end = process_time()
            if not np.array_equal(data, tensor.data):
                raise ValueError(f"the round trip of {tensor.name} is not exact")
            stored += form.size
            encode += middle - start
            decode += end - middle
    finally:
        gc.enable()
    return Pass(stored, encode, decode)
