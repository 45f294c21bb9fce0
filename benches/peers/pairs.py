"""Which checkpoints are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tensors import Workload, load

SOLO_MIN_BYTES = 64 * 1024
"""Smaller tensors are left out where there is no parent."""

PAIRS = [
    ("series/finetune-bf16/base", "series/finetune-bf16/step0100"),
    ("series/finetune-bf16/step0100", "series/finetune-bf16/step0150"),
    ("series/gpt-bf16/step0350", "series/gpt-bf16/step0385"),
    ("series/gpt-bf16/step0385", "series/gpt-bf16/step0420"),
    ("small/base-minilm/bf16", "small/lora-merged/merged-bf16"),
    ("small/base-minilm/bf16", "small/finetune-purebf16/bf16/step0075"),
    ("small/base-minilm/fp16", "small/finetune/fp16/step0150"),
    ("small/gpt-fp16/step0385", "small/gpt-fp16/step0420"),
    ("small/base-minilm/fp32", "small/finetune/fp32/step0150"),
    ("small/base-minilm/fp32", "small/lora-merged/merged-fp32"),
    ("small/frozen/fp32/step0060", "small/frozen/fp32/step0090"),
    ("small/gpt-fp32/step0385", "small/gpt-fp32/step0420"),
    ("small/gpt-fp32/step0420", "small/ema/step0420-ema"),
    ("small/gpt-opt/step0385", "small/gpt-opt/step0420"),
    ("small/cnn/epoch4", "small/cnn/epoch5"),
]

SOLO = [
    "series/finetune-bf16/step0150",
    "series/gpt-bf16/step0420",
    "small/finetune/fp16/step0150",
    "small/gpt-fp16/step0420",
    "small/finetune/fp32/step0150",
    "small/gpt-fp32/step0420",
]

QUICK = {
    "small/base-minilm/bf16 -> small/lora-merged/merged-bf16",
    "small/gpt-fp16/step0385 -> small/gpt-fp16/step0420",
    "small/cnn/epoch4 -> small/cnn/epoch5",
    "small/gpt-fp16/step0420",
    "small/gpt-fp32/step0420",
}


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    data: Path
    quick: bool
    glob: str

    def workloads(self) -> Iterator[Workload]:
        """The chosen workloads, read one at a time: pairs, then single files."""
        for base, file in PAIRS:
            name = f"{base} -> {file}"
            if self._has(name):
                yield load(name, self._path(base), self._path(file), 0)
        for file in SOLO:
            if self._has(file):
                yield load(file, None, self._path(file), SOLO_MIN_BYTES)

    def _has(self, name: str) -> bool:
        return fnmatch(name, self.glob) and (not self.quick or name in QUICK)

    def _path(self, name: str) -> Path:
        return self.data / f"{name}.safetensors"
