//! Which incidents a list asks for, and the look over them (contracts/incident-io.md 5). A look reads at most
//! [`SCAN_MAX`] incidents; a page may then be short, and `after` says where to go on.

use std::borrow::Cow;

use super::object::{self, mode_word};
use super::{Version, lists};
use crate::dialect::{Faults, Question, Record};
use crate::event::{Micros, Uid};
use crate::gate::Settings;
use crate::vendor::time;

const PAGE_USUAL: usize = 25;
const PAGE_MAX: usize = 250;
/// Most incidents that one question looks at.
const SCAN_MAX: usize = 1_000;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    StatusWord,
    StatusId,
    Category,
    Mode,
    Severity,
    Type,
    CreatedAt,
    UpdatedAt,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    OneOf,
    NotIn,
    AtLeast,
    AtMost,
}

struct Filter {
    of: Of,
    how: How,
    values: Vec<String>,
}

pub(super) struct Filters {
    pub(super) page_size: usize,
    pub(super) after: Option<String>,
    filters: Vec<Filter>,
    /// One of them is enough.
    any: bool,
}

/// What a look found.
pub(super) struct Scan {
    pub(super) page: Vec<Record>,
    /// There is more behind it.
    pub(super) after: Option<Uid>,
    /// How many there are in all, where that was seen.
    pub(super) total: Option<usize>,
}

impl Filters {
    /// All faults of a query at once.
    pub(super) fn parse(version: Version, query: &str, settings: &Settings) -> Result<Self, Faults> {
        let mut read = Self { page_size: PAGE_USUAL, after: None, filters: Vec::new(), any: false };
        let mut faults = Faults::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "page_size" => match value.parse() {
                    Ok(size @ 1..=PAGE_MAX) => read.page_size = size,
                    _ => faults.push(format!("page_size: must be 1 to {PAGE_MAX}")),
                },
                // A question changes nothing, and its dry run is the same answer.
                "dry_run" => {}
                "after" => read.after = Some(value.into_owned()).filter(|after| !after.is_empty()),
                // The vendor's own clients always say the order that they want.
                "sort_by" if version == Version::V2 => {
                    if value != "created_at_newest_first" {
                        faults.push("sort_by: must be created_at_newest_first".to_owned());
                    }
                }
                "filter_mode" if version == Version::V2 => match &*value {
                    "all" => read.any = false,
                    "any" => read.any = true,
                    _ => faults.push("filter_mode: must be all or any".to_owned()),
                },
                name => match kind(version, name) {
                    Some((of, how)) => read.add(of, how, value, name, settings, &mut faults),
                    None => faults.push(format!("{name}: is no filter of this list")),
                },
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(faults) }
    }

    fn add(&mut self, of: Of, how: How, value: Cow<'_, str>, name: &str, settings: &Settings, faults: &mut Faults) {
        let compares = matches!(how, How::AtLeast | How::AtMost);
        match of {
            Of::Severity if compares && lists::severity(settings, &value).is_none() => {
                faults.push(format!("{name}: names no severity of this account"));
            }
            Of::CreatedAt | Of::UpdatedAt if stamp(&value).is_none() => faults.push(format!("{name}: is no time")),
            _ => {}
        }
        let value = value.into_owned();
        match self.filters.iter_mut().find(|filter| (filter.of, filter.how) == (of, how)) {
            Some(filter) => filter.values.push(value),
            None => self.filters.push(Filter { of, how, values: vec![value] }),
        }
    }

    /// Looks at incidents below that number, the newest first, until the page is full.
    pub(super) fn scan(&self, question: &Question<'_>, before: Option<u64>) -> Scan {
        if self.filters.is_empty() {
            let mut page = question.records.list(before, self.page_size + 1);
            let more = page.len() > self.page_size;
            page.truncate(self.page_size);
            let after = page.last().filter(|_| more).map(|record| record.incident.iid);
            return Scan { page, after, total: Some(question.records.count()) };
        }
        let (mut page, mut last, mut at) = (Vec::new(), None, before);
        let mut looked = 0;
        while looked < SCAN_MAX {
            let some = question.records.list(at, PAGE_MAX);
            if some.is_empty() {
                let total = before.is_none().then_some(page.len());
                return Scan { page, after: None, total };
            }
            for record in some {
                looked += 1;
                at = Some(record.incident.number);
                if !self.takes(&record, question.settings) {
                    last = Some(record.incident.iid);
                    continue;
                }
                if page.len() == self.page_size {
                    return Scan { page, after: last, total: None };
                }
                last = Some(record.incident.iid);
                page.push(record);
            }
        }
        Scan { page, after: last, total: None }
    }
}

