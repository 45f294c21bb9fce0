//! Ratio against decoding speed, as an SVG file.

mod labels;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::codec::Codec;
use super::error::BenchError;
use super::report::{Report, rounds};
use crate::report::size::human;
use crate::report::text::xml;
use labels::{Area, place_labels};

/// The picture, in pixels.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
/// Where the axes are.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 924.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 508.0;
/// Least distance of two ticks' labels below the picture, from middle to middle.
const TICK_ROOM: f64 = 76.0;

/// Refuses names that no plot is written to, before anything is measured.
pub(super) fn check(path: &Path) -> Result<(), BenchError> {
    if !path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("svg")) {
        return Err(BenchError::PlotKind(path.to_owned()));
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(_) => Ok(()),
        Err(source) => Err(BenchError::Plot { path: path.to_owned(), source }),
    }
}

pub(super) fn write(path: &Path, report: &Report<'_>) -> Result<(), BenchError> {
    let svg = Plot::new(report).to_svg();
    fs::write(path, svg).map_err(|source| BenchError::Plot { path: path.to_owned(), source })
}

/// What a point stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Shard,
    Other,
    Chain,
}

impl Family {
    const ALL: [Self; 3] = [Self::Shard, Self::Other, Self::Chain];

    fn of(codec: &Codec) -> Self {
        match codec {
            Codec::Shard(_) => Self::Shard,
            Codec::Zstd | Codec::BitX => Self::Other,
            Codec::Chain(..) => Self::Chain,
        }
    }

    /// What the legend calls it, and its colour.
    fn look(self) -> (&'static str, &'static str) {
        match self {
            Self::Shard => ("shard, a chain for each block", "#1d4ed8"),
            Self::Other => ("others", "#c2410c"),
            Self::Chain => ("shard, one chain for all", "#0f766e"),
        }
    }

    /// A label's letters: their size, a width that wide sans-serifs do not exceed on average, and their weight.
    fn letters(self) -> (f64, f64, u32) {
        match self {
            Self::Shard | Self::Other => (13.0, 8.4, 600),
            Self::Chain => (11.0, 6.5, 400),
        }
    }
}

#[derive(Debug, Clone)]
struct Point {
    name: String,
    family: Family,
    ratio: f64,
    /// MB/s.
    decode: f64,
    encode: f64,
}

struct Plot {
    subtitle: String,
    /// Two lines below the picture.
    caption: [String; 2],
    points: Vec<Point>,
    /// MB/s of SHA-256.
    hashing: Option<f64>,
}

impl Plot {
    fn new(report: &Report<'_>) -> Self {
        let total = &report.total;
        let mut points: Vec<Point> = Vec::new();
        let mut left_out = 0;
        for (codec, figures) in report.codecs.iter().zip(&total.codecs) {
            let (Some(encode), Some(decode)) = (figures.encode_speed(), figures.decode_speed()) else { continue };
            // A chain that few blocks fit would stand at a ratio of 1 and at any speed.
            if figures.taken * 2 < total.coded() {
                left_out += 1;
                continue;
            }
            let ratio = total.raw as f64 / figures.stored_of(total).max(1) as f64;
            points.push(Point { name: codec.name(), family: Family::of(codec), ratio, decode, encode });
        }
        let mut below = format!("{} raw", human(total.raw));
        if total.free > 0 {
            below.push_str(&format!(", {} of it equal to earlier blocks and free for all", human(total.free)));
        }
        if left_out > 0 {
            below.push_str(&format!("; not shown: {left_out} that fit less than half of the bytes"));
        }
        let method =
            format!("Times on one thread, in memory, {}; every round trip was checked.", rounds(report.rounds));
        Self { subtitle: report.subject(), caption: [method, below], points, hashing: total.hash_speed() }
    }

    fn to_svg(&self) -> String {
        let mut out = String::new();
        self.put(&mut out);
        out
    }

