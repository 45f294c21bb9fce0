//! The classes and functions that checkpoints usually ask for: those that rebuild tensors, arrays and plain containers.
//!
//! Names are exact, module and attribute: a whole module is never usual, since every module imports others (CVE-2025-1716,
//! CVE-2026-22607). The list follows what `torch.load(weights_only=True)` takes by default, and what NumPy writes.

/// Modules, and what is usual of them.
const USUAL: &[(&str, &[&str])] = &[
    ("__builtin__", BUILTINS),
    ("_codecs", &["encode"]),
    ("builtins", BUILTINS),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque"]),
    ("copy_reg", &["_reconstructor"]),
    ("copyreg", &["_reconstructor"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pcg64", &["PCG64", "PCG64DXSM"]),
    ("numpy.random._pickle", &["__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"]),
    ("torch", TORCH),
    ("torch", STORAGES),
    ("torch", TENSORS),
    ("torch._tensor", &["_rebuild_from_type", "_rebuild_from_type_v2"]),
    (
        "torch._utils",
        &[
            "_rebuild_device_tensor_from_cpu_tensor",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_nested_tensor",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_csr_tensor",
            "_rebuild_sparse_tensor",
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_wrapper_subclass",
            "_rebuild_xla_tensor",
        ],
    ),
    ("torch.cuda", STORAGES),
    ("torch.cuda", TENSORS),
    (
        "torch.jit._pickle",
        &[
            "build_boollist",
            "build_doublelist",
            "build_intlist",
            "build_tensor_from_id",
            "build_tensorlist",
            "restore_type_tag",
        ],
    ),
    ("torch.nn.parameter", &["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.storage", &["TypedStorage", "UntypedStorage", "_TypedStorage", "_UntypedStorage"]),
];

const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
    "xrange",
];

/// Types, schemes and classes of the module `torch`.
const TORCH: &[&str] = &[
    "Size",
    "Tensor",
    "bcomplex32",
    "bfloat16",
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "bool",
    "complex128",
    "complex32",
    "complex64",
    "device",
    "float16",
    "float32",
    "float4_e2m1fn_x2",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int16",
    "int32",
    "int64",
    "int8",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_channel_symmetric",
    "per_tensor_affine",
    "per_tensor_symmetric",
    "qint32",
    "qint8",
    "quint2x4",
    "quint4x2",
    "quint8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];

const STORAGES: &[&str] = &[
    "BFloat16Storage",
    "BoolStorage",
    "ByteStorage",
    "CharStorage",
    "ComplexDoubleStorage",
    "ComplexFloatStorage",
    "DoubleStorage",
    "FloatStorage",
    "HalfStorage",
    "IntStorage",
    "LongStorage",
    "QInt32Storage",
    "QInt8Storage",
    "QUInt2x4Storage",
    "QUInt4x2Storage",
    "QUInt8Storage",
    "ShortStorage",
    "UntypedStorage",
];

const TENSORS: &[&str] = &[
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
];

/// The package of TorchScript classes: they are code of the archive that PyTorch's own interpreter runs, and no Python module.
const TORCH_SCRIPT: &str = "__torch__";

/// Whether a class or function is one that checkpoints usually ask for.
pub(crate) fn is_usual(module: &str, name: &str) -> bool {
    let script = module.strip_prefix(TORCH_SCRIPT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    script || USUAL.iter().any(|(usual, names)| *usual == module && names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for (module, name) in [
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("collections", "OrderedDict"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("__torch__.torch.nn.modules.linear", "Linear"),
            ("__torch__", "Net"),
        ] {
            assert!(is_usual(module, name), "{module} {name}");
        }
        for (module, name) in [
            ("os", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch", "storage.os.system"),
            ("torch.storage", "_load_from_bytes"),
            ("torch._utils", "_rebuild_tensor_v2 "),
            ("torch._utils.os", "system"),
            ("collections", "namedtuple"),
            ("__torch__x", "Net"),
            ("numpy.testing._private.utils", "runstring"),
            ("", ""),
        ] {
            assert!(!is_usual(module, name), "{module} {name}");
        }
    }
}
