//! PyTorch's element types and the classes of its storages.

use shard_core::DType;

/// How the shape of a tensor counts what its bytes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// An element an item.
    Elements,
    /// Items of so many elements each: the last dimension of the elements is so many times longer.
    Items(u64),
    /// So many elements an item, each row in items of its own.
    PackedRows(u64),
}

/// An element type of PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ElementType {
    /// What shard calls it; `None` for one that it has no name for.
    pub(crate) dtype: Option<DType>,
    /// Bytes of an item, of which storages count their length and offsets.
    pub(crate) item: u64,
    pub(crate) counting: Counting,
}

const fn plain(dtype: DType) -> ElementType {
    ElementType { dtype: Some(dtype), item: dtype.storage_unit().1, counting: Counting::Elements }
}

impl ElementType {
    /// By the name of the dtype in the module `torch`.
    pub(crate) fn from_dtype_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"float64" | b"double" => plain(DType::F64),
            b"float32" | b"float" => plain(DType::F32),
            b"float16" | b"half" => plain(DType::F16),
            b"bfloat16" => plain(DType::BF16),
            b"int64" | b"long" => plain(DType::I64),
            b"int32" | b"int" | b"qint32" => plain(DType::I32),
            b"int16" | b"short" => plain(DType::I16),
            b"int8" | b"qint8" => plain(DType::I8),
            b"uint64" => plain(DType::U64),
            b"uint32" => plain(DType::U32),
            b"uint16" | b"bits16" => plain(DType::U16),
            b"uint8" | b"quint8" | b"bits8" | b"bits1x8" | b"bits2x4" | b"bits4x2" => plain(DType::U8),
            b"bool" => plain(DType::Bool),
            b"complex128" | b"cdouble" => plain(DType::C128),
            b"complex64" | b"cfloat" => plain(DType::C64),
            b"complex32" | b"chalf" => plain(DType::C32),
            b"float8_e4m3fn" => plain(DType::F8E4M3),
            b"float8_e5m2" => plain(DType::F8E5M2),
            b"float8_e4m3fnuz" => plain(DType::F8E4M3Fnuz),
            b"float8_e5m2fnuz" => plain(DType::F8E5M2Fnuz),
            b"float8_e8m0fnu" => plain(DType::F8E8M0),
            b"float4_e2m1fn_x2" => Self { dtype: Some(DType::F4), item: 1, counting: Counting::Items(2) },
            b"quint4x2" => Self { dtype: Some(DType::U4), item: 1, counting: Counting::PackedRows(2) },
            b"quint2x4" => Self { dtype: Some(DType::U2), item: 1, counting: Counting::PackedRows(4) },
            // Two bfloat16.
            b"bcomplex32" => Self { dtype: None, item: 4, counting: Counting::Elements },
            _ => return None,
        })
    }

    /// By the name of a storage's class.
    pub(crate) fn from_storage_name(name: &[u8]) -> Option<Self> {
        let dtype: &[u8] = match name.strip_suffix(b"Storage")? {
            b"Double" => b"float64",
            b"Float" => b"float32",
            b"Half" => b"float16",
            b"BFloat16" => b"bfloat16",
            b"Long" => b"int64",
            b"Int" => b"int32",
            b"Short" => b"int16",
            b"Char" => b"int8",
            b"Byte" | b"Untyped" | b"_Untyped" => b"uint8",
            b"Bool" => b"bool",
            b"ComplexDouble" => b"complex128",
            b"ComplexFloat" => b"complex64",
            b"QInt8" => b"qint8",
            b"QInt32" => b"qint32",
            b"QUInt8" => b"quint8",
            b"QUInt4x2" => b"quint4x2",
            b"QUInt2x4" => b"quint2x4",
            _ => return None,
        };
        Self::from_dtype_name(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_the_size_of_their_type() {
        for name in ["float32", "bool", "complex32", "uint16", "float8_e8m0fnu"] {
            let found = ElementType::from_dtype_name(name.as_bytes()).unwrap();
            assert_eq!(found.dtype.and_then(|dtype| dtype.byte_len(1)), Some(found.item), "{name}");
        }
        assert_eq!(ElementType::from_storage_name(b"BFloat16Storage"), ElementType::from_dtype_name(b"bfloat16"));
        assert_eq!(ElementType::from_storage_name(b"UntypedStorage"), Some(plain(DType::U8)));
        assert_eq!(ElementType::from_storage_name(b"Float"), None);
        assert_eq!(ElementType::from_dtype_name(b"uint4"), None);
    }
}
