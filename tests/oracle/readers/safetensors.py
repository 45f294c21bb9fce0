"""safetensors, by its own deserialiser."""

import safetensors

from . import Tensor

FORMAT = "safetensors"


def claims(path):
    return path.suffix == ".safetensors"


def tensors(path):
    return [
        Tensor(name, entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in safetensors.deserialize(path.read_bytes())
    ]
