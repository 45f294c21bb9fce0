//! The values of 8-bit floats.

use shard_core::{DType, FloatFormat};

/// The value of an 8-bit float. OCP 8-bit floating point specification (OFP8), revision 1.0; the FNUZ variants have a bias
/// one larger, a single NaN (0x80) and no infinities; E8M0 is a power of two (OCP MX, revision 1.0).
pub(super) fn small_float(dtype: DType, format: FloatFormat, bits: u8) -> f64 {
    let fnuz = matches!(dtype, DType::F8E4M3Fnuz | DType::F8E5M2Fnuz);
    if dtype == DType::F8E8M0 {
        return if bits == 0xff { f64::NAN } else { 2f64.powi(i32::from(bits) - 127) };
    }
    if fnuz && bits == 0x80 {
        return f64::NAN;
    }
    let magnitude = bits & 0x7f;
    let exponent = i32::from(magnitude >> format.mantissa);
    let fraction = f64::from(magnitude & ((1 << format.mantissa) - 1)) / f64::from(1u32 << format.mantissa);
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    if dtype == DType::F8E4M3 && magnitude == 0x7f {
        return f64::NAN;
    }
    if dtype == DType::F8E5M2 && exponent == 31 {
        return if fraction == 0.0 { sign * f64::INFINITY } else { f64::NAN };
    }
    let bias = (1 << (format.exponent - 1)) - i32::from(!fnuz);
    if exponent == 0 {
        sign * fraction * 2f64.powi(1 - bias)
    } else {
        sign * (1.0 + fraction) * 2f64.powi(exponent - bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_values_of_their_specifications() {
        let value = |dtype: DType, bits| small_float(dtype, dtype.float().unwrap(), bits);
        assert_eq!(value(DType::F8E4M3, 0x7e), 448.0);
        assert_eq!(value(DType::F8E4M3, 0x01), 2f64.powi(-9));
        assert!(value(DType::F8E4M3, 0xff).is_nan());
        assert_eq!(value(DType::F8E5M2, 0x7b), 57344.0);
        assert_eq!(value(DType::F8E5M2, 0xfc), f64::NEG_INFINITY);
        assert_eq!(value(DType::F8E4M3Fnuz, 0x7f), 240.0);
        assert_eq!(value(DType::F8E5M2Fnuz, 0x7f), 57344.0);
        assert_eq!(value(DType::F8E8M0, 127), 1.0);
    }
}
