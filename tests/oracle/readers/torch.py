"""PyTorch: torch.load with weights_only, and torch.jit.load for TorchScript. Objects of other classes are not loaded."""

import re

import torch

from . import Tensor, Unreadable, permuted

FORMAT = "pytorch"

DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex32": "C32", "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "F4", "quint8": "U8", "qint8": "I8", "qint32": "I32",
}  # fmt: skip

COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"), torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"), torch.sparse_bsc: ("ccol_indices", "row_indices"),
}  # fmt: skip


def claims(path):
    return path.suffix in (".pt", ".pth", ".jit", ".bin", ".ckpt")


def tensors(path):
    if is_script(path):
        # A script is loaded as a graph; nothing of it is run.
        found = list(of_script(torch.jit.load(path, map_location="cpu")))
    else:
        try:
            found = list(flatten(torch.load(path, map_location="cpu", weights_only=True), ()))
        except Exception as error:
            raise Unreadable(str(error).strip().split("\n")[0]) from error
    return list(numbered(found))


def may_have_more(path, name):
    """Constants of a script are tensors, but no part of the state that is read here."""
    return is_script(path) and name.startswith("constants.")


def is_script(path):
    try:
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError:
        return False
    return "constants.pkl" in records


def of_script(module):
    """The state, and attributes that are tensors but no part of it; their names are only in a description of the module."""
    state = module.state_dict()
    yield from flatten(dict(state), ())
    for prefix, inner in module.named_modules():
        dump = inner._c.dump_to_str(False, False, False)
        attributes = dump.split("attributes {\n", 1)[1].split("\n  }", 1)[0]
        for name in re.findall(r"^    (\w+) = ", attributes, re.MULTILINE):
            value = inner._c.getattr(name)
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(value, (torch.Tensor, list, tuple, dict)) and path not in state:
                yield from flatten(value, (path,))


def flatten(value, path):
    """The tensors in nested containers; their names are paths."""
    if isinstance(value, torch.Tensor):
        yield from parts(".".join(path) or "tensor", value)
    elif isinstance(value, dict):
        for index, (key, inner) in enumerate(value.items()):
            yield from flatten(inner, (*path, str(key) if isinstance(key, (str, int)) else f"#{index}"))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from flatten(inner, (*path, str(index)))


def parts(name, tensor):
    if tensor.layout == torch.sparse_coo:
        yield from parts(f"{name}.indices", tensor._indices())
        yield from parts(f"{name}.values", tensor._values())
    elif tensor.layout in COMPRESSED:
        for part in COMPRESSED[tensor.layout]:
            yield from parts(f"{name}.{part}", getattr(tensor, part)())
        yield from parts(f"{name}.values", tensor.values())
    else:
        dtype = DTYPES.get(str(tensor.dtype).removeprefix("torch."))
        strides = permuted(tuple(tensor.shape), tensor.stride())
        if dtype and strides is not False and not tensor.is_conj() and not tensor.is_neg():
            shape = tuple(tensor.shape)
            if dtype == "F4":
                shape = (*shape[:-1], shape[-1] * 2) if shape else (2,)
            start = tensor.storage_offset() * tensor.element_size()
            storage = tensor.untyped_storage()
            data = memory(storage)[start : start + tensor.numel() * tensor.element_size()]
            yield Tensor(name, dtype, shape, data, strides)
        if tensor.is_quantized and tensor.qscheme() != torch.per_tensor_affine:
            yield from parts(f"{name}.scales", tensor.q_per_channel_scales())
            yield from parts(f"{name}.zero_points", tensor.q_per_channel_zero_points())


def memory(storage):
    """A storage's bytes; many tensors may share it, so it is not copied for each."""
    if storage.nbytes() == 0:
        return b""
    return memoryview(torch.tensor([], dtype=torch.uint8).set_(storage).numpy())


def numbered(found):
    """Where a name was given already, a number follows it."""
    taken = set()
    for tensor in found:
        name, number = tensor.name, 1
        while name in taken:
            number += 1
            name = f"{tensor.name}#{number}"
        taken.add(name)
        yield tensor._replace(name=name)
