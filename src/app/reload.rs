//! A changed configuration on the running product (DESIGN 5.5): read whole and checked, then taken room by room, or
//! not at all. No request is dropped: each is held to what was in force when its key was found, and its events go to
//! the upstreams of that moment.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::look::{Looks, looks, looks_read};
use crate::admin::{Operator, Reload, ReloadStatus, Settings, Trigger};
use crate::config::{self, Config, Finding, Places};
use crate::delivery::Changer;
use crate::event::Micros;
use crate::file::{self, Progress};
use crate::gate::{Fleet, Integration, IntegrationConfig, Keys, UnauthenticatedBucket};
use crate::intake::{Intake, Terms};
use crate::listen::{self, tls};
use crate::logging::Control;
use crate::metrics::Metrics;
use crate::store::Durability;
use crate::systemd::ServiceManager;

/// A reading takes no longer: a file system that does not answer must not hold up the readings after it. More than
/// `file` gives a pipe.
const READ_TIME_MAX: Duration = Duration::from_secs(15);
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// Readings that were given up and have not ended: a thread each.
const STUCK_MAX: usize = 8;

/// Reads the configuration again, from wherever it came, with the places of its keys for what is found later.
pub type Load = Box<dyn Fn() -> Result<(Config, Places), config::Errors> + Send + Sync>;

/// What the process was started with, for changing it later.
#[derive(Default)]
pub struct Again {
    /// `None`: the configuration came from no file.
    pub load: Option<Load>,
    pub log: Option<Control>,
    pub manager: ServiceManager,
}

/// Takes changed configurations, one at a time.
pub(super) struct Reloader {
    load: Option<Arc<Load>>,
    rooms: Rooms,
    /// What a start fixes.
    fixed: Fixed,
    metrics: Arc<Metrics>,
    log: Option<Control>,
    manager: ServiceManager,
    last: Mutex<Reload>,
    /// Every file the configuration in force was read from, and how each looked when it was last read.
    seen: Mutex<Looks>,
    /// Its clones: readings that are under way.
    readings: Arc<()>,
    /// Its clone: a look at the files that is under way.
    looking: Arc<()>,
    drain_ms: AtomicU64,
    /// How often it was asked to read again.
    wishes: AtomicU64,
    /// Held while a configuration is read and taken.
    current: tokio::sync::Mutex<Current>,
}

/// The rooms that take a part of a changed configuration.
pub(super) struct Rooms {
    pub(super) intake: Arc<Intake>,
    pub(super) listener: Arc<listen::Controls>,
    pub(super) delivery: Changer,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    /// `None`: this replica stands alone.
    pub(super) fleet: Option<Arc<dyn Fleet>>,
}

/// What is in force and what the next configuration is compared with.
struct Current {
    /// As many wishes had come before it was read: those that waited meanwhile have it.
    wishes_met: u64,
    integrations: Vec<Arc<Integration>>,
    log_level: tracing::Level,
}

/// What only a start can change: addresses, the spool, the life times of states, the log's form.
pub(super) struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        let dedup = &config.dedup;
        let spool = &config.spool;
        Self(vec![
            ("listen.ingest.address", config.ingest.address.to_string()),
            ("listen.observe.address", config.observe.to_string()),
            ("listen.admin.address", config.admin.address.to_string()),
            ("dedup.open_ttl", format!("{:?}", dedup.open_ttl)),
            ("dedup.resolved_ttl", format!("{:?}", dedup.resolved_ttl)),
            ("dedup.idempotency_ttl", format!("{:?}", dedup.idempotency_ttl)),
            ("dedup.replay_ttl", format!("{:?}", dedup.replay_ttl)),
            ("dedup.max_keys", dedup.max_keys.to_string()),
            ("spool.directory", spool.directory.display().to_string()),
            ("spool.durability", format!("{:?}", spool.durability)),
            ("spool.max_bytes", spool.max_bytes.to_string()),
            ("spool.retain", format!("{:?}", spool.retain)),
            ("spool.index_bytes", spool.index_bytes.to_string()),
            (
                "redis",
                format!(
                    "{:?} {}",
                    config.redis,
                    config.redis.as_ref().map_or_else(String::new, crate::redis::Config::fingerprint)
                ),
            ),
            ("log.format", format!("{:?}", config.log.format)),
        ])
    }

    /// The keys that stand differently in `other`.
    fn differing(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|((_, mine), (_, theirs))| mine != theirs).map(|((key, _), _)| *key)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What requests are held to.
