"""The program beside this one: shard, FM-Delta and SHA-256, in Rust (`native/`)."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pairs import SOLO_MIN_BYTES
from tensors import Workload


@dataclass(frozen=True)
class NativePeer:
    """A codec of that program."""

    name: str
    codec: str
    source: str
    solo: bool = True
    delta: bool = True


_SHARD = "this repository, blocks of at most 4 MiB with their headers; encoding includes the choice of a chain and a check by decoding"

NATIVE_PEERS = [
    NativePeer(
        "FM-Delta",
        "fm-delta",
        "Ning et al., “FM-Delta: Lossless Compression for Storing Massive Fine-tuned Foundation Models” (NeurIPS 2024), written "
        "from the paper, in Rust: integers in the order of the floats, of the difference the sign and the place of the highest "
        "bit by an adaptive range coder, a model for each tensor, the bits below as they are",
        solo=False,
    ),
    NativePeer("shard fast", "shard-fast", f"{_SHARD}; level fast"),
    NativePeer("shard", "shard", f"{_SHARD}; default level"),
    NativePeer("shard max", "shard-max", f"{_SHARD}; level max"),
]


class NativeProcess:
    """The program with the tensors of a workload in memory. It answers one round at a time."""

    def __init__(self, program: Path, workload: Workload) -> None:
        files = ["--solo"] if workload.base is None else [str(workload.base)]
        least = SOLO_MIN_BYTES if workload.base is None else 0
        command = [str(program), *files, str(workload.file), "--min-bytes", str(least), "--lockstep"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def round(self, codec: str) -> dict[str, Any]:
        """One round: see `native/main.rs` for the fields. Raises `RuntimeError` where the program gave up; it has then said
        why, on standard error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{codec}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError("the native program has ended") from error
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the native program gave up: a round trip was not exact, or see above")
        answer: dict[str, Any] = json.loads(line)
        return answer