    /// Writing to a String does not fail, so what it returns is not looked at.
    fn put(&self, out: &mut String) {
        let _ = writeln!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif" font-size="13">
<title>Ratio against decoding speed</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
        );
        text(out, (LEFT, 36.0), r##"font-size="20" font-weight="600" fill="#0f172a""##, "Ratio against decoding speed");
        text(out, (LEFT, 60.0), r##"fill="#475569""##, &cut(&self.subtitle, 118));
        for (line, y) in self.caption.iter().zip([HEIGHT - 28.0, HEIGHT - 12.0]) {
            text(out, (LEFT, y), r##"font-size="11" fill="#64748b""##, &cut(line, 150));
        }
        let Some(scale) = Scale::of(&self.points, self.hashing) else {
            let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            text(out, middle, r##"text-anchor="middle" fill="#475569""##, "every block is equal to an earlier one");
            out.push_str("</svg>\n");
            return;
        };
        scale.put_axes(out);
        if let Some(hashing) = self.hashing {
            let x = scale.x(hashing);
            let _ = writeln!(
                out,
                r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{BOTTOM}" stroke="#94a3b8" stroke-width="1.5" stroke-dasharray="5 4"/>"##
            );
            let label = format!("SHA-256, {}", speed(hashing));
            let (anchor, x) = if x > (LEFT + RIGHT) / 2.0 { ("end", x - 6.0) } else { ("start", x + 6.0) };
            text(out, (x, BOTTOM - 8.0), &format!(r##"font-size="11" fill="#64748b" text-anchor="{anchor}""##), &label);
        }
        self.put_legend(out);
        let places: Vec<(f64, f64)> = self.points.iter().map(|p| (scale.x(p.decode), scale.y(p.ratio))).collect();
        let reserved = self.hashing.map(|speed| {
            let x = scale.x(speed);
            Area { left: x - 130.0, top: BOTTOM - 22.0, right: x + 130.0, bottom: BOTTOM }
        });
        let labels = place_labels(&self.points, &places, reserved);
        for ((point, place), label) in self.points.iter().zip(&places).zip(&labels) {
            if let Some((x, y)) = label.as_ref().and_then(|label| label.lead(*place)) {
                let _ = writeln!(
                    out,
                    r##"<line x1="{:.1}" y1="{:.1}" x2="{x:.1}" y2="{y:.1}" stroke="{}" stroke-width="1"/>"##,
                    place.0,
                    place.1,
                    point.family.look().1
                );
            }
        }
        for (point, place) in self.points.iter().zip(&places) {
            put_mark(out, point.family, *place, &tooltip(point));
        }
        for (point, label) in self.points.iter().zip(labels) {
            let Some(label) = label else { continue };
            let (size, _, weight) = point.family.letters();
            // The white outline keeps lines that pass behind a label from being read as part of it.
            let style = format!(
                r##"font-size="{size}" font-weight="{weight}" text-anchor="{}" fill="{}" stroke="#ffffff" stroke-width="3" stroke-linejoin="round" paint-order="stroke""##,
                label.anchor,
                point.family.look().1
            );
            text(out, (label.x(), label.area.bottom - 3.5), &style, &label_text(point));
        }
        out.push_str("</svg>\n");
    }

    fn put_legend(&self, out: &mut String) {
        let mut x = LEFT;
        for family in Family::ALL {
            if self.points.iter().any(|point| point.family == family) {
                put_mark(out, family, (x + 6.0, 82.0), "");
                text(out, (x + 18.0, 86.0), r##"font-size="12" fill="#334155""##, family.look().0);
                x += 36.0 + family.look().0.len() as f64 * 6.6;
            }
        }
    }
}

/// The range of both axes: decoding speed by its logarithm, ratio as it is.
#[derive(Debug)]
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    /// Distance of the ratio's ticks.
    step: f64,
}

impl Scale {
    fn of(points: &[Point], hashing: Option<f64>) -> Option<Self> {
        let speeds = || points.iter().map(|point| point.decode).chain(hashing);
        let ratios = || points.iter().map(|point| point.ratio);
        if points.is_empty() {
            return None;
        }
        let (slow, fast) = (speeds().fold(f64::INFINITY, f64::min), speeds().fold(0.0, f64::max));
        let (low, high) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
        // Points stay clear of the frame.
        let room = ((fast / slow).log10() * 0.12).max(0.12);
        let x = (slow.log10() - room, fast.log10() + room);
        let span = (high - low).max(high * 0.02).max(0.05);
        let step = tick(span * 1.2 / 7.0);
        let bottom = ((low - span * 0.12) / step).floor() * step;
        let top = ((high + span * 0.08) / step).ceil() * step;
        Some(Self { x, y: (bottom.max(0.0), top), step })
    }

    fn x(&self, speed: f64) -> f64 {
        LEFT + (speed.log10() - self.x.0) / (self.x.1 - self.x.0) * (RIGHT - LEFT)
    }

    fn y(&self, ratio: f64) -> f64 {
        BOTTOM - (ratio - self.y.0) / (self.y.1 - self.y.0) * (BOTTOM - TOP)
    }

    /// Speeds that get a tick: powers of ten, then the roundest multiples of them that there is room for.
    fn speeds(&self) -> Vec<f64> {
        let mut ticks: Vec<f64> = Vec::new();
        for multiple in [1.0, 5.0, 2.0, 3.0, 7.0, 4.0, 1.5, 2.5, 6.0, 8.0, 1.2, 1.7, 9.0] {
            for power in self.x.0.floor() as i32..=self.x.1.ceil() as i32 {
                let speed = multiple * 10f64.powi(power);
                let is_free = ticks.iter().all(|tick| (self.x(*tick) - self.x(speed)).abs() >= TICK_ROOM);
                if (self.x.0..=self.x.1).contains(&speed.log10()) && is_free {
                    ticks.push(speed);
                }
            }
        }
        ticks
    }

    fn put_axes(&self, out: &mut String) {
        let is_whole = |decimals: &usize| {
            let scaled = self.step * 10f64.powi(*decimals as i32);
            (scaled - scaled.round()).abs() < 1e-6
        };
        let decimals = (0..6).find(is_whole).unwrap_or(6);
        let count = ((self.y.1 - self.y.0) / self.step).round() as usize;
        for index in 0..=count {
            let ratio = self.y.0 + index as f64 * self.step;
            let y = self.y(ratio);
            let _ = writeln!(
                out,
                r##"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="#e2e8f0" stroke-width="1"/>"##
            );
            let style = r##"text-anchor="end" font-size="12" fill="#475569""##;
            text(out, (LEFT - 10.0, y + 4.0), style, &format!("{ratio:.decimals$}x"));
        }
        for speed_here in self.speeds() {
            let x = self.x(speed_here);
            let _ = writeln!(
                out,
                r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{BOTTOM}" stroke="#eef2f7" stroke-width="1"/>"##
            );
            let style = r##"text-anchor="middle" font-size="12" fill="#475569""##;
            text(out, (x, BOTTOM + 20.0), style, &speed(speed_here));
        }
        let _ = writeln!(
            out,
            r##"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#64748b" stroke-width="1.2"/>"##
        );
        let middle = (LEFT + RIGHT) / 2.0;
        let style = r##"text-anchor="middle" fill="#334155""##;
        text(out, (middle, BOTTOM + 44.0), style, "decoding speed, faster to the right (logarithmic)");
        let height = (TOP + BOTTOM) / 2.0;
        text(
            out,
            (22.0, height),
            &format!(r##"{style} transform="rotate(-90 22 {height})""##),
            "raw / stored bytes, higher is better",
        );
    }
}

/// The least of 1, 2, 2.5 and 5 times the powers of ten that is not below `least`.
fn tick(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .map(|multiple| multiple * power)
        .into_iter()
        .find(|tick| *tick >= least)
        .unwrap_or(10.0 * power)
}

/// MB/s, or from 1,000 of them GB/s.
fn speed(mb_s: f64) -> String {
    let short = |value: f64| {
        let digits = if value < 9.95 { 1 } else { 0 };
        let text = format!("{value:.digits$}");
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    };
    if mb_s >= 999.5 { format!("{} GB/s", short(mb_s / 1000.0)) } else { format!("{} MB/s", short(mb_s)) }
}

fn label_text(point: &Point) -> String {
    match point.family {
        Family::Chain => point.name.clone(),
        _ => format!("{} {:.2}x", point.name, point.ratio),
    }
}

fn tooltip(point: &Point) -> String {
    let (name, ratio) = (&point.name, point.ratio);
    format!("{name}: {ratio:.3}x, encodes {}, decodes {}", speed(point.encode), speed(point.decode))
}

fn put_mark(out: &mut String, family: Family, (x, y): (f64, f64), tooltip: &str) {
    let color = family.look().1;
    let title = if tooltip.is_empty() { String::new() } else { format!("<title>{}</title>", xml(tooltip)) };
    let _ = match family {
        Family::Shard => writeln!(
            out,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="6.5" fill="{color}" stroke="#ffffff" stroke-width="1.5">{title}</circle>"##
        ),
        Family::Other => writeln!(
            out,
            r##"<path d="M{x:.1} {:.1}l7 7l-7 7l-7 -7z" fill="{color}" stroke="#ffffff" stroke-width="1.5">{title}</path>"##,
            y - 7.0
        ),
        Family::Chain => writeln!(
            out,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="#ffffff" stroke="{color}" stroke-width="2">{title}</circle>"##
        ),
    };
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, text: &str) {
    let _ = writeln!(out, r##"<text x="{x:.1}" y="{y:.1}" {style}>{}</text>"##, xml(text));
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, family: Family, ratio: f64, decode: f64) -> Point {
        Point { name: name.to_owned(), family, ratio, decode, encode: decode / 3.0 }
    }

    fn plot(points: Vec<Point>) -> Plot {
        let (subtitle, caption) =
            ("a <b> & \"c\"\u{1b}".to_owned(), ["as it was".to_owned(), "17.3 MB raw".to_owned()]);
        Plot { subtitle, caption, points, hashing: Some(1500.0) }
    }

    #[test]
    fn a_plot_is_sound_xml_with_every_point() {
        let svg = plot(vec![
            point("shard default", Family::Shard, 7.6, 1400.0),
            point("zstd -3", Family::Other, 1.3, 900.0),
            point("parent+ulp", Family::Chain, 7.1, 1300.0),
        ])
        .to_svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for expected in
            ["a &lt;b&gt; &amp; &quot;c&quot;\\u{1b}", "shard default 7.60x", "SHA-256, 1.5 GB/s", "17.3 MB raw"]
        {
            assert!(svg.contains(expected), "{expected} in {svg}");
        }
        assert_eq!(svg.matches("<title>").count(), 4, "the picture and its points");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn nothing_to_show_is_said() {
        assert!(plot(Vec::new()).to_svg().contains("every block is equal"));
    }

    #[test]
    fn every_point_is_inside_of_the_frame() {
        for points in [
            vec![point("a", Family::Shard, 1.0, 5.0)],
            vec![point("a", Family::Shard, 24.1, 14.0), point("b", Family::Other, 1.0, 90_000.0)],
            vec![point("a", Family::Shard, 1.501, 900.0), point("b", Family::Other, 1.502, 901.0)],
            vec![point("a", Family::Shard, 1e6, 900.0), point("b", Family::Other, 1.0, 901.0)],
        ] {
            let scale = Scale::of(&points, Some(1500.0)).unwrap();
            for point in &points {
                let (x, y) = (scale.x(point.decode), scale.y(point.ratio));
                assert!(x > LEFT && x < RIGHT && (TOP..=BOTTOM).contains(&y), "{point:?} at {x}, {y} in {scale:?}");
            }
            assert!((2..=20).contains(&scale.speeds().len()), "{:?}", scale.speeds());
        }
    }

    #[test]
    fn ticks_and_speeds_are_round() {
        assert_eq!([0.03, 0.9, 1.0, 2.1, 4.0].map(tick), [0.05, 1.0, 1.0, 2.5, 5.0]);
        assert_eq!(
            [5.0, 12.34, 999.0, 1000.0, 1520.0, 20_000.0].map(speed),
            ["5 MB/s", "12 MB/s", "999 MB/s", "1 GB/s", "1.5 GB/s", "20 GB/s"]
        );
    }

    #[test]
    fn only_svg_is_drawn() {
        assert!(check(Path::new("x.svg")).is_ok() && check(Path::new("x.SVG")).is_ok());
        assert!(matches!(check(Path::new("x.png")), Err(BenchError::PlotKind(_))));
        assert!(matches!(check(Path::new("svg")), Err(BenchError::PlotKind(_))));
        assert!(matches!(check(Path::new("no/such/folder/x.svg")), Err(BenchError::Plot { .. })));
    }
}
