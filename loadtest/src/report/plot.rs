//! A plot as HTML: lines in an SVG that stretches to any width, labels as text beside it, so that they are as large on a
//! phone as on paper. Called by `report.rs`.

use std::fmt::Write;

/// Lines have one of so many colours.
const COLOURS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
    /// 1 / (1 - quantile), logarithmic, labelled in per cent.
    Nines,
}

/// One series.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    pub colour: usize,
    /// Where the second is not a number, the line has a gap.
    pub points: Vec<(f64, f64)>,
    dots: bool,
}

impl Line {
    #[must_use]
    pub fn new(name: &str, colour: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), colour, points, dots: false }
    }

    /// Points that nothing joins.
    #[must_use]
    pub fn dots(name: &str, colour: usize, points: Vec<(f64, f64)>) -> Self {
        Self { dots: true, ..Self::new(name, colour, points) }
    }
}

/// A place on the x axis.
#[derive(Debug, Clone)]
pub struct Mark {
    pub at: f64,
    pub label: String,
    /// Where a phase begins, rather than something that happened.
    pub phase: bool,
}

#[derive(Debug, Clone)]
pub struct Plot {
    pub title: String,
    pub x_unit: &'static str,
    pub unit: &'static str,
    pub scale: Scale,
    pub x_scale: Scale,
    pub lines: Vec<Line>,
    pub marks: Vec<Mark>,
}

/// One axis: from a value to 0..1.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone, unit: &str, is_y: bool) -> Self {
        let lowest = values.clone().fold(f64::INFINITY, f64::min);
        let highest = values.fold(f64::NEG_INFINITY, f64::max);
        if scale == Scale::Linear {
            let high = if highest > 0.0 { highest } else { 1.0 };
            // Bytes are counted in powers of 1024: round steps of those.
            let one = if unit == "B" { 1024_f64.powf(high.max(1.0).log(1024.0).floor()) } else { 1.0 };
            let step = nice_step(high / one / if is_y { 4.0 } else { 6.0 }) * one;
            let high = if is_y { (high / step).ceil() * step } else { high };
            let ticks = (0..=20).map(|n| step * f64::from(n)).filter(|tick| *tick <= high * 1.000_001).collect();
            return Self { scale, low: 0.0, high, ticks };
        }
        let low = 10_f64.powf(lowest.max(1e-9).log10().floor());
        let mut high = 10_f64.powf(highest.max(1e-9).log10().ceil());
        if high <= low {
            high = low * 10.0;
        }
        let decades = (high / low).log10().round() as i32;
        let ticks = (0..=decades).map(|n| low * 10_f64.powi(n)).collect();
        Self { scale, low, high: if scale == Scale::Nines { highest } else { high }, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            _ => (value.max(1e-9) / self.low).log10() / (self.high / self.low).log10(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-12).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step).unwrap_or(10.0);
    factor * power
}

impl Plot {
    /// The plot as a `figure`.
    #[must_use]
    pub fn html(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(self.x_scale, points().map(|point| point.0), self.x_unit, false);
        let y = Axis::new(self.scale, points().map(|point| point.1), self.unit, true);
        let mut out = String::new();
        // Into a string: it cannot fail.
        let _ = self.write(&x, &y, &mut out);
        out
    }

    fn write(&self, x: &Axis, y: &Axis, out: &mut String) -> std::fmt::Result {
        write!(out, "<figure class=\"plot\"><figcaption>{}<span class=\"legend\">", escaped(&self.title))?;
        for line in &self.lines {
            write!(out, "<span class=\"l{}\">{}</span>", line.colour % COLOURS, escaped(&line.name))?;
        }
        out.push_str("</span></figcaption><div class=\"area\">");
        for tick in &y.ticks {
            let label = shown(*tick, self.unit);
            write!(out, "<span class=\"y\" style=\"bottom:{:.2}%\">{label}</span>", y.place(*tick) * 100.0)?;
        }
        write!(
            out,
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        )?;
        for tick in &y.ticks {
            let at = 1000.0 - y.place(*tick) * 1000.0;
            write!(out, "<path class=\"grid\" d=\"M0 {at:.1}H1000\"/>")?;
        }
        for mark in self.marks.iter().filter(|mark| mark.at <= x.high) {
            let class = if mark.phase { "phase" } else { "mark" };
            write!(out, "<path class=\"{class}\" d=\"M{:.1} 0V1000\"/>", x.place(mark.at) * 1000.0)?;
        }
        for line in &self.lines {
            self.write_line(line, x, y, out)?;
        }
        out.push_str("</svg>");
        for mark in self.marks.iter().filter(|mark| mark.at <= x.high) {
            let class = if mark.phase { "phase" } else { "mark" };
            let at = x.place(mark.at) * 100.0;
            write!(out, "<span class=\"{class}\" style=\"left:{at:.2}%\">{}</span>", escaped(&mark.label))?;
        }
        for (label, at) in self.x_labels(x) {
            write!(out, "<span class=\"x\" style=\"left:{:.2}%\">{label}</span>", at * 100.0)?;
        }
        out.push_str("</div></figure>\n");
        Ok(())
    }

