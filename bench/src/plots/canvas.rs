//! A sheet to draw on: plotters' shapes in pixels, on white, so that it reads the same on a dark
//! page.

use plotters::coord::Shift;
use plotters::prelude::{
    Circle, Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle,
    SVGBackend, Text,
};
use plotters::style::WHITE;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::BenchError;

/// A place, from the upper left corner.
pub(super) type Point = (i32, i32);

/// Where a text stands, seen from its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Left,
    Middle,
    Right,
}

pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

impl<'a> Canvas<'a> {
    /// Draws with `draw` on a sheet of this size, and returns the SVG.
    pub(super) fn svg(
        size: (i32, i32),
        draw: impl FnOnce(&Canvas<'_>) -> Result<(), BenchError>,
    ) -> Result<String, BenchError> {
        let mut text = String::new();
        let size = (size.0.unsigned_abs(), size.1.unsigned_abs());
        let canvas = Canvas::new(SVGBackend::with_string(&mut text, size))?;
        draw(&canvas)?;
        canvas.area.present().map_err(problem)?;
        drop(canvas);
        Ok(text)
    }

    fn new(backend: SVGBackend<'a>) -> Result<Canvas<'a>, BenchError> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE).map_err(problem)?;
        Ok(Canvas { area })
    }

    pub(super) fn bar(&self, corner: Point, other: Point, color: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([corner, other], color.filled())).map_err(problem)
    }

    pub(super) fn line(&self, from: Point, to: Point, color: RGBColor, width: u32) -> Drawn {
        let style = color.stroke_width(width);
        self.area.draw(&PathElement::new(vec![from, to], style)).map_err(problem)
    }

    pub(super) fn dot(&self, at: Point, radius: i32, color: RGBColor) -> Drawn {
        self.area.draw(&Circle::new(at, radius, color.filled())).map_err(problem)
    }

    /// A dot with nothing in it.
    pub(super) fn ring(&self, at: Point, radius: i32, color: RGBColor) -> Drawn {
        self.area.draw(&Circle::new(at, radius, WHITE.filled())).map_err(problem)?;
        self.area.draw(&Circle::new(at, radius, color.stroke_width(2))).map_err(problem)
    }

    pub(super) fn text(&self, at: Point, side: Side, size: i32, text: &str) -> Drawn {
        self.write(at, side, size, INK, text)
    }

    /// What is less important.
    pub(super) fn note(&self, at: Point, side: Side, size: i32, text: &str) -> Drawn {
        self.write(at, side, size, GREY, text)
    }

    fn write(&self, at: Point, side: Side, size: i32, color: RGBColor, text: &str) -> Drawn {
        // A text on the left of its place ends there.
        let horizontal = match side {
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
            Side::Right => HPos::Left,
        };
        let style = ("sans-serif", size).into_font().color(&color);
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(problem)
    }
}

pub(super) type Drawn = Result<(), BenchError>;

fn problem(error: impl std::fmt::Display) -> BenchError {
    BenchError::Drawing(error.to_string())
}

/// Text.
pub(super) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);

/// Notes and axes.
pub(super) const GREY: RGBColor = RGBColor(0x6e, 0x77, 0x81);

/// Lines of a grid.
pub(super) const PALE: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
