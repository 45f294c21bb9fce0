"""Writes files of every dtype and layout that each library can write into a folder.

    generate.py FOLDER"""

import collections
import io
import sys
import warnings
from pathlib import Path

import gguf
import h5py
import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(2026)
# Longer than a block of 4 MiB, in bytes, and of no round length.
LONG = (4 << 20) + 12

TORCH = (
    "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex32 complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2"
).split()
NUMPY = "? u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 c8 c16".split()


def random(dtype, shape):
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return RNG.integers(0, 2, shape).astype(dtype)
    # Arbitrary bytes, so that nothing can pass that is not compared bit by bit.
    return np.frombuffer(RNG.bytes(int(np.prod(shape, dtype=int)) * dtype.itemsize), dtype).reshape(shape)


def of_torch(name, shape):
    dtype = getattr(torch, name)
    size = torch.empty(0, dtype=dtype).element_size()
    raw = random("?" if name == "bool" else "u1", (*shape[:-1], shape[-1] * size))
    return torch.from_numpy(raw.astype("u1").copy()).view(dtype)


def every_torch():
    made = {name: of_torch(name, (3, 6)) for name in TORCH}
    made["scalar"] = torch.tensor(1.5)
    made["empty"] = torch.empty(0, 4, dtype=torch.float16)
    made["long"] = of_torch("bfloat16", (1, LONG // 2))
    return made


def write_safetensors(folder):
    made = {}
    for name, tensor in every_torch().items():
        try:
            safetensors.torch.save({name: tensor})
        except (KeyError, safetensors.SafetensorError):
            continue
        made[name] = tensor
    safetensors.torch.save_file(made, folder / "every.safetensors", {"format": "pt"})
    safetensors.torch.save_file({}, folder / "none.safetensors")


def views():
    base = torch.randn(6, 8)
    return {
        "base": base, "rows": base[2:4], "transposed": base.t(), "stepped": base[:, ::2], "tied": base, "row": base[3],
        "expanded": torch.randn(3, 1).expand(3, 4), "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "flat": base.view(-1)[5:17],
        "conjugate": torch.randn(4, dtype=torch.complex64).conj(),
    }  # fmt: skip


def nested():
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    return {
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "loss": 0.5, "tags": ("a", None),
        "history": [torch.randn(2), {"best": (torch.randn(2), 1)}], ("k", 1): torch.randn(1), -1: torch.randn(1),
        "a.b": torch.randn(1), "a": {"b": torch.randn(2)}, "ordered": collections.OrderedDict(w=torch.randn(2)),
        "größe/名": torch.nn.Parameter(torch.randn(2)),
    }  # fmt: skip


LEGACY = {"_use_new_zipfile_serialization": False}


def loads(tensor):
    file = io.BytesIO()
    torch.save(tensor, file, **LEGACY)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception:
        return False
    return True


def write_torch(folder):
    dense = torch.eye(4) * torch.arange(4)
    scales, zeros = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.zeros(4, dtype=torch.long)
    made = {
        "every": every_torch(), "views": views(), "nested": nested(), "one": torch.randn(2, 3),
        "sparse": {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "bsc": dense.to_sparse_bsc((2, 2))},
        "quantised": {
            "tensor": torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
            "channel": torch.quantize_per_channel(dense, scales, zeros, 0, torch.qint8),
        },
    }  # fmt: skip
    for name, value in made.items():
        torch.save(value, folder / f"{name}.pt")
        if name == "every":
            # Later dtypes are written to the older form, but not read from it.
            value = {name: tensor for name, tensor in value.items() if loads(tensor)}
            assert len(value) > 10
        torch.save(value, folder / f"{name}-legacy.pt", **LEGACY)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    torch.jit.save(torch.jit.script(net), folder / "scripted.jit")
    torch.jit.save(torch.jit.trace(net, torch.randn(1, 4)), folder / "traced.jit")


def write_numpy(folder):
    arrays = {f"t{np.dtype(code).name}": random(code, (3, 5)) for code in NUMPY}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        np.save(folder / f"{name}-fortran.npy", np.asfortranarray(array))
    arrays |= {
        "scalar": np.array(1.5), "empty": np.zeros((0, 3), "f4"), "deep/name": random("f4", (2, 2)),
        "fortran": np.asfortranarray(random("f4", (7, 5, 3))), "long": random("f4", (1, LONG // 4)),
        "zeros": np.zeros((300, 300), "f4"), "normal": RNG.standard_normal((200, 50)).astype("f4"),
        "big": random(">f4", (3,)), "text": np.array(["a", "bc"]), "record": np.zeros(2, [("a", "f4"), ("b", "i2")]),
    }  # fmt: skip
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)
    np.savez(folder / "numbered.npz", random("f4", (2,)), random("i8", (3,)))


def onnx_tensor(name, dtype, shape):
    """A tensor whose raw data are arbitrary bytes; bits that belong to no element are zero."""
    number = TensorProto.DataType.Value(dtype)
    count = int(np.prod(shape, dtype=int))
    numpy_type = np.dtype(helper.tensor_dtype_to_np_dtype(number))
    if dtype == "BOOL":
        return numpy_helper.from_array(random("?", shape), name)
    if numpy_type.kind in "fciu" and numpy_type.isbuiltin:
        return numpy_helper.from_array(random(numpy_type, shape), name)
    values = RNG.integers(0, 2, count).astype(np.float32).astype(numpy_type)
    return numpy_helper.from_array(values.reshape(shape), name)


def onnx_model(nodes=(), initializers=(), sparse=()):
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [], [out], list(initializers), sparse_initializer=list(sparse))
    return helper.make_model(graph)


def write_onnx(folder):
    kinds = [kind for kind in TensorProto.DataType.keys() if kind not in ("UNDEFINED", "STRING")]
    every = [onnx_tensor(f"t.{kind}", kind, (4, 6)) for kind in kinds]
    every += [onnx_tensor("scalar", "FLOAT", ()), onnx_tensor("empty", "FLOAT16", (0, 3)), onnx_tensor("long", "FLOAT", (LONG // 4,))]
    onnx.save(onnx_model(initializers=every), folder / "every.onnx")
    typed = [
        helper.make_tensor("floats", TensorProto.FLOAT, [2, 2], [1.5, -2.0, 3.0, 0.0]),
        helper.make_tensor("doubles", TensorProto.DOUBLE, [3], [1.5, -2.0, 3.0]),
        helper.make_tensor("complex", TensorProto.COMPLEX64, [2], [1 + 2j, 3 - 4j]),
        helper.make_tensor("ints", TensorProto.INT32, [2], [1, 2]),
        helper.make_tensor("strings", TensorProto.STRING, [2], [b"a", b"b"]),
    ]
    onnx.save(onnx_model(initializers=typed), folder / "typed.onnx")
    thin = helper.make_sparse_tensor(
        numpy_helper.from_array(random("f4", (2,)), "thin"), numpy_helper.from_array(np.array([1, 3]), ""), [8]
    )
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx_tensor("w", "FLOAT", (2, 3))],
    )
    nodes = [
        helper.make_node("Constant", [], ["cond"], value=onnx_tensor("", "BOOL", ())),
        helper.make_node("ConstantOfShape", ["cond"], ["filled"], value=onnx_tensor("", "FLOAT", (1,))),
        helper.make_node("If", ["cond"], ["out"], then_branch=inner, else_branch=inner),
    ]
    onnx.save(onnx_model(nodes, [onnx_tensor("weight", "BFLOAT16", (4, 4))], [thin]), folder / "nested.onnx")
    outer = [onnx_tensor("a", "FLOAT", (16, 16)), onnx_tensor("b", "INT8", (300,)), onnx_tensor("long", "FLOAT", (LONG // 4,)), onnx_tensor("few", "INT64", (2,))]
    onnx.save(onnx_model(initializers=outer), folder / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=100)


def write_gguf(folder):
    writer = gguf.GGUFWriter(folder / "every.gguf", "oracle")
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        # The package's blocks of this type are longer than llama.cpp's.
        if kind.name != "Q8_1":
            writer.add_tensor(f"t.{kind.name}.weight", random("u1", (3, 2 * size)), raw_dtype=kind)
    writer.add_tensor("scalar", np.array(1.5, "f4").reshape(()))
    writer.add_tensor("long", random("u1", (34, LONG // 34 // 34 * 34)), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_array("tokens", [f"token {index}" for index in range(1000)])
    writer.add_custom_alignment(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_h5(folder):
    for libver in ("earliest", "latest"):
        with h5py.File(folder / f"every-{libver}.h5", "w", libver=libver) as file:
            for code in NUMPY:
                file[f"types/{np.dtype(code).name}"] = random(code, (3, 5))
            file["other/big"] = random(">f4", (3,))
            file["other/text"] = ["a", "bc"]
            file["scalar"] = np.float32(1.5)
            file.create_dataset("empty", (0, 4), "f4")
            file["long"] = random("u2", (LONG // 2,))
            file["again"] = file["long"]
            shapes = [((70, 50), (32, 32)), ((64, 40), (64, 20)), ((10, 6), (4, 6)), ((3, 8, 5), (1, 4, 5)), ((3, 7, 5), (1, 4, 5))]
            for index, (shape, chunk) in enumerate(shapes):
                for name, most in [("fixed", None), ("grows", (None, *shape[1:])), ("grows_all", (None,) * len(shape))]:
                    file.create_dataset(f"chunked/{name}{index}", data=random("f4", shape), chunks=chunk, maxshape=most)
            for name, most in [("fixed", None), ("grows", (None,)), ("grows_wide", (None, 8))]:
                shape = (90_000,) if name != "grows_wide" else (90_000, 8)
                many = file.create_dataset(f"many/{name}", shape, "u1", chunks=(1,) if len(shape) == 1 else (1, 4), maxshape=most)
                many[1000:1100] = 7
            sparse = file.create_dataset("sparse", (60_000_000,), "u1", chunks=(4096,), maxshape=(None,))
            for start in (0, 5_000_000, 20_000_000, 59_990_000):
                sparse[start : start + 9000] = random("u1", (9000,))
            wide = file.create_dataset("wide", (4, 64, 40_000), "f4", chunks=(2, 8, 64), maxshape=(4, 64, None))
            wide[:, :, 39_000:] = random("f4", (4, 64, 1000))
            file.create_dataset("gzip", data=np.zeros((64, 64), "f4"), compression="gzip")
            for index in range(300):
                file[f"layers/{index}/kernel"] = random("f2", (3, 4))


WRITERS = {
    "safetensors": write_safetensors, "torch": write_torch, "numpy": write_numpy, "onnx": write_onnx, "gguf": write_gguf,
    "h5": write_h5,
}  # fmt: skip


def main():
    warnings.filterwarnings("ignore")
    torch.manual_seed(2026)
    folder = Path(sys.argv[1])
    for name, write in WRITERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write(folder / name)


if __name__ == "__main__":
    main()
