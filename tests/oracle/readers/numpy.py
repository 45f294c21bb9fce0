"""NumPy's arrays, alone and in archives."""

import zipfile

import numpy

from . import Tensor

FORMAT = "npy, npz"

DTYPES = {
    numpy.dtype(name): dtype
    for name, dtype in {
        "?": "BOOL", "u1": "U8", "i1": "I8", "<u2": "U16", "<i2": "I16", "<u4": "U32", "<i4": "I32", "<u8": "U64",
        "<i8": "I64", "<f2": "F16", "<f4": "F32", "<f8": "F64", "<c8": "C64", "<c16": "C128",
    }.items()
}  # fmt: skip


def claims(path):
    return path.suffix in (".npy", ".npz")


def tensors(path):
    if path.suffix == ".npy":
        return list(array("array", numpy.load(path, allow_pickle=False)))
    found = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    try:
                        value = numpy.lib.format.read_array(member, allow_pickle=False)
                    except ValueError:
                        # An array of objects.
                        continue
                found += array(name.removesuffix(".npy"), value)
    return found


def array(name, value):
    dtype = DTYPES.get(value.dtype)
    if dtype:
        strides = None
        # The header says which order it is; where both would do, it is the row-major one.
        if value.flags.f_contiguous and not value.flags.c_contiguous:
            strides = tuple(stride // value.itemsize for stride in value.strides)
        yield Tensor(name, dtype, value.shape, value.tobytes("A"), strides)
