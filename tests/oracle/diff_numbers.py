"""Compares the numbers of `shard diff --json` with what numpy makes of the same tensors, read by each format's own library.

    diff_numbers.py SHARD DATA         DATA: a folder with small/manifest.csv

Of every file with a parent in the list, each tensor of one name, dtype and shape on both sides has to be listed, with the state that
its bytes say; counts and steps have to be the same, real numbers within 1e-9 of theirs."""

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path

import gguf
import numpy

from readers import readers

RELATIVE = 1e-9

FLOATS = {"F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64}
INTEGERS = {
    "BOOL": numpy.uint8, "U8": numpy.uint8, "I8": numpy.int8, "U16": numpy.uint16, "I16": numpy.int16,
    "U32": numpy.uint32, "I32": numpy.int32, "U64": numpy.uint64, "I64": numpy.int64,
}  # fmt: skip


def values(tensor):
    """As binary64; None for types whose values are not known."""
    if tensor.dtype in gguf.GGMLQuantizationType.__members__ and tensor.dtype not in {*FLOATS, *INTEGERS, "BF16"}:
        kind = gguf.GGMLQuantizationType[tensor.dtype]
        blocks = numpy.frombuffer(tensor.data, numpy.uint8).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
        return gguf.quants.dequantize(blocks, kind).reshape(-1).astype(numpy.float64)
    if tensor.dtype == "BF16":
        words = numpy.frombuffer(tensor.data, numpy.uint16).astype(numpy.uint32) << 16
        return words.view(numpy.float32).astype(numpy.float64)
    if tensor.dtype in FLOATS:
        return numpy.frombuffer(tensor.data, FLOATS[tensor.dtype]).astype(numpy.float64)
    if tensor.dtype in INTEGERS:
        return numpy.frombuffer(tensor.data, INTEGERS[tensor.dtype]).astype(numpy.float64)
    return None


def words(tensor):
    """Whole numbers in the order of the values; bytes for packed types."""
    sizes = {"BF16": numpy.int16, "F16": numpy.int16, "F32": numpy.int32, "F64": numpy.int64}
    if tensor.dtype in sizes:
        signed = numpy.frombuffer(tensor.data, sizes[tensor.dtype]).astype(object)
        least = -(1 << (8 * sizes[tensor.dtype]().itemsize - 1))
        return numpy.where(signed < 0, -1 - (signed - least), signed)
    return numpy.frombuffer(tensor.data, INTEGERS.get(tensor.dtype, numpy.uint8)).astype(object)


def raw(tensor):
    size = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}.get(tensor.dtype)
    size = size or numpy.dtype(INTEGERS.get(tensor.dtype, numpy.uint8)).itemsize
    return numpy.frombuffer(tensor.data, numpy.dtype(("V", size)))


def expected(old, new):
    a, b = values(old), values(new)
    same = raw(old) == raw(new)
    found = {
        "words": len(same),
        "changed": int((~same).sum()),
        "changed_share": float((~same).sum() / max(len(same), 1)),
        "max_ulp": int(max((abs(x - y) for x, y in zip(words(old)[~same], words(new)[~same])), default=0)),
    }
    if old.dtype not in {*FLOATS, *INTEGERS, "BF16"}:
        # Bytes of packed types are no numbers.
        found["max_ulp"] = None
    names = ("relative", "cosine", "max_abs", "old_norm", "new_norm", "change_norm", "factor")
    if a is None:
        return found | dict.fromkeys(names)
    finite = numpy.isfinite(a) & numpy.isfinite(b)
    found["not_finite"] = int((~finite).sum())
    found["lost"] = int((numpy.isfinite(a) & ~numpy.isfinite(b)).sum())
    if len(finite) and not finite.any():
        return found | dict.fromkeys(names)
    x, y = a[finite], b[finite]
    norm = lambda vector: float(numpy.sqrt(numpy.sum(vector * vector)))
    length, dot = norm(x), float(numpy.sum(x * y))
    found["old_norm"], found["new_norm"], found["change_norm"] = length, norm(y), norm(y - x)
    found["max_abs"] = float(numpy.max(numpy.abs(y - x), initial=0.0))
    found["relative"] = norm(y - x) / length if length else (0.0 if norm(y - x) == 0 else None)
    found["cosine"] = dot / (length * norm(y)) if length and norm(y) else None
    found["factor"] = dot / (length * length) if length else None
    return found


def effective_rank(old, new):
    a, b = values(old), values(new)
    if a is None or len(new.shape) < 2 or new.strides is not None:
        return None
    change = (b - a).reshape(new.shape[0], -1)
    if min(change.shape) < 2 or not numpy.isfinite(change).all():
        return None
    lengths = numpy.linalg.svd(change, compute_uv=False)
    shares = lengths / lengths.sum()
    shares = shares[shares > 0]
    return float(numpy.exp(-(shares * numpy.log(shares)).sum()))


def agrees(mine, theirs):
    if mine is None or theirs is None or isinstance(theirs, int):
        return mine == theirs
    return abs(mine - theirs) <= RELATIVE * abs(theirs) or mine == theirs


def compare(shard, old_path, new_path, every):
    """What differs, and how many numbers were compared."""
    sides = []
    for path in (old_path, new_path):
        reader = next((reader for reader in every if reader.claims(path)), None)
        if reader is None:
            return [f"{path}: no library reads it"], 0
        sides.append({tensor.name: tensor for tensor in reader.tensors(path)})
    run = subprocess.run(
        [shard, "diff", "--json", "--equal", "--by", "effective-rank", old_path.resolve(), new_path.resolve()],
        capture_output=True,
    )
    if run.returncode:
        return [f"shard diff failed: {run.stderr.decode(errors='replace').strip()}"], 0
    ours = {tensor["name"]: tensor for tensor in json.loads(run.stdout)["models"][0]["tensors"]}
    wrong, compared = [], 0
    for name, new in sides[1].items():
        old, mine = sides[0].get(name), ours.get(name)
        if mine is None:
            wrong.append(f"{name}: not listed")
            continue
        if old is None or old.shape != new.shape or old.dtype != new.dtype:
            continue
        state = "equal" if old.data == new.data else "value"
        if mine["state"] != state:
            wrong.append(f"{name}: {mine['state']}, not {state}")
        if state == "equal" or old.strides != new.strides:
            continue
        numbers = expected(old, new)
        rank = effective_rank(old, new)
        mine["stats"]["effective_rank"] = mine.get("effective_rank")
        for key, theirs in (numbers | {"effective_rank": rank}).items():
            compared += 1
            if not agrees(mine["stats"][key], theirs):
                wrong.append(f"{name}: {key} is {mine['stats'][key]}, numpy has {theirs}")
    return wrong, compared


def main():
    shard, data = sys.argv[1], Path(sys.argv[2]) / "small"
    warnings.filterwarnings("ignore")
    every = readers()
    total = failed = pairs = 0
    with open(data / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for parent in filter(None, row["parent"].split(";")):
            wrong, compared = compare(shard, data / parent, data / row["path"], every)
            pairs, total, failed = pairs + 1, total + compared, failed + bool(wrong)
            print(f"  {parent} -> {row['path']}: {compared} numbers{', ' + str(len(wrong)) + ' wrong' if wrong else ''}")
            for line in wrong[:5]:
                print(f"    {line}")
    print(f"{pairs} pairs, {total} numbers compared with numpy, {failed} pairs with differences")
    if failed or not total:
        sys.exit(1)


main()
