//! Looks at dead letters for the admin API: which there are, grouped, one by its id; and dropping those that an operator
//! has counted. What may be sent again is in `replay`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::dead::{Letter, Refused};
use super::desk::Desk;
use super::handle::Row;
use super::upstream::Upstream;
use crate::event::Micros;
use crate::outcome::DeadReason;

/// Which dead letters are meant; an absent part lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub upstream: Option<String>,
    pub reason: Option<DeadReason>,
    pub integration: Option<String>,
    /// Dead since then, or later.
    pub since: Option<Micros>,
    /// Dead before then.
    pub until: Option<Micros>,
}

impl Filter {
    fn passes_upstream(&self, name: &str) -> bool {
        self.upstream.as_deref().is_none_or(|wanted| wanted == name)
    }

    pub(super) fn passes(&self, letter: &Letter) -> bool {
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.integration.as_deref().is_none_or(|name| name == &*letter.integration)
            && self.since.is_none_or(|since| letter.since >= since)
            && self.until.is_none_or(|until| letter.since < until)
    }
}

/// Dead letters of one upstream that ended alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub upstream: String,
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub count: usize,
    pub oldest_at: Micros,
    pub newest_at: Micros,
    /// Of the oldest.
    pub example_id: String,
}

impl Desk {
    /// The dead letters that pass, by upstream and then in order, behind a row.
    fn matching<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<&'a (String, u64)>,
    ) -> impl Iterator<Item = (&'a Arc<str>, u64, &'a Letter)> {
        let mut upstreams: Vec<&Upstream> =
            self.upstreams.iter().filter(|upstream| filter.passes_upstream(&upstream.meter.name)).collect();
        upstreams.sort_by(|a, b| a.meter.name.cmp(&b.meter.name));
        upstreams.into_iter().flat_map(move |upstream| {
            let name = &upstream.meter.name;
            let from = match after {
                Some((last, sequence)) if last.as_str() == &**name => Some(Some(*sequence)),
                Some((last, _)) if last.as_str() > &**name => None,
                _ => Some(None),
            };
            let letters = from.into_iter().flat_map(|from| upstream.dead.after(from));
            letters.filter(|(_, letter)| filter.passes(letter)).map(move |(sequence, letter)| (name, sequence, letter))
        })
    }

    /// The same, named.
    pub(super) fn matching_ids(&self, filter: &Filter) -> Vec<(Arc<str>, u64)> {
        self.matching(filter, None).map(|(name, sequence, _)| (Arc::clone(name), sequence)).collect()
    }

    pub(super) fn letters(&self, filter: &Filter, after: Option<&(String, u64)>, rows_max: usize) -> Vec<Row> {
        let rows = self.matching(filter, after).take(rows_max);
        rows.map(|(name, sequence, letter)| (Arc::clone(name), sequence, letter.clone())).collect()
    }

    pub(super) fn letter(&self, name: &str, sequence: u64) -> Option<Row> {
        let upstream = self.upstreams.get(self.find(name)?)?;
        Some((Arc::clone(&upstream.meter.name), sequence, upstream.dead.get(sequence)?.clone()))
    }

    pub(super) fn groups(&self, filter: &Filter) -> Vec<Group> {
        let mut groups = BTreeMap::<(&Arc<str>, &'static str, Option<u16>), Group>::new();
        for (name, sequence, letter) in self.matching(filter, None) {
            let group = groups.entry((name, letter.reason.name(), letter.status)).or_insert_with(|| Group {
                upstream: name.to_string(),
                reason: letter.reason.name(),
                status: letter.status,
                count: 0,
                oldest_at: letter.since,
                newest_at: letter.since,
                example_id: format!("{name}-{sequence}"),
            });
            group.count += 1;
            if letter.since < group.oldest_at {
                group.oldest_at = letter.since;
                group.example_id = format!("{name}-{sequence}");
            }
            group.newest_at = group.newest_at.max(letter.since);
        }
        groups.into_values().collect()
    }

    /// Drops all that pass, if they are as many as was confirmed; without a confirmation they are only counted.
    pub(super) fn drop_all(&mut self, filter: &Filter, confirm: Option<usize>) -> Result<usize, Refused> {
        let all = self.matching_ids(filter);
        match confirm {
            None => return Ok(all.len()),
            Some(confirmed) if confirmed != all.len() => {
                return Err(Refused::Miscounted { matching: all.len(), confirmed });
            }
            Some(_) => {}
        }
        let dropped = all.iter().filter(|(name, sequence)| self.drop_letter(name, *sequence).is_ok());
        Ok(dropped.count())
    }
}
