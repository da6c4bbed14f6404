//! A scenario: what is sent, when, what happens meanwhile and what must hold in the end. Written in YAML, held to the
//! schema that `surgegate-loadtest schema` prints (made from these structures); [`load`] names every error at once,
//! each with its line and column. Called by the verbs `run`, `knee` and `validate`.

mod check;
mod form;
mod size;
mod yaml;

use std::path::Path;

use anyhow::{Context, bail};

pub use form::{
    Abuse, Arrivals, Burst, Client, Event, Phase, Ramp, Recorded, RedisAct, Scenario, ServerAct, Small, Source, Step,
    Surgegate, Upstream,
};
pub use size::{Size, Time, parse_size};

/// The JSON Schema of a scenario.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Scenario).to_value()
}

/// Reads a scenario; its relative paths begin at its own directory.
///
/// # Errors
/// The file cannot be read; or all that is wrong with it, a line each: `FILE:LINE:COLUMN: what`.
pub fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut scenario = match parse(&text) {
        Ok(scenario) => scenario,
        Err(wrongs) => {
            let lines: Vec<String> = wrongs
                .iter()
                .map(|wrong| format!("{}:{}:{}: {}", path.display(), wrong.line, wrong.column, wrong.what))
                .collect();
            bail!(
                "{} error{} in the scenario\n{}",
                lines.len(),
                if lines.len() == 1 { "" } else { "s" },
                lines.join("\n")
            );
        }
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    for phase in &mut scenario.phases {
        if let Some(recorded) = &mut phase.arrivals.recorded {
            recorded.file = directory.join(&recorded.file);
        }
    }
    Ok(scenario)
}

/// One error, with its place: both counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

/// Reads a scenario's text.
///
/// # Errors
/// All that is wrong, in the order of the text.
pub fn parse(text: &str) -> Result<Scenario, Vec<Wrong>> {
    let document = yaml::parse(text).map_err(|wrong| vec![wrong])?;
    let mut wrongs = check::against_schema(&document);
    let scenario = match serde_json::from_value::<Scenario>(document.value.clone()) {
        Ok(scenario) => Some(scenario),
        Err(error) if wrongs.is_empty() => {
            wrongs.push(document.wrong("", error.to_string()));
            None
        }
        Err(_) => None,
    };
    if let Some(scenario) = &scenario {
        wrongs.extend(check::meaning(scenario).into_iter().map(|(pointer, what)| document.wrong(&pointer, what)));
    }
    wrongs.sort_by_key(|wrong| (wrong.line, wrong.column));
    wrongs.dedup();
    match scenario {
        Some(scenario) if wrongs.is_empty() => Ok(scenario),
        _ => Err(wrongs),
    }
}

impl Scenario {
    /// All rates and all times multiplied; what bounds an answer (time-outs) stays.
    pub fn scale(&mut self, rate: f64, time: f64) {
        for phase in &mut self.phases {
            phase.duration = phase.duration.map(|duration| duration.times(time));
            let arrivals = &mut phase.arrivals;
            for value in [&mut arrivals.constant, &mut arrivals.poisson].into_iter().flatten() {
                *value *= rate;
            }
            if let Some(ramp) = &mut arrivals.ramp {
                (ramp.from, ramp.to) = (ramp.from * rate, ramp.to * rate);
            }
            if let Some(step) = &mut arrivals.step {
                (step.from, step.to) = (step.from * rate, step.to * rate);
            }
            if let Some(burst) = &mut arrivals.burst {
                (burst.base, burst.peak) = (burst.base * rate, burst.peak * rate);
                (burst.every, burst.lasts) = (burst.every.times(time), burst.lasts.times(time));
            }
            if let Some(recorded) = &mut arrivals.recorded {
                recorded.speed /= time;
            }
        }
        for event in &mut self.events {
            event.at = event.at.times(time);
            event.every = event.every.map(|every| every.times(time));
        }
    }

    /// As JSON, keys masked.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        let mut masked = self.clone();
        for key in masked.mix.iter_mut().flat_map(|source| &mut source.keys) {
            *key = "***".to_owned();
        }
        let mut value = serde_json::to_value(&masked).unwrap_or_default();
        without_defaults(&mut value);
        value
    }
}

/// What is empty says nothing to a reader.
fn without_defaults(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(without_defaults);
            members.retain(|_, value| {
                !(value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_f64() == Some(0.0)
                    || value.as_bool() == Some(false))
            });
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wrongs(text: &str) -> Vec<String> {
        let wrongs = parse(text).expect_err(text);
        wrongs.iter().map(|wrong| format!("{}:{} {}", wrong.line, wrong.column, wrong.what)).collect()
    }

    const GOOD: &str =
        "name: n\nphases: [{ name: a, duration: 10s, arrivals: { constant: 5 } }]\nmix: [{ dialect: squadcast }]\n";

    #[test]
    fn what_only_the_meaning_shows_is_told_at_its_place() {
        let cases = [
            (GOOD.replace("duration: 10s, ", ""), "2:10 duration is missing"),
            (GOOD.replace("duration", "warm_up: true, duration"), "2:1 every phase is a warm-up"),
            (GOOD.replace("squadcast }", "squadcast, abuse: bad_json }"), "3:7 exactly one of dialect and abuse"),
            (
                GOOD.replace("squadcast }", "squadcast, resolves: 0.6, duplicates: 0.6 }"),
                "3:7 duplicates, resolves and reopens",
            ),
            (format!("{GOOD}thresholds: ['b: p99 < 5ms']\n"), "4:14 no phase is called `b`"),
            (format!("{GOOD}events: [{{ at: 1s, upstream: [status=999] }}]\n"), "4:31 `status=999`"),
            (format!("{GOOD}events: [{{ at: 1s, redis: kill }}]\n"), "4:20 there is none"),
        ];
        for (text, told) in cases {
            let wrongs = wrongs(&text);
            assert!(wrongs.len() == 1 && wrongs[0].starts_with(told), "{told}: {wrongs:#?}");
        }
    }

    #[test]
    fn broken_yaml_is_told_with_its_line() {
        assert!(wrongs("name: n\nphases: [\n")[0].starts_with("2:9 "), "{:?}", wrongs("name: n\nphases: [\n"));
        assert_eq!(wrongs("name: n\nname: m\n"), ["2:1 `name` is here twice"]);
        assert_eq!(wrongs("a: &x 1\nb: *x\n").len(), 1);
    }

    #[test]
    fn scaling_keeps_what_bounds_an_answer() {
        let mut scenario =
            parse(&format!("{GOOD}events: [{{ at: 4s, surgegate: kill, down: 1s }}]\n")).expect("a scenario");
        scenario.scale(0.5, 0.25);
        assert_eq!(scenario.phases[0].arrivals.constant, Some(2.5));
        assert_eq!(scenario.phases[0].duration, Some(Time(Duration::from_millis(2500))));
        assert_eq!(scenario.events[0].at, Time(Duration::from_secs(1)));
        assert_eq!(
            (scenario.events[0].down, scenario.client.timeout.0),
            (Some(Time(Duration::from_secs(1))), Duration::from_secs(10))
        );
    }

    #[test]
    fn no_key_of_a_target_is_shown() {
        let text = GOOD.replace("squadcast }", "squadcast, keys: [topsecret] }");
        assert!(!parse(&text).expect("a scenario").shown().to_string().contains("topsecret"));
    }
}
