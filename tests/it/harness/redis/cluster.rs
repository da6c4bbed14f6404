//! A Cluster of three masters.

use super::{Redis, Value, free_port};
use crate::harness::wait_until;

pub struct Cluster {
    pub nodes: [Redis; 3],
}

const SLOTS: u32 = 16_384;

impl Cluster {
    pub fn start() -> Self {
        let nodes = [0, 1, 2].map(|_| {
            Redis::start_with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &free_port().to_string(),
                "--cluster-node-timeout",
                "2000",
                "--cluster-config-file",
                "nodes.conf",
            ])
        });
        for (at, node) in (0..).zip(&nodes) {
            let (first, last) = (at * SLOTS / 3, (at + 1) * SLOTS / 3 - 1);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for node in &nodes[1..] {
            let bus: Vec<String> = redis::from_redis_value(node.ask(&["CONFIG", "GET", "cluster-port"])).unwrap();
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus[1]]);
        }
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    pub fn wait_until_whole(&self) {
        for node in &self.nodes {
            wait_until("a whole Cluster", || {
                let info = node.try_ask(&["CLUSTER", "INFO"]).map(text).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
    }

    /// All of them, as the configuration takes them.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Redis::url).collect();
        format!("[{}]", urls.join(", "))
    }

    pub fn slot(&self, key: &str) -> i64 {
        redis::from_redis_value(self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key])).unwrap()
    }

    /// Which of them has a key.
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        (0..3).find(|at| slot < (at + 1) * i64::from(SLOTS) / 3).unwrap() as usize
    }

    /// Gives a slot with its keys to another; senders are told so by MOVED.
    pub fn move_slot(&self, slot: i64, from: usize, to: usize) {
        let id = |at: usize| text(self.nodes[at].ask(&["CLUSTER", "MYID"]));
        let slot = slot.to_string();
        self.nodes[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.nodes[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let keys: Vec<String> =
            redis::from_redis_value(self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])).unwrap();
        let port = self.nodes[to].port().to_string();
        for key in keys {
            self.nodes[from].ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000", "REPLACE"]);
        }
        let owner = id(to);
        for at in [to, from, 3 - to - from] {
            self.nodes[at].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &owner]);
        }
    }
}

fn text(value: Value) -> String {
    redis::from_redis_value(value).unwrap()
}
