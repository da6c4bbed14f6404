//! The report page of a run: one file with everything in it, for a phone, a screen and paper, in dark and light, without
//! scripts. Called by the verbs `run`, `knee` and `compare`.

pub mod plot;

use anyhow::Context;
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use crate::results::{Point, Results, Verdict};
use crate::threshold::{show_bytes, show_number, show_us};
use plot::{Line, Mark, Plot, Scale};

const STYLE: &str = include_str!("report/style.css");
const RUN: &str = include_str!("report/run.html");
const COMPARE: &str = include_str!("report/compare.html");
const KNEE: &str = include_str!("report/knee.html");

/// A figure of the head of a page.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    value: String,
    /// What is bad is marked.
    bad: bool,
}

/// One self-contained page.
///
/// # Errors
/// The template is broken, which a test would have found.
pub fn html(results: &Results) -> anyhow::Result<String> {
    render(
        RUN,
        context! {
            style => STYLE,
            results => results,
            verdict => verdict_word(results.verdict),
            figures => figures(results),
            rates => rates(&[(results, "")]).unwrap_or_default(),
            latencies => latencies(results).unwrap_or_default(),
            percentiles => percentiles(&[(results, "latency")]).unwrap_or_default(),
            owed => owed(results).unwrap_or_default(),
            servers => servers(results),
            configuration => results.environment.configuration.as_ref().map(pretty).transpose()?,
            scenario => pretty(&results.environment.scenario)?,
        },
    )
}

/// Two or more runs laid over each other; `rows` are compared figures.
///
/// # Errors
/// As [`html`].
pub fn compare_html<R: Serialize>(runs: &[(&Results, &str)], rows: &R, verdict: &str) -> anyhow::Result<String> {
    let names: Vec<&str> = runs.iter().map(|(_, name)| *name).collect();
    render(
        COMPARE,
        context! {
            style => STYLE,
            names => names,
            runs => runs.iter().map(|(results, _)| results).collect::<Vec<_>>(),
            rows => rows,
            verdict => verdict,
            percentiles => percentiles(runs).unwrap_or_default(),
            rates => rates(runs).unwrap_or_default(),
            p99 => over_time(runs, "p99 from the intended start", "µs", Scale::Logarithmic, |point| (point.p99_us > 0).then_some(point.p99_us as f64)).unwrap_or_default(),
            cpu => over_time(runs, "Cores in use by the server", "", Scale::Linear, |point| point.cpu_cores).unwrap_or_default(),
            memory => over_time(runs, "Resident memory of the server", "B", Scale::Linear, |point| point.rss_bytes.map(|bytes| bytes as f64)).unwrap_or_default(),
        },
    )
}

/// The tries of a knee search.
///
/// # Errors
/// As [`html`].
pub fn knee_html<K: Serialize>(
    knee: &K,
    points: Vec<(f64, f64)>,
    bound: Option<f64>,
    bound_name: &str,
) -> anyhow::Result<String> {
    let mut lines = vec![Line::dots("each try", 0, points.clone())];
    let highest = points.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    if let Some(bound) = bound {
        lines.push(Line::new("bound", 3, vec![(0.0, bound), (highest, bound)]));
    }
    let plot = Plot {
        title: format!("{bound_name} by rate"),
        x_unit: "/s",
        unit: "µs",
        scale: Scale::Logarithmic,
        x_scale: Scale::Linear,
        lines,
        marks: Vec::new(),
    };
    render(KNEE, context! { style => STYLE, knee => knee, plot => plot.html() })
}

fn render(template: &str, context: minijinja::Value) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("us", |us: f64| show_us(us));
    environment.add_filter("bytes", |bytes: f64| show_bytes(bytes));
    environment.add_filter("number", |number: f64| show_number(number));
    environment.add_filter("seconds", |seconds: f64| format!("{seconds:.1} s"));
    environment.add_filter("percent", |share: f64| format!("{:.0} %", share * 100.0));
    environment.render_str(template, context).context("the report's template")
}

