//! Super-blocks of 256 elements ("K-quants"): sub-blocks with scales that are quantised themselves.
//!
//! The reference code searches a scale for each sub-block, one sub-block after the other. Here they are lanes that are worked on
//! side by side: what is summed up in a lane is summed up in the reference's order, so that it comes to the same bits.

use super::{Arithmetic, whole};

/// Elements of a super-block.
const ELEMENTS: usize = 256;
/// The magnitude below which a sub-block counts as zeros.
const SMALLEST: f32 = 1e-15;

type Lanes<const N: usize> = [f32; N];

/// The nearest whole number, ties to even, of what is below 2^22.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// The elements of `N` sub-blocks of `M`, one lane each.
#[inline(always)]
fn lanes<const N: usize, const M: usize>(x: &[f32]) -> [Lanes<N>; M] {
    std::array::from_fn(|element| std::array::from_fn(|lane| x[lane * M + element]))
}

/// A search for a scale and a minimum: how large codes get, and which inverse scales are tried.
struct Affine {
    most: f32,
    first: f32,
    step: f32,
    tries: usize,
    /// Whether deviations count by their magnitude, or by their square.
    absolute: bool,
}

/// What a search found, a lane each: the scale, the minimum with its sign changed, and the codes.
struct Found<const N: usize, const M: usize> {
    scale: Lanes<N>,
    minimum: Lanes<N>,
    codes: [Lanes<N>; M],
}

impl Affine {
    #[inline(always)]
    fn search<const N: usize, const M: usize>(
        &self,
        with: &Arithmetic,
        x: &[Lanes<N>; M],
        weights: &[Lanes<N>; M],
    ) -> Found<N, M> {
        let (mut least, mut largest) = (x[0], x[0]);
        let mut sum_w = weights[0];
        let mut sum_x: Lanes<N> = std::array::from_fn(|n| weights[0][n] * x[0][n]);
        for (x, w) in x.iter().zip(weights).skip(1) {
            for n in 0..N {
                least[n] = if x[n] < least[n] { x[n] } else { least[n] };
                largest[n] = if x[n] > largest[n] { x[n] } else { largest[n] };
                sum_w[n] += w[n];
                sum_x[n] = with.multiply_add(w[n], x[n], sum_x[n]);
            }
        }
        let flat: [bool; N] = std::array::from_fn(|n| {
            least[n] = if least[n] > 0.0 { 0.0 } else { least[n] };
            largest[n] == least[n]
        });
        let code = |x: f32, least: f32, inverse: f32| clamp(nearest(inverse * (x - least)), 0.0, self.most);
        let mut codes = [[0.0; N]; M];
        let (mut scale, mut best) = ([0.0; N], [0.0; N]);
        for n in 0..N {
            scale[n] = 1.0 / (self.most / (largest[n] - least[n]));
        }
        let mut minimum = least;
        for i in 0..M {
            for n in 0..N {
                codes[i][n] = code(x[i][n], least[n], self.most / (largest[n] - least[n]));
                best[n] =
                    with.multiply_add(weights[i][n], self.off(with, scale[n], codes[i][n], least[n], x[i][n]), best[n]);
            }
        }
        let mut tried = [[0.0; N]; M];
        for index in 0..=self.tries {
            let inverse: Lanes<N> = std::array::from_fn(|n| {
                (with.multiply_add(self.step, index as f32, self.first) + self.most) / (largest[n] - minimum[n])
            });
            let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; N], [0.0; N], [0.0; N]);
            for i in 0..M {
                for n in 0..N {
                    // From the minimum that is the best so far.
                    let (code, w) = (code(x[i][n], minimum[n], inverse[n]), weights[i][n]);
                    tried[i][n] = code;
                    sum_l[n] = with.multiply_add(w, code, sum_l[n]);
                    sum_l2[n] = with.multiply_add(w * code, code, sum_l2[n]);
                    sum_xl[n] = with.multiply_add(w * code, x[i][n], sum_xl[n]);
                }
            }
            let (mut own_scale, mut own_minimum, mut error) = ([0.0; N], [0.0; N], [0.0; N]);
            let mut is_known = [false; N];
            for n in 0..N {
                let determinant = with.multiply_add(sum_w[n], sum_l2[n], -(sum_l[n] * sum_l[n]));
                is_known[n] = determinant > 0.0;
                own_scale[n] = with.multiply_add(sum_w[n], sum_xl[n], -(sum_x[n] * sum_l[n])) / determinant;
                own_minimum[n] = with.multiply_add(sum_l2[n], sum_x[n], -(sum_l[n] * sum_xl[n])) / determinant;
                if own_minimum[n] > 0.0 {
                    own_minimum[n] = 0.0;
                    own_scale[n] = sum_xl[n] / sum_l2[n];
                }
            }
            for i in 0..M {
                for n in 0..N {
                    let off = self.off(with, own_scale[n], tried[i][n], own_minimum[n], x[i][n]);
                    error[n] = with.multiply_add(weights[i][n], off, error[n]);
                }
            }
            let better: [bool; N] = std::array::from_fn(|n| is_known[n] && error[n] < best[n]);
            for n in 0..N {
                best[n] = if better[n] { error[n] } else { best[n] };
                scale[n] = if better[n] { own_scale[n] } else { scale[n] };
                minimum[n] = if better[n] { own_minimum[n] } else { minimum[n] };
            }
            for (codes, tried) in codes.iter_mut().zip(&tried) {
                for n in 0..N {
                    codes[n] = if better[n] { tried[n] } else { codes[n] };
                }
            }
        }
        for n in 0..N {
            scale[n] = if flat[n] { 0.0 } else { scale[n] };
            minimum[n] = -if flat[n] { least[n] } else { minimum[n] };
        }
        for codes in &mut codes {
            for n in 0..N {
                codes[n] = if flat[n] { 0.0 } else { codes[n] };
            }
        }
        Found { scale, minimum, codes }
    }

    #[inline(always)]
    fn off(&self, with: &Arithmetic, scale: f32, code: f32, minimum: f32, x: f32) -> f32 {
        let off = with.multiply_add(scale, code, minimum) - x;
        if self.absolute { off.abs() } else { off * off }
    }
}

