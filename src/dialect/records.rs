//! What a dialect with ids may ask of the incidents that are known: of one integration and one family alone, so that an
//! id never reaches another's. Implemented by `intake` over the table and the log.

use crate::event::{Incident, Key, Uid};

/// An incident as it stands now.
#[derive(Clone, Debug)]
pub struct Record {
    pub incident: Incident,
    pub key: Option<Key>,
    /// What the dialect keeps for its answers ([`super::Judged::view`]); empty where its record cannot be read, or of a
    /// generation that another one followed.
    pub view: View,
    pub named: Named,
}

/// What an upstream calls an incident, as far as answers show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// In place of ours; of integrations whose senders read their upstream's answers.
    pub id: Option<Box<str>>,
    pub url: Option<Box<str>>,
}

/// A dialect's own JSON object.
pub type View = serde_json::Map<String, serde_json::Value>;

/// Most bytes of a view as it is stored; past it the longest texts were cut by the dialect, or the view is left as it was.
pub const VIEW_BYTES_MAX: usize = 32 * 1024;

/// The known incidents of one integration and family.
pub trait Records {
    fn by_number(&self, number: u64) -> Option<Record>;

    fn by_iid(&self, iid: Uid) -> Option<Record>;

    /// By an upstream's id, where that is shown in place of ours.
    fn by_name(&self, id: &str) -> Option<Record>;

    fn by_key(&self, canon: &str) -> Option<Record>;

    /// At most `count` incidents with numbers below `before`, newest first.
    fn list(&self, before: Option<u64>, count: usize) -> Vec<Record>;

    /// How many there are.
    fn count(&self) -> usize;
}
