//! What is wrong with a scenario: against the schema, and what no schema can say. Called by `scenario.rs`.

use std::collections::BTreeSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;

use super::yaml::Document;
use super::{Scenario, Source, Wrong, schema};
use crate::dialect;
use crate::threshold::Threshold;
use crate::upstream::fault;

/// More entries cannot be told apart in the ledger.
const SOURCES_AT_MOST: usize = 128;

/// Everything the schema refuses.
pub(super) fn against_schema(document: &Document) -> Vec<Wrong> {
    let schema = schema();
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        // Our own mistake, which a test would have found.
        Err(error) => return vec![document.wrong("", error.to_string())],
    };
    let mut wrongs = Vec::new();
    for error in validator.iter_errors(&document.value) {
        tell(document, &schema, &error, &mut wrongs);
    }
    wrongs
}

fn tell(document: &Document, schema: &serde_json::Value, error: &ValidationError<'_>, wrongs: &mut Vec<Wrong>) {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = members_around(schema, error.schema_path().as_str());
            for name in unexpected {
                let hint = nearest(name, &known).map_or_else(
                    || format!("; there are {}", known.join(", ")),
                    |near| format!("; did you mean `{near}`?"),
                );
                wrongs.push(
                    document.wrong(&format!("{pointer}/{name}"), format!("nothing is called `{name}` here{hint}")),
                );
            }
        }
        // What may be absent is its own schema or null: the errors of the former are meant.
        ValidationErrorKind::AnyOf { context } => {
            let meant =
                context.iter().find(|errors| !errors.iter().any(|error| error.to_string().contains("\"null\"")));
            for error in meant.into_iter().flatten() {
                tell(document, schema, error, wrongs);
            }
        }
        ValidationErrorKind::Required { property } => {
            wrongs.push(document.wrong(pointer, format!("{property} is missing")));
        }
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|option| option.as_str().map(str::to_owned))
                .collect();
            wrongs.push(document.wrong(pointer, format!("{} is none of {}", error.instance(), options.join(", "))));
        }
        ValidationErrorKind::Pattern { .. } => {
            let form = if error.to_string().contains("KiB") {
                "bytes: 30720, or with a unit: 30KiB, 4MiB"
            } else {
                "a duration with its unit: 250us, 5ms, 1.5s, 2m"
            };
            wrongs.push(document.wrong(pointer, format!("{} is not {form}", error.instance())));
        }
        _ => wrongs.push(document.wrong(pointer, error.to_string())),
    }
}

/// The names that the object at this place of the schema knows.
fn members_around(schema: &serde_json::Value, path: &str) -> Vec<String> {
    let around = path.rsplit_once('/').map_or("", |(around, _)| around);
    let named = schema.pointer(&format!("{around}/properties")).and_then(|members| members.as_object());
    named.map(|members| members.keys().cloned().collect()).unwrap_or_default()
}

/// The known name that differs by at most two letters.
fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k String> {
    known.iter().map(|near| (distance(name, near), near)).filter(|(far, _)| *far <= 2).min().map(|(_, near)| near)
}

