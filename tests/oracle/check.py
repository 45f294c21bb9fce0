"""Compares what shard finds in files with what each format's own library finds in them.

    check.py SHARD PATH...        PATH: files, or folders of them

For each file that a library reads, `shard show --manifest` has to list the same tensors: names, dtypes, shapes, and the bytes,
compared through the ids of blocks, or in the file where a tensor shares its segment with others."""

import argparse
import collections
import hashlib
import json
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

from readers import Unreadable, readers

# Bytes of a storage unit where they are no power of two (docs/format.md, data types): a tensor is cut at whole ones.
UNITS = {
    "F6_E2M3": 3, "F6_E3M2": 3, "Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "Q8_1": 36, "Q2_K": 84,
    "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210, "Q8_K": 292, "IQ2_XXS": 66, "IQ2_XS": 74, "IQ3_XXS": 98,
    "IQ1_S": 50, "IQ4_NL": 18, "IQ3_S": 110, "IQ2_S": 82, "IQ4_XS": 136, "IQ1_M": 56, "TQ1_0": 54, "TQ2_0": 66,
    "MXFP4": 17, "NVFP4": 36, "Q1_0": 18,
}  # fmt: skip

SHOWN = 5


def manifest_of(shard, path):
    # By a path that cannot be a revision's name.
    run = subprocess.run([shard, "show", "--manifest", str(path.resolve())], capture_output=True)
    if run.returncode:
        raise SystemExit(f"{path}: shard show failed: {run.stderr.decode(errors='replace').strip()}")
    return json.loads(run.stdout)


def number(value):
    """Integers beyond 2^53 are strings."""
    return int(value)


def expanded(path, manifest):
    """The bytes that segments tile: those of the file, compressed runs expanded."""
    file = path.read_bytes()
    runs = {run["first"]: run for run in manifest.get("compressed", [])}
    if not runs:
        return file
    parts, at, index = [], 0, 0
    while index < len(manifest["segments"]):
        if index in runs:
            run = runs[index]
            length = number(run["len"])
            parts.append(zlib.decompressobj(-15).decompress(file[at : at + length]))
            at += length
            index += run["count"]
        else:
            length = number(manifest["segments"][index]["len"])
            parts.append(file[at : at + length])
            at += length
            index += 1
    return b"".join(parts)


def block_ids(data, dtype, cut):
    unit = UNITS.get(dtype, 1)
    length = cut // unit * unit
    return [hashlib.sha256(data[start : start + length]).hexdigest() for start in range(0, len(data), length)]


def differences(path, reader, shard):
    """What differs, and the tensors that were compared."""
    theirs = reader.tensors(path)
    manifest = manifest_of(shard, path)
    if theirs and manifest["format"] == "opaque":
        return [f"kept as opaque, with {len(theirs)} tensors in it"], []
    wrong = []
    ours = {}
    for tensor in manifest["tensors"]:
        if tensor["name"] in ours:
            wrong.append(f"{tensor['name']}: listed twice")
        ours[tensor["name"]] = tensor
    starts, at = [], 0
    for segment in manifest["segments"]:
        starts.append(at)
        at += number(segment["len"])
    file = None
    for tensor in theirs:
        mine = ours.pop(tensor.name, None)
        if mine is None:
            wrong.append(f"{tensor.name}: not listed ({tensor.dtype} {list(tensor.shape)})")
            continue
        shape = tuple(number(dim) for dim in mine["shape"])
        strides = tuple(number(stride) for stride in mine["strides"]) if "strides" in mine else None
        for what, here, there in [
            ("dtype", mine["dtype"], tensor.dtype),
            ("shape", shape, tuple(tensor.shape)),
            ("strides", strides, tensor.strides),
        ]:
            if here != there:
                wrong.append(f"{tensor.name}: {what} {here}, the library has {there}")
        segment = manifest["segments"][mine["segment"]]
        offset = number(mine.get("offset", 0))
        if offset == 0 and number(segment["len"]) == len(tensor.data) and segment.get("dtype") is not None:
            same = mine["blocks"] == block_ids(tensor.data, segment["dtype"], manifest["cut"])
        else:
            file = expanded(path, manifest) if file is None else file
            start = starts[mine["segment"]] + offset
            same = file[start : start + len(tensor.data)] == tensor.data
        if not same:
            wrong.append(f"{tensor.name}: other bytes")
    may_have_more = getattr(reader, "may_have_more", lambda path, name: False)
    wrong += [f"{name}: the library has no such tensor" for name in ours if not may_have_more(path, name)]
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest["sha256"]:
        wrong.append("the manifest is of another file")
    return wrong, theirs


def files_of(paths):
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path
        else:
            raise SystemExit(f"{path}: no such file or folder")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("shard")
    arguments.add_argument("paths", nargs="+")
    arguments.add_argument("--every-format", action="store_true", help="fail where a format has no file or no tensor")
    arguments = arguments.parse_args()
    # Libraries say much about what they deprecate.
    warnings.filterwarnings("ignore")
    counts = collections.defaultdict(lambda: [0, 0, 0, set()])
    failed = unread = 0
    every = readers()
    for path in files_of(arguments.paths):
        reader = next((reader for reader in every if reader.claims(path)), None)
        if reader is None:
            continue
        try:
            wrong, found = differences(path, reader, arguments.shard)
        except Unreadable as error:
            unread += 1
            print(f"  {path}: not read by the library: {error}")
            continue
        row = counts[reader.FORMAT]
        row[0] += 1
        row[1] += len(found)
        row[2] += bool(wrong)
        row[3] |= {tensor.dtype for tensor in found}
        if wrong:
            failed += 1
            print(f"  {path}: {len(wrong)} differences")
            for line in wrong[:SHOWN]:
                print(f"    {line}")
    print(f"{'format':<12} {'files':>6} {'differ':>6} {'tensors':>8}  dtypes")
    for name, (files, tensors, differ, dtypes) in sorted(counts.items()):
        print(f"{name:<12} {files:>6} {differ:>6} {tensors:>8}  {len(dtypes)}: {' '.join(sorted(dtypes))}")
    missing = [reader.FORMAT for reader in every if not counts[reader.FORMAT][1]]
    if not any(tensors for _, tensors, _, _ in counts.values()):
        print("nothing was compared")
        return 1
    if arguments.every_format and missing:
        print(f"nothing was compared for: {', '.join(missing)}")
        return 1
    print(f"{failed} files differ, {unread} were not read by their library" if failed or unread else "no differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
