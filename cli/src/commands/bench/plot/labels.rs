//! Where the labels of a plot's points go.

use super::{BOTTOM, Family, LEFT, Point, RIGHT, TOP, label_text};

/// Distance of a label from its point.
const GAP: f64 = 11.0;
/// How much further away it is where there is no room beside it; a line leads to it then.
const FAR: f64 = 14.0;

/// A rectangle; down is positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The area that both share.
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn around((x, y): (f64, f64), radius: f64) -> Self {
        Self { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }
    }

    /// How much of it is outside of the frame.
    fn outside(&self) -> f64 {
        let frame = Self { left: LEFT + 2.0, top: TOP - 16.0, right: RIGHT + 30.0, bottom: BOTTOM - 2.0 };
        (self.right - self.left) * (self.bottom - self.top) - self.overlap(&frame)
    }
}

/// Where a label is, and which end of it is by its point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) area: Area,
    pub(super) anchor: &'static str,
}

impl Label {
    /// A label of that size: beside a point to its right or left, or centred on it.
    fn new(anchor: &'static str, x: f64, middle: f64, (width, height): (f64, f64)) -> Self {
        let left = match anchor {
            "start" => x,
            "end" => x - width,
            _ => x - width / 2.0,
        };
        let (top, bottom) = (middle - height / 2.0, middle + height / 2.0);
        Self { area: Area { left, top, right: left + width, bottom }, anchor }
    }

    /// What the anchor is put at: a font that is narrower than expected leaves no gap to the point.
    pub(super) fn x(&self) -> f64 {
        match self.anchor {
            "start" => self.area.left,
            "end" => self.area.right,
            _ => (self.area.left + self.area.right) / 2.0,
        }
    }

    /// Where a line from its point ends, for a label that is not right beside it.
    pub(super) fn lead(&self, (_, y): (f64, f64)) -> Option<(f64, f64)> {
        let near = y.clamp(self.area.top, self.area.bottom);
        ((near - y).abs() > GAP + 1.0).then(|| (self.x(), near))
    }
}

/// Where each label goes: beside its point, clear of points and other labels. A chain without room has none, its tooltip
/// still names it; any other has the best there is.
pub(super) fn place_labels(points: &[Point], places: &[(f64, f64)], reserved: Option<Area>) -> Vec<Option<Label>> {
    let mut order: Vec<(usize, &Point)> = points.iter().enumerate().collect();
    // What matters most chooses first; of chains the best.
    order.sort_by(|(_, a), (_, b)| a.family.cmp(&b.family).then(b.ratio.total_cmp(&a.ratio)));
    let marks: Vec<Area> = places.iter().map(|place| Area::around(*place, 6.0)).collect();
    let mut taken: Vec<Area> = reserved.into_iter().collect();
    let mut found = vec![None; points.len()];
    for (index, point) in order {
        let Some((x, y)) = places.get(index).copied() else { continue };
        let (letter, letter_width, _) = point.family.letters();
        let size = (label_text(point).chars().count() as f64 * letter_width, letter + 2.0);
        let (above, below) = (y - GAP - size.1 / 2.0, y + GAP + size.1 / 2.0);
        let choices = [
            Label::new("start", x + GAP, y, size),
            Label::new("end", x - GAP, y, size),
            Label::new("middle", x, above, size),
            Label::new("middle", x, below, size),
            Label::new("start", x + GAP / 2.0, above + 4.0, size),
            Label::new("start", x + GAP / 2.0, below - 4.0, size),
            Label::new("end", x - GAP / 2.0, above + 4.0, size),
            Label::new("end", x - GAP / 2.0, below - 4.0, size),
            Label::new("middle", x, above - FAR, size),
            Label::new("middle", x, below + FAR, size),
            Label::new("start", x + GAP, above - FAR, size),
            Label::new("start", x + GAP, below + FAR, size),
            Label::new("end", x - GAP, above - FAR, size),
            Label::new("end", x - GAP, below + FAR, size),
        ];
        let cost = |label: &Label| {
            let others = marks.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, mark)| mark);
            others.chain(&taken).map(|other| label.area.overlap(other)).sum::<f64>() + label.area.outside() * 2.0
        };
        let best = choices.iter().map(|label| (cost(label), label)).min_by(|(a, _), (b, _)| a.total_cmp(b));
        let Some((cost, label)) = best else { continue };
        if cost < 1.0 || point.family != Family::Chain {
            taken.push(label.area);
            if let Some(place) = found.get_mut(index) {
                *place = Some(*label);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, family: Family, ratio: f64) -> Point {
        Point { name: name.to_owned(), family, ratio, decode: 1.0, encode: 1.0 }
    }

    #[test]
    fn labels_keep_clear_of_each_other() {
        let points: Vec<Point> = (0..12).map(|i| point("parent+ulp+planes", Family::Chain, f64::from(i))).collect();
        let places: Vec<(f64, f64)> =
            (0..12).map(|i| (400.0 + f64::from(i % 3) * 30.0, 150.0 + f64::from(i) * 9.0)).collect();
        let found: Vec<Area> =
            place_labels(&points, &places, None).into_iter().flatten().map(|label| label.area).collect();
        assert!(found.len() >= 4, "{found:?}");
        for (index, area) in found.iter().enumerate() {
            assert!(found[..index].iter().all(|other| area.overlap(other) == 0.0), "{found:?}");
        }
        let crowd = vec![(500.0, 300.0); 3];
        let named: Vec<Point> = (0..3).map(|_| point("zstd", Family::Other, 1.0)).collect();
        assert!(place_labels(&named, &crowd, None).iter().all(Option::is_some));
    }
}