fn pretty(value: &serde_json::Value) -> anyhow::Result<String> {
    serde_json::to_string_pretty(value).context("JSON")
}

fn verdict_word(verdict: Verdict) -> String {
    format!("{verdict:?}").to_uppercase()
}

fn figures(results: &Results) -> Vec<Figure> {
    let total = &results.total;
    let good = |name, value| Figure { name, value, bad: false };
    let count = |name, count: u64| Figure { name, value: show_number(count as f64), bad: count > 0 };
    let rate = if total.seconds > 0.0 { total.accepted as f64 / total.seconds } else { 0.0 };
    let mut figures = vec![
        good("accepted a second", show_number(rate.round())),
        good("p50", show_us(total.latency.p50_us as f64)),
        good("p99", show_us(total.latency.p99_us as f64)),
        good("p99.9", show_us(total.latency.p999_us as f64)),
        good("max", show_us(total.latency.max_us as f64)),
        count("refused", total.refused),
        count("failed", total.failed + total.unfinished),
    ];
    if let Some(ledger) = &results.ledger {
        figures.push(count("lost", ledger.lost));
        figures.push(count("duplicates missed", ledger.missed_duplicates));
        figures.push(count("reordered", ledger.reordered));
        figures.push(count("wrong", ledger.wrong));
        figures.push(good("repeated", show_number(ledger.repeated as f64)));
        figures.push(good("delivery p99", show_us(ledger.delivery.p99_us as f64)));
    }
    if let Some(server) = &results.server {
        figures.push(good("server memory", show_bytes(server.rss_max_bytes as f64)));
        figures.extend(server.accepted_per_cpu_s.map(|rate| good("requests a CPU-second", show_number(rate.round()))));
    }
    figures
}

fn marks(results: &Results) -> Vec<Mark> {
    let phases =
        results.phases.iter().skip(1).map(|phase| Mark { at: phase.start_s, label: phase.name.clone(), phase: true });
    let happened = results.happenings.iter().enumerate().map(|(index, happening)| Mark {
        at: happening.at_s,
        label: (index + 1).to_string(),
        phase: false,
    });
    phases.chain(happened).collect()
}

/// A line of the series; a stretch's value stands at its middle, and where there is none the line has a gap.
fn line(results: &Results, name: &str, colour: usize, of: impl Fn(&Point) -> Option<f64>) -> Line {
    let place = |point: &Point| (point.at_s + point.seconds / 2.0, of(point).unwrap_or(f64::NAN));
    Line::new(name, colour, results.series.iter().map(place).collect())
}

fn time_plot(title: &str, unit: &'static str, scale: Scale, lines: Vec<Line>, marks: Vec<Mark>) -> Option<String> {
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.points.iter().any(|point| !point.1.is_nan())).collect();
    let plot = Plot { title: title.to_owned(), x_unit: "s", unit, scale, x_scale: Scale::Linear, lines, marks };
    (!plot.lines.is_empty()).then(|| plot.html())
}

fn per_second(of: impl Fn(&Point) -> u64) -> impl Fn(&Point) -> Option<f64> {
    move |point| (point.seconds > 0.0).then(|| of(point) as f64 / point.seconds)
}

fn rates(runs: &[(&Results, &str)]) -> Option<String> {
    if let [(results, _)] = runs {
        let lines = vec![
            line(results, "due", 5, per_second(|point| point.due)),
            line(results, "accepted", 0, per_second(|point| point.accepted)),
            line(results, "delivered events", 1, per_second(|point| point.delivered)),
            line(results, "refused or failed", 3, per_second(|point| point.refused + point.failed)),
        ];
        return time_plot("Requests and events a second", "/s", Scale::Linear, lines, marks(results));
    }
    over_time(runs, "Accepted requests a second", "/s", Scale::Linear, per_second(|point| point.accepted))
}

