//! Real senders: Debian's `prometheus-alertmanager` in front of the real binary. Alerts fire, are repeated and resolved; its
//! own retries are what carries them over restarts of Surgegate.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{KEY, Raw, Recorder, Surgegate, alone, request, wait_at_most, wait_until};

/// Alertmanager's own retries back off up to a minute; groups are looked at each second.
const PATIENCE: Duration = Duration::from_secs(180);
/// 32 hexadecimal digits, as PagerDuty's keys are.
const ROUTING_KEY: &str = "5ca1ab1e0123456789abcdef01234567";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// An Alertmanager with one receiver. Dropped: killed.
pub(crate) struct Alertmanager {
    _directory: TempDir,
    child: Child,
    api: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Alertmanager {
    /// `receiver`: the lines below its name.
    pub(crate) fn start(receiver: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("alertmanager.yml");
        let config = format!(
            "route: {{ receiver: edge, group_by: [alertname], group_wait: 200ms, group_interval: 1s, repeat_interval: 2s }}\n\
             receivers:\n  - name: edge\n{receiver}"
        );
        std::fs::write(&file, config).unwrap();
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={api}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus-alertmanager: make install-tools");
        let said = Arc::<Mutex<String>>::default();
        let (mut stream, kept) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                let text = String::from_utf8_lossy(&block[..count]).into_owned();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let mut started = Self { _directory: directory, child, api, said };
        wait_until("Alertmanager", || {
            assert!(started.child.try_wait().unwrap().is_none(), "it ended: {}", started.said());
            started.ask("GET", "/-/ready", "").is_ok_and(|status| status == 200)
        });
        started
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<u16> {
        let mut connection = Raw::try_connect(self.api)?;
        connection.send(request(method, path, &["Content-Type: application/json", "Connection: close"], body))?;
        connection.answer().map(|answer| answer.status)
    }

    /// What Prometheus tells it: these alerts fire, or have ended.
    pub(crate) fn tell(&self, numbers: std::ops::Range<usize>, has_ended: bool) {
        let alerts: Vec<Value> = numbers
            .map(|number| {
                let labels = json!({"alertname": "DiskFull", "severity": "critical", "instance": format!("db-{number}:9100")});
                let mut alert = json!({"labels": labels, "annotations": {"summary": format!("disk full on db-{number}")},
                    "generatorURL": "http://prom.example.com/graph"});
                let ends = if has_ended { 0 } else { 3600 };
                alert["startsAt"] = stamp(-60).into();
                alert["endsAt"] = stamp(ends).into();
                alert
            })
            .collect();
        let status = self.ask("POST", "/api/v2/alerts", &Value::from(alerts).to_string()).unwrap();
        assert_eq!(status, 200, "{}", self.said());
    }
}

/// RFC 3339, so many seconds from now.
fn stamp(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at = i64::try_from(now.as_secs()).unwrap() + seconds;
    surgegate::event::Micros(at * 1_000_000).to_string()
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // Gone already when it could not start.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!(
                "--- the last of what Alertmanager said\n{}\n---",
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}

/// Surgegate where its senders find it again after a restart.
fn surgegate(recorder: &Recorder, port: u16) -> Surgegate {
    let keys = format!("keys: [{{ key: '{KEY}' }}, {{ key: '{ROUTING_KEY}' }}]");
    let text = format!(
        "integrations:\n  - {{ name: payments, {keys}, upstreams: [pager] }}\n\
         upstreams:\n  - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    );
    Surgegate::start(&[&text, &format!("listen: {{ ingest: {{ address: '127.0.0.1:{port}' }} }}\n")])
}

fn webhook(port: u16) -> String {
    format!("    webhook_configs: [{{ url: 'http://127.0.0.1:{port}/hooks/alertmanager/{KEY}' }}]\n")
}

/// The actions that arrived of each key, in order. What was sent again under the same uid, after a kill, counts once.
fn arrived(recorder: &Recorder) -> BTreeMap<String, Vec<String>> {
    let (mut keys, mut seen) = (BTreeMap::<String, Vec<String>>::new(), BTreeSet::new());
    for event in recorder.events() {
        if seen.insert(event["event_uid"].to_string()) {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            keys.entry(text("key")).or_default().push(text("action"));
        }
    }
    keys
}

fn wait_for_actions(recorder: &Recorder, count: usize, actions: &[&str]) {
    wait_at_most(PATIENCE, &format!("{actions:?} of {count} keys"), || {
        let arrived = arrived(recorder);
        assert!(arrived.len() <= count, "{} keys", arrived.len());
        let odd = arrived.iter().find(|(_, said)| said.len() > actions.len());
        assert!(odd.is_none(), "{odd:?}");
        (arrived.len() == count && arrived.values().all(|said| said == actions)).then_some(())
    });
}

fn absorbed(surgegate: &Surgegate, outcome: &str) -> u64 {
    surgegate.scrape().count("events_absorbed_total", &[("outcome", outcome)])
}

/// Fire, repeat, resolve by one receiver that says `count` keys of three alerts.
fn fires_repeats_and_resolves(receiver: impl Fn(u16) -> String, count: usize) {
    let (recorder, port) = (Recorder::start(), free_port());
    let surgegate = surgegate(&recorder, port);
    let alertmanager = Alertmanager::start(&receiver(port));
    alertmanager.tell(0..3, false);
    wait_for_actions(&recorder, count, &["trigger"]);
    // Each repeat of the group is absorbed.
    wait_at_most(PATIENCE, "a repeat", || (absorbed(&surgegate, "duplicate") >= count as u64).then_some(()));
    alertmanager.tell(0..3, true);
    wait_for_actions(&recorder, count, &["trigger", "resolve"]);
    let scrape = surgegate.wait_until_delivered();
    assert_eq!(scrape.count("events_rejected_total", &[]), 0);
    let event = recorder.events().remove(0);
    assert_eq!((&event["severity"], &event["integration"]), (&json!(5), &json!("payments")), "{event}");
}

#[test]
fn a_webhook_receiver_fires_repeats_and_resolves_each_alert_once() {
    fires_repeats_and_resolves(webhook, 3);
}

/// One incident a group: the receiver's key is a hash of the group's (section 4 of the contract).
#[test]
fn a_pagerduty_receiver_fires_repeats_and_resolves_its_group_once() {
    let receiver = |port| {
        format!(
            "    pagerduty_configs: [{{ url: 'http://127.0.0.1:{port}/v2/enqueue', routing_key: {ROUTING_KEY}, \
             severity: '{{{{ .CommonLabels.severity }}}}' }}]\n"
        )
    };
    fires_repeats_and_resolves(receiver, 1);
}

#[test]
fn an_opsgenie_receiver_fires_repeats_and_resolves_its_group_once() {
    let receiver = |port| {
        format!("    opsgenie_configs: [{{ api_url: 'http://127.0.0.1:{port}/', api_key: {KEY}, priority: P1 }}]\n")
    };
    fires_repeats_and_resolves(receiver, 1);
}

/// Two of them that do not hear each other, as the pair of a split network: both send everything. Surgegate is killed and
/// restarted while they do.
#[test]
fn a_group_of_2500_alerts_from_a_pair_arrives_once_and_is_resolved_over_restarts() {
    const ALERTS: usize = 2500;
    let _alone = alone();
    let (recorder, port) = (Recorder::start(), free_port());
    let mut surgegate = surgegate(&recorder, port);
    let pair = [Alertmanager::start(&webhook(port)), Alertmanager::start(&webhook(port))];
    for (has_ended, actions) in [(false, &["trigger"][..]), (true, &["trigger", "resolve"])] {
        pair.iter().for_each(|one| one.tell(0..ALERTS, has_ended));
        let before = recorder.count();
        wait_at_most(PATIENCE, "the first of them", || (recorder.count() > before).then_some(()));
        surgegate.kill();
        let done: usize = arrived(&recorder).values().map(Vec::len).sum();
        assert!(done < ALERTS * actions.len(), "it was killed when all was done");
        surgegate.start_again();
        wait_for_actions(&recorder, ALERTS, actions);
    }
    assert!(surgegate.stop().success());
    surgegate.start_again();
    // What is repeated after that is known still.
    let before = absorbed(&surgegate, "duplicate") + absorbed(&surgegate, "duplicate_resolve");
    pair[0].tell(ALERTS..ALERTS + 1, false);
    wait_at_most(PATIENCE, "the next alert", || (arrived(&recorder).len() == ALERTS + 1).then_some(()));
    let after = absorbed(&surgegate, "duplicate") + absorbed(&surgegate, "duplicate_resolve");
    assert!(after >= before);
    let arrived = arrived(&recorder);
    assert!(arrived.values().filter(|said| **said == ["trigger", "resolve"]).count() == ALERTS, "nothing opened again");
    surgegate.wait_until_delivered();
}