/// The largest of some values, and not below zero.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| if *value > most { *value } else { most })
}

/// Codes anew, by scales and minima as they are stored; where a sub-block's scale is zero, those that were found.
#[inline(always)]
fn codes_by<const N: usize, const M: usize>(
    with: &Arithmetic,
    x: &[f32],
    found: &[Lanes<N>; M],
    most: f32,
    scales: impl Fn(usize) -> (f32, f32),
) -> [u8; ELEMENTS] {
    let _ = with;
    let mut codes = [0; ELEMENTS];
    for lane in 0..N {
        let (scale, minimum) = scales(lane);
        for (element, found) in found.iter().enumerate() {
            let at = lane * M + element;
            codes[at] = if scale == 0.0 {
                whole(found[lane])
            } else {
                whole(clamp(nearest((x[at] + minimum) / scale), 0.0, most))
            };
        }
    }
    codes
}

/// Puts codes of 2 bits, of each half of the super-block four in a byte, 32 elements apart.
#[inline(always)]
fn put_pairs(codes: &[u8; ELEMENTS], out: &mut [u8]) {
    for (half, out) in codes.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = half[at] | half[at + 32] << 2 | half[at + 64] << 4 | half[at + 96] << 6;
        }
    }
}

/// `Q2_K`: sixteen sub-blocks with scales and minima of 4 bits.
#[inline(always)]
pub(super) fn q2(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    let values = lanes::<16, 16>(x);
    let weights = values.map(|lane| lane.map(f32::abs));
    let search = Affine { most: 3.0, first: -0.5, step: 0.1, tries: 15, absolute: true };
    let found = search.search(with, &values, &weights);
    let (max_scale, max_minimum) = (largest(&found.scale), largest(&found.minimum));
    let mut packed = [0u8; 16];
    for (value, max, shift) in [(&found.scale, max_scale, 0), (&found.minimum, max_minimum, 4)] {
        for (packed, value) in packed.iter_mut().zip(value) {
            *packed |= if max > 0.0 { whole(nearest(15.0 / max * value)) << shift } else { 0 };
        }
    }
    out[..16].copy_from_slice(&packed);
    let scale = with.put_half(if max_scale > 0.0 { max_scale / 15.0 } else { 0.0 }, &mut out[80..82]);
    let minimum = with.put_half(if max_minimum > 0.0 { max_minimum / 15.0 } else { 0.0 }, &mut out[82..84]);
    let by = |lane: usize| (scale * f32::from(packed[lane] & 15), minimum * f32::from(packed[lane] >> 4));
    put_pairs(&codes_by(with, x, &found.codes, 3.0, by), &mut out[16..80]);
}

