//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$` in the values of a tree.
//!
//! Done after parsing: what a variable holds can never become a key, a comment or a list.

use super::report::{Place, Report, Wrong, quote};
use super::tree::{Node, Origin, Scalar, Value};

/// Looks a variable up; `None`: not set.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// Replaces variables in every value below `node`; each failure is reported, and the value marked as broken.
pub(super) fn interpolate(node: &mut Node, report: &Report, environment: &Environment) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| interpolate(item, report, environment)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| interpolate(&mut entry.value, report, environment)),
        Value::Scalar(scalar) if scalar.text.contains('$') => replace(scalar, node.place, report, environment),
        Value::Scalar(_) => {}
    }
}

fn replace(scalar: &mut Scalar, place: Place, report: &Report, environment: &Environment) {
    let mut text = String::with_capacity(scalar.text.len());
    let mut rest = scalar.text.as_str();
    let mut origin = scalar.origin;
    while let Some(at) = rest.find('$') {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = found.strip_prefix("$$") {
            text.push('$');
            rest = after;
        } else if let Some(inner) = found.strip_prefix("${") {
            let Some((inner, after)) = inner.split_once('}') else {
                let wrong = Wrong::value("\"${\" without \"}\"").code("environment");
                report.error(place, wrong.hint("write ${VARIABLE}, or $$ for a dollar sign"));
                origin = Origin::Broken;
                break;
            };
            match value(inner, environment) {
                Ok((value, from_outside)) => {
                    text.push_str(&value);
                    if from_outside && origin == Origin::Written {
                        origin = Origin::Environment;
                    }
                }
                Err(wrong) => {
                    report.error(
                        within(place, scalar, rest.len() - at, inner.len() + 3, report),
                        wrong.code("environment"),
                    );
                    origin = Origin::Broken;
                }
            }
            rest = after;
        } else {
            // A lone dollar sign, as in a path or a pass phrase.
            text.push('$');
            rest = found.strip_prefix('$').unwrap_or_default();
        }
    }
    text.push_str(rest);
    if is_one_variable(&scalar.text) {
        report.show(place);
    }
    // Quotes say nothing of what a variable holds, and in TOML and JSON it cannot be written without them.
    scalar.plain |= scalar.text.contains("${");
    scalar.origin = origin;
    scalar.text = text;
}

/// The value of what stands between the braces, and whether it came from the environment.
fn value(inner: &str, environment: &Environment) -> Result<(String, bool), Wrong> {
    let end = inner.find(':').unwrap_or(inner.len());
    let (name, operator) = inner.split_at(end);
    if !is_variable(name) {
        let wrong = Wrong::value("not the name of an environment variable");
        return Err(wrong.hint("names are letters, digits and _; write $$ for a dollar sign"));
    }
    let set = environment(name);
    // As in a shell, an empty variable counts as unset where the operator begins with a colon.
    let filled = set.clone().filter(|value| !value.is_empty());
    if let Some(default) = operator.strip_prefix(":-") {
        return Ok(filled.map_or_else(|| (default.to_owned(), false), |value| (value, true)));
    }
    if let Some(message) = operator.strip_prefix(":?") {
        let why = if message.is_empty() { "it must not be empty" } else { message };
        let wrong = || {
            let state = if set.is_some() { "is empty" } else { "is not set" };
            let wrong = Wrong::value(format!("environment variable {name}: {}", why.escape_debug()));
            wrong.hint(format!("{name} {state}: give it a value"))
        };
        return filled.map(|value| (value, true)).ok_or_else(wrong);
    }
    if !operator.is_empty() {
        let wrong =
            Wrong::value(format!("{} is not understood behind {name}", quote(operator.get(..2).unwrap_or(":"))));
        return Err(wrong.hint("write ${NAME}, ${NAME:-default} or ${NAME:?message}"));
    }
    set.map(|value| (value, true)).ok_or_else(|| {
        let wrong = Wrong::value(format!("environment variable {name} is not set"));
        wrong.hint(format!("set it, or give a default: ${{{name}:-default}}"))
    })
}

/// The variables that a value as written names, whatever stands behind them.
pub(super) fn variables(written: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find('$') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            names.extend(inner.split([':', '}']).next().filter(|name| is_variable(name)));
        }
    }
    names
}

fn is_variable(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(word) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// `${NAME}` and nothing else: the text gives nothing away.
fn is_one_variable(text: &str) -> bool {
    text.strip_prefix("${").and_then(|text| text.strip_suffix('}')).is_some_and(is_variable)
}

/// Narrows `place` to the variable `left` bytes before the scalar's end, where the text stands as written.
fn within(place: Place, scalar: &Scalar, left: usize, length: usize, report: &Report) -> Place {
    if report.is_full() {
        // A value of a million variables: nothing more is listed, so do not look for each one's place.
        return place;
    }
    let written = report.written(place);
    let quotes = usize::from(!scalar.plain);
    let inside = written.get(quotes..written.len().saturating_sub(quotes));
    let at = scalar.text.len() - left;
    match (inside == Some(scalar.text.as_str()), scalar.text.get(..at)) {
        (true, Some(before)) => Place {
            start: place.start + quotes + at,
            end: place.start + quotes + at + length,
            column: place.column + quotes + before.chars().count(),
            ..place
        },
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> (String, Origin, Vec<String>) {
        let environment = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${SET} $$ }".to_owned()),
            _ => None,
        };
        let scalar = Scalar { text: text.to_owned(), plain: true, origin: Origin::Written };
        let mut node = Node { place: Place::default(), value: Value::Scalar(scalar) };
        let report = Report::default();
        interpolate(&mut node, &report, &environment);
        let Value::Scalar(scalar) = node.value else { panic!("stays a scalar") };
        let errors = report.finish().map_or_else(|errors| errors.findings, |_| Vec::new());
        (scalar.text, scalar.origin, errors.into_iter().map(|finding| finding.message).collect())
    }

    #[test]
    fn variables_defaults_and_escapes_are_replaced() {
        for (text, expected, origin) in [
            ("a${SET}b${SET}", "avaluebvalue", Origin::Environment),
            ("${SET:-x}", "value", Origin::Environment),
            ("${UNSET:-x:y}", "x:y", Origin::Written),
            ("${EMPTY:-x}", "x", Origin::Written),
            ("${EMPTY}", "", Origin::Environment),
            ("${SET:?needed}", "value", Origin::Environment),
            ("$$", "$", Origin::Written),
            ("$${SET}", "${SET}", Origin::Written),
            ("pa$word$", "pa$word$", Origin::Written),
            ("${TRICKY}", "${SET} $$ }", Origin::Environment),
        ] {
            assert_eq!(run(text), (expected.to_owned(), origin, vec![]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_reported_each_time() {
        for (text, errors) in [
            ("${UNSET} ${ALSO}", vec!["environment variable UNSET is not set", "environment variable ALSO is not set"]),
            ("${EMPTY:?give me}", vec!["environment variable EMPTY: give me"]),
            ("${UNSET:?}", vec!["environment variable UNSET: it must not be empty"]),
            ("${SET", vec!["\"${\" without \"}\""]),
            ("${}", vec!["not the name of an environment variable"]),
            ("${1A}", vec!["not the name of an environment variable"]),
            ("${SET:=x}", vec!["\":=\" is not understood behind SET"]),
        ] {
            let (_, origin, found) = run(text);
            assert_eq!((origin, found), (Origin::Broken, errors.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }
}
