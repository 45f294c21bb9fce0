"""Files of 100,000 tensors, written by each format's own library: how long shard takes to cut and hash one, which includes
parsing its header, and how much memory.

    python tests/oracle/headers.py SHARD DIR [SLACK]

Fails where the fastest of three runs takes a second or more (times SLACK, for busy machines), or any takes 256 MiB or more.
"""

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

COUNT = 100_000
SECONDS = 1.0
BYTES = 256 << 20
ROUNDS = 3


def write(folder: Path) -> None:
    """One file a format; each tensor has four numbers of its own."""
    # Only here: what measures has to be small, since a process starts out with the memory of the one that it was forked from.
    import gguf
    import h5py
    import numpy as np
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import save_file

    names = [f"model.layers.{i // 10}.block.{i % 10}.weight" for i in range(COUNT)]
    values = np.arange(COUNT * 4, dtype=np.float32).reshape(COUNT, 4)
    tensors = dict(zip(names, values))
    save_file(tensors, folder / "safetensors.safetensors")
    loaded = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
    torch.save(loaded, folder / "pytorch.pt")
    torch.save(loaded, folder / "pytorch-legacy.pt", _use_new_zipfile_serialization=False)
    np.savez(folder / "npz.npz", **tensors)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph), folder / "onnx.onnx")
    writer = gguf.GGUFWriter(folder / "gguf.gguf", "llama")
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name, version in [("hdf5-earliest.h5", "earliest"), ("hdf5-latest.h5", "latest")]:
        with h5py.File(folder / name, "w", libver=version) as file:
            for path, value in tensors.items():
                file[path.replace(".", "/")] = value
    with tarfile.open(folder / "tar.tar", "w") as archive:
        for name, value in tensors.items():
            data = io.BytesIO()
            np.save(data, value)
            member = tarfile.TarInfo(f"{name}.npy")
            member.size = data.tell()
            data.seek(0)
            archive.addfile(member, data)


def measure(shard: str, path: Path) -> tuple[float, int]:
    """Seconds and bytes of memory of one run."""
    start = time.monotonic()
    process = subprocess.Popen([shard, "chunk", "--summary", str(path)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status != 0:
        sys.exit(f"{path.name}: shard failed")
    return seconds, usage.ru_maxrss * 1024


def main() -> None:
    if sys.argv[1] == "--write":
        write(Path(sys.argv[2]))
        return
    shard, folder = sys.argv[1], Path(sys.argv[2])
    slack = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, __file__, "--write", folder], check=True)
    failed = False
    print(f"{'100,000 tensors':24} {'MB':>6} {'seconds':>8} {'MiB':>6}")
    for path in sorted(folder.iterdir()):
        runs = [measure(shard, path) for _ in range(ROUNDS)]
        seconds, memory = min(run[0] for run in runs), max(run[1] for run in runs)
        missed = seconds >= SECONDS * slack or memory >= BYTES
        failed |= missed
        size = path.stat().st_size / 1e6
        print(f"{path.name:24} {size:6.1f} {seconds:8.2f} {memory / 2**20:6.0f}{'  MISSED' if missed else ''}")
    sys.exit(1 if failed else 0)


main()
