"""A training run that needs nothing but Python: a matrix that is learnt beside an embedding that is frozen, as safetensors files.

    series.py DIR COUNT     writes COUNT checkpoints, DIR/step-N/model.safetensors
"""

import array
import json
import random
import struct
import sys
from pathlib import Path

WIDTH = 32
FROZEN = 1 << 16  # float32 values that no step changes: 256 KiB


def product(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


class Training:
    """Learns a matrix from random vectors and what it makes of them."""

    def __init__(self, seed=1):
        self.random = random.Random(seed)
        row = lambda: [self.random.gauss(0, 1) for _ in range(WIDTH)]
        self.target = [row() for _ in range(WIDTH)]
        self.weights = [[0.0] * WIDTH for _ in range(WIDTH)]
        self.embedding = array.array("f", (self.random.gauss(0, 1) for _ in range(FROZEN)))
        self.tests = [row() for _ in range(8)]

    def step(self, rate=0.02):
        given = [self.random.gauss(0, 1) for _ in range(WIDTH)]
        wanted, got = product(self.target, given), product(self.weights, given)
        for row, w, g in zip(self.weights, wanted, got):
            for column, value in enumerate(given):
                row[column] += rate * (w - g) * value

    def loss(self, weights):
        """The mean squared error of some weights; those of a file are as they were trained, rounded to float32."""
        errors = (w - g for x in self.tests for w, g in zip(product(self.target, x), product(weights, x)))
        squares = [error * error for error in errors]
        return sum(squares) / len(squares)

    def file(self):
        """The weights as the bytes of a safetensors file."""
        head = array.array("f", (value for row in self.weights for value in row)).tobytes()
        body = self.embedding.tobytes()
        header = {
            "head.weight": {"dtype": "F32", "shape": [WIDTH, WIDTH], "data_offsets": [0, len(head)]},
            "embedding.weight": {"dtype": "F32", "shape": [FROZEN], "data_offsets": [len(head), len(head) + len(body)]},
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + head + body


def weights_of(file):
    """The weights in the bytes of such a file."""
    (length,) = struct.unpack_from("<Q", file)
    start, end = json.loads(bytes(file[8 : 8 + length]))["head.weight"]["data_offsets"]
    values = array.array("f", bytes(file[8 + length + start : 8 + length + end]))
    return [list(values[row * WIDTH : (row + 1) * WIDTH]) for row in range(WIDTH)]


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    training = Training()
    for number in range(1, count + 1):
        for _ in range(5):
            training.step()
        place = folder / f"step-{number}"
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(training.file())