impl Filters {
    fn takes(&self, record: &Record, settings: &Settings) -> bool {
        let takes = |filter: &Filter| filter.takes(record, settings);
        if self.any { self.filters.iter().any(takes) } else { self.filters.iter().all(takes) }
    }
}

fn stamp(text: &str) -> Option<Micros> {
    // A day without a time begins at midnight.
    let day = || format!("{text}T00:00:00Z");
    time::parse(text).or_else(|_| time::parse(&day())).ok().flatten()
}

fn kind(version: Version, name: &str) -> Option<(Of, How)> {
    if version == Version::V1 {
        return (name == "status").then_some((Of::StatusWord, How::OneOf));
    }
    let (of, how) = name.strip_suffix(']')?.split_once('[')?;
    let how = match how {
        "one_of" => How::OneOf,
        "not_in" => How::NotIn,
        "gte" => How::AtLeast,
        "lte" => How::AtMost,
        _ => return None,
    };
    let compares = matches!(how, How::AtLeast | How::AtMost);
    let of = match of {
        "status" if !compares => Of::StatusId,
        "status_category" if !compares => Of::Category,
        "mode" if !compares => Of::Mode,
        "incident_type" if !compares => Of::Type,
        "severity" => Of::Severity,
        "created_at" if compares => Of::CreatedAt,
        "updated_at" if compares => Of::UpdatedAt,
        _ => return None,
    };
    Some((of, how))
}

impl Filter {
    fn takes(&self, record: &Record, settings: &Settings) -> bool {
        let Record { incident, view, .. } = record;
        let text = |name: &str| view.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let is_among = |said: &str| self.values.iter().any(|value| value == said) == (self.how == How::OneOf);
        match self.of {
            Of::StatusWord => is_among(object::word(incident, view, &object::status(incident, view, settings))),
            Of::StatusId => is_among(object::status(incident, view, settings).id),
            Of::Category => is_among(object::status(incident, view, settings).category),
            Of::Mode => is_among(mode_word(Version::V2, view)),
            Of::Type => is_among(text(object::TYPE)),
            Of::Severity if matches!(self.how, How::OneOf | How::NotIn) => is_among(text(object::SEVERITY)),
            Of::Severity => {
                let rank = |id: &str| lists::severity(settings, id).map(|row| row.rank);
                let bound = |value: &String| rank(value);
                self.holds(rank(text(object::SEVERITY)), bound)
            }
            Of::CreatedAt => self.holds(Some(object::created_at(incident)), |value| stamp(value)),
            Of::UpdatedAt => self.holds(Some(object::updated_at(incident)), |value| stamp(value)),
        }
    }

    /// Within all bounds; what is not known is within none.
    fn holds<T: Ord>(&self, said: Option<T>, bound: impl Fn(&String) -> Option<T>) -> bool {
        let Some(said) = said else { return false };
        self.values.iter().filter_map(bound).all(|bound| match self.how {
            How::AtLeast => said >= bound,
            _ => said <= bound,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_the_list_and_all_faults_are_told() {
        let settings = Settings::default();
        let parse = |version, query| Filters::parse(version, query, &settings);
        let read =
            parse(Version::V2, "page_size=250&after=x&mode[one_of]=test&mode%5Bone_of%5D=standard").ok().unwrap();
        assert_eq!((read.page_size, read.after.as_deref(), read.filters[0].values.len()), (250, Some("x"), 2));
        let faults = |version, query| parse(version, query).err().unwrap();
        assert_eq!(
            faults(Version::V2, "page_size=251&status=live&mode[gte]=x&severity[gte]=s&created_at[gte]=soon"),
            [
                "page_size: must be 1 to 250",
                "status: is no filter of this list",
                "mode[gte]: is no filter of this list",
                "severity[gte]: names no severity of this account",
                "created_at[gte]: is no time",
            ]
        );
        assert!(parse(Version::V1, "status=triage&status=closed").is_ok());
        assert_eq!(faults(Version::V1, "status[one_of]=x").len(), 1);
    }
}