    fn write_line(&self, line: &Line, x: &Axis, y: &Axis, out: &mut String) -> std::fmt::Result {
        let colour = line.colour % COLOURS;
        if line.dots {
            for (at, value) in &line.points {
                let (left, top) = (x.place(*at) * 1000.0, 1000.0 - y.place(*value) * 1000.0);
                // A line of no length with round ends: a dot that no stretching deforms.
                write!(out, "<path class=\"dot l{colour}\" d=\"M{left:.1} {top:.1}h0\"/>")?;
            }
            return Ok(());
        }
        write!(out, "<path class=\"line l{colour}\" d=\"")?;
        let mut pen_is_down = false;
        for (at, value) in &line.points {
            if value.is_nan() {
                pen_is_down = false;
                continue;
            }
            let (left, top) = (x.place(*at) * 1000.0, 1000.0 - y.place(*value) * 1000.0);
            // A point alone between two gaps is drawn as a dot by the round ends of a line of no length.
            write!(out, "{}{left:.1} {top:.1}", if pen_is_down { "L" } else { "M" })?;
            if !pen_is_down {
                out.push_str("h0");
            }
            pen_is_down = true;
        }
        out.push_str("\"/>");
        Ok(())
    }

    fn x_labels(&self, x: &Axis) -> Vec<(String, f64)> {
        if self.x_scale != Scale::Nines {
            return x.ticks.iter().map(|tick| (shown(*tick, self.x_unit), x.place(*tick))).collect();
        }
        [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
            .into_iter()
            .map(|quantile| (quantile, 1.0 / (1.0 - quantile)))
            .filter(|(_, nines)| *nines <= x.high)
            .map(|(quantile, nines)| (format!("{} %", trimmed(quantile * 100.0)), x.place(nines)))
            .collect()
    }
}

fn trimmed(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A tick's label.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "µs" if value >= 1e6 => format!("{} s", trimmed(value / 1e6)),
        "µs" if value >= 1e3 => format!("{} ms", trimmed(value / 1e3)),
        "B" => crate::threshold::show_bytes(value),
        "s" if value >= 7200.0 => format!("{} h", trimmed(value / 3600.0)),
        unit => {
            let number = match value {
                value if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
                value if value >= 1e4 => format!("{}k", trimmed(value / 1e3)),
                value => trimmed(value),
            };
            if unit.is_empty() { number } else { format!("{number} {unit}") }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_ticks_reach_the_highest_value() {
        assert_eq!((nice_step(0.3), nice_step(7.0), nice_step(12.0)), (0.5, 10.0, 20.0));
        let axis = Axis::new(Scale::Linear, [3.0, 97.0].into_iter(), "", true);
        assert_eq!((axis.low, axis.high), (0.0, 100.0));
        assert_eq!(axis.place(50.0), 0.5);
        let bytes = Axis::new(Scale::Linear, [32.0 * 1024.0 * 1024.0].into_iter(), "B", true);
        assert_eq!(bytes.ticks[1], 10.0 * 1024.0 * 1024.0);
    }

    #[test]
    fn decades_take_equal_room() {
        let axis = Axis::new(Scale::Logarithmic, [120.0, 80_000.0].into_iter(), "", true);
        assert_eq!((axis.low, axis.high), (100.0, 100_000.0));
        assert!((axis.place(1000.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(axis.ticks.len(), 4);
    }

    #[test]
    fn names_do_not_become_markup() {
        let plot = Plot {
            title: "<b>".to_owned(),
            x_unit: "s",
            unit: "",
            scale: Scale::Linear,
            x_scale: Scale::Linear,
            lines: vec![Line::new("a&b", 0, vec![(0.0, 1.0), (1.0, 2.0)])],
            marks: vec![Mark { at: 0.5, label: "<i>".to_owned(), phase: false }],
        };
        let html = plot.html();
        assert!(!html.contains("<b>") && !html.contains("<i>") && html.contains("a&amp;b"), "{html}");
    }
}
