//! Lines over an axis, as SVG in a page.

use std::fmt::Write;

use maud::{Markup, html};

use super::units::short;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;

/// Lines that can be told apart, by colour and by dashes.
pub(super) const LINES_MAX: usize = 6;
/// Ticks that an axis is given at most.
const TICKS: f64 = 5.0;
/// Points of a line on so much room; more of them say no more.
const POINTS_MAX: usize = 600;

/// One line: points from left to right.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What the values are and how they are spaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) form: fn(f64) -> String,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0 in equal steps.
    Linear,
    /// From 0 in equal steps that are round in KiB, MiB and so on.
    Binary,
    /// By powers of ten.
    Log,
}

/// A chart.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    /// Unique in the page.
    pub(super) id: String,
    pub(super) title: &'a str,
    /// Names of the places 0, 1, 2… of the horizontal axis; without them it is seconds.
    pub(super) places: Option<Vec<String>>,
    pub(super) axis: Axis,
    pub(super) lines: Vec<Line>,
}

impl Chart<'_> {
    /// The chart with its legend; nothing where there is nothing to draw.
    pub(super) fn draw(mut self) -> Option<Markup> {
        for line in &mut self.lines {
            line.points.retain(|(x, y)| {
                x.is_finite() && y.is_finite() && (self.axis.scale != Scale::Log || *y > 0.0)
            });
            thin_out(&mut line.points);
        }
        self.lines.retain(|line| line.points.len() > 1);
        self.lines.truncate(LINES_MAX);
        let frame = Frame::around(&self)?;
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        Some(html! {
            figure {
                figcaption { (self.title) }
                @if self.lines.len() > 1 {
                    ul.legend aria-hidden="true" {
                        @for (at, line) in self.lines.iter().enumerate() {
                            li { svg viewBox="0 0 28 8" { path class={ "line c" (at) } d="M0 4H28" {} } (line.name) }
                        }
                    }
                }
                svg role="img" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
                    aria-labelledby=(title) aria-describedby=(about) {
                    title id=(title) { (self.title) }
                    desc id=(about) { (self.description()) }
                    (frame.grid(&self))
                    @for (at, line) in self.lines.iter().enumerate() {
                        path class={ "line c" (at) } d=(frame.path(&line.points)) {}
                        @if self.places.is_some() {
                            @for (x, y) in &line.points {
                                circle class={ "dot c" (at) } cx=(place(frame.x(*x))) cy=(place(frame.y(*y))) r="2.5" {}
                            }
                        }
                    }
                }
            }
        })
    }

    /// The chart in words.
    fn description(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let values = || line.points.iter().map(|(_, y)| *y);
            let least = values().fold(f64::INFINITY, f64::min);
            let most = values().fold(f64::NEG_INFINITY, f64::max);
            format!("{} goes from {} to {}", line.name, (self.axis.form)(least), (self.axis.form)(most))
        });
        format!("{}.", lines.collect::<Vec<_>>().join("; "))
    }
}

/// Keeps of each handful of neighbours the greatest value, so that no peak is lost.
fn thin_out(points: &mut Vec<(f64, f64)>) {
    if points.len() > POINTS_MAX {
        let handful = points.len().div_ceil(POINTS_MAX);
        *points = points
            .chunks(handful)
            .filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
            .collect();
    }
}

/// A coordinate, as exact as a screen is.
fn place(at: f64) -> String {
    format!("{at:.1}")
}

/// The values at the borders of the drawing.
#[derive(Debug)]
struct Frame {
    x_max: f64,
    x_min: f64,
    /// Logarithms where the axis has them.
    y_min: f64,
    y_max: f64,
    log: bool,
    /// Values with a line across.
    ticks: Vec<f64>,
}

impl Frame {
    fn around(chart: &Chart<'_>) -> Option<Self> {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let (x, y) = points().next()?;
        let (mut x_min, mut x_max, mut least, mut most) = (*x, *x, *y, *y);
        for (x, y) in points() {
            (x_min, x_max) = (x_min.min(*x), x_max.max(*x));
            (least, most) = (least.min(*y), most.max(*y));
        }
        let log = chart.axis.scale == Scale::Log;
        let (ticks, y_min, y_max) = if log {
            let ticks = log_ticks(least, most);
            let (first, last) = (*ticks.first()?, *ticks.last()?);
            (ticks, first.log10(), last.log10())
        } else {
            let step = match chart.axis.scale {
                Scale::Binary => binary_step(most),
                Scale::Linear | Scale::Log => step(most),
            };
            let steps = (most / step).ceil().max(1.0);
            ((0..=steps as u32).map(|at| f64::from(at) * step).collect(), 0.0, steps * step)
        };
        Some(Self { x_min, x_max, y_min, y_max, log, ticks })
    }

