//! Bars in groups, as long as their ratio to the reference.

use plotters::style::RGBColor;

use super::canvas::{Canvas, Drawn, GREY, PALE, Side};
use crate::error::BenchError;

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) groups: Vec<Group>,
}

/// The bars of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// One relay in one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) color: RGBColor,
    /// Over the reference, which has 1.
    pub(super) ratio: f64,
    /// The figure itself, with its unit.
    pub(super) figure: String,
}

impl Bars {
    pub(super) fn svg(&self) -> Result<String, BenchError> {
        let bars: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let (bars, groups) = (pixels(bars), pixels(self.groups.len()));
        let height = TOP + bars * BAR + groups * GAP + BOTTOM;
        Canvas::svg((WIDTH, height), |canvas| self.draw(canvas, height))
    }

    fn draw(&self, canvas: &Canvas<'_>, height: i32) -> Drawn {
        canvas.text((MARGIN, 26), Side::Right, 20, &self.title)?;
        canvas.note((MARGIN, 50), Side::Right, 13, &self.subtitle)?;
        let scale = Scale::of(&self.groups);
        let bottom = height - BOTTOM;
        for step in 0..=scale.steps {
            let value = f64::from(step) * scale.step;
            let x = scale.x(value);
            canvas.line((x, TOP - 4), (x, bottom), PALE, 1)?;
            canvas.note((x, bottom + 14), Side::Middle, 12, &format!("{value}"))?;
        }
        let mut y = TOP;
        for group in &self.groups {
            canvas.text((NAMES, y + 8), Side::Left, 14, &group.name)?;
            for bar in &group.bars {
                let x = scale.x(bar.ratio);
                canvas.bar((START, y), (x, y + BAR - 4), bar.color)?;
                let middle = y + BAR / 2 - 2;
                canvas.text((LABELS, middle), Side::Right, 12, &bar.name)?;
                canvas.text((FIGURES, middle), Side::Left, 12, &bar.figure)?;
                let ratio = format!("× {:.2}", bar.ratio);
                canvas.note((WIDTH - MARGIN, middle), Side::Left, 12, &ratio)?;
                y += BAR;
            }
            y += GAP;
        }
        let one = scale.x(1.0);
        canvas.line((one, TOP - 4), (one, bottom), GREY, 1)
    }
}

/// From ratios to pixels.
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    fn of(groups: &[Group]) -> Scale {
        let ratios = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.ratio);
        let most = ratios.fold(1.0, f64::max);
        let step = STEPS.into_iter().find(|step| most / step <= 8.0).unwrap_or(most / 8.0);
        Scale { step, steps: (most / step).ceil() as u32 }
    }

    fn x(&self, ratio: f64) -> i32 {
        let part = ratio / (f64::from(self.steps) * self.step);
        START + (part * f64::from(END - START)) as i32
    }
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(0)
}

const WIDTH: i32 = 1000;
const MARGIN: i32 = 16;
const TOP: i32 = 84;
const BOTTOM: i32 = 28;
/// The names of the groups end here.
const NAMES: i32 = 262;
const START: i32 = 276;
const END: i32 = 730;
/// Who it is, behind the bars.
const LABELS: i32 = 744;
/// The figures end here, and the ratios at the margin.
const FIGURES: i32 = 926;
const BAR: i32 = 20;
const GAP: i32 = 14;

/// Distances of the grid's lines.
const STEPS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ratios: &[f64]) -> Group {
        let bar = |ratio: &f64| Bar {
            name: "relay".to_owned(),
            color: RGBColor(1, 2, 3),
            ratio: *ratio,
            figure: "3.6 µs".to_owned(),
        };
        Group { name: "row".to_owned(), bars: ratios.iter().map(bar).collect() }
    }

    #[test]
    fn the_longest_bar_and_the_reference_fit() {
        for most in [0.3, 1.0, 2.4, 9.0, 70.0] {
            let scale = Scale::of(&[group(&[0.3, most])]);
            assert!(scale.x(most.max(1.0)) <= END, "{most}");
            assert_eq!(START, scale.x(0.0));
            assert!(scale.steps <= 8, "{most}");
        }
    }

    #[test]
    fn every_bar_says_whose_it_is_and_what_it_stands_for() {
        let (title, subtitle) = ("title".to_owned(), "below".to_owned());
        let bars = Bars { title, subtitle, groups: vec![group(&[0.5, 1.0])] };
        let svg = bars.svg().unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for text in ["title", "row", "relay", "3.6 µs", "× 0.50"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
