//! Operations on an instance (contracts/taskcall.md 3.3): what each needs beside its `instance_id`, and what it does here.

use serde_json::Value;

use super::reading::Reading;
use crate::dialect::json::Document;
use crate::dialect::{Asked, Decoded, Faults, Judged, View};
use crate::event::{Action, Severity, Target, TargetKind, Uid};

pub(super) struct Operation {
    name: &'static str,
    action: Action,
    needs: Needs,
    /// Section 3.3, state rules: it means nothing to a resolved instance.
    needs_open: bool,
}

/// The further member, by its type.
enum Needs {
    Nothing,
    /// A list of names with something in it.
    Names(&'static str),
    Minutes,
    Urgency,
    Note(&'static str),
    /// The survivor of a merge.
    Survivor,
    /// The alert that becomes an instance.
    Alert,
    Reference(&'static str),
    Title,
    Tags,
}

const fn operation(name: &'static str, action: Action, needs: Needs) -> Operation {
    Operation { name, action, needs, needs_open: false }
}

const fn open(operation: Operation) -> Operation {
    Operation { needs_open: true, ..operation }
}

use Action::{Acknowledge, Admin, Resolve, Unacknowledge, Update};

static OPERATIONS: [Operation; 20] = [
    open(operation("acknowledge", Acknowledge, Needs::Nothing)),
    operation("resolve", Resolve, Needs::Nothing),
    open(operation("unacknowledge", Unacknowledge, Needs::Nothing)),
    open(operation("escalate", Admin, Needs::Nothing)),
    open(operation("reassign", Admin, Needs::Names("reassign_to"))),
    open(operation("snooze", Admin, Needs::Minutes)),
    open(operation("amend-urgency", Update, Needs::Urgency)),
    open(operation("add-responders", Admin, Needs::Names("assignees"))),
    operation("notate", Update, Needs::Note("notes")),
    open(operation("merge", Admin, Needs::Survivor)),
    // What is resolved calls nobody any more: no part of it does.
    open(operation("unmerge", Admin, Needs::Alert)),
    operation("add-subscribers", Admin, Needs::Names("subscribers")),
    operation("remove-subscribers", Admin, Needs::Names("subscribers")),
    operation("update-status", Update, Needs::Note("status_update")),
    operation("add-impact", Admin, Needs::Reference("business_service_ref_id")),
    operation("remove-impact", Admin, Needs::Reference("business_service_ref_id")),
    operation("run-response-set", Admin, Needs::Reference("response_set_ref_id")),
    operation("run-workflow", Admin, Needs::Reference("workflow_ref_id")),
    operation("edit-title", Update, Needs::Title),
    operation("update-tags", Update, Needs::Tags),
];

const SNOOZE_MINUTES_MAX: u64 = 525_600;
/// Section 3.3: the seed's list has the first, its sample the second.
const URGENCY: [&str; 3] = ["urgency_level", "amend-urgency", "amend_urgency"];
const SURVIVOR: &str = "related_instance_id";
const ALERT: &str = "task_ref_id";
pub(super) const INSTANCE: &str = "instance_id";

/// The operation of an endpoint; `None` for one that nobody serves.
pub(super) fn named(endpoint: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == endpoint)
}

pub(super) fn decode<'d>(
    asked: &Asked<'_>,
    operation: Option<&'static Operation>,
    document: Document<'d>,
) -> Result<Decoded<'d>, Faults> {
    let Some(Operation { name, action, needs, needs_open }) = operation else {
        return Err(vec!["body: no operation has this name".into()]);
    };
    let mut reading = Reading::of(document);
    let instance = reading.instance(INSTANCE);
    let mut judged = Judged { target: instance.map(instance_target), needs_open: *needs_open, ..Judged::of(*action) };
    let argument = argument(needs, &mut reading, &mut judged, instance);
    if !reading.faults.is_empty() {
        return Err(reading.faults);
    }
    if let Some((name, value)) = argument {
        reading.content.params.insert(name.to_owned(), value);
    }
    if asked.rules.settings.is_some() {
        let mut view = reading.content.params.clone();
        view.insert("op".to_owned(), (*name).into());
        told(&reading, &mut view);
        judged.view = Some(Box::new(view));
    }
    let extra = reading.extra();
    let mut content = reading.content;
    content.severity = judged.severity;
    Ok(Decoded { judged, content, extra })
}

fn instance_target(number: u64) -> Target {
    Target { kind: TargetKind::InstanceId, value: number.to_string().into() }
}

/// Reads the further member: into the model where it has a home there, else it comes back for `params`.
fn argument(
    needs: &Needs,
    reading: &mut Reading<'_>,
    judged: &mut Judged,
    instance: Option<u64>,
) -> Option<(&'static str, Value)> {
    match *needs {
        Needs::Nothing => None,
        Needs::Names(name) => reading.names(name).map(|names| (name, names.into())),
        Needs::Minutes => {
            let minutes =
                reading.required("snooze_for", |reading| reading.integer("snooze_for", 1..=SNOOZE_MINUTES_MAX));
            minutes.map(|minutes| ("snooze_for", minutes.into()))
        }
        Needs::Urgency => {
            judged.severity = urgency(reading);
            None
        }
        Needs::Note(name) => {
            judged.notes = true;
            if let Some(text) = reading.said(name) {
                reading.note(name, text);
            }
            None
        }
        Needs::Survivor => {
            let survivor = reading.instance(SURVIVOR);
            if survivor.is_some() && survivor == instance {
                reading.fault(SURVIVOR, "must be another instance");
            }
            judged.closes = true;
            judged.other = survivor.map(instance_target);
            survivor.map(|survivor| (SURVIVOR, survivor.into()))
        }
        Needs::Alert => {
            judged.opens = true;
            let alert = reading.required(ALERT, |reading| reading.key(ALERT))?;
            // The proxy's own alerts go by the id of their incident (section 5).
            let own = Uid::parse(alert.canon());
            judged.other = own.map(|_| Target { kind: TargetKind::IncidentId, value: alert.canon().into() });
            Some((ALERT, alert.canon().into()))
        }
        Needs::Reference(name) => reading.said(name).map(|text| (name, text.into())),
        Needs::Title => {
            reading.title();
            None
        }
        Needs::Tags => {
            let names = reading.required("tags", |reading| reading.strings("tags"))?;
            reading.tags(names);
            None
        }
    }
}

/// Says the same under every name it has, or it is refused.
fn urgency(reading: &mut Reading<'_>) -> Option<Severity> {
    let mut said: Option<Severity> = None;
    let faults = reading.faults.len();
    for name in URGENCY {
        let Some(level) = reading.urgency(name) else { continue };
        if name != URGENCY[0] {
            reading.content.warn("coerced", name);
        }
        if said.is_some_and(|said| said != level) {
            reading.fault(name, "says another level than the member before it");
        }
        said = said.or(Some(level));
    }
    if said.is_none() && reading.faults.len() == faults {
        reading.fault(URGENCY[0], "is required");
    }
    said
}

/// What the view takes of the content.
fn told(reading: &Reading<'_>, view: &mut View) {
    let content = &reading.content;
    if let Some(note) = &content.note {
        view.insert("note".to_owned(), Value::from(&**note));
    }
    if let Some(title) = &content.title {
        view.insert("title".to_owned(), Value::from(&**title));
    }
    if !content.tags.is_empty() {
        view.insert("tags".to_owned(), content.tags.iter().map(|(name, _)| Value::from(&**name)).collect());
    }
}