/// `Q4_K` and `Q5_K`: eight sub-blocks with scales and minima of 6 bits.
#[inline(always)]
pub(super) fn q4_or_q5<const BITS: u32>(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    let values = lanes::<8, 32>(x);
    let mut squares = [0.0f32; 8];
    for x in &values {
        for n in 0..8 {
            squares[n] = with.multiply_add(x[n], x[n], squares[n]);
        }
    }
    let average = squares.map(|sum| (sum / 32.0).sqrt());
    let weights = values.map(|x| std::array::from_fn(|n| average[n] + x[n].abs()));
    let most = ((1u32 << BITS) - 1) as f32;
    let search = if BITS == 4 {
        Affine { most, first: -1.0, step: 0.1, tries: 20, absolute: false }
    } else {
        Affine { most, first: -0.5, step: 0.1, tries: 15, absolute: false }
    };
    let found = search.search(with, &values, &weights);
    let (max_scale, max_minimum) = (largest(&found.scale), largest(&found.minimum));
    let quantise = |value: f32, max: f32| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        whole(nearest(inverse * value)).min(63)
    };
    let scales = found.scale.map(|scale| quantise(scale, max_scale));
    let minima = found.minimum.map(|minimum| quantise(minimum, max_minimum));
    let scale = with.put_half(max_scale / 63.0, &mut out[..2]);
    let minimum = with.put_half(max_minimum / 63.0, &mut out[2..4]);
    // The first four of each in six bits; the upper bits of the others above them.
    let packed = &mut out[4..16];
    for n in 0..4 {
        packed[n] = scales[n] | scales[n + 4] >> 4 << 6;
        packed[n + 4] = minima[n] | minima[n + 4] >> 4 << 6;
        packed[n + 8] = scales[n + 4] & 15 | minima[n + 4] << 4;
    }
    let by = |lane: usize| (scale * f32::from(scales[lane]), minimum * f32::from(minima[lane]));
    let codes = codes_by(with, x, &found.codes, most, by);
    let nibbles = if BITS == 5 {
        let (fifth, nibbles) = out[16..].split_at_mut(32);
        for (at, byte) in fifth.iter_mut().enumerate() {
            *byte = (0..8).fold(0, |bits, lane| bits | (codes[lane * 32 + at] >> 4) << lane);
        }
        nibbles
    } else {
        &mut out[16..]
    };
    for (codes, out) in codes.as_chunks::<64>().0.iter().zip(nibbles.as_chunks_mut::<32>().0) {
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = codes[at] & 15 | codes[at + 32] << 4;
        }
    }
}

/// The value of the largest magnitude in each lane, the first of several.
#[inline(always)]
fn extremes<const N: usize, const M: usize>(x: &[Lanes<N>; M]) -> Lanes<N> {
    let mut extreme = [0.0f32; N];
    for x in x {
        for n in 0..N {
            extreme[n] = if x[n].abs() > extreme[n].abs() { x[n] } else { extreme[n] };
        }
    }
    extreme
}

/// The scale with the largest magnitude, the first of several.
#[inline(always)]
fn extreme_scale(scales: &[f32]) -> f32 {
    scales.iter().fold(0.0, |extreme: f32, scale| if scale.abs() > extreme.abs() { *scale } else { extreme })
}

