//! The colours of a map.
//!
//! One colour map, from a dark violet over blue, teal and green to a light yellow. It is a curve in OKLab (Björn Ottosson, "A perceptual
//! color space for image processing", 2020): the lightness only rises, and equal steps of position are equal distances there, so what
//! looks twice as far is twice as far. Because lightness alone tells the order, it is read as well by eyes that lack a kind of cones, and
//! in grey.

use std::sync::LazyLock;

use crate::map::Mark;

/// Red, green and blue, as sRGB has them.
pub type Rgb = [u8; 3];

/// A place in OKLab: lightness from 0 to 1, green to red, blue to yellow.
type Lab = [f64; 3];

/// The curve of the colour map: the control points of a quadratic Bézier curve in OKLab. The lightness of the middle one is the mean of
/// the others', so it rises evenly.
const CURVE: [Lab; 3] = [[0.28, 0.044, -0.140], [0.615, -0.160, -0.058], [0.95, -0.044, 0.150]];

/// Straight pieces that the curve is measured with.
const PIECES: usize = 512;

/// Colours that the map is kept as; neighbours cannot be told apart.
const SHADES: usize = 512;

static MAP: LazyLock<[Rgb; SHADES]> = LazyLock::new(|| {
    let even = evenly(SHADES);
    let mut shades = [[0; 3]; SHADES];
    for (shade, place) in shades.iter_mut().zip(even) {
        *shade = from_lab(place);
    }
    shades
});

/// Of the xterm palette of 256 those near the curve, and their places. There are nearer ones here and there, but they are now greyer, now
/// more vivid, now lighter and now darker, and then the order is lost.
static RAMP_256: LazyLock<[(u8, Lab); 9]> =
    LazyLock::new(|| [18, 24, 30, 73, 79, 150, 186, 192, 228].map(|number| (number, to_lab(xterm(number)))));

/// The colour at a position from 0 (least change) to 1. What lies outside, or is not a number, is taken as the nearer end, or as 0.
#[must_use]
pub fn color(position: f64) -> Rgb {
    // A float becomes the nearest integer there is, and 0 if it is not a number.
    let index = (position * (SHADES - 1) as f64).round() as usize;
    MAP.get(index.min(SHADES - 1)).copied().unwrap_or_default()
}

/// Black or white, whichever is read better on a background: that of the larger contrast ratio (W3C, Web Content Accessibility
/// Guidelines 2.2, "contrast ratio").
#[must_use]
pub fn ink(background: Rgb) -> Rgb {
    let luminance = luminance(background);
    if (luminance + 0.05) * (luminance + 0.05) > 1.05 * 0.05 { [0; 3] } else { [255; 3] }
}

/// The fill of a cell for its mark, where no value gives it a colour: greys for what left the values alone, lilac for another form,
/// oranges for what has one side only, and red for what is broken. None of them is near the colour map.
#[must_use]
pub const fn fill(mark: Mark) -> Rgb {
    match mark {
        Mark::Equal => [0xe9, 0xeb, 0xef],
        Mark::Renamed => [0xd0, 0xd5, 0xde],
        Mark::Value => [0xb4, 0xba, 0xc4],
        Mark::DType => [0xe4, 0xcd, 0xf5],
        Mark::Shape => [0xc5, 0xa3, 0xe6],
        Mark::Removed => [0xf3, 0xb6, 0xa8],
        Mark::Added => [0xfb, 0xd5, 0xad],
        Mark::NotFinite => [0xc8, 0x1e, 0x4a],
    }
}

/// The number in the xterm palette of 256 of the colour at a position: of a ramp that gets lighter, that which is nearest in OKLab.
#[must_use]
pub fn ramp_256(position: f64) -> u8 {
    let wanted = to_lab(color(position));
    let nearest = RAMP_256.iter().min_by(|a, b| distance(a.1, wanted).total_cmp(&distance(b.1, wanted)));
    nearest.map_or(0, |(number, _)| *number)
}

/// The step of a ramp of sixteen-colour terminals at a position: a number from 0 to 15 of a background, and whether black is read on it
/// better than white. The ramp gets lighter in every palette in common use.
#[must_use]
pub fn ramp_16(position: f64) -> (u8, bool) {
    const RAMP: [(u8, bool); 5] = [(4, false), (2, true), (6, true), (10, true), (11, true)];
    RAMP.get(step(position, RAMP.len())).copied().unwrap_or((4, false))
}

/// Which of so many equal parts of the range 0 to 1 a position is in.
pub(crate) fn step(position: f64, parts: usize) -> usize {
    ((position * parts as f64) as usize).min(parts.saturating_sub(1))
}

/// Places at equal distances along the curve, both ends among them.
fn evenly(count: usize) -> impl Iterator<Item = Lab> {
    let at = |piece: usize| curve(piece as f64 / PIECES as f64);
    let mut lengths = Vec::with_capacity(PIECES + 1);
    lengths.push(0.0);
    let mut length = 0.0;
    for piece in 0..PIECES {
        length += distance(at(piece), at(piece + 1));
        lengths.push(length);
    }
    (0..count).map(move |index| {
        let wanted = length * index as f64 / (count - 1).max(1) as f64;
        let after = lengths.partition_point(|length| *length < wanted).clamp(1, PIECES);
        let (from, to) = (lengths.get(after - 1).unwrap_or(&0.0), lengths.get(after).unwrap_or(&1.0));
        curve(((after - 1) as f64 + (wanted - from) / (to - from)) / PIECES as f64)
    })
}

