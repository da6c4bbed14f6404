//! The page as text: it says what the status says, obeys nothing that came from outside, and is small.

use super::super::facts::{Fact, Level};
use super::super::status::{Integration, Redis, Status, Upstream};
use super::*;

const MARKUP: &str = "<script>alert('x')</script>";

fn status() -> Status {
    let fact = |level, text: &str| Fact { level, code: "well", text: text.to_owned() };
    let integration =
        |number: usize| Integration { name: format!("integration-{number}"), enabled: true, ..Integration::default() };
    let upstream = Upstream { name: MARKUP.to_owned(), state: "fine", spool_events: 48_211, ..Upstream::default() };
    Status {
        version: "0.1.0",
        ready: true,
        durability: "fsync",
        facts: vec![
            fact(Level::Bad, &format!("DELIVERY STOPPED: {MARKUP}")),
            fact(Level::Warn, "2 dead letters need a look."),
        ],
        integrations: (0..ROWS_MAX + 3).map(integration).collect(),
        upstreams: vec![upstream],
        warnings: vec![MARKUP.to_owned()],
        ..Status::default()
    }
}

fn page(status: &Status) -> String {
    let row = DeadRow {
        id: "pager-7".to_owned(),
        event_uid: crate::event::Uid(7),
        upstream: "pager".to_owned(),
        reason: "refused",
        status: Some(422),
        attempts: 1,
        at: Micros::now(),
        integration: MARKUP.to_owned(),
        action: None,
        key: Some(MARKUP.to_owned()),
    };
    let group = Group {
        upstream: "pager".to_owned(),
        reason: "refused",
        statuses: vec!["422".to_owned()],
        count: 9,
        oldest: Micros::now(),
        rows: vec![row],
    };
    render(&parts(status, &[group], &[[1.0, 0.5], [2.0, 0.0]]))
}

#[test]
fn the_page_says_the_facts_and_figures_and_obeys_nothing() {
    let page = page(&status());
    assert!(
        page.contains("DELIVERY STOPPED") && page.contains("2 dead letters need a look.") && page.contains("48,211")
    );
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;"), "{page}");
    assert!(!page.contains("{{") && !page.contains("style="), "{page}");
    assert!(page.contains("And 3 more"), "a list ends");
    assert!(page.contains("data-query=\"upstream=pager&amp;reason=refused\""));
    // The only script is the page's own file.
    assert_eq!(page.matches("<script").count(), 1);
    for handler in [" onclick", " onload", " onerror", "javascript:"] {
        assert!(!page.contains(handler), "{handler}");
    }
}

#[test]
fn all_of_it_weighs_less_than_half_of_60_kb_beside_its_rows() {
    let mut status = status();
    status.integrations.truncate(20);
    let whole = page(&status).len() + FILES.iter().map(|(.., body)| body.len()).sum::<usize>();
    assert!(whole < 40_000, "{whole} bytes");
}

#[test]
fn redis_is_shown_where_there_is_one() {
    let mut status = status();
    assert!(page(&status).contains("not used"));
    let servers = "redis-1:6379".to_owned();
    status.redis = Some(Redis {
        servers,
        up: false,
        scope: "shared",
        outages: 1,
        limiter_fallback: true,
        replica_id: 3,
        replica_id_taken: false,
    });
    let page = page(&status);
    assert!(page.contains("away, shared: redis-1:6379") && page.contains("own share"), "{page}");
}

#[test]
fn every_part_has_its_place_on_the_page() {
    for (id, html) in parts(&status(), &[], &[]) {
        assert!(HTML.contains(&format!("{{{{{id}}}}}")), "{id}");
        assert!(html.contains(&format!("id=\"{id}\"")), "{id} is renewed by its id");
    }
}
