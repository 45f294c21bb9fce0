"""ONNX, by the package `onnx`: the tensors in a model, and those in files of data beside it."""

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo

from . import Tensor

FORMAT = "onnx"

DTYPES = {
    "FLOAT": "F32", "UINT8": "U8", "INT8": "I8", "UINT16": "U16", "INT16": "I16", "INT32": "I32", "INT64": "I64",
    "BOOL": "BOOL", "FLOAT16": "F16", "DOUBLE": "F64", "UINT32": "U32", "UINT64": "U64", "COMPLEX64": "C64",
    "COMPLEX128": "C128", "BFLOAT16": "BF16", "FLOAT8E4M3FN": "F8_E4M3", "FLOAT8E4M3FNUZ": "F8_E4M3FNUZ",
    "FLOAT8E5M2": "F8_E5M2", "FLOAT8E5M2FNUZ": "F8_E5M2FNUZ", "UINT4": "U4", "INT4": "I4", "FLOAT4E2M1": "F4",
    "FLOAT8E8M0": "F8_E8M0", "UINT2": "U2", "INT2": "I2", "FLOAT6E2M3": "F6_E2M3", "FLOAT6E3M2": "F6_E3M2",
}  # fmt: skip

# Fields whose elements lie in the file as numbers of fixed width.
FIXED = {"FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data"}


def claims(path):
    return path.suffix == ".onnx" or any(path.name in locations(model) for model in path.parent.glob("*.onnx"))


def locations(model):
    if not hasattr(locations, "known"):
        locations.known = {}
    if model not in locations.known:
        found = named(onnx.load(model, load_external_data=False))
        locations.known[model] = {
            ExternalDataInfo(tensor).location for _, tensor in found if tensor.data_location == TensorProto.EXTERNAL
        }
    return locations.known[model]


def tensors(path):
    if path.suffix == ".onnx":
        found = []
        for name, tensor in named(onnx.load(path, load_external_data=False)):
            if tensor.data_location != TensorProto.EXTERNAL and (data := inside(tensor)) is not None:
                found.append(entry(name, tensor, data))
        return found
    for model in sorted(path.parent.glob("*.onnx")):
        found = []
        for name, tensor in named(onnx.load(model, load_external_data=False)):
            if tensor.data_location == TensorProto.EXTERNAL and ExternalDataInfo(tensor).location == path.name:
                info = ExternalDataInfo(tensor)
                with open(path, "rb") as file:
                    file.seek(info.offset or 0)
                    found.append(entry(name, tensor, file.read(info.length if info.length else -1)))
        if found:
            return found
    return []


def entry(name, tensor, data):
    return Tensor(name, DTYPES[TensorProto.DataType.Name(tensor.data_type)], tuple(tensor.dims), data)


def inside(tensor):
    """The bytes of a tensor's elements in the model; None where they are strings or numbers of varying length."""
    dtype = TensorProto.DataType.Name(tensor.data_type)
    if dtype not in DTYPES:
        return None
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    if dtype in FIXED:
        return onnx.numpy_helper.to_array(tensor).tobytes()
    return b"" if 0 in tensor.dims else None


def named(model):
    found = list(in_graph(model.graph, ""))
    for index, training in enumerate(model.training_info):
        found += in_graph(training.initialization, f"training_info.{index}/initialization/")
        found += in_graph(training.algorithm, f"training_info.{index}/algorithm/")
    for function in model.functions:
        overload = f":{function.overload}" if function.overload else ""
        found += in_nodes(function.node, f"{function.domain}::{function.name}{overload}/")
    taken = {}
    for name, tensor in found:
        taken[name] = taken.get(name, 0) + 1
        yield (name if taken[name] == 1 else f"{name}#{taken[name]}"), tensor


def in_graph(graph, prefix):
    yield from in_nodes(graph.node, prefix)
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield from in_sparse(prefix + sparse.values.name, sparse)


def in_sparse(name, sparse):
    yield f"{name}.values", sparse.values
    yield f"{name}.indices", sparse.indices


def in_nodes(nodes, prefix):
    for node in nodes:
        label = prefix + next((output for output in node.output if output), node.name)
        for attribute in node.attribute:
            constant = node.op_type == "Constant" and attribute.name in ("value", "sparse_value")
            name = label if constant else f"{label}/{attribute.name}"
            if attribute.HasField("t"):
                yield name, attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from in_sparse(name, attribute.sparse_tensor)
            if attribute.HasField("g"):
                yield from in_graph(attribute.g, f"{name}/")
            for index, tensor in enumerate(attribute.tensors):
                yield f"{name}.{index}", tensor
            for index, sparse in enumerate(attribute.sparse_tensors):
                yield from in_sparse(f"{name}.{index}", sparse)
            for index, graph in enumerate(attribute.graphs):
                yield from in_graph(graph, f"{name}.{index}/")