fn over_time(
    runs: &[(&Results, &str)],
    title: &str,
    unit: &'static str,
    scale: Scale,
    of: impl Fn(&Point) -> Option<f64>,
) -> Option<String> {
    let lines = runs.iter().enumerate().map(|(index, (results, name))| line(results, name, index, &of)).collect();
    time_plot(title, unit, scale, lines, Vec::new())
}

fn latencies(results: &Results) -> Option<String> {
    let some = |us: u64| (us > 0).then_some(us as f64);
    let lines = vec![
        line(results, "p50", 1, move |point| some(point.p50_us)),
        line(results, "p99", 0, move |point| some(point.p99_us)),
        line(results, "max", 5, move |point| some(point.max_us)),
    ];
    time_plot("Latency from the intended start", "µs", Scale::Logarithmic, lines, marks(results))
}

fn owed(results: &Results) -> Option<String> {
    results.ledger.as_ref()?;
    let lines = vec![
        line(results, "accepted, not yet delivered", 0, |point| Some(point.owed as f64)),
        line(results, "the server's own count", 5, |point| point.metrics.get("spool_events").copied()),
    ];
    time_plot("Events that wait", "", Scale::Linear, lines, marks(results))
}

fn servers(results: &Results) -> Vec<String> {
    let plots = [
        ("Cores in use by the server", "", vec![line(results, "cores", 0, |point| point.cpu_cores)]),
        (
            "Resident memory of the server",
            "B",
            vec![line(results, "resident", 0, |point| point.rss_bytes.map(|bytes| bytes as f64))],
        ),
        (
            "Descriptors and connections",
            "",
            vec![
                line(results, "descriptors", 0, |point| point.descriptors.map(|count| count as f64)),
                line(results, "connections", 1, |point| point.metrics.get("http_connections").copied()),
            ],
        ),
        (
            "Size of the log on disk",
            "B",
            vec![line(results, "spool", 0, |point| point.metrics.get("spool_bytes").copied())],
        ),
    ];
    plots
        .into_iter()
        .filter_map(|(title, unit, lines)| time_plot(title, unit, Scale::Linear, lines, marks(results)))
        .collect()
}

fn percentiles(runs: &[(&Results, &str)]) -> Option<String> {
    let mut lines = Vec::new();
    for (index, (results, name)) in runs.iter().enumerate() {
        // 1 / (1 - quantile), so that each nine takes the same room.
        let points = results
            .total
            .curve
            .iter()
            .filter(|point| point.quantile < 0.999_999)
            .map(|point| (1.0 / (1.0 - point.quantile), point.us as f64))
            .collect();
        lines.push(Line::new(name, index, points));
    }
    lines.retain(|line| !line.points.is_empty());
    let plot = Plot {
        title: "Latency by percentile".to_owned(),
        x_unit: "%",
        unit: "µs",
        scale: Scale::Logarithmic,
        x_scale: Scale::Nines,
        lines,
        marks: Vec::new(),
    };
    (!plot.lines.is_empty()).then(|| plot.html())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Happening, LedgerCounts, tests::empty};

    fn page() -> String {
        let mut results = empty();
        results.scenario = "<script>alert(1)</script>".to_owned();
        results.happenings.push(Happening { at_s: 1.0, what: "server 0: killed".to_owned() });
        results.ledger = Some(LedgerCounts { lost: 3, ..LedgerCounts::default() });
        results.series = (0..10)
            .map(|at| Point { at_s: f64::from(at), seconds: 1.0, accepted: 5, p99_us: 900, ..Point::default() })
            .collect();
        html(&results).expect("a page")
    }

    #[test]
    fn the_page_holds_all_it_needs_and_nothing_of_the_scenario_becomes_markup() {
        let page = page();
        for word in ["http://", "https://", "<script", "src=", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(word), "{word}");
        }
        assert!(page.contains("&lt;script&gt;"));
        assert!(page.contains("server 0: killed") && page.contains("prefers-color-scheme"));
    }

    #[test]
    fn a_run_without_ledger_and_server_has_a_page_too() {
        assert!(html(&empty()).expect("a page").contains("no upstream of its own"));
    }
}