    fn x(&self, x: f64) -> f64 {
        let span = if self.x_max > self.x_min { self.x_max - self.x_min } else { 1.0 };
        LEFT + (x - self.x_min) / span * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        let y = if self.log { y.log10() } else { y };
        HEIGHT - BOTTOM - (y - self.y_min) / (self.y_max - self.y_min) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            // Writing to a string doesn't fail.
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*x), self.y(*y));
        }
        path
    }

    fn grid(&self, chart: &Chart<'_>) -> Markup {
        let (right, below) = (place(WIDTH - RIGHT), place(HEIGHT - BOTTOM + 18.0));
        let places: Vec<(f64, String)> = match &chart.places {
            Some(places) => (0..).map(f64::from).zip(places.iter().cloned()).collect(),
            None => seconds(self.x_min, self.x_max),
        };
        html! {
            @for tick in &self.ticks {
                @let y = self.y(*tick);
                path.grid d={ "M" (LEFT) " " (place(y)) "H" (right) } {}
                text.tick x=(place(LEFT - 8.0)) y=(place(y + 4.0)) text-anchor="end" { (short(&(chart.axis.form)(*tick))) }
            }
            @for (x, name) in places {
                text.tick x=(place(self.x(x))) y=(below) text-anchor="middle" { (name) }
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that a handful of steps reach `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough).unwrap_or(rough)
}

/// The same of the greatest power of 1,024 that `most` holds.
fn binary_step(most: f64) -> f64 {
    let mut unit = 1.0;
    while most >= unit * 1_024.0 {
        unit *= 1_024.0;
    }
    step(most / unit) * unit
}

/// Ticks of a logarithmic axis that reach from below `least` to above `most`: powers of ten, and 2 and 5 times them
/// where there are few.
fn log_ticks(least: f64, most: f64) -> Vec<f64> {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let last = last.max(first + 1);
    let between: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let ticks = (first..=last).flat_map(|power| between.iter().map(move |times| times * 10_f64.powi(power)));
    let ticks: Vec<f64> = ticks.filter(|tick| *tick <= 10_f64.powi(last)).collect();
    // What lies outside of the values on either side is left out, but for the next one.
    let from = ticks.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let to = ticks.iter().position(|tick| *tick >= most).unwrap_or(ticks.len() - 1);
    ticks[from.min(to.saturating_sub(1))..=to.max(from + 1).min(ticks.len() - 1)].to_vec()
}

/// Places of an axis of seconds.
fn seconds(from: f64, to: f64) -> Vec<(f64, String)> {
    let step = step(to - from);
    let first = (from / step).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last)
        .map(|at| {
            let at = at as f64 * step;
            (at, if step < 1.0 { format!("{at:.1} s") } else { format!("{at:.0} s") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks_around_their_values() {
        for (most, expected) in [(0.0, 1.0), (5.0, 1.0), (6.0, 2.0), (100_000.0, 20_000.0), (0.3, 0.1)] {
            assert!((step(most) - expected).abs() < 1e-9, "{most}: {}", step(most));
        }
        for (most, expected) in
            [(0.0, 1.0), (900.0, 200.0), (12_582_912.0, 5.0 * 1_048_576.0), (1_048_576.0, 209_715.2)]
        {
            assert!((binary_step(most) - expected).abs() < 1e-6, "{most}: {}", binary_step(most));
        }
        for (least, most, expected) in [
            (1.0, 1_000.0, vec![1.0, 10.0, 100.0, 1_000.0]),
            (30.0, 70.0, vec![20.0, 50.0, 100.0]),
            (100.0, 100.0, vec![100.0, 200.0]),
            (15.0, 15.0, vec![10.0, 20.0]),
            (3.0, 200_000.0, vec![1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0]),
        ] {
            let ticks = log_ticks(least, most);
            assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
            assert!(ticks.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6 * b), "{ticks:?}");
        }
        let names: Vec<String> = seconds(0.5, 3.2).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["1 s", "2 s", "3 s"]);
    }

    #[test]
    fn every_peak_of_a_long_line_is_kept() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|at| (f64::from(at), 1.0)).collect();
        points[7_777].1 = 99.0;
        thin_out(&mut points);
        assert!(points.len() <= POINTS_MAX);
        assert!(points.iter().any(|(x, y)| (*x, *y) == (7_777.0, 99.0)));
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        let chart = |points: Vec<(f64, f64)>, scale| Chart {
            id: "x".to_owned(),
            title: "A <title>",
            places: None,
            axis: Axis { scale, form: |value| format!("{value:.0}") },
            lines: vec![Line { name: "a & b".to_owned(), points }],
        };
        assert!(chart(vec![], Scale::Linear).draw().is_none());
        assert!(chart(vec![(0.0, 0.0), (1.0, 0.0)], Scale::Log).draw().is_none());
        assert!(chart(vec![(0.0, f64::NAN), (1.0, 3.0)], Scale::Linear).draw().is_none());
        let drawn =
            chart(vec![(0.0, 0.0), (2.0, 10.0), (4.0, 5.0)], Scale::Linear).draw().expect("it has points");
        let drawn = drawn.into_string();
        assert!(drawn.contains("M68.0 190.0L264.0 10.0L460.0 100.0"), "{drawn}");
        assert!(drawn.contains("A &lt;title&gt;") && !drawn.contains("<title>A <"), "{drawn}");
        assert!(drawn.contains("a &amp; b goes from 0 to 10."), "{drawn}");
        // A line that doesn't move is drawn, without dividing by nothing.
        for scale in [Scale::Linear, Scale::Binary, Scale::Log] {
            let flat =
                chart(vec![(1.0, 7.0), (1.0, 7.0)], scale).draw().expect("it has points").into_string();
            assert!(!flat.contains("NaN") && !flat.contains("inf"), "{flat}");
        }
    }
}
