//! Filters by a name that nothing has. A filter that matches nothing and names an upstream or integration that is not
//! there is most likely mistyped: it is told, with what may have been meant. Called by the operations that filter.

use std::collections::BTreeSet;

use hyper::StatusCode;

use super::query::Values;
use super::{Answered, Desk, error};
use crate::metrics::INTAKE;
use crate::spelling::nearest;

/// Names listed where none is near.
const NAMES_SHOWN: usize = 10;

/// What is wrong with the names in a filter that matched nothing; `None`: there are such.
pub(super) fn unknown(desk: &Desk, values: &Values) -> Option<Answered> {
    // There, also before anything is kept under it.
    let upstream = values.text("upstream").filter(|name| *name != INTAKE).and_then(|name| {
        // Those that are gone from the configuration and have events in the books, too.
        not_among("upstream", name, desk.metrics.upstreams().iter().map(|meter| meter.name.to_string()).collect())
    });
    let integration = || {
        let known = || desk.intake.integrations().iter().map(|one| one.config.name.to_string()).collect();
        values.text("integration").and_then(|name| not_among("integration", name, known()))
    };
    upstream.or_else(integration).map(|message| error(StatusCode::BAD_REQUEST, &message))
}

fn not_among(what: &str, name: &str, known: BTreeSet<String>) -> Option<String> {
    if known.contains(name) {
        return None;
    }
    let names = || known.iter().map(String::as_str);
    let listed = || names().take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    Some(match (nearest(name, names()), known.len()) {
        (Some(near), _) => format!("no {what} is called {name}: did you mean {near}?"),
        (None, 0) => format!("no {what} is called {name}: there is none"),
        (None, count @ 1..=NAMES_SHOWN) => format!("no {what} is called {name}; there {}: {}", are(count), listed()),
        (None, count) => {
            format!("no {what} is called {name}; there are: {} and {} more", listed(), count - NAMES_SHOWN)
        }
    })
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_answered_with_what_may_be_meant() {
        let told = |name: &str, known: &[&str]| {
            not_among("upstream", name, known.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(told("pager", &["pager", "other"]), None);
        assert_eq!(told("pagr", &["pager", "other"]).unwrap(), "no upstream is called pagr: did you mean pager?");
        assert_eq!(told("x-y", &["pager"]).unwrap(), "no upstream is called x-y; there is: pager");
        assert_eq!(told("x-y", &["pager", "other"]).unwrap(), "no upstream is called x-y; there are: other, pager");
        assert_eq!(told("x-y", &[]).unwrap(), "no upstream is called x-y: there is none");
        let many: Vec<String> = (10..30).map(|number| format!("upstream-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(told("x-y", &many).unwrap().ends_with("upstream-18, upstream-19 and 10 more"));
    }
}
