//! GELU as one operation each way. Candle builds its gradient from a dozen elementwise operations on libm calls, which took
//! a quarter of a run.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor};

/// The tanh form of GELU that GPT-2 uses (Hendrycks and Gimpel, 2016): `x * sigmoid(2u)`, `u = sqrt(2/pi) (x + 0.044715
/// x^3)`.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

struct Gelu;

/// The gradient of the argument, of the argument and the gradient of the result.
struct GeluGradient;

/// `2 sqrt(2/pi)`.
const SCALE: f32 = 1.595_769;
const CUBE: f32 = 0.044_715;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let result = x.iter().map(|x| x * sigmoid(SCALE * (x + CUBE * x * x * x))).collect();
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &GeluGradient)?))
    }
}

impl CustomOp2 for GeluGradient {
    fn name(&self) -> &'static str {
        "gelu-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let gradients = values(s2, l2)?;
        let result = values(s1, l1)?.iter().zip(gradients).map(|(x, gradient)| {
            let s = sigmoid(SCALE * (x + CUBE * x * x * x));
            gradient * (s + x * s * (1.0 - s) * SCALE * (1.0 + 3.0 * CUBE * x * x))
        });
        Ok((CpuStorage::F32(result.collect()), l1.shape().clone()))
    }
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::Msg("gelu of a strided tensor".to_owned()).bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `e^x` to within 2e-7 of its value, clamped outside +-87; only arithmetic, so that the compiler makes vectors of it.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first short enough that its products with small integers are exact (Cody and Waite).
    let r = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let series = 1.0
        + r * (1.0 + r * (0.5 + r * (1.666_666_6e-1 + r * (4.166_666_6e-2 + r * (8.333_334e-3 + r * 1.388_888_9e-3)))));
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn exp_is_close() {
        for step in -8000..=8000 {
            let x = step as f32 * 0.01;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 3e-7, "{x}: {ours} {exact}");
        }
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
    }

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let values: Vec<f32> = (-60..=60).map(|step| step as f32 * 0.1).collect();
        let x = Var::from_vec(values, 121, &Device::Cpu)?;
        let (ours, theirs) = (gelu(&x)?, x.gelu()?);
        let far = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
        assert!(far(&ours, &theirs)? < 2e-6);
        let weights = Tensor::arange(0f32, 121.0, &Device::Cpu)?;
        let gradient = |y: Tensor| Ok::<_, Error>(y.mul(&weights)?.sum_all()?.backward()?.get(&x).cloned());
        let (ours, theirs) = (gradient(ours)?.unwrap(), gradient(theirs)?.unwrap());
        assert!(far(&ours, &theirs)? < 2e-3);
        Ok(())
    }
}
