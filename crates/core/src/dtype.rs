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
        /// The element type of a tensor. Names and geometry follow the safetensors specification, those of block-quantised
        /// types GGML.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(non_camel_case_types, reason = "GGML's types are known by names with underscores")]
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
    /// OCP 4-bit float: 2 elements in a byte, the first in the low half.
    F4 = 22, "F4", 2, 1, 1, None;
    /// Two binary16: real, imaginary.
    C32 = 23, "C32", 1, 4, 2, float(5, 10);
    /// Two binary64: real, imaginary.
    C128 = 24, "C128", 1, 16, 8, float(11, 52);
    /// Signed 4-bit integer: 2 elements in a byte, the first in the low half.
    I4 = 25, "I4", 2, 1, 1, None;
    /// Unsigned 4-bit integer: 2 elements in a byte, the first in the low half.
    U4 = 26, "U4", 2, 1, 1, None;
    /// Signed 2-bit integer: 4 elements in a byte, the first lowest.
    I2 = 27, "I2", 4, 1, 1, None;
    /// Unsigned 2-bit integer: 4 elements in a byte, the first lowest.
    U2 = 28, "U2", 4, 1, 1, None;
    /// GGML: 32 4-bit codes and a scale.
    Q4_0 = 29, "Q4_0", 32, 18, 1, None;
    /// GGML: 32 4-bit codes, a scale and a minimum.
    Q4_1 = 30, "Q4_1", 32, 20, 1, None;
    /// GGML: 32 5-bit codes and a scale.
    Q5_0 = 31, "Q5_0", 32, 22, 1, None;
    /// GGML: 32 5-bit codes, a scale and a minimum.
    Q5_1 = 32, "Q5_1", 32, 24, 1, None;
    /// GGML: 32 8-bit codes and a scale.
    Q8_0 = 33, "Q8_0", 32, 34, 1, None;
    /// GGML: 32 8-bit codes, a scale and a sum; two 16-bit floats since 2024.
    Q8_1 = 34, "Q8_1", 32, 36, 1, None;
    /// GGML: 256 2-bit codes in a super-block.
    Q2_K = 35, "Q2_K", 256, 84, 1, None;
    /// GGML: 256 3-bit codes in a super-block.
    Q3_K = 36, "Q3_K", 256, 110, 1, None;
    /// GGML: 256 4-bit codes in a super-block.
    Q4_K = 37, "Q4_K", 256, 144, 1, None;
    /// GGML: 256 5-bit codes in a super-block.
    Q5_K = 38, "Q5_K", 256, 176, 1, None;
    /// GGML: 256 6-bit codes in a super-block.
    Q6_K = 39, "Q6_K", 256, 210, 1, None;
    /// GGML: 256 8-bit codes in a super-block.
    Q8_K = 40, "Q8_K", 256, 292, 1, None;
    /// GGML: 256 codes from a lattice, 2.06 bits each.
    IQ2_XXS = 41, "IQ2_XXS", 256, 66, 1, None;
    /// GGML: 256 codes from a lattice, 2.31 bits each.
    IQ2_XS = 42, "IQ2_XS", 256, 74, 1, None;
    /// GGML: 256 codes from a lattice, 3.06 bits each.
    IQ3_XXS = 43, "IQ3_XXS", 256, 98, 1, None;
    /// GGML: 256 codes from a lattice, 1.56 bits each.
    IQ1_S = 44, "IQ1_S", 256, 50, 1, None;
    /// GGML: 32 4-bit codes into a table, and a scale.
    IQ4_NL = 45, "IQ4_NL", 32, 18, 1, None;
    /// GGML: 256 codes from a lattice, 3.44 bits each.
    IQ3_S = 46, "IQ3_S", 256, 110, 1, None;
    /// GGML: 256 codes from a lattice, 2.56 bits each.
    IQ2_S = 47, "IQ2_S", 256, 82, 1, None;
    /// GGML: 256 4-bit codes into a table, in a super-block.
    IQ4_XS = 48, "IQ4_XS", 256, 136, 1, None;
    /// GGML: 256 codes from a lattice, 1.75 bits each.
    IQ1_M = 49, "IQ1_M", 256, 56, 1, None;
    /// GGML: 256 ternary digits, five in a byte, and a scale.
    TQ1_0 = 50, "TQ1_0", 256, 54, 1, None;
    /// GGML: 256 ternary digits of two bits, and a scale.
    TQ2_0 = 51, "TQ2_0", 256, 66, 1, None;
    /// OCP microscaling: 32 4-bit floats and an exponent.
    MXFP4 = 52, "MXFP4", 32, 17, 1, None;
    /// 64 4-bit floats and four 8-bit scales.
    NVFP4 = 53, "NVFP4", 64, 36, 1, None;
    /// GGML: 128 signs and a scale.
    Q1_0 = 54, "Q1_0", 128, 18, 1, None;
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

    /// Bytes that `elements` elements take, the last byte padded where elements are parts of one; `None` where they do not fill
    /// whole storage units of several bytes, or overflow.
    #[must_use]
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        let (unit_elements, unit_bytes) = self.storage_unit();
        if unit_bytes > 1 && !elements.is_multiple_of(unit_elements) {
            return None;
        }
        elements.div_ceil(unit_elements).checked_mul(unit_bytes)
    }

    /// Whether a storage unit is a block of quantised elements that share scales.
    #[must_use]
    pub fn is_quantised(self) -> bool {
        self.storage_unit().0 >= 32
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
        assert_eq!(DType::F4.byte_len(3), Some(2));
        assert_eq!(DType::F6E2M3.byte_len(3), None);
        assert_eq!(DType::Q4_0.byte_len(31), None);
        assert_eq!(DType::Q6_K.byte_len(512), Some(420));
        assert_eq!(DType::F4.byte_len(4), Some(2));
        assert_eq!(DType::F6E2M3.byte_len(8), Some(6));
        assert_eq!(DType::F64.byte_len(u64::MAX / 4), None);
        assert_eq!(DType::BF16.byte_len(0), Some(0));
    }
}
