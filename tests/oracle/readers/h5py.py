"""HDF5, by h5py."""

import itertools
import math
from itertools import pairwise

import h5py
import numpy

from . import Tensor

FORMAT = "hdf5"

DTYPES = {
    numpy.dtype(name): dtype
    for name, dtype in {
        "?": "BOOL", "u1": "U8", "i1": "I8", "<u2": "U16", "<i2": "I16", "<u4": "U32", "<i4": "I32", "<u8": "U64",
        "<i8": "I64", "<f2": "F16", "<f4": "F32", "<f8": "F64", "<c8": "C64", "<c16": "C128",
    }.items()
}  # fmt: skip

# Exponent bits, mantissa bits and bias of floats that NumPy has no name for.
FLOATS = {
    (8, 7, 127): "BF16", (4, 3, 7): "F8_E4M3", (5, 2, 15): "F8_E5M2", (4, 3, 8): "F8_E4M3FNUZ", (5, 2, 16): "F8_E5M2FNUZ",
}  # fmt: skip

# Chunks of fewer bytes are no tensors of their own.
SHORTEST_CHUNK = 4096


def claims(path):
    return path.suffix in (".h5", ".hdf5")


def tensors(path):
    with h5py.File(path, "r") as file:
        return [tensor for name, dataset in datasets(file, "", []) for tensor in of_dataset(name, dataset, path)]


def datasets(group, prefix, above):
    """All datasets by all their paths, soft and external links left out, and groups that contain themselves."""
    address = h5py.h5o.get_info(group.id).addr
    if address in above:
        return
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            item = group[name]
            if isinstance(item, h5py.Group):
                yield from datasets(item, f"{prefix}{name}/", [*above, address])
            elif isinstance(item, h5py.Dataset):
                yield prefix + name, item


def dtype_of(dataset):
    kind = dataset.id.get_type()
    if isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_order() == h5py.h5t.ORDER_LE:
        sign, exponent_at, exponent, mantissa_at, mantissa = kind.get_fields()
        packed = (sign, exponent_at, mantissa_at) == (exponent + mantissa, mantissa, 0)
        if packed and 8 * kind.get_size() == sign + 1 and (exponent, mantissa, kind.get_ebias()) in FLOATS:
            return FLOATS[exponent, mantissa, kind.get_ebias()]
    if isinstance(kind, h5py.h5t.TypeEnumID) and dataset.dtype != numpy.bool_:
        return None
    return DTYPES.get(dataset.dtype)


def of_dataset(name, dataset, path):
    dtype = dtype_of(dataset)
    if dtype is None or dataset.shape is None or dataset.external or dataset.is_virtual:
        return
    size = dataset.id.get_type().get_size()
    if dataset.size == 0:
        yield Tensor(name, dtype, dataset.shape, b"")
    elif dataset.id.get_create_plist().get_nfilters() or dataset.id.get_storage_size() == 0:
        return
    elif dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is None:
            # In the header of the object.
            memory = numpy.empty(dataset.shape, dataset.dtype)
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, memory)
            yield Tensor(name, dtype, dataset.shape, memory.tobytes())
        else:
            with open(path, "rb") as file:
                file.seek(offset)
                yield Tensor(name, dtype, dataset.shape, file.read(size * dataset.size))
    else:
        yield from of_chunks(name, dtype, dataset, size)


def of_chunks(name, dtype, dataset, size):
    shape, chunk = dataset.shape, dataset.chunks
    length = math.prod(chunk) * size
    counts = [-(-dim // edge) for dim, edge in zip(shape, chunk)]
    infos = [dataset.id.get_chunk_info(index) for index in range(dataset.id.get_num_chunks())]
    infos = sorted((info.chunk_offset, info.byte_offset) for info in infos)
    if any(at >= dim for offset, _ in infos for at, dim in zip(offset, shape)):
        # HDF5 2.0 numbers the chunks of datasets that grow along another dimension than the first as if it were the first. They
        # are where they should be when they are asked for one by one.
        every = itertools.product(*(range(0, dim, edge) for dim, edge in zip(shape, chunk)))
        infos = [(offset, None) for offset in every if is_written(dataset, offset)]
    elif len(infos) == math.prod(counts) and all(after[1] - before[1] == length for before, after in pairwise(infos)):
        # One after another, they may be the dataset: that is tried, on numbers for elements.
        numbers = numpy.arange(math.prod(shape)).reshape(shape)
        padded = numpy.full([count * edge for count, edge in zip(counts, chunk)], -1)
        padded[tuple(slice(dim) for dim in shape)] = numbers
        laid = [padded[tuple(slice(at, at + edge) for at, edge in zip(offset, chunk))].ravel() for offset, _ in infos]
        if (numpy.concatenate(laid)[: dataset.size] == numbers.ravel()).all():
            data = b"".join(dataset.id.read_direct_chunk(offset)[1] for offset, _ in infos)
            yield Tensor(name, dtype, shape, data[: dataset.size * size])
            return
    if length >= SHORTEST_CHUNK:
        for offset, _ in infos:
            number = int(numpy.ravel_multi_index([at // edge for at, edge in zip(offset, chunk)], counts))
            yield Tensor(f"{name}#{number}", dtype, chunk, dataset.id.read_direct_chunk(offset)[1])


def is_written(dataset, offset):
    try:
        dataset.id.read_direct_chunk(offset)
    except RuntimeError:
        return False
    return True
