//! Element types of tensors: their names, wire ids and geometry.

use std::fmt;

/// Geometry of a binary floating-point type: one sign bit at the top, then `exponent` bits, then `mantissa` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatFormat {
    /// Exponent bits.
    pub exponent: u32,
    /// Stored mantissa bits (without the hidden one).
    pub mantissa: u32,
    /// Whether the type has a sign bit.
    pub signed: bool,
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $elements:literal, $bytes:literal, $word:literal, $float:expr;)*) => {
        /// The element type of a tensor. Names and geometry follow the safetensors specification.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every data type, in the order of wire ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name used in manifests and in safetensors headers.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// The stable number used in binary headers; 0 is never used.
            #[must_use]
            pub const fn wire_id(self) -> u8 { match self { $(Self::$variant => $id),* } }

            /// The smallest run that is stored whole: (elements, bytes).
            #[must_use]
            pub const fn storage_unit(self) -> (u64, u64) { match self { $(Self::$variant => ($elements, $bytes)),* } }

            /// Bytes of the machine word that codecs work on: an element, a component of a complex number, or one byte
            /// for packed types.
            #[must_use]
            pub const fn word_bytes(self) -> usize { match self { $(Self::$variant => $word),* } }

            /// The floating-point geometry of one word; `None` for integers and packed types.
            #[must_use]
            pub const fn float(self) -> Option<FloatFormat> { match self { $(Self::$variant => $float),* } }
        }
    };
}

const fn float(exponent: u32, mantissa: u32) -> Option<FloatFormat> {
    Some(FloatFormat { exponent, mantissa, signed: true })
}

dtypes! {
    /// Boolean, one byte.
    Bool = 1, "BOOL", 1, 1, 1, None;
    /// Unsigned 8-bit integer.
    U8 = 2, "U8", 1, 1, 1, None;
    /// Signed 8-bit integer.
    I8 = 3, "I8", 1, 1, 1, None;
    /// Unsigned 16-bit integer.
    U16 = 4, "U16", 1, 2, 2, None;
    /// Signed 16-bit integer.
    I16 = 5, "I16", 1, 2, 2, None;
    /// Unsigned 32-bit integer.
    U32 = 6, "U32", 1, 4, 4, None;
    /// Signed 32-bit integer.
    I32 = 7, "I32", 1, 4, 4, None;
    /// Unsigned 64-bit integer.
    U64 = 8, "U64", 1, 8, 8, None;
    /// Signed 64-bit integer.
    I64 = 9, "I64", 1, 8, 8, None;
    /// IEEE 754 binary16.
    F16 = 10, "F16", 1, 2, 2, float(5, 10);
    /// bfloat16: the upper half of a binary32.
    BF16 = 11, "BF16", 1, 2, 2, float(8, 7);
    /// IEEE 754 binary32.
    F32 = 12, "F32", 1, 4, 4, float(8, 23);
    /// IEEE 754 binary64.
    F64 = 13, "F64", 1, 8, 8, float(11, 52);
    /// Two binary32: real, imaginary.
    C64 = 14, "C64", 1, 8, 4, float(8, 23);
    /// OCP 8-bit float, 4 exponent bits.
    F8E4M3 = 15, "F8_E4M3", 1, 1, 1, float(4, 3);
    /// OCP 8-bit float, 5 exponent bits.
    F8E5M2 = 16, "F8_E5M2", 1, 1, 1, float(5, 2);
    /// OCP 8-bit scale: an exponent and nothing else.
    F8E8M0 = 17, "F8_E8M0", 1, 1, 1, Some(FloatFormat { exponent: 8, mantissa: 0, signed: false });
    /// F8_E4M3 without infinities and negative zero.
    F8E4M3Fnuz = 18, "F8_E4M3FNUZ", 1, 1, 1, float(4, 3);
    /// F8_E5M2 without infinities and negative zero.
    F8E5M2Fnuz = 19, "F8_E5M2FNUZ", 1, 1, 1, float(5, 2);
    /// OCP 6-bit float, 2 exponent bits: 4 elements in 3 bytes.
    F6E2M3 = 20, "F6_E2M3", 4, 3, 1, None;
    /// OCP 6-bit float, 3 exponent bits: 4 elements in 3 bytes.
    F6E3M2 = 21, "F6_E3M2", 4, 3, 1, None;
    /// OCP 4-bit float: 2 elements in a byte.
    F4 = 22, "F4", 2, 1, 1, None;
}

impl DType {
    /// The data type of that name, if shard knows it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// The data type of that wire id.
    #[must_use]
    pub fn from_wire_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.wire_id() == id)
    }

    /// Bytes that `elements` elements take; `None` where they do not fill whole storage units or overflow.
    #[must_use]
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        let (unit_elements, unit_bytes) = self.storage_unit();
        if !elements.is_multiple_of(unit_elements) {
            return None;
        }
        (elements / unit_elements).checked_mul(unit_bytes)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_unique_and_stable() {
        for (index, dtype) in DType::ALL.iter().enumerate() {
            assert_eq!(DType::from_name(dtype.name()), Some(*dtype));
            assert_eq!(DType::from_wire_id(dtype.wire_id()), Some(*dtype));
            assert_eq!(usize::from(dtype.wire_id()), index + 1, "{dtype}: wire ids are dense and in order");
            let (_, bytes) = dtype.storage_unit();
            assert!(bytes.is_multiple_of(dtype.word_bytes() as u64), "{dtype}");
            if let Some(float) = dtype.float() {
                let sign = u32::from(float.signed);
                assert_eq!(sign + float.exponent + float.mantissa, 8 * dtype.word_bytes() as u32, "{dtype}");
            }
        }
    }

    #[test]
    fn byte_lengths() {
        assert_eq!(DType::F4.byte_len(3), None);
        assert_eq!(DType::F4.byte_len(4), Some(2));
        assert_eq!(DType::F6E2M3.byte_len(8), Some(6));
        assert_eq!(DType::F64.byte_len(u64::MAX / 4), None);
        assert_eq!(DType::BF16.byte_len(0), Some(0));
    }
}
