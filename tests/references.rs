//! `docs/metrics.md` and `docs/refusals.md` are what the code says, and the README names every metric. To write them anew:
//! `SURGEGATE_REGENERATE=1 cargo test --test references`.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use surgegate::dialect::DIALECTS;
use surgegate::metrics::Metrics;
use surgegate::outcome::Reason;

fn is_current(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("SURGEGATE_REGENERATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/{name} is old: SURGEGATE_REGENERATE=1 cargo test --test references");
}

/// A page of metrics on which each has a value.
fn page() -> String {
    let metrics = Metrics::new(1).unwrap();
    let pager = metrics.upstream("pager");
    pager.enqueue();
    pager.drop_waiting("operator");
    pager.enqueue();
    pager.bury("refused");
    pager.answered("200");
    metrics.dialect("squadcast").answered(202);
    metrics.tls_certificate_expires(Some(0));
    metrics.redis();
    metrics.text().unwrap()
}

/// Names of labels of a sample, less those of every histogram.
fn labels(sample: &str) -> Vec<&str> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let names = rest.split(',').filter_map(|pair| pair.split_once('=').map(|(name, _)| name));
    names.filter(|name| *name != "le").collect()
}

#[test]
fn the_reference_of_metrics_is_current() {
    let page = page();
    let mut rows: BTreeMap<&str, (&str, &str, Vec<&str>)> = BTreeMap::new();
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => rows.entry(name).or_default().0 = help,
            ["#", "TYPE", name, kind] => rows.entry(name).or_default().1 = kind,
            _ => {
                let name = line.split(['{', ' ']).next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let name = base.filter(|base| rows.contains_key(base)).unwrap_or(name);
                rows.entry(name).or_default().2 = labels(line);
            }
        }
    }
    let mut text = String::from(
        "<!-- Generated: SURGEGATE_REGENERATE=1 cargo test --test references -->\n# Metrics\n\n\
         `GET /metrics` on `listen.observe`, in the text format of Prometheus. Those of the process have no prefix.\n\n\
         | metric | type | labels | what |\n| --- | --- | --- | --- |\n",
    );
    for (name, (help, kind, labels)) in rows {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    is_current("metrics.md", &text);
}

#[test]
fn the_reference_of_refusals_is_current() {
    let names: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
    let mut text = format!(
        "<!-- Generated: SURGEGATE_REGENERATE=1 cargo test --test references -->\n# Refusals\n\n\
         What a refused sender gets, and what to do about it. `reason` stands in the answer's body, in the log's line \
         `refused`\nand in `surgegate_events_rejected_total`. A refused event leaves no trace: sent again, it is new. 429 and 503 \
         carry\n`Retry-After`.\n\n| reason | status: {} | what it means, what to look at |\n| --- |{} --- |\n",
        names.join(" | "),
        " --- |".repeat(names.len())
    );
    for reason in Reason::all() {
        let statuses: Vec<String> =
            DIALECTS.iter().map(|dialect| dialect.status(reason.class()).as_u16().to_string()).collect();
        writeln!(text, "| `{}` | {} | {} |", reason.label(), statuses.join(" | "), reason.about()).unwrap();
    }
    is_current("refusals.md", &text);
}

#[test]
fn every_metric_stands_in_the_readme() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let page = page();
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE surgegate_")?.split(' ').next());
    let missing: Vec<_> = names.filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "add a row for each to the README's table of metrics: {missing:?}");
}