/// The place on the curve, which is not evenly run through.
fn curve(t: f64) -> Lab {
    let [first, middle, last] = CURVE;
    let weights = [(1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t];
    std::array::from_fn(|axis| {
        let points = [first, middle, last].map(|point| point.get(axis).copied().unwrap_or_default());
        points.iter().zip(weights).map(|(point, weight)| point * weight).sum()
    })
}

fn distance(a: Lab, b: Lab) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn from_lab(place: Lab) -> Rgb {
    linear(place).map(|light| (encoded(light.clamp(0.0, 1.0)) * 255.0).round() as u8)
}

fn to_lab(color: Rgb) -> Lab {
    lab(color.map(decoded))
}

/// OKLab to linear sRGB, which may lie outside of 0 to 1.
fn linear([l, a, b]: Lab) -> [f64; 3] {
    let cones = [
        l + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
        l - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
        l - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
    ];
    times(
        [
            [4.076_741_662_1, -3.307_711_591_3, 0.230_969_929_2],
            [-1.268_438_004_6, 2.609_757_401_1, -0.341_319_396_5],
            [-0.004_196_086_3, -0.703_418_614_7, 1.707_614_701_0],
        ],
        cones.map(|cone| cone * cone * cone),
    )
}

/// Linear sRGB to OKLab.
fn lab(light: [f64; 3]) -> Lab {
    let cones = times(
        [
            [0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9],
            [0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6],
            [0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5],
        ],
        light,
    );
    times(
        [
            [0.210_454_255_3, 0.793_617_785_0, -0.004_072_046_8],
            [1.977_998_495_1, -2.428_592_205_0, 0.450_593_709_9],
            [0.025_904_037_1, 0.782_771_766_2, -0.808_675_766_0],
        ],
        cones.map(f64::cbrt),
    )
}

fn times(matrix: [[f64; 3]; 3], [x, y, z]: [f64; 3]) -> [f64; 3] {
    matrix.map(|[a, b, c]| a * x + b * y + c * z)
}

/// The transfer function of sRGB (IEC 61966-2-1).
fn encoded(light: f64) -> f64 {
    if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

fn decoded(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The relative luminance of the Web Content Accessibility Guidelines.
fn luminance(color: Rgb) -> f64 {
    color.map(decoded).iter().zip([0.2126, 0.7152, 0.0722]).map(|(light, weight)| light * weight).sum()
}

/// A colour of the xterm palette: of its cube of 216, between the user's own sixteen and the greys.
fn xterm(number: u8) -> Rgb {
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    let index = number.saturating_sub(16).min(215);
    [level(index / 36), level(index / 6 % 6), level(index % 6)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a dichromat sees, in linear sRGB: full severity of G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, "A
    /// Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE Transactions on Visualization and Computer
    /// Graphics 15(6), 2009. In this order protanopia, deuteranopia, tritanopia.
    const DEFICIENCIES: [[[f64; 3]; 3]; 3] = [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ];

    fn steps(places: &[Lab]) -> Vec<f64> {
        places.windows(2).map(|pair| distance(pair[0], pair[1])).collect()
    }

    fn tenths() -> Vec<Rgb> {
        (0..=10).map(|tenth| color(f64::from(tenth) / 10.0)).collect()
    }

    #[test]
    fn oklab_is_that_of_its_paper() {
        // The pairs of XYZ and OKLab in the paper, by way of sRGB: white, and red as CSS Color 4 gives it.
        let near = |a: Lab, b: Lab| assert!(distance(a, b) < 1e-3, "{a:?} {b:?}");
        near(to_lab([255, 255, 255]), [1.0, 0.0, 0.0]);
        near(to_lab([255, 0, 0]), [0.628, 0.2249, 0.1258]);
        for color in [[0, 0, 0], [12, 200, 99], [255, 1, 254]] {
            assert_eq!(from_lab(to_lab(color)), color);
        }
    }

    #[test]
    fn equal_steps_of_position_are_equal_distances() {
        let places: Vec<Lab> = evenly(101).collect();
        let found = steps(&places);
        let mean = found.iter().sum::<f64>() / 100.0;
        assert!(found.iter().all(|step| (step / mean - 1.0).abs() < 0.01), "{found:?}");
        // And as rounded to bytes, over longer steps.
        let places: Vec<Lab> = tenths().into_iter().map(to_lab).collect();
        let found = steps(&places);
        let mean = found.iter().sum::<f64>() / 10.0;
        assert!(found.iter().all(|step| (step / mean - 1.0).abs() < 0.05), "{found:?}");
        assert!(places.first().unwrap()[0] < 0.3 && places.last().unwrap()[0] > 0.94);
    }

    #[test]
    fn the_curve_is_in_gamut_and_gets_lighter_evenly() {
        let places: Vec<Lab> = evenly(256).collect();
        for place in &places {
            assert!(linear(*place).iter().all(|light| (0.0..=1.0).contains(light)), "{place:?} {:?}", linear(*place));
        }
        let rises: Vec<f64> = places.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
        let mean = rises.iter().sum::<f64>() / rises.len() as f64;
        assert!(rises.iter().all(|rise| (0.6..1.4).contains(&(rise / mean))), "{rises:?}");
    }

    #[test]
    fn order_and_tenths_are_seen_without_a_kind_of_cones() {
        for deficiency in DEFICIENCIES {
            let seen = |color: Rgb| lab(times(deficiency, color.map(decoded)).map(|light| light.clamp(0.0, 1.0)));
            let fine: Vec<Lab> = (0..=50).map(|step| seen(color(f64::from(step) / 50.0))).collect();
            assert!(fine.windows(2).all(|pair| pair[0][0] < pair[1][0]), "{fine:?}");
            // Twice what is just noticed side by side, about 0.02.
            let found = steps(&tenths().into_iter().map(seen).collect::<Vec<_>>());
            assert!(found.iter().all(|step| *step > 0.045), "{found:?}");
        }
    }

    #[test]
    fn positions_outside_are_at_the_ends() {
        for (position, same) in [(-1.0, 0.0), (f64::NAN, 0.0), (2.0, 1.0), (f64::INFINITY, 1.0)] {
            assert_eq!(color(position), color(same));
        }
        assert_eq!([step(-1.0, 8), step(0.99, 8), step(1.0, 8), step(f64::NAN, 8), step(0.5, 0)], [0, 7, 7, 0, 0]);
    }

    #[test]
    fn ink_has_contrast_everywhere() {
        let contrast = |a: Rgb, b: Rgb| {
            let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
            f64::max(a / b, b / a)
        };
        let fills = Mark::ALL.map(fill);
        for background in (0..=100).map(|step| color(f64::from(step) / 100.0)).chain(fills) {
            let chosen = contrast(ink(background), background);
            assert!(chosen >= 4.5, "{background:?} {chosen}");
        }
        assert_eq!((ink([255; 3]), ink([0; 3])), ([0; 3], [255; 3]));
    }

    #[test]
    fn fills_of_marks_are_told_apart_and_are_not_on_the_map() {
        let fills: Vec<Lab> = Mark::ALL.iter().map(|mark| to_lab(fill(*mark))).collect();
        for (index, place) in fills.iter().enumerate() {
            assert!(fills[..index].iter().all(|other| distance(*place, *other) > 0.04), "{:?}", Mark::ALL[index]);
            assert!(evenly(256).all(|on_map| distance(on_map, *place) > 0.06), "{:?}", Mark::ALL[index]);
        }
    }

    #[test]
    fn of_256_colours_the_ramp_is_near_the_map_and_gets_lighter() {
        assert_eq!((xterm(16), xterm(231), xterm(67)), ([0; 3], [255; 3], [0x5f, 0x87, 0xaf]));
        let numbers: Vec<u8> = (0..=100).map(|step| ramp_256(f64::from(step) / 100.0)).collect();
        let mut ramp = numbers.clone();
        ramp.dedup();
        assert_eq!(ramp.len(), RAMP_256.len(), "none is missing, and none comes back: {numbers:?}");
        assert!(ramp.windows(2).all(|pair| to_lab(xterm(pair[0]))[0] + 0.02 < to_lab(xterm(pair[1]))[0]));
        for number in ramp {
            let place = to_lab(xterm(number));
            assert!(evenly(256).any(|on_map| distance(on_map, place) < 0.09), "{number}");
        }
    }

    #[test]
    fn sixteen_colours_get_lighter_in_the_usual_palettes() {
        // Of xterm, VGA, Windows Console and Tango: blue, green, cyan, bright green, bright yellow. Bright blue is not in the ramp, as
        // it is lighter than green in some and darker in others.
        let palettes: [[Rgb; 5]; 4] = [
            [[0, 0, 238], [0, 205, 0], [0, 205, 205], [0, 255, 0], [255, 255, 0]],
            [[0, 0, 170], [0, 170, 0], [0, 170, 170], [85, 255, 85], [255, 255, 85]],
            [[0, 55, 218], [19, 161, 14], [58, 150, 221], [22, 198, 12], [249, 241, 165]],
            [[52, 101, 164], [78, 154, 6], [6, 152, 154], [138, 226, 52], [252, 233, 79]],
        ];
        let ramp: Vec<(u8, bool)> = (0..5).map(|step| ramp_16(f64::from(step) / 4.0)).collect();
        assert_eq!(ramp.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 2, 6, 10, 11]);
        for palette in palettes {
            assert!(palette.windows(2).all(|pair| to_lab(pair[0])[0] < to_lab(pair[1])[0]), "{palette:?}");
            for (color, (_, black)) in palette.into_iter().zip(&ramp) {
                let luminance = luminance(color);
                assert!(if *black { luminance > 0.1 } else { luminance < 0.2 }, "{color:?}");
            }
        }
    }
}