/// `Q6_K`: sixteen sub-blocks with signed scales of 8 bits.
#[inline(always)]
pub(super) fn q6(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    const HALF: f32 = 32.0;
    let values = lanes::<16, 16>(x);
    let extreme = extremes(&values);
    let sums = |inverse: &Lanes<16>, codes: &mut [Lanes<16>; 16]| {
        let (mut lx, mut l2) = ([0.0f32; 16], [0.0f32; 16]);
        for (x, codes) in values.iter().zip(codes) {
            for n in 0..16 {
                let code = clamp(nearest(inverse[n] * x[n]), -HALF, HALF - 1.0);
                codes[n] = code + HALF;
                let w = x[n] * x[n];
                lx[n] = with.multiply_add(w * x[n], code, lx[n]);
                l2[n] = with.multiply_add(w * code, code, l2[n]);
            }
        }
        (lx, l2)
    };
    let mut codes = [[0.0; 16]; 16];
    let (lx, l2) = sums(&extreme.map(|extreme| -HALF / extreme), &mut codes);
    let mut scales: Lanes<16> = std::array::from_fn(|n| if l2[n] != 0.0 { lx[n] / l2[n] } else { 0.0 });
    let mut best: Lanes<16> = std::array::from_fn(|n| scales[n] * lx[n]);
    let mut tried = [[0.0; 16]; 16];
    for index in (-9i8..=9).filter(|index| *index != 0) {
        let numerator = -with.multiply_add(0.1, f32::from(index), HALF);
        let (lx, l2) = sums(&extreme.map(|extreme| numerator / extreme), &mut tried);
        for n in 0..16 {
            if l2[n] > 0.0 && lx[n] * lx[n] > best[n] * l2[n] {
                for (codes, tried) in codes.iter_mut().zip(&tried) {
                    codes[n] = tried[n];
                }
                scales[n] = lx[n] / l2[n];
                best[n] = scales[n] * lx[n];
            }
        }
    }
    for n in 0..16 {
        if extreme[n].abs() < SMALLEST {
            scales[n] = 0.0;
            codes.iter_mut().for_each(|codes| codes[n] = 0.0);
        }
    }
    let max_scale = extreme_scale(&scales);
    if max_scale.abs() < SMALLEST {
        out.fill(0);
        return;
    }
    let inverse = -128.0 / max_scale;
    let scale = with.put_half(1.0 / inverse, &mut out[208..210]);
    let packed = scales.map(|scale| clamp(nearest(inverse * scale), -128.0, 127.0));
    for (out, packed) in out[192..208].iter_mut().zip(packed) {
        *out = packed as i8 as u8;
    }
    let mut all = [0u8; ELEMENTS];
    for (at, code) in all.iter_mut().enumerate() {
        let (lane, element) = (at / 16, at % 16);
        let own = scale * packed[lane];
        *code = if own == 0.0 {
            whole(codes[element][lane])
        } else {
            whole(clamp(nearest(x[at] / own), -HALF, HALF - 1.0) + HALF)
        };
    }
    let (low, high) = out[..192].split_at_mut(128);
    let halves = all.as_chunks::<128>().0.iter().zip(low.as_chunks_mut::<64>().0).zip(high.as_chunks_mut::<32>().0);
    for ((codes, low), high) in halves {
        for at in 0..32 {
            let [a, b, c, d] = [0, 32, 64, 96].map(|from| codes[at + from]);
            low[at] = a & 15 | c << 4;
            low[at + 32] = b & 15 | d << 4;
            high[at] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}

/// `Q3_K`: sixteen sub-blocks with signed scales of 6 bits.
#[inline(always)]
pub(super) fn q3(with: &Arithmetic, x: &[f32], out: &mut [u8]) {
    const HALF: f32 = 4.0;
    let mut found = [[0u8; 16]; 16];
    let mut scales = [0.0f32; 16];
    for ((x, codes), scale) in x.as_chunks::<16>().0.iter().zip(&mut found).zip(&mut scales) {
        let extreme = x.iter().fold(0.0f32, |extreme, x| if x.abs() > extreme.abs() { *x } else { extreme });
        if extreme.abs() < SMALLEST {
            continue;
        }
        let inverse = -HALF / extreme;
        let mut own = [0.0f32; 16];
        let (mut lx, mut l2) = (0.0f32, 0.0f32);
        for (code, x) in own.iter_mut().zip(x) {
            *code = clamp(nearest(inverse * x), -HALF, HALF - 1.0);
            let w = x * x;
            lx = with.multiply_add(w * x, *code, lx);
            l2 = with.multiply_add(w * *code, *code, l2);
        }
        // Each code in turn is made the best that it can be beside the others.
        for _ in 0..5 {
            let mut changed = false;
            for (code, x) in own.iter_mut().zip(x) {
                let w = x * x;
                let mut other_lx = with.multiply_add(-(w * x), *code, lx);
                if other_lx <= 0.0 {
                    continue;
                }
                let mut other_l2 = with.multiply_add(-(w * *code), *code, l2);
                let better = clamp(nearest(x * other_l2 / other_lx), -HALF, HALF - 1.0);
                if better != *code {
                    other_lx = with.multiply_add(w * x, better, other_lx);
                    other_l2 = with.multiply_add(w * better, better, other_l2);
                    if other_l2 > 0.0 && other_lx * other_lx * l2 > lx * lx * other_l2 {
                        (*code, lx, l2, changed) = (better, other_lx, other_l2, true);
                    }
                }
            }
            if !changed {
                break;
            }
        }
        *codes = own.map(|code| whole(code + HALF));
        *scale = if l2 > 0.0 { lx / l2 } else { 0.0 };
    }
    let max_scale = extreme_scale(&scales);
    out[96..108].fill(0);
    let mut packed = [0.0f32; 16];
    let mut scale = 0.0;
    if max_scale == 0.0 {
        with.put_half(0.0, &mut out[108..110]);
        packed = [-32.0; 16];
    } else {
        let inverse = -32.0 / max_scale;
        for (index, (packed, scale)) in packed.iter_mut().zip(&scales).enumerate() {
            *packed = clamp(nearest(inverse * scale), -32.0, 31.0);
            let code = whole(*packed + 32.0);
            out[96 + index % 8] |= (code & 15) << (index / 8 * 4);
            out[104 + index % 4] |= code >> 4 << (index / 4 * 2);
        }
        scale = with.put_half(1.0 / inverse, &mut out[108..110]);
    }
    let mut codes = [0u8; ELEMENTS];
    for (at, code) in codes.iter_mut().enumerate() {
        let own = scale * packed[at / 16];
        *code = if own == 0.0 {
            found[at / 16][at % 16]
        } else {
            whole(clamp(nearest(x[at] / own), -HALF, HALF - 1.0) + HALF)
        };
    }
    out[..32].fill(0);
    for (at, code) in codes.iter_mut().enumerate() {
        if *code > 3 {
            out[at % 32] |= 1 << (at / 32);
            *code -= 4;
        }
    }
    put_pairs(&codes, &mut out[32..96]);
}
