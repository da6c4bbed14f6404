//! The configuration file itself as Kubernetes mounts it: a link through `..data`, which is swapped beside it. And HUP and the
//! watch while clients post.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::{NEW, OLD, configuration, integration, path};
use crate::harness::{Raw, Recorder, Settings, Stop, Surgegate, alone, signal, trigger, wait_until};

/// A volume with one file, `surgegate.yaml`.
struct Volume {
    root: TempDir,
    version: usize,
}

impl Volume {
    fn new(text: &str) -> Self {
        let mut volume = Self { root: TempDir::new().unwrap(), version: 0 };
        volume.swap(text);
        symlink("..data/surgegate.yaml", volume.file()).unwrap();
        volume
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("surgegate.yaml")
    }

    /// Another version, as the kubelet brings it: a folder of its own, a link to it that takes the old one's name, and the
    /// old folder goes.
    fn swap(&mut self, text: &str) {
        let folder = |version: usize| format!("..2026_{version:04}");
        let at = |name: &str| self.root.path().join(name);
        let (old, new) = (folder(self.version), folder(self.version + 1));
        std::fs::create_dir(at(&new)).unwrap();
        std::fs::write(at(&new).join("surgegate.yaml"), text).unwrap();
        symlink(&new, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if self.version > 0 {
            std::fs::remove_dir_all(at(&old)).unwrap();
        }
        self.version += 1;
    }

    fn start(&self) -> Surgegate {
        let settings = Settings { over: vec![self.file()], ..Settings::default() };
        let surgegate = Surgegate::start_with(settings, &[]);
        assert!(is_link(&self.file()), "the test would show nothing");
        surgegate
    }
}

fn is_link(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_ok_and(|file| file.is_symlink())
}

#[test]
fn a_configuration_file_in_a_mounted_volume_is_read_again_at_each_swap() {
    let recorder = Recorder::start();
    let text = |key: &str| integration(&[key], "", &recorder.url());
    let mut volume = Volume::new(&text(OLD));
    let surgegate = volume.start();
    let status = |key: &str| surgegate.post(&path(key), trigger("k")).status;
    assert_eq!((status(OLD), status(NEW)), (202, 404));
    for (key, before) in [(NEW, OLD), (OLD, NEW), (NEW, OLD)] {
        volume.swap(&text(key));
        wait_until("the swap to be noticed", || status(key) == 202);
        assert_eq!(status(before), 404);
        let told = configuration(&surgegate);
        assert_eq!((&told["trigger"], &told["status"]), (&"file".into(), &"reloaded".into()), "{told}");
    }
    // A version that is none changes nothing and is told; the next one is taken.
    volume.swap("integrations: [\n");
    wait_until("it is told", || configuration(&surgegate)["status"] == "invalid");
    let told = configuration(&surgegate);
    assert_eq!(told["findings"][0]["file"], volume.file().display().to_string(), "{told}");
    assert_eq!((status(NEW), surgegate.scrape().count("config_last_reload_successful", &[])), (202, 0));
    volume.swap(&text(OLD));
    wait_until("the version after it", || status(OLD) == 202);
    assert_eq!(surgegate.scrape().count("config_last_reload_successful", &[]), 1);
}

/// Clients post while `change` changes the configuration; each event says which severity was in force when it came, so that the
/// changes are seen to have been taken meanwhile. No request fails, and each event that was accepted arrives, once.
fn no_request_fails_while(change: impl Fn(&Surgegate, &mut Volume, &dyn Fn(usize) -> String)) {
    let _alone = alone();
    let recorder = Recorder::start();
    let text = |level: usize| integration(&[OLD], &format!(", default_severity: {level}"), &recorder.url());
    let mut volume = Volume::new(&text(1));
    let surgegate = volume.start();
    let done = &AtomicBool::new(false);
    let accepted: BTreeSet<String> = std::thread::scope(|scope| {
        let end = Stop(done);
        let clients: Vec<_> = (0..4)
            .map(|id| {
                let ingest = surgegate.ingest();
                scope.spawn(move || {
                    let mut connection = Raw::connect(ingest);
                    let mut keys = vec![];
                    while !done.load(Ordering::SeqCst) {
                        let key = format!("k-{id}-{}", keys.len());
                        let answer = connection.post(&path(OLD), trigger(&key)).unwrap();
                        assert_eq!(answer.status, 202, "{}", answer.text());
                        keys.push(key);
                    }
                    keys
                })
            })
            .collect();
        change(&surgegate, &mut volume, &text);
        drop(end);
        clients.into_iter().flat_map(|client| client.join().expect("a request failed")).collect()
    });
    let scrape = surgegate.wait_until_delivered();
    scrape.assert_books_balance();
    assert_eq!(scrape.count("events_rejected_total", &[]), 0);
    assert!(accepted.len() > 200, "only {} requests: no load", accepted.len());
    let events = recorder.events();
    let arrived: BTreeSet<String> = events.iter().map(|event| event["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(accepted.difference(&arrived).collect::<Vec<_>>(), Vec::<&String>::new(), "answered and lost");
    assert_eq!(events.len(), accepted.len(), "sent twice, or refused and sent");
    let levels: BTreeSet<u64> = events.iter().filter_map(|event| event["severity"].as_u64()).collect();
    assert_eq!(levels, BTreeSet::from([1, 2, 3, 4, 5]), "changes that no request saw");
}

/// How many readings by this trigger are in force.
fn taken(surgegate: &Surgegate, trigger: &str) -> usize {
    let said = surgegate.said();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is = |line: &Value| {
        line["message"] == "the configuration was read again and is in force" && line["trigger"] == trigger
    };
    lines.filter(is).count()
}

#[test]
fn many_a_hup_under_load_fails_no_request_and_loses_no_event() {
    no_request_fails_while(|surgegate, volume, text| {
        for round in 1..=30 {
            volume.swap(&text(round % 5 + 1));
            let before = taken(surgegate, "signal");
            signal("HUP", surgegate.pid());
            wait_until("HUP to be heard", || taken(surgegate, "signal") > before);
        }
    });
}

#[test]
fn many_a_swap_under_load_fails_no_request_and_loses_no_event() {
    no_request_fails_while(|surgegate, volume, text| {
        for round in 1..=10 {
            let before = taken(surgegate, "file");
            volume.swap(&text(round % 5 + 1));
            wait_until("the swap to be noticed", || taken(surgegate, "file") > before);
        }
    });
}
