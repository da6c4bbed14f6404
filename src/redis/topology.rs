//! Which server has a key. Without a Cluster there is one; of a Cluster a task asks its servers, when one of them says
//! that a key is elsewhere and now and then.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Pipeline, Value};
use tokio::time::sleep;

use super::dial::Trouble;
use super::link::Shared;
use super::node::{self, Node};

const SLOTS: u16 = 16_384;
/// Nobody has the slot.
const NOBODY: u16 = u16::MAX;
/// How often the servers are asked when nothing calls for it,
const EVERY: Duration = Duration::from_secs(5);
/// and at most.
const EVERY_LEAST: Duration = Duration::from_millis(100);
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Hash tags tried for a probe: enough to find one in a range of eight slots.
const TAGS_MAX: u32 = 40_000;

/// The servers, and whose each slot is.
#[derive(Default)]
pub(super) struct Map {
    pub(super) nodes: Vec<Arc<Node>>,
    /// An index into `nodes` for each slot; `None`: no Cluster.
    slots: Option<Vec<u16>>,
}

impl Map {
    pub(super) fn single(node: Arc<Node>) -> Self {
        Self { nodes: vec![node], slots: None }
    }

    pub(super) fn node_of(&self, key: &[u8]) -> Option<&Arc<Node>> {
        let index = match &self.slots {
            None => 0,
            Some(slots) => usize::from(*slots.get(usize::from(slot(key)))?),
        };
        self.nodes.get(index)
    }

    pub(super) fn at(&self, host: &str, port: u16) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.state.host == host && node.state.port == port)
    }

    /// Whether every key has a server that answers.
    pub(super) fn is_up(&self) -> bool {
        let whole = self.slots.as_ref().is_none_or(|slots| !slots.contains(&NOBODY));
        whole && !self.nodes.is_empty() && self.nodes.iter().all(|node| node.state.is_up())
    }
}

/// Redis Cluster's hash slot: of what stands between the first braces, where something does.
fn slot(key: &[u8]) -> u16 {
    let tagged = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|byte| *byte == b'}')?;
        Some(&rest[..length]).filter(|tag| !tag.is_empty())
    });
    crc16::State::<crc16::XMODEM>::calculate(tagged.unwrap_or(key)) % SLOTS
}

/// A server and its slots, first and last.
#[derive(Debug, PartialEq, Eq)]
struct Shard {
    host: String,
    port: u16,
    ranges: Vec<(u16, u16)>,
}

/// Keeps the map of a Cluster.
pub(super) async fn keep(shared: Arc<Shared>, seeds: Vec<(String, u16)>) {
    let mut told = String::new();
    loop {
        match look(&shared, &seeds).await {
            Ok(shards) => {
                take(&shared, shards);
                told.clear();
            }
            Err(trouble) => {
                let why = trouble.to_string();
                if why != told {
                    tracing::warn!(why, "no server of the Redis Cluster says where its keys are");
                    told = why;
                }
            }
        }
        sleep(EVERY_LEAST).await;
        let most = if shared.is_up() { EVERY } else { EVERY / 5 };
        tokio::select! {
            () = shared.asked_to_look() => {}
            () = sleep(most) => {}
        }
    }
}

