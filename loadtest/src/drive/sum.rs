//! The results of a run, from what the senders, the ledger, the scraper and the timeline wrote down; and the verdict.
//! Called by `drive.rs`.

use std::sync::PoisonError;
use std::time::Duration;

use super::pacer::Schedule;
use super::sender::Shared;
use super::{Outcome, Ran};
use crate::latency::Latencies;
use crate::process::{Demand, is_starved};
use crate::results::{Environment, Generator, LedgerCounts, Phase, Results, SCHEMA, Section, Server, Verdict};
use crate::scenario::Scenario;
use crate::threshold::{Threshold, show_us};

/// All of it.
pub(super) fn up(
    scenario: &Scenario,
    schedule: &Schedule,
    mut environment: Environment,
    ran: Ran,
    has_upstream: bool,
) -> Outcome {
    environment.seconds = ran.whole.as_secs_f64();
    if let Some(commit) =
        ran.seen.build.get("commit").or(ran.seen.build.get("revision")).filter(|commit| !commit.is_empty())
    {
        environment.commit.get_or_insert_with(|| commit.clone());
    }
    let mut results = so_far(scenario, &ran.shared, false);
    results.environment = environment;
    for ((phase, planned), length) in
        results.phases.iter_mut().zip(schedule.phases()).zip(lengths(schedule, ran.sending))
    {
        phase.start_s = planned.start.as_secs_f64();
        phase.section.seconds = length;
        phase.section.planned = planned.requests;
    }
    let measured: Vec<&Section> =
        results.phases.iter().filter(|phase| !phase.warm_up).map(|phase| &phase.section).collect();
    results.total.seconds = measured.iter().map(|section| section.seconds).sum();
    results.total.planned = measured.iter().map(|section| section.planned).sum();
    if has_upstream {
        results.ledger = Some(ran.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).counts());
    }
    results.server = ran.seen.usage.map(|usage| Server {
        cpu_s: usage.cpu.as_secs_f64(),
        rss_max_bytes: ran.seen.rss_max_bytes,
        descriptors_max: ran.seen.descriptors_max,
        accepted_per_cpu_s: Some(usage.cpu.as_secs_f64())
            .filter(|cpu| *cpu > 0.0)
            .map(|cpu| results.phases.iter().map(|phase| phase.section.accepted).sum::<u64>() as f64 / cpu),
        starts: usage.starts,
    });
    results.series.clone_from(&ran.shared.records.borrow().series);
    results.happenings = ran.happened.clone();
    results.generator = generator(scenario, &results, &ran);
    judge(scenario, &mut results, ran.aborted);
    let histograms = histograms(scenario, &ran.shared);
    Outcome { results, histograms }
}

/// What is known while the run goes on: requests by phase, and the ledger's counts without its last pass.
pub(super) fn so_far(scenario: &Scenario, shared: &Shared, with_ledger: bool) -> Results {
    let records = shared.records.borrow();
    let phases: Vec<Phase> = scenario
        .phases
        .iter()
        .zip(&records.phases)
        .map(|(phase, told)| Phase {
            name: phase.name.clone(),
            warm_up: phase.warm_up,
            start_s: 0.0,
            section: section(&told.section, &told.latency, &told.service_time),
            lateness: told.lateness.summary(),
        })
        .collect();
    let sources = records
        .sources
        .iter()
        .map(|source| crate::results::Source { latency: source.latency.summary(), ..source.told.clone() })
        .collect();
    let ledger = with_ledger.then(|| {
        let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        // While the run goes on, what is owed is not lost yet.
        LedgerCounts { lost: 0, ..ledger.quick_counts() }
    });
    Results {
        schema: SCHEMA,
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        verdict: Verdict::Passed,
        why: Vec::new(),
        environment: Environment::default(),
        total: total(scenario, shared),
        phases,
        sources,
        ledger,
        generator: Generator::default(),
        server: None,
        thresholds: Vec::new(),
        happenings: Vec::new(),
        series: Vec::new(),
    }
}

/// How long each phase really lasted: an aborted run ends in the middle of one.
fn lengths(schedule: &Schedule, sending: Duration) -> Vec<f64> {
    let of = |phase: &super::pacer::Planned| sending.saturating_sub(phase.start).min(phase.length).as_secs_f64();
    schedule.phases().iter().map(of).collect()
}

fn section(told: &Section, latency: &Latencies, service_time: &Latencies) -> Section {
    let unfinished = told.started.saturating_sub(told.answered + told.failed);
    Section {
        unfinished,
        latency: latency.summary(),
        service_time: service_time.summary(),
        curve: latency.curve(),
        ..told.clone()
    }
}

/// The measured phases as one.
fn total(scenario: &Scenario, shared: &Shared) -> Section {
    let records = shared.records.borrow();
    let mut sum = Section::default();
    let mut all: Option<(Latencies, Latencies)> = None;
    for (phase, told) in scenario.phases.iter().zip(&records.phases).filter(|(phase, _)| !phase.warm_up) {
        debug_assert!(!phase.warm_up);
        let own = &told.section;
        sum.started += own.started;
        sum.answered += own.answered;
        sum.accepted += own.accepted;
        sum.refused += own.refused;
        sum.failed += own.failed;
        sum.held_up += own.held_up;
        sum.retries += own.retries;
        for (status, count) in &own.statuses {
            *sum.statuses.entry(*status).or_default() += count;
        }
        for (failure, count) in &own.failures {
            *sum.failures.entry(failure.clone()).or_default() += count;
        }
        let (latency, service) = all.get_or_insert_with(|| (Latencies::default(), Latencies::default()));
        latency.add(&told.latency);
        service.add(&told.service_time);
    }
    let (latency, service) = all.unwrap_or_default();
    section(&sum, &latency, &service)
}