pub(super) fn terms(config: &Config, integrations: &[Arc<Integration>]) -> Terms {
    let unauthenticated = NonZeroU32::new(config.ingest.unauthenticated_requests_per_second).unwrap_or(NonZeroU32::MIN);
    Terms {
        keys: Keys::new(integrations.iter().cloned()),
        limits: config.body,
        uri_bytes_max: config.ingest.uri_bytes,
        unauthenticated: UnauthenticatedBucket::new(unauthenticated),
    }
}

/// What the configuration says for the people who run it; tells the log of each warning.
pub(super) fn settings(config: &Config) -> Settings {
    let mut warnings: Vec<String> = config.warnings.iter().map(|finding| finding.message.clone()).collect();
    if config.spool.durability == Durability::Memory {
        warnings.push("durability is memory: a crash loses what was answered in the last moments".to_owned());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let token_hash = config.admin.token.as_ref().map(|token| Sha256::digest(token.as_bytes()).into());
    Settings { warnings, token_hash }
}

/// Integrations of before whose key another name has now: what is known of incidents belongs to the name (DESIGN 5.5).
fn renamed(before: &[Arc<Integration>], now: &[IntegrationConfig]) -> Vec<Finding> {
    let names: HashSet<&str> = now.iter().map(|config| &*config.name).collect();
    let owners: HashMap<&[u8; 32], &str> =
        now.iter().flat_map(|config| config.key_hashes.iter().map(|hash| (hash, &*config.name))).collect();
    let gone = before.iter().map(|integration| &integration.config).filter(|config| !names.contains(&*config.name));
    gone.filter_map(|config| {
        let other = config.key_hashes.iter().find_map(|hash| owners.get(hash))?;
        Some(Finding::renamed(&config.name, other))
    })
    .collect()
}

/// As data, each with the text that `surgegate validate` prints of it: whoever asked sees the line and the place in it.
fn rows(findings: &[Finding]) -> Vec<serde_json::Value> {
    let row = |finding: &Finding| {
        let mut row = serde_json::to_value(finding).ok()?;
        // What waits for a restart stands at no place.
        if !finding.file.is_empty() {
            row["text"] = finding.to_string().into();
        }
        Some(row)
    };
    findings.iter().filter_map(row).collect()
}

type Read = Result<(Config, Option<tls::Loaded>, Looks), config::Errors>;

/// The configuration, the certificate that it names, and how its files look as read. `before`: how those known so far
/// looked.
fn read(load: &Load, before: &Looks) -> Read {
    let (config, places) = load()?;
    let tls = match &config.ingest.tls {
        Some(files) => {
            let refused = |errors| config::Errors { findings: places.of_tls(files, &errors), more: 0 };
            Some(tls::load(files).map_err(refused)?)
        }
        None => None,
    };
    let looks = looks_read(&config.files, before, config.read_at);
    Ok((config, tls, looks))
}

impl Reloader {
    /// `config` is in force, by `integrations`.
    pub(super) fn new(
        config: &Config,
        integrations: Vec<Arc<Integration>>,
        again: Again,
        rooms: Rooms,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        metrics.config_last_reload_successful.set(1);
        let findings = rows(&config.warnings);
        let last = Reload {
            status: ReloadStatus::Reloaded,
            trigger: Trigger::Start,
            at: Micros::now(),
            message: None,
            findings,
        };
        Arc::new(Self {
            load: again.load.map(Arc::new),
            rooms,
            fixed: Fixed::of(config),
            metrics,
            log: again.log,
            manager: again.manager,
            last: Mutex::new(last),
            seen: Mutex::new(looks_read(&config.files, &Looks::new(), config.read_at)),
            readings: Arc::default(),
            looking: Arc::default(),
            drain_ms: AtomicU64::new(whole_millis(config.drain)),
            wishes: AtomicU64::new(0),
            current: tokio::sync::Mutex::new(Current { wishes_met: 0, integrations, log_level: config.log.level }),
        })
    }

    /// Every file the configuration in force was read from, and how it looked before it was last read, taken or not.
    pub(super) fn seen(&self) -> Looks {
        lock(&self.seen).clone()
    }

    /// How long the listener goes on while readiness is down.
    pub(super) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.load(Ordering::Relaxed))
    }

    /// One reading serves all who asked before it began: a storm of wishes is no queue of readings. `now`: how the files
    /// look to one who asks because of that; where they were read meanwhile as they are, all is done.
    async fn reload_once(&self, trigger: Trigger, now: Option<Looks>) -> Reload {
        let wish = self.wishes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut current = self.current.lock().await;
        if current.wishes_met >= wish || now.is_some_and(|now| now == self.seen()) {
            return Reload { trigger, ..self.last_reload() };
        }
        current.wishes_met = self.wishes.load(Ordering::SeqCst);
        self.manager.reloading();
        let (status, message, findings) = self.read_and_take(&mut current).await;
        let reload = Reload { status, trigger, at: Micros::now(), message, findings };
        self.tell(&reload);
        reload
    }

    async fn read_and_take(&self, current: &mut Current) -> (ReloadStatus, Option<String>, Vec<serde_json::Value>) {
        let Some(load) = self.load.clone() else {
            let why = "the configuration came from no file: there is nothing to read again".to_owned();
            return (ReloadStatus::Failed, Some(why), Vec::new());
        };
        let before = self.looks_before().await;
        // Whatever comes of it: what looks so was tried, and nobody tries it again unasked.
        lock(&self.seen).extend(before.clone());
        let stuck = Arc::strong_count(&self.readings) - 1;
        if stuck >= STUCK_MAX {
            let why = format!("{stuck} readings before this one still wait for their files");
            return (ReloadStatus::Failed, Some(why), Vec::new());
        }
        // Files are read: not on the runtime that answers probes.
        let (reading, progress) = (Arc::clone(&self.readings), Arc::<Progress>::default());
        let told = Arc::clone(&progress);
        let read = tokio::task::spawn_blocking(move || {
            let read = file::told_to(told, || read(&load, &before));
            drop(reading);
            read
        });
        match tokio::time::timeout(READ_TIME_MAX, read).await {
            Ok(Ok(Ok((config, tls, looks)))) => {
                *lock(&self.seen) = looks;
                let findings = self.take(config, tls, current).await;
                (ReloadStatus::Reloaded, None, rows(&findings))
            }
            Ok(Ok(Err(errors))) => (ReloadStatus::Invalid, Some(errors.in_a_line()), rows(&errors.findings)),
            Ok(Err(error)) => (ReloadStatus::Failed, Some(error.to_string()), Vec::new()),
            Err(_) => {
                let finding = Finding::unanswered(progress.file().as_deref(), READ_TIME_MAX);
                let errors = config::Errors { findings: vec![finding], more: 0 };
                (ReloadStatus::Failed, Some(errors.in_a_line()), rows(&errors.findings))
            }
        }
    }

    /// How the files known so far look; of a file system that does not answer nothing, and nobody asks it a second time.
    async fn looks_before(&self) -> Looks {
        if Arc::strong_count(&self.looking) > 1 {
            return Looks::new();
        }
        let (seen, looking) = (self.seen(), Arc::clone(&self.looking));
        let look = tokio::task::spawn_blocking(move || {
            let looks = looks(seen.into_keys());
            drop(looking);
            looks
        });
        tokio::time::timeout(LOOK_TIME_MAX, look).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Upstreams before integrations: an event that is accepted finds the way it is to go.
    async fn take(&self, config: Config, tls: Option<tls::Loaded>, current: &mut Current) -> Vec<Finding> {
        let mut findings = config.warnings.clone();
        let fixed = Fixed::of(&config);
        let wait = self.fixed.differing(&fixed).map(Finding::needs_restart);
        for finding in wait.chain(renamed(&current.integrations, &config.integrations)) {
            // HUP and a changed file have no answer that could say it.
            tracing::warn!("{}", finding.message);
            findings.push(finding);
        }
        let settings = settings(&config);
        let integrations = crate::delivery::integrations(
            &config.integrations,
            &config.upstreams,
            &self.metrics,
            &current.integrations,
            self.rooms.fleet.as_deref(),
        );
        let terms = terms(&config, &integrations);
        self.rooms.delivery.change(&integrations, config.upstreams, config.dedup.redeliver_after).await;
        self.rooms.intake.change(terms);
        self.rooms.listener.configure(config.ingest, tls);
        self.rooms.settings.store(Arc::new(settings));
        self.drain_ms.store(whole_millis(config.drain), Ordering::Relaxed);
        // A level that was set by hand stays until the file says another.
        if config.log.level != current.log_level
            && let Some(log) = &self.log
        {
            log.set_level(config.log.level);
        }
        current.integrations = integrations;
        current.log_level = config.log.level;
        findings
    }

    fn tell(&self, reload: &Reload) {
        self.metrics.config_last_reload_successful.set(i64::from(reload.status == ReloadStatus::Reloaded));
        let (trigger, findings) = (reload.trigger.name(), reload.findings.len());
        self.manager.ready(match &reload.message {
            None => "accepting events".to_owned(),
            Some(why) => format!("accepting events; the changed configuration was not taken: {why}"),
        });
        match &reload.message {
            None => tracing::info!(trigger, findings, "the configuration was read again and is in force"),
            Some(why) => {
                tracing::error!(trigger, findings, why, "the configuration was read again and not taken");
            }
        }
        *lock(&self.last) = reload.clone();
    }
}

