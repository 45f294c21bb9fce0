//! Bytes of a tensor as numbers, a tile at a time.

use half::f16;
use shard_core::DType;

use super::float8::small_float;
use super::quantised;

/// Values of a tile: few enough to stay in the first-level cache.
pub(super) const TILE: usize = 2048;

/// A tile of values, in the narrowest type that holds all values of the element type exactly (64-bit integers: nearest).
pub(super) enum Tile<'a> {
    Single(&'a [f32]),
    Double(&'a [f64]),
}

/// Turns runs of an element type into values.
pub(super) struct Values {
    dtype: DType,
    /// What each byte stands for, where elements are bytes or parts of one: as many values as a byte has elements.
    table: Vec<f32>,
    /// How a block of a quantised type is expanded.
    expand: Option<quantised::Expand>,
    single: Vec<f32>,
    double: Vec<f64>,
}

impl Values {
    /// For an element type; `None` for the quantised types whose values shard does not know.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        let expand = quantised::expand(dtype);
        if dtype.is_quantised() && expand.is_none() {
            return None;
        }
        Some(Self { dtype, table: byte_table(dtype), expand, single: Vec::new(), double: Vec::new() })
    }

    /// Bytes of a tile.
    pub(super) fn tile_bytes(&self) -> usize {
        match self.dtype {
            DType::F6E2M3 | DType::F6E3M2 => TILE / 4 * 3,
            _ if self.expand.is_some() => {
                let (elements, bytes) = self.dtype.storage_unit();
                TILE / elements as usize * bytes as usize
            }
            _ if !self.table.is_empty() => TILE / self.elements_per_byte(),
            _ => TILE * self.dtype.word_bytes(),
        }
    }

    fn elements_per_byte(&self) -> usize {
        (self.table.len() / 256).max(1)
    }

    /// The first `most` values of `bytes`, which are at most a tile.
    pub(super) fn tile(&mut self, bytes: &[u8], most: usize) -> Tile<'_> {
        let Self { single, double, table, dtype, expand } = self;
        single.clear();
        double.clear();
        if let Some(expand) = expand {
            let (_, len) = dtype.storage_unit();
            bytes.chunks_exact(len as usize).for_each(|block| expand(block, single));
            single.truncate(most);
            return Tile::Single(single);
        }
        match dtype {
            DType::BF16 => singles(bytes, single, |w| f32::from_bits(u32::from(u16::from_le_bytes(w)) << 16)),
            DType::F16 | DType::C32 => singles(bytes, single, |w| f16::from_le_bytes(w).to_f32()),
            DType::F32 | DType::C64 => singles(bytes, single, f32::from_le_bytes),
            DType::I16 => singles(bytes, single, |w| f32::from(i16::from_le_bytes(w))),
            DType::U16 => singles(bytes, single, |w| f32::from(u16::from_le_bytes(w))),
            DType::F64 | DType::C128 => doubles(bytes, double, f64::from_le_bytes),
            DType::I32 => doubles(bytes, double, |w| f64::from(i32::from_le_bytes(w))),
            DType::U32 => doubles(bytes, double, |w| f64::from(u32::from_le_bytes(w))),
            DType::I64 => doubles(bytes, double, |w| i64::from_le_bytes(w) as f64),
            DType::U64 => doubles(bytes, double, |w| u64::from_le_bytes(w) as f64),
            DType::F6E2M3 | DType::F6E3M2 => {
                for group in bytes.as_chunks::<3>().0 {
                    let bits = u32::from_le_bytes([group[0], group[1], group[2], 0]);
                    let value = |at: u32| table.get((bits >> (6 * at) & 0x3f) as usize).copied().unwrap_or(0.0);
                    single.extend((0..4).map(value));
                }
            }
            _ => {
                let per_byte = (table.len() / 256).max(1);
                for byte in bytes {
                    let at = usize::from(*byte) * per_byte;
                    single.extend_from_slice(table.get(at..at + per_byte).unwrap_or_default());
                }
            }
        }
        single.truncate(most);
        double.truncate(most);
        if single.is_empty() { Tile::Double(double) } else { Tile::Single(single) }
    }
}

/// Most values that [`values`] gives at once.
pub(crate) const MOST_VALUES: usize = TILE;

/// The values of a few storage units, at most [`MOST_VALUES`]; `None` for the quantised types whose values shard does not know.
pub(crate) fn values(dtype: DType, units: &[u8]) -> Option<Vec<f32>> {
    Some(match Values::of(dtype)?.tile(units, TILE) {
        Tile::Single(values) => values.to_vec(),
        Tile::Double(values) => values.iter().map(|value| *value as f32).collect(),
    })
}

/// Adds the values of whole storage units to `out`; `false` for the quantised types whose values shard does not know. Padding at the end
/// of the last unit counts as values.
pub(crate) fn push_values(dtype: DType, units: &[u8], out: &mut Vec<f64>) -> bool {
    let Some(mut values) = Values::of(dtype) else { return false };
    for tile in units.chunks(values.tile_bytes().max(1)) {
        match values.tile(tile, usize::MAX) {
            Tile::Single(values) => out.extend(values.iter().map(|value| f64::from(*value))),
            Tile::Double(values) => out.extend_from_slice(values),
        }
    }
    true
}

fn singles<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, value: impl Fn([u8; N]) -> f32) {
    out.extend(bytes.as_chunks::<N>().0.iter().map(|word| value(*word)));
}

