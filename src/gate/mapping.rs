//! What a body of the generic webhook means, as an integration's configuration says it (contracts/others.md 9). Made by
//! `config`; the dialect reads by it, and finds it again beside each stored event.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// JSON pointers for each normalized field, what words stand for, and what holds where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fields {
    /// The first pointer that leads to something counts; so for each of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub title: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub description: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub action: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub component: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub started_at: Vec<String>,
    /// Words, in any case, and the action each stands for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<(String, String)>,
    /// Words, in any case, and the level of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<(String, u8)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
}

/// The fields, and the same as JSON: one buffer, so that the log writes it once for many events.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    pub fields: Arc<Fields>,
    pub json: Bytes,
}

impl Mapping {
    pub fn new(fields: Fields) -> Self {
        // Texts and numbers alone: writing them to memory cannot fail.
        let json = serde_json::to_vec(&fields).map(Bytes::from).unwrap_or_default();
        Self { fields: Arc::new(fields), json }
    }
}