impl Reloader {
    /// For files that look so now, and may have been read so already.
    pub(super) async fn reload_changed(self: Arc<Self>, now: Looks) {
        self.reload_by(Trigger::File, Some(now)).await;
    }

    fn reload_by(self: Arc<Self>, trigger: Trigger, now: Option<Looks>) -> BoxFuture<'static, Reload> {
        // A task of its own: a client that goes away drops its request's future, wherever that stands.
        let reloader = Arc::clone(&self);
        let reloading = tokio::spawn(async move { reloader.reload_once(trigger, now).await });
        let ended = move |ended: Result<Reload, tokio::task::JoinError>| {
            ended.unwrap_or_else(|error| {
                let (status, message) = (ReloadStatus::Failed, Some(error.to_string()));
                let reload = Reload { status, trigger, at: Micros::now(), message, findings: Vec::new() };
                self.tell(&reload);
                reload
            })
        };
        reloading.map(ended).boxed()
    }
}

impl Operator for Reloader {
    fn reload(self: Arc<Self>, trigger: Trigger) -> BoxFuture<'static, Reload> {
        self.reload_by(trigger, None)
    }

    fn last_reload(&self) -> Reload {
        lock(&self.last).clone()
    }

    fn log_level(&self) -> tracing::Level {
        self.log.as_ref().map_or(tracing::Level::ERROR, Control::level)
    }

    fn set_log_level(&self, level: tracing::Level) {
        if let Some(log) = &self.log {
            log.set_level(level);
        }
    }

    fn log_lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, Control::lines_dropped)
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
