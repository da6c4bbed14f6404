//! `/api/v1/dead-letters`: see them, send them again, drop them. What may be sent again is the forwarder's to say.

use hyper::StatusCode;
use serde_json::json;

use super::dispatch::Call;
use super::query::Values;
use super::{Answered, Desk, error, json, names, shown};
use crate::forward::{Filter, How, Refused};
use crate::words::letters_match;

/// Rows of a list unless it is asked for more.
const ROWS_USUAL: usize = 100;

fn filter(values: &Values) -> Filter {
    Filter {
        upstream: values.owned("upstream"),
        reason: values.dead_reason("reason"),
        integration: values.owned("integration"),
        since: values.time("since"),
        until: values.time("until"),
    }
}

/// What is wrong with a filter that names what is not there and matches nothing; asked before anything is done.
async fn mistyped(desk: &Desk, values: &Values) -> Option<Answered> {
    let wrong = names::unknown(desk, values)?;
    let matching = desk.forward.dead_letter_groups(filter(values)).await;
    matching.is_empty().then_some(wrong)
}

pub(super) async fn list(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    let rows = values.count("limit").unwrap_or(ROWS_USUAL);
    match mistyped(desk, &values).await {
        Some(wrong) => wrong,
        None => shown(&desk.forward.dead_letters(filter(&values), values.text("after"), rows).await),
    }
}

pub(super) async fn groups(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    match mistyped(desk, &values).await {
        Some(wrong) => wrong,
        None => shown(&desk.forward.dead_letter_groups(filter(&values)).await),
    }
}

pub(super) async fn one(call: Call<'_>) -> Answered {
    match call.desk.forward.dead_letter(call.id()).await {
        Ok(found) => shown(&found),
        Err(refused) => refusal(&refused),
    }
}

pub(super) async fn replay(call: Call<'_>) -> Answered {
    match call.desk.forward.replay(call.id()).await {
        Ok(replayed) => json(StatusCode::OK, &json!({ "replayed": replayed })),
        Err(refused) => refusal(&refused),
    }
}

pub(super) async fn replay_many(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    let how = match (values.flag("dry_run"), values.rate("per_second")) {
        (true, _) => How::DryRun,
        (false, Some(per_second)) => How::PerSecond(per_second),
        (false, None) => How::AtOnce,
    };
    if let Some(wrong) = mistyped(desk, &values).await {
        return wrong;
    }
    match desk.forward.replay_all(filter(&values), how).await {
        Ok(replayed) => shown(&replayed),
        Err(refused) => refusal(&refused),
    }
}

pub(super) async fn drop_one(call: Call<'_>) -> Answered {
    match call.desk.forward.drop_letter(call.id()).await {
        Ok(()) => json(StatusCode::OK, &json!({ "dropped": 1 })),
        Err(refused) => refusal(&refused),
    }
}

pub(super) async fn drop_many(call: Call<'_>) -> Answered {
    let Call { desk, values, .. } = call;
    let dry_run = values.flag("dry_run");
    let confirm = values.count("confirm").filter(|_| !dry_run);
    if let Some(wrong) = mistyped(desk, &values).await {
        return wrong;
    }
    match desk.forward.drop_letters(filter(&values), confirm).await {
        Ok(dropped) if confirm.is_some() => json(StatusCode::OK, &json!({ "dropped": dropped })),
        Ok(matching) if dry_run => json(StatusCode::OK, &json!({ "would_drop": matching, "dry_run": true })),
        Ok(matching) => {
            let (found, them) = (letters_match(matching), if matching == 1 { "it" } else { "them" });
            let message = format!("{found}: nothing was dropped; confirm={matching} drops {them} for good");
            error(StatusCode::CONFLICT, &message)
        }
        Err(refused) => refusal(&refused),
    }
}

fn refusal(refused: &Refused) -> Answered {
    let status = match refused {
        Refused::Unknown => StatusCode::NOT_FOUND,
        Refused::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Closed
        | Refused::Followed
        | Refused::Unreadable
        | Refused::Rejected
        | Refused::Orphaned
        | Refused::Miscounted { .. } => StatusCode::CONFLICT,
    };
    error(status, &refused.to_string())
}