fn generator(scenario: &Scenario, results: &Results, ran: &Ran) -> Generator {
    let bound = u64::try_from(scenario.client.max_lateness.0.as_micros()).unwrap_or(u64::MAX);
    let records = ran.shared.records.borrow();
    let mut lateness = Latencies::default();
    for (_, told) in scenario.phases.iter().zip(&records.phases).filter(|(phase, _)| !phase.warm_up) {
        lateness.add(&told.lateness);
    }
    let seconds = ran.sending.as_secs_f64();
    let share = |of: fn(Demand) -> Duration| {
        ran.demand.map(|(before, after)| of(after).saturating_sub(of(before)).as_secs_f64() / seconds)
    };
    let (running, waiting) = (share(|demand| demand.running), share(|demand| demand.waiting));
    let late = results.phases.iter().any(|phase| !phase.warm_up && phase.lateness.p99_us > bound);
    let starved = is_starved(results.total.started, results.total.held_up, running, waiting);
    Generator {
        lateness: lateness.summary(),
        lateness_bound_us: bound,
        running,
        waiting,
        cpu_s: ran.cpu.as_secs_f64(),
        valid: !late && !starved,
    }
}

/// A run that was broken off is told first, then one whose figures are nobody's; both still check their thresholds. Of
/// the ledger a slow generator takes nothing away: a loss is a loss.
fn judge(scenario: &Scenario, results: &mut Results, aborted: Option<String>) {
    let thresholds: Vec<Threshold> =
        scenario.thresholds.iter().filter_map(|text| Threshold::parse(text).ok()).collect();
    results.thresholds = thresholds.iter().map(|threshold| threshold.check(results)).collect();
    let missed: Vec<String> = results
        .thresholds
        .iter()
        .filter(|checked| !checked.met)
        .map(|checked| format!("missed: {} (it is {})", checked.threshold, checked.shown))
        .collect();
    let failed = results.happenings.iter().filter(|happening| happening.what.starts_with("FAILED"));
    let undone: Vec<String> =
        failed.map(|happening| format!("at {:.1} s: {}", happening.at_s, happening.what)).collect();
    let generator = &results.generator;
    results.verdict = match (&aborted, generator.valid) {
        (Some(_), _) => Verdict::Aborted,
        (None, _) if results.thresholds.iter().any(|checked| !checked.met && is_of_the_ledger(&checked.threshold)) => {
            Verdict::Missed
        }
        (None, false) => Verdict::Invalid,
        (None, true) if missed.is_empty() && undone.is_empty() => Verdict::Passed,
        (None, true) => Verdict::Missed,
    };
    results.why.extend(aborted.map(|why| format!("broken off: {why}")));
    if !generator.valid {
        results.why.push(format!(
            "the generator was the bottleneck: its lateness has a p99 of {} (bound {}), it ran {} and waited for a core {} of the time; the latencies are not the server's",
            show_us(results.phases.iter().filter(|phase| !phase.warm_up).map(|phase| phase.lateness.p99_us).max().unwrap_or(0) as f64),
            show_us(generator.lateness_bound_us as f64),
            percent(generator.running),
            percent(generator.waiting),
        ));
    }
    results.why.extend(undone);
    results.why.extend(missed);
}

/// Thresholds that hold or not however late the generator was.
fn is_of_the_ledger(threshold: &str) -> bool {
    const EXACT: [&str; 6] = ["lost", "wrong", "reordered", "missed_duplicates", "refused_delivered", "foreign"];
    let name = threshold.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
    name.is_some_and(|name| EXACT.contains(&name))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "an unknown part".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn histograms(scenario: &Scenario, shared: &Shared) -> Vec<(String, Latencies)> {
    let records = shared.records.borrow();
    let (mut latency, mut service) = (Latencies::default(), Latencies::default());
    let mut named = Vec::new();
    for (phase, told) in scenario.phases.iter().zip(&records.phases) {
        if !phase.warm_up {
            latency.add(&told.latency);
            service.add(&told.service_time);
        }
        let mut own = Latencies::default();
        own.add(&told.latency);
        named.push((format!("latency-{}", phase.name), own));
    }
    let mut delivery = Latencies::default();
    delivery.add(shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).delivery());
    named.extend([
        ("latency".to_owned(), latency),
        ("service-time".to_owned(), service),
        ("delivery".to_owned(), delivery),
    ]);
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_missed_even_by_a_slow_generator_and_a_latency_is_invalid() {
        let scenario = crate::scenario::parse(
            "name: n\nphases: [{ name: p, duration: 1s, arrivals: { constant: 1 } }]\nmix: [{ dialect: squadcast }]\n\
             thresholds: [lost == 0, p99 < 5ms]\n",
        )
        .expect("a scenario");
        let mut results = crate::results::tests::empty();
        results.ledger = Some(LedgerCounts::default());
        results.generator.valid = false;
        results.total.latency.p99_us = 9000;
        judge(&scenario, &mut results, None);
        assert_eq!(results.verdict, Verdict::Invalid);
        results.ledger = Some(LedgerCounts { lost: 1, ..LedgerCounts::default() });
        judge(&scenario, &mut results, None);
        assert_eq!(results.verdict, Verdict::Missed);
        judge(&scenario, &mut results, Some("interrupted".to_owned()));
        assert_eq!(results.verdict, Verdict::Aborted);
    }
}