/// Asks those that are known, then those that the configuration names; the first answer counts.
async fn look(shared: &Shared, seeds: &[(String, u16)]) -> Result<Vec<Shard>, Trouble> {
    let map = shared.map.load();
    let known = map.nodes.iter().filter(|node| node.state.is_up());
    let known: Vec<_> = known.map(|node| (node.state.host.clone(), node.state.port)).collect();
    let mut last = Trouble::Lost;
    for (host, port) in known.iter().chain(seeds) {
        match ask(shared, host, *port).await {
            Ok(shards) => return Ok(shards),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

async fn ask(shared: &Shared, host: &str, port: u16) -> Result<Vec<Shard>, Trouble> {
    let client = shared.dial.client(host, port)?;
    let mut connection = shared.dial.connect(&client, |_| Ok(())).await?;
    let mut question = Pipeline::new();
    question.cmd("CLUSTER").arg("SLOTS");
    let answer = node::send(&mut connection, &question, ANSWER_MAX).await?;
    read(&answer, host).ok_or_else(|| Trouble::refused("its answer to CLUSTER SLOTS cannot be read"))
}

/// `asked`: stands in for a server that does not know its own address.
fn read(answer: &Value, asked: &str) -> Option<Vec<Shard>> {
    let Value::Array(rows) = answer else { return None };
    let mut shards: Vec<Shard> = Vec::new();
    for row in rows {
        let Value::Array(row) = row else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { return None };
        let [host, Value::Int(port), ..] = master.as_slice() else { return None };
        let host = match host {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::SimpleString(text) => text,
            Value::Nil => "",
            _ => return None,
        };
        let host = if host.is_empty() || host == "?" { asked } else { host };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        let port = u16::try_from(*port).ok()?;
        if first > last || last >= SLOTS {
            return None;
        }
        match shards.iter_mut().find(|shard| shard.host == host && shard.port == port) {
            Some(shard) => shard.ranges.push((first, last)),
            None => shards.push(Shard { host: host.to_owned(), port, ranges: vec![(first, last)] }),
        }
    }
    Some(shards)
}

/// Servers that were there go on as they are.
fn take(shared: &Arc<Shared>, shards: Vec<Shard>) {
    let before = shared.map.load();
    let mut slots = vec![NOBODY; usize::from(SLOTS)];
    let mut nodes = Vec::with_capacity(shards.len());
    for shard in shards {
        let index = u16::try_from(nodes.len()).unwrap_or(NOBODY);
        for (first, last) in &shard.ranges {
            slots[usize::from(*first)..=usize::from(*last)].fill(index);
        }
        let probe = probe(&shared.prefix, &shard.ranges);
        let node = match before.at(&shard.host, shard.port) {
            Some(node) => {
                *node.state.probe.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = probe;
                Arc::clone(node)
            }
            None => Node::start(shared, (shard.host, shard.port), probe, None),
        };
        nodes.push(node);
    }
    shared.map.store(Arc::new(Map { nodes, slots: Some(slots) }));
    shared.node_changed();
}

/// A key in one of the ranges, whose server a write of it shows to be its master.
fn probe(prefix: &str, ranges: &[(u16, u16)]) -> String {
    let has = |key: &String| {
        let slot = slot(key.as_bytes());
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    let mut keys = (0..TAGS_MAX).map(|tag| format!("{prefix}:probe:{{{tag}}}"));
    keys.find(has).unwrap_or_else(|| format!("{prefix}:probe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // What `CLUSTER KEYSLOT` says.
        assert_eq!(slot(b"123456789"), 12739);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{foo}.a"), slot(b"foo"));
        assert_eq!(slot(b"x{foo}{bar}"), slot(b"foo"));
        assert_eq!(slot(b"{}foo"), crc16::State::<crc16::XMODEM>::calculate(b"{}foo") % SLOTS);
        assert_eq!(slot(b"{foo"), crc16::State::<crc16::XMODEM>::calculate(b"{foo") % SLOTS);
    }

    #[test]
    fn an_answer_names_masters_with_their_ranges_and_nonsense_is_told() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let server = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let row = |first, last, host| {
            Value::Array(vec![Value::Int(first), Value::Int(last), server(host, 7001), server(text("replica"), 7002)])
        };
        let answer = Value::Array(vec![row(0, 99, text("a")), row(100, 16_383, Value::Nil), row(100, 100, text("a"))]);
        let shard = |host: &str, ranges: &[(u16, u16)]| Shard { host: host.into(), port: 7001, ranges: ranges.into() };
        assert_eq!(read(&answer, "me"), Some(vec![shard("a", &[(0, 99), (100, 100)]), shard("me", &[(100, 16_383)])]));
        assert_eq!(read(&Value::Array(vec![row(0, 16_384, text("a"))]), "me"), None);
        assert_eq!(read(&Value::Array(vec![row(9, 8, text("a"))]), "me"), None);
        assert_eq!(read(&Value::Okay, "me"), None);
    }

    #[test]
    fn a_probe_lies_on_its_server() {
        for ranges in [[(0, 5460)], [(16_376, 16_383)], [(8000, 8040)]] {
            let slot = slot(probe("p", &ranges).as_bytes());
            assert!((ranges[0].0..=ranges[0].1).contains(&slot), "{slot} {ranges:?}");
        }
    }
}
