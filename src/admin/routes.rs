//! The admin API in one table: what there is, what it takes, what it answers, who does it. The dispatch, the strictness of
//! the query and the API's document (`openapi`) all come from here: a new operation is a row.

use std::future::Future;
use std::pin::Pin;

use super::dispatch::Call;
use super::query::{KEY, Kind, Parameter};
use super::{Answered, dead_letters, events, ingest, live, openapi, operate, status, tap};

/// What an operation does with what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    pub(super) fn writes(self) -> bool {
        self != Self::Get
    }
}

pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// One operation.
pub(super) struct Route {
    pub(super) verb: Verb,
    /// Parts in braces are parameters.
    pub(super) path: &'static str,
    /// Its name in the API's document and in the audit.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [&'static [Parameter]],
    /// Schema of the JSON that it takes, at most 4 KiB.
    pub(super) body: Option<&'static str>,
    /// Status and schema of each answer of its own. Those that any operation may give stand in `openapi`.
    pub(super) answers: &'static [(u16, &'static str)],
    pub(super) run: for<'a> fn(Call<'a>) -> Running<'a>,
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, required: false, about }
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, required: true, about }
}

/// Which dead letters are meant.
const LETTERS: &[Parameter] = &[
    optional("upstream", Kind::Name, "Of this upstream."),
    optional("reason", Kind::DeadReason, "That ended for this reason."),
    optional("integration", Kind::Name, "Of this integration."),
    optional("since", Kind::Time, "Dead since then: a time, or a duration back from now."),
    optional("until", Kind::Time, "Dead before then: a time, or a duration back from now."),
];

const LETTER_ID: &[Parameter] = &[required("id", Kind::Name, "The dead letter's id.")];
const DRY_RUN: Parameter = optional("dry_run", Kind::Flag, "Tell what would be done, do nothing.");

/// Which decisions are meant.
const DECISIONS: &[Parameter] = &[
    optional("integration", Kind::Name, "Of this integration."),
    optional("outcome", Kind::Outcome, "Accepted with this outcome."),
    optional("reason", Kind::Reason, "Refused for this reason."),
    optional("key", KEY, "On this key, the whole of it."),
];

/// Most rows in one answer.
const ROWS_MAX: u32 = 1000;
const EVENTS_MAX: u32 = 100;
const PER_SECOND_MAX: u32 = 10_000;

