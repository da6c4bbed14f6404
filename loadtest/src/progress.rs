//! What a user sees while a run goes on: a bar with the figures of the last stretch on a terminal, a line now and then
//! in a log. Called by [`crate::drive`].

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::results::Point;
use crate::threshold::{show_bytes, show_number, show_us};

/// How a run shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, else lines.
    Auto,
    Bar,
    /// A line every five seconds and at each change of phase.
    Plain,
    None,
}

/// Between two lines of the plain mode.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    last_line: Option<Instant>,
    phase: String,
    told: usize,
}

/// What is known besides the stretch's own figures.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    pub phase: &'a str,
    pub elapsed: Duration,
    pub whole: Duration,
    /// What happened so far, to be told once.
    pub happened: &'a [crate::results::Happening],
}

impl Progress {
    #[must_use]
    pub fn new(mode: Mode, name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let (bar, plain) = match mode {
            Mode::Bar => (true, false),
            Mode::Auto => (terminal, !terminal),
            Mode::Plain => (false, true),
            Mode::None => (false, false),
        };
        let bar = bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr_with_hz(8));
            let template = "{prefix:.bold} {wide_bar:.cyan/blue} {percent:>3} %\n{msg}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_owned());
            bar
        });
        Self { bar, plain, last_line: None, phase: String::new(), told: 0 }
    }

    /// Shows the last stretch.
    pub fn tick(&mut self, point: &Point, now: Now<'_>) {
        for happening in &now.happened[self.told.min(now.happened.len())..] {
            self.say(&format!("{:>7.1} s  {}", happening.at_s, happening.what));
        }
        self.told = now.happened.len();
        if let Some(bar) = &self.bar {
            let share = now.elapsed.as_secs_f64() / now.whole.as_secs_f64().max(0.001);
            bar.set_position((share * 1000.0).min(1000.0) as u64);
            bar.set_message(figures(point, now, "\n"));
        } else if self.plain {
            let new_phase = self.phase != now.phase;
            if new_phase || self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                self.last_line = Some(Instant::now());
                let _ =
                    writeln!(std::io::stderr(), "{:>7.1} s  {}", now.elapsed.as_secs_f64(), figures(point, now, "  "));
            }
        }
        now.phase.clone_into(&mut self.phase);
    }

    /// A line of its own.
    pub fn say(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.println(line);
        } else if self.plain {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn figures(point: &Point, now: Now<'_>, line_end: &str) -> String {
    let per_second = |count: u64| show_number((count as f64 / point.seconds.max(0.001)).round());
    let errors = if point.refused + point.failed > 0 {
        format!("  refused {}/s  failed {}/s", per_second(point.refused), per_second(point.failed))
    } else {
        String::new()
    };
    let server = match (point.cpu_cores, point.rss_bytes) {
        (Some(cores), Some(bytes)) => format!("  server {cores:.2} cores, {}", show_bytes(bytes as f64)),
        _ => String::new(),
    };
    format!(
        "{}  {}/s due  {}/s accepted{errors}  p50 {}  p99 {}  max {}{line_end}delivered {}/s  waiting {}{server}",
        now.phase,
        per_second(point.due),
        per_second(point.accepted),
        show_us(point.p50_us as f64),
        show_us(point.p99_us as f64),
        show_us(point.max_us as f64),
        per_second(point.delivered),
        show_number(point.owed as f64),
    )
}
