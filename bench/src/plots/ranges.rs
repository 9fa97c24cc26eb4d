//! Latencies: from the half of the packets to all but a thousandth, on a logarithmic scale.

use plotters::style::RGBColor;

use super::canvas::{Canvas, Drawn, GREY, PALE, Point, Side};
use crate::error::BenchError;

/// A plot of one panel or several beside each other, with one scale.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranges {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// Names and colours of the relays, for the legend.
    pub(super) legend: Vec<(String, RGBColor)>,
    pub(super) panels: Vec<Panel>,
}

/// What belongs together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Panel {
    pub(super) name: String,
    pub(super) groups: Vec<Group>,
}

/// Relays under the same load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) ranges: Vec<Range>,
}

/// One relay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) color: RGBColor,
    /// What 50, 99 and 99.9 % do not exceed, in microseconds.
    pub(super) micros: [f64; 3],
    /// What there is to say of it, as a loss.
    pub(super) note: String,
}

impl Ranges {
    pub(super) fn svg(&self) -> Result<String, BenchError> {
        Canvas::svg((WIDTH, HEIGHT), |canvas| self.draw(canvas))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.text((MARGIN, 26), Side::Right, 20, &self.title)?;
        canvas.note((MARGIN, 50), Side::Right, 13, &self.subtitle)?;
        self.draw_legend(canvas)?;
        let scale = Scale::of(self.micros());
        scale.draw(canvas)?;
        let count = i32::try_from(self.panels.len()).unwrap_or(1).max(1);
        let width = (WIDTH - MARGIN - LEFT) / count;
        for (panel, left) in self.panels.iter().zip((LEFT..).step_by(width.unsigned_abs() as usize))
        {
            panel.draw(canvas, &scale, left, width)?;
        }
        Ok(())
    }

    fn draw_legend(&self, canvas: &Canvas<'_>) -> Drawn {
        let mut x = MARGIN + 6;
        for (name, color) in &self.legend {
            canvas.dot((x, 78), 6, *color)?;
            canvas.text((x + 12, 78), Side::Right, 13, name)?;
            let letters = i32::try_from(name.chars().count()).unwrap_or(0);
            x += 44 + letters * 8;
        }
        let dots = "filled 50 %, ring 99 %, bar 99.9 %";
        canvas.note((WIDTH - MARGIN, 78), Side::Left, 13, dots)
    }

    fn micros(&self) -> impl Iterator<Item = f64> {
        let groups = self.panels.iter().flat_map(|panel| &panel.groups);
        groups.flat_map(|group| &group.ranges).flat_map(|range| range.micros)
    }
}

impl Panel {
    fn draw(&self, canvas: &Canvas<'_>, scale: &Scale, left: i32, width: i32) -> Drawn {
        canvas.text((left + width / 2, TOP - 16), Side::Middle, 14, &self.name)?;
        canvas.line((left, TOP), (left, BOTTOM), GREY, 1)?;
        let count = i32::try_from(self.groups.len()).unwrap_or(1).max(1);
        for (group, place) in self.groups.iter().zip(0..) {
            let middle = left + width * (2 * place + 1) / (2 * count);
            canvas.text((middle, BOTTOM + 16), Side::Middle, 13, &group.name)?;
            let ranges = i32::try_from(group.ranges.len()).unwrap_or(1).max(1);
            let apart = (width / count * 7 / 10 / ranges).min(34);
            for (range, place) in group.ranges.iter().zip(0..) {
                let x = middle + (2 * place + 1 - ranges) * apart / 2;
                range.draw(canvas, scale, x)?;
            }
        }
        Ok(())
    }
}

impl Range {
    fn draw(&self, canvas: &Canvas<'_>, scale: &Scale, x: i32) -> Drawn {
        let [half, most, nearly_all] = self.micros.map(|micros| -> Point { (x, scale.y(micros)) });
        canvas.line(half, nearly_all, self.color, 2)?;
        canvas.line((x - 6, nearly_all.1), (x + 6, nearly_all.1), self.color, 3)?;
        canvas.ring(most, 5, self.color)?;
        canvas.dot(half, 5, self.color)?;
        canvas.note((x, nearly_all.1 - 12), Side::Middle, 11, &self.note)
    }
}

/// From microseconds to pixels.
struct Scale {
    /// Powers of ten at both ends.
    low: i32,
    high: i32,
}

impl Scale {
    fn of(micros: impl Iterator<Item = f64>) -> Scale {
        let logs: Vec<f64> = micros.filter(|micros| *micros > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
        if !low.is_finite() {
            return Scale { low: 0, high: 1 };
        }
        Scale { low: low as i32, high: (high as i32).max(low as i32 + 1) }
    }

    fn y(&self, micros: f64) -> i32 {
        let part = (micros.max(f64::MIN_POSITIVE).log10() - f64::from(self.low))
            / f64::from(self.high - self.low);
        BOTTOM - (part.clamp(0.0, 1.0) * f64::from(BOTTOM - TOP)) as i32
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        for power in self.low..=self.high {
            let decade = 10_f64.powi(power);
            for part in [1.0, 2.0, 5.0] {
                if power == self.high && part > 1.0 {
                    break;
                }
                let y = self.y(decade * part);
                canvas.line((LEFT, y), (WIDTH - MARGIN, y), PALE, 1)?;
                canvas.note((LEFT - 8, y), Side::Left, 12, &time(decade * part))?;
            }
        }
        Ok(())
    }
}

fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1000.0 => format!("{micros} µs"),
        micros if micros < 1_000_000.0 => format!("{} ms", micros / 1000.0),
        micros => format!("{} s", micros / 1_000_000.0),
    }
}

const WIDTH: i32 = 1000;
const HEIGHT: i32 = 480;
const MARGIN: i32 = 16;
const LEFT: i32 = 76;
const TOP: i32 = 128;
const BOTTOM: i32 = 446;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_all_of_it() {
        let scale = Scale::of([30.0, 250.0, 4000.0].into_iter());
        assert_eq!((1, 4), (scale.low, scale.high));
        assert_eq!((BOTTOM, TOP), (scale.y(10.0), scale.y(10_000.0)));
        assert!(scale.y(30.0) > scale.y(250.0));
    }

    #[test]
    fn nothing_and_one_value_have_a_scale_too() {
        assert_eq!(BOTTOM, Scale::of([].into_iter()).y(1.0));
        let scale = Scale::of([100.0].into_iter());
        assert_eq!((2, 3), (scale.low, scale.high));
    }

    #[test]
    fn times_are_in_a_unit_that_suits_them() {
        let shown = [5.0, 200.0, 1000.0, 20_000.0, 2_000_000.0].map(time);
        assert_eq!(["5 µs", "200 µs", "1 ms", "20 ms", "2 s"], shown.each_ref().map(|s| &**s));
    }

    #[test]
    fn panels_groups_and_relays_are_named() {
        let range = Range {
            color: RGBColor(1, 2, 3),
            micros: [1.0, 2.0, 3.0],
            note: "1 % lost".to_owned(),
        };
        let group = Group { name: "90 %".to_owned(), ranges: vec![range] };
        let plot = Ranges {
            title: "title".to_owned(),
            subtitle: "below".to_owned(),
            legend: vec![("relay".to_owned(), RGBColor(1, 2, 3))],
            panels: vec![Panel { name: "panel".to_owned(), groups: vec![group] }],
        };
        let svg = plot.svg().unwrap();
        for text in ["title", "relay", "panel", "90 %", "1 % lost"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
