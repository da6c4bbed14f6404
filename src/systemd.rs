//! What the service manager is told (`Type=notify`): that the process is ready, takes a changed configuration, stops, and
//! is alive. Called by `cli run`, and by `app` around each reading of the configuration.
//!
//! Without `NOTIFY_SOCKET` nothing is said and nothing runs. What is said goes through a thread of its own: a manager
//! that reads nothing holds up neither probes nor reloads, and what it has no room for is left out.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

/// Messages that wait for the manager.
const WAITING_MAX: usize = 64;
/// A status line is read by people.
const STATUS_BYTES_MAX: usize = 512;
/// While it starts, the manager is asked for so much more time,
const START_EXTENSION: Duration = Duration::from_secs(30);
/// so often: a recovery takes as long as it takes, and one that is killed begins anew.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// What is under way at the drain's end may take so long.
const STOP_EXTENSION: Duration = Duration::from_secs(60);

enum Message {
    Starting,
    Ready(String),
    Reloading,
    Stopping(Duration),
    Alive,
}

/// The service manager, if there is one that listens.
#[derive(Clone, Default)]
pub struct ServiceManager(Option<SyncSender<Message>>);

impl ServiceManager {
    /// The one that the environment names.
    pub fn find() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|name| name.is_empty()) {
            return Self(None);
        }
        let (sender, receiver) = sync_channel(WAITING_MAX);
        match std::thread::Builder::new().name("systemd".to_owned()).spawn(move || say(&receiver)) {
            Ok(_) => Self(Some(sender)),
            Err(error) => {
                tracing::warn!(%error, "the service manager is told nothing");
                Self(None)
            }
        }
    }

    /// Asks for more time until dropped.
    pub async fn starting(&self) -> Infallible {
        let mut tick = tokio::time::interval(EXTEND_EVERY);
        loop {
            tick.tick().await;
            self.tell(Message::Starting);
        }
    }

    /// It accepts events, and goes on to after a reading of its configuration. `status`: one line.
    pub fn ready(&self, status: String) {
        self.tell(Message::Ready(status));
    }

    /// It reads its configuration; [`Self::ready`] ends that.
    pub fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// It drains for so long, and ends.
    pub fn stopping(&self, drain: Duration) {
        self.tell(Message::Stopping(drain));
    }

    /// Says that it is alive as often as the manager wants to hear it, on the runtime that answers probes. Ends only where
    /// nobody wants to.
    pub async fn alive(self) {
        let Some(within) = sd_notify::watchdog_enabled().filter(|_| self.0.is_some()) else { return };
        // Half of it, as sd_watchdog_enabled(3) advises.
        let mut tick = tokio::time::interval((within / 2).max(Duration::from_millis(1)));
        loop {
            tick.tick().await;
            self.tell(Message::Alive);
        }
    }

    fn tell(&self, message: Message) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(message);
        }
    }
}

/// Sends what is told, in order, until nobody tells any more.
fn say(messages: &Receiver<Message>) {
    let mut has_failed = false;
    for message in messages {
        let said = match &message {
            Message::Starting => sd_notify::notify(&[extend(START_EXTENSION)]),
            Message::Ready(status) => {
                let status = line(status);
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])
            }
            Message::Reloading => reloading(),
            Message::Stopping(drain) => sd_notify::notify(&[
                NotifyState::Stopping,
                extend(drain.saturating_add(STOP_EXTENSION)),
                NotifyState::Status("draining"),
            ]),
            Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = said
            && !has_failed
        {
            has_failed = true;
            tracing::warn!(%error, "the service manager cannot be told how it goes");
        }
    }
}

fn reloading() -> std::io::Result<()> {
    let now = NotifyState::monotonic_usec_now()?;
    sd_notify::notify(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration")])
}

fn extend(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// One line of bounded length: a second would be a message of its own.
fn line(text: &str) -> String {
    let end = text.floor_char_boundary(STATUS_BYTES_MAX.min(text.len()));
    text[..end].replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("a\nREADY=1\r"), "a READY=1 ");
        let long = "ä".repeat(STATUS_BYTES_MAX);
        assert_eq!(line(&long).len(), STATUS_BYTES_MAX);
        assert_eq!(line(&format!("a{long}")).len(), STATUS_BYTES_MAX - 1);
    }
}