/// Every operation. A path without parameters stands before one that it would match.
pub(super) static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/api/v1/status",
        id: "status",
        summary: "How the proxy does: the facts in sentences, the worst first; its books and rates, integrations, refusals, \
                  upstreams, spool, configuration.",
        parameters: &[],
        body: None,
        answers: &[(200, "Status")],
        run: |call| Box::pin(status::answer(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/events",
        id: "eventsByKey",
        summary: "The newest events on a key with their histories, oldest first, and the key's incident now. Searches the \
                  log, at most 1 GiB of it and 10 s; `complete` says whether anything was left out.",
        parameters: &[&[
            required("integration", Kind::Name, "The integration that sent them."),
            required("key", KEY, "The whole key, as it was sent."),
            optional("limit", Kind::Number(EVENTS_MAX), "Most events; 20 unless given."),
        ]],
        body: None,
        answers: &[(200, "Events"), (503, "Error")],
        run: |call| Box::pin(events::by_key(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/events/{event_uid}",
        id: "event",
        summary: "What became of an event: what was received (its key masked), its incident now, where it stands at each \
                  upstream, and everything that befell it. Duplicates are not kept, so they are not found.",
        parameters: &[&[required("event_uid", Kind::Uid, "The event's id, which upstreams know as `webhook-id`.")]],
        body: None,
        answers: &[(200, "Event"), (404, "Error"), (503, "Error")],
        run: |call| Box::pin(events::one(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/dead-letters",
        id: "deadLetters",
        summary: "Dead letters by upstream, in order.",
        parameters: &[
            LETTERS,
            &[
                optional("after", Kind::LetterId, "Go on behind the row with this id."),
                optional("limit", Kind::Number(ROWS_MAX), "Most rows; 100 unless given."),
            ],
        ],
        body: None,
        answers: &[(200, "DeadLetters")],
        run: |call| Box::pin(dead_letters::list(call)),
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/dead-letters",
        id: "dropDeadLetters",
        summary: "Drops for good every dead letter that matches, if `confirm` is how many there are; else 409 names the \
                  number.",
        parameters: &[
            LETTERS,
            &[optional("confirm", Kind::Count, "How many match, as a dry run or a refusal told."), DRY_RUN],
        ],
        body: None,
        answers: &[(200, "Dropped"), (409, "Error"), (503, "Error")],
        run: |call| Box::pin(dead_letters::drop_many(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/dead-letters/groups",
        id: "deadLetterGroups",
        summary: "Dead letters counted by upstream, reason and status.",
        parameters: &[LETTERS],
        body: None,
        answers: &[(200, "DeadLetterGroups")],
        run: |call| Box::pin(dead_letters::groups(call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/dead-letters/replay",
        id: "replayDeadLetters",
        summary: "Sends again every dead letter that matches, each with those of its incident, in order. Those whose incident \
                  was closed or opened anew are refused. With `per_second` they are released at that pace; a paced \
                  replay takes the place of the one before it, and what it has not come to when the process stops stays \
                  dead.",
        parameters: &[
            LETTERS,
            &[DRY_RUN, optional("per_second", Kind::Number(PER_SECOND_MAX), "So many events a second.")],
        ],
        body: None,
        answers: &[(200, "ReplayedMany"), (503, "Error")],
        run: |call| Box::pin(dead_letters::replay_many(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/dead-letters/{id}",
        id: "deadLetter",
        summary: "A dead letter and what its event says, its key masked; without `event` its record cannot be read. \
                  `last_answer` is what the upstream said to it, the first 512 B without secrets: of the newest thousand, \
                  and since the last start.",
        parameters: &[LETTER_ID],
        body: None,
        answers: &[(200, "DeadLetterShown"), (404, "Error"), (503, "Error")],
        run: |call| Box::pin(dead_letters::one(call)),
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/dead-letters/{id}",
        id: "dropDeadLetter",
        summary: "Drops a dead letter for good.",
        parameters: &[LETTER_ID],
        body: None,
        answers: &[(200, "Dropped"), (404, "Error"), (503, "Error")],
        run: |call| Box::pin(dead_letters::drop_one(call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/dead-letters/{id}/replay",
        id: "replayDeadLetter",
        summary: "Sends a dead letter again, with the others of its incident at that upstream, in order.",
        parameters: &[LETTER_ID],
        body: None,
        answers: &[(200, "Replayed"), (404, "Error"), (409, "Error"), (503, "Error")],
        run: |call| Box::pin(dead_letters::replay(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/tap",
        id: "tap",
        summary: "Decisions as they are made, as server-sent events: `decision`, and `lost` with a count where the reader is \
                  too slow. A comment line every 15 s. At most 8 watch at once.",
        parameters: &[DECISIONS],
        body: None,
        answers: &[(200, "Decision"), (503, "Error")],
        run: |call| Box::pin(tap::watch(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/live",
        id: "live",
        summary: "The status page as server-sent events: `part`, with a part's id and HTML, when it changes; with `tap` also \
                  `decision` and `lost` as the tap tells them. Something comes every second. At most 32 read at once.",
        parameters: &[&[optional("tap", Kind::Flag, "Decisions, too; the other parameters say which.")], DECISIONS],
        body: None,
        answers: &[(200, "Part"), (503, "Error")],
        run: |call| Box::pin(live::answer(call)),
    },
    Route {
        verb: Verb::Post,
        path: "/api/v1/reload",
        id: "reload",
        summary: "Reads the configuration again and takes it, or changes nothing. `findings` says what is wrong with it, and \
                  what waits for the next start.",
        parameters: &[],
        body: None,
        answers: &[(200, "Reload"), (409, "Reload"), (422, "Reload")],
        run: |call| Box::pin(operate::reload(call)),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/log-level",
        id: "logLevel",
        summary: "From which level on lines are logged.",
        parameters: &[],
        body: None,
        answers: &[(200, "LogLevel")],
        run: |call| Box::pin(async move { operate::log_level(&call) }),
    },
    Route {
        verb: Verb::Put,
        path: "/api/v1/log-level",
        id: "setLogLevel",
        summary: "Sets it until the next start, or until the configuration says another.",
        parameters: &[],
        body: Some("LogLevel"),
        answers: &[(200, "LogLevel")],
        run: |call| Box::pin(async move { operate::set_log_level(&call) }),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/openapi.json",
        id: "openapi",
        summary: "This document.",
        parameters: &[],
        body: None,
        answers: &[(200, "Document")],
        run: |_| Box::pin(async { openapi::answer() }),
    },
    Route {
        verb: Verb::Get,
        path: "/api/v1/ingest-openapi.json",
        id: "ingestOpenapi",
        summary: "The same for what senders send: every route of the ingest listener, made from the dialects.",
        parameters: &[],
        body: None,
        answers: &[(200, "Document")],
        run: |_| Box::pin(async { ingest::answer() }),
    },
];