fn doubles<const N: usize>(bytes: &[u8], out: &mut Vec<f64>, value: impl Fn([u8; N]) -> f64) {
    out.extend(bytes.as_chunks::<N>().0.iter().map(|word| value(*word)));
}

/// The values of every byte, or, for 6-bit floats, of every code.
fn byte_table(dtype: DType) -> Vec<f32> {
    // `bits` bits from the lowest up; sign-extended where the type is signed.
    let parts = |bits: u32, value: &dyn Fn(u8) -> f32| {
        let of_byte = |byte: u32| (0..8 / bits).map(move |at| (byte >> (at * bits) & ((1 << bits) - 1)) as u8);
        (0..256).flat_map(of_byte).map(value).collect()
    };
    let signed = |bits: u32| move |code: u8| f32::from((code << (8 - bits)).cast_signed() >> (8 - bits));
    match dtype {
        DType::Bool => parts(8, &|byte| f32::from(u8::from(byte != 0))),
        DType::U8 => parts(8, &|byte| f32::from(byte)),
        DType::I8 => parts(8, &signed(8)),
        DType::U4 => parts(4, &|code| f32::from(code)),
        DType::I4 => parts(4, &signed(4)),
        DType::U2 => parts(2, &|code| f32::from(code)),
        DType::I2 => parts(2, &signed(2)),
        DType::F4 => parts(4, &|code| minifloat(code.into(), 2, 1)),
        DType::F6E2M3 => (0..64).map(|code| minifloat(code, 2, 3)).collect(),
        DType::F6E3M2 => (0..64).map(|code| minifloat(code, 3, 2)).collect(),
        _ if dtype.word_bytes() == 1 => match dtype.float() {
            Some(format) => (0..=255).map(|bits| small_float(dtype, format, bits) as f32).collect(),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The value of a float without infinities and NaN (OCP Microscaling Formats, revision 1.0).
fn minifloat(code: u32, exponent_bits: u32, mantissa_bits: u32) -> f32 {
    let sign = if code >> (exponent_bits + mantissa_bits) & 1 == 0 { 1.0 } else { -1.0 };
    let exponent = (code >> mantissa_bits & ((1 << exponent_bits) - 1)) as i32;
    let fraction = (code & ((1 << mantissa_bits) - 1)) as f32 / (1u32 << mantissa_bits) as f32;
    let bias = (1 << (exponent_bits - 1)) - 1;
    match exponent {
        0 => sign * fraction * 2f32.powi(1 - bias),
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - bias),
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn values(dtype: DType, bytes: &[u8]) -> Vec<f64> {
        match Values::of(dtype).unwrap().tile(bytes, usize::MAX) {
            Tile::Single(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Tile::Double(values) => values.to_vec(),
        }
    }

    #[test]
    fn packed_types_are_taken_apart_from_the_lowest_bits_on() {
        assert_eq!(values(DType::U4, &[0x21, 0xf3]), [1.0, 2.0, 3.0, 15.0]);
        assert_eq!(values(DType::I4, &[0x21, 0xf8]), [1.0, 2.0, -8.0, -1.0]);
        assert_eq!(values(DType::I2, &[0b11_10_01_00]), [0.0, 1.0, -2.0, -1.0]);
        assert_eq!(values(DType::U2, &[0b11_10_01_00]), [0.0, 1.0, 2.0, 3.0]);
        // Every value of FP4: E2M1.
        assert_eq!(
            values(DType::F4, &[0x10, 0x32, 0x54, 0x76, 0xf9]),
            [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.5, -6.0]
        );
        // Codes 1, 2, 3 and 63, six bits each.
        let bits = 1u32 | 2 << 6 | 3 << 12 | 63 << 18;
        assert_eq!(values(DType::F6E2M3, &bits.to_le_bytes()[..3]), [0.125, 0.25, 0.375, -7.5]);
        assert_eq!(values(DType::F6E3M2, &bits.to_le_bytes()[..3]), [0.0625, 0.125, 0.1875, -28.0]);
    }

    #[test]
    fn words_are_little_endian() {
        assert_eq!(values(DType::BF16, &[0x80, 0x3f, 0x80, 0xbf]), [1.0, -1.0]);
        assert_eq!(values(DType::F16, &f16::from_f32(1.5).to_le_bytes()), [1.5]);
        assert_eq!(values(DType::I64, &(-5i64).to_le_bytes()), [-5.0]);
        assert_eq!(values(DType::C128, &[1f64.to_le_bytes(), 2f64.to_le_bytes()].concat()), [1.0, 2.0]);
        assert_eq!(values(DType::Bool, &[0, 1, 7]), [0.0, 1.0, 1.0]);
        assert_eq!(values(DType::I8, &[255]), [-1.0]);
        assert_eq!(values(DType::BF16, &bf16::from_f32(-2.5).to_le_bytes()), [-2.5]);
    }

    #[test]
    fn every_type_has_values_but_some_in_blocks() {
        for dtype in DType::ALL {
            let Some(mut values) = Values::of(*dtype) else {
                assert!(dtype.is_quantised(), "{dtype}");
                continue;
            };
            let bytes = vec![1; values.tile_bytes()];
            let count = match values.tile(&bytes, usize::MAX) {
                Tile::Single(values) => values.len(),
                Tile::Double(values) => values.len(),
            };
            assert_eq!(count, TILE, "{dtype}");
        }
    }
}