/// Letters to insert, drop or change.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut before = index;
        row[0] = index + 1;
        for (at, theirs) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *theirs);
            before = row[at + 1];
            row[at + 1] = changed.min(before + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

/// What the schema cannot say: the pointer of the node, and what is wrong with it.
pub(super) fn meaning(scenario: &Scenario) -> Vec<(String, String)> {
    let mut wrongs = Vec::new();
    phases(scenario, &mut wrongs);
    mix(scenario, &mut wrongs);
    events(scenario, &mut wrongs);
    for (member, list) in [("thresholds", &scenario.thresholds), ("abort_when", &scenario.abort_when)] {
        for (index, text) in list.iter().enumerate() {
            let problem = match Threshold::parse(text) {
                Ok(threshold) => threshold
                    .phase
                    .filter(|phase| !scenario.phases.iter().any(|own| own.name == *phase))
                    .map(|phase| format!("no phase is called `{phase}`")),
                Err(problem) => Some(problem),
            };
            wrongs.extend(problem.map(|problem| (format!("/{member}/{index}"), problem)));
        }
    }
    for (index, spec) in scenario.upstream.faults.iter().enumerate() {
        if let Err(problem) = fault::parse(spec) {
            wrongs.push((format!("/upstream/faults/{index}"), problem));
        }
    }
    wrongs
}

fn phases(scenario: &Scenario, wrongs: &mut Vec<(String, String)>) {
    let mut names = BTreeSet::new();
    let sources: BTreeSet<&str> = scenario.mix.iter().map(Source::name).collect();
    for (index, phase) in scenario.phases.iter().enumerate() {
        let at = format!("/phases/{index}");
        if !names.insert(&phase.name) {
            wrongs.push((format!("{at}/name"), format!("two phases are called `{}`", phase.name)));
        }
        let arrivals = &phase.arrivals;
        let given = usize::from(arrivals.constant.is_some())
            + usize::from(arrivals.poisson.is_some())
            + usize::from(arrivals.ramp.is_some())
            + usize::from(arrivals.step.is_some())
            + usize::from(arrivals.burst.is_some())
            + usize::from(arrivals.recorded.is_some());
        if given != 1 {
            let what = "exactly one of constant, poisson, ramp, step, burst, recorded is needed".to_owned();
            wrongs.push((format!("{at}/arrivals"), what));
        }
        if phase.duration.is_none() && arrivals.recorded.is_none() {
            wrongs.push((at.clone(), "duration is missing".to_owned()));
        }
        if let Some(burst) = &arrivals.burst
            && (burst.lasts > burst.every || burst.every.0.is_zero())
        {
            wrongs.push((format!("{at}/arrivals/burst"), "a burst lasts longer than until the next".to_owned()));
        }
        for name in phase.weights.keys().filter(|name| !sources.contains(name.as_str())) {
            wrongs.push((format!("{at}/weights/{name}"), format!("nothing in the mix is called `{name}`")));
        }
    }
    if scenario.phases.iter().all(|phase| phase.warm_up) {
        wrongs.push(("/phases".to_owned(), "every phase is a warm-up: nothing would be measured".to_owned()));
    }
}

fn mix(scenario: &Scenario, wrongs: &mut Vec<(String, String)>) {
    let mut names = BTreeSet::new();
    if scenario.mix.len() > SOURCES_AT_MOST {
        wrongs.push(("/mix".to_owned(), format!("more than {SOURCES_AT_MOST} entries")));
    }
    for (index, source) in scenario.mix.iter().enumerate() {
        let at = format!("/mix/{index}");
        if !names.insert(source.name()) {
            wrongs.push((at.clone(), format!("two entries are called `{}`: give one a name", source.name())));
        }
        if source.dialect.is_some() == source.abuse.is_some() {
            wrongs.push((at.clone(), "exactly one of dialect and abuse is needed".to_owned()));
        }
        if !(0.0..=1e9).contains(&source.weight) {
            wrongs.push((format!("{at}/weight"), "a weight is 0 or more".to_owned()));
        }
        let Some(dialect) = source.dialect.as_deref().and_then(dialect::named) else {
            continue;
        };
        let shares = source.duplicates + source.resolves + source.reopens;
        if shares > 1.0 {
            wrongs.push((at.clone(), "duplicates, resolves and reopens are more than 1 together".to_owned()));
        }
        let cannot: [(bool, &str, &str); 5] = [
            (source.resolves > 0.0 && dialect.resolve.is_none(), "resolves", "cannot resolve"),
            (source.reopens > 0.0 && !dialect.reopens, "reopens", "does not open a resolved key again"),
            (source.duplicates > 0.0 && !dialect.deduplicates, "duplicates", "does not deduplicate"),
            (source.pairs > 0.0 && !dialect.deduplicates, "pairs", "does not deduplicate"),
            (source.batch > 1 && dialect.envelope.is_none(), "batch", "has one event in a request"),
        ];
        for (_, member, what) in cannot.iter().filter(|(wrong, ..)| *wrong) {
            wrongs.push((format!("{at}/{member}"), format!("{} {what}", dialect.id)));
        }
    }
}

fn events(scenario: &Scenario, wrongs: &mut Vec<(String, String)>) {
    for (index, event) in scenario.events.iter().enumerate() {
        let at = format!("/events/{index}");
        let given = usize::from(event.upstream.is_some())
            + usize::from(event.surgegate.is_some())
            + usize::from(event.redis.is_some());
        if given != 1 {
            wrongs.push((at.clone(), "exactly one of upstream, surgegate, redis is needed".to_owned()));
        }
        if event.redis.is_some() && !scenario.redis {
            wrongs.push((format!("{at}/redis"), "there is none: set redis: true".to_owned()));
        }
        if let Some(phase) = &event.phase
            && !scenario.phases.iter().any(|own| own.name == *phase)
        {
            wrongs.push((format!("{at}/phase"), format!("no phase is called `{phase}`")));
        }
        for (fault, spec) in event.upstream.iter().flatten().enumerate() {
            if let Err(problem) = fault::parse(spec) {
                wrongs.push((format!("{at}/upstream/{fault}"), problem));
            }
        }
    }
}
