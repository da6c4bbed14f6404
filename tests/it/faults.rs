//! An upstream that fails as told, down to the bytes on the wire: refuses, hangs, resets, cuts its answer, asks for
//! patience. It notes when each event came and when it was answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// One event as it came.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    /// When the answer was written, if one was.
    pub answered: Option<Instant>,
    /// The answer was a success.
    pub taken: bool,
    pub uid: String,
    pub key: String,
    pub action: String,
    pub title: String,
    pub generation: u64,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    Answer(u16),
    After(Duration, u16),
    /// With `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// With `Retry-After` as the date so many seconds from now.
    RetryAt(u16, u64),
    Hang,
    /// The head of an answer, and nothing behind it.
    HangInBody(u16),
    /// The connection is reset.
    Reset,
    /// The answer ends in the middle of its head.
    Truncate,
}

type Script = Box<dyn FnMut(&Arrival) -> Fault + Send>;

struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    script: Mutex<Script>,
    in_flight: AtomicUsize,
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The upstream, on a thread of its own.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound but not listening: whoever connects is refused, and nobody else gets the port.
    dead: Option<TcpSocket>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Upstream {
    /// Refuses every connection until [`Upstream::live`].
    pub fn dead() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let script: Script = Box::new(|_| Fault::Answer(200));
        Self {
            address: socket.local_addr().unwrap(),
            shared: Arc::new(Shared {
                arrivals: Mutex::default(),
                script: Mutex::new(script),
                in_flight: AtomicUsize::new(0),
            }),
            dead: Some(socket),
            stop: None,
            thread: None,
        }
    }

    /// Asks `script` what to do with each event, once it is noted.
    pub fn scripted(script: impl FnMut(&Arrival) -> Fault + Send + 'static) -> Self {
        let mut upstream = Self::dead();
        upstream.tell(script);
        upstream.live();
        upstream
    }

    /// From now on it listens.
    pub fn live(&mut self) {
        let Some(socket) = self.dead.take() else { return };
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = socket.listen(1024).unwrap();
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        (self.stop, self.thread) = (Some(stop), Some(thread));
    }

    /// From now on does so.
    pub fn tell(&self, script: impl FnMut(&Arrival) -> Fault + Send + 'static) {
        *locked(&self.shared.script) = Box::new(script);
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Every event so far, in the order of arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        locked(&self.shared.arrivals).clone()
    }

    pub fn count(&self) -> usize {
        locked(&self.shared.arrivals).len()
    }

    /// Begins a new list; nothing may be under way.
    pub fn forget(&self) {
        locked(&self.shared.arrivals).clear();
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Already gone when its runtime has failed.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Without it each answer waits for the other side's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            converse(stream, &shared).await;
        });
    }
}

/// Requests of one connection, until it ends.
async fn converse(mut stream: TcpStream, shared: &Shared) {
    let mut read = Vec::new();
    while let Some(body) = request(&mut stream, &mut read).await {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let goes_on = answer(&mut stream, shared, &body).await;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !goes_on {
            return;
        }
    }
}

/// The next request's body.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(head) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
            let end = head + 4 + length.trim().parse::<usize>().expect("a length in digits");
            if read.len() >= end {
                let body = read[head + 4..end].to_vec();
                read.drain(..end);
                return Some(body);
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Notes the event and does as scripted; false when the connection is over.
async fn answer(stream: &mut TcpStream, shared: &Shared, body: &[u8]) -> bool {
    let event: Value = serde_json::from_slice(body).expect("a JSON body");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arrival = Arrival {
        at: Instant::now(),
        answered: None,
        taken: false,
        uid: text(&event["event_uid"]),
        key: text(&event["key"]),
        action: text(&event["action"]),
        title: text(&event["title"]),
        generation: event["incident"]["generation"].as_u64().unwrap_or_default(),
    };
    let fault = locked(&shared.script)(&arrival);
    let index = {
        let mut arrivals = locked(&shared.arrivals);
        arrivals.push(arrival);
        arrivals.len() - 1
    };
    let (status, extra) = match fault {
        Fault::Answer(status) => (status, String::new()),
        Fault::After(delay, status) => {
            tokio::time::sleep(delay).await;
            (status, String::new())
        }
        Fault::RetryAfter(status, seconds) => (status, format!("retry-after: {seconds}\r\n")),
        Fault::RetryAt(status, seconds) => {
            let at = jiff::Timestamp::now() + Duration::from_secs(seconds);
            (status, format!("retry-after: {}\r\n", at.strftime("%a, %d %b %Y %H:%M:%S GMT")))
        }
        Fault::HangInBody(status) => {
            note_answer(shared, index, status);
            let head = format!("HTTP/1.1 {status} As Told\r\ncontent-length: 10\r\n\r\nhalf");
            if stream.write_all(head.as_bytes()).await.is_ok() {
                let _ = stream.read(&mut [0]).await;
            }
            return false;
        }
        Fault::Hang => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0]).await;
            return false;
        }
        Fault::Reset => {
            let _ = stream.set_zero_linger();
            return false;
        }
        Fault::Truncate => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await;
            return false;
        }
    };
    note_answer(shared, index, status);
    let head = format!("HTTP/1.1 {status} As Told\r\n{extra}content-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.is_ok()
}

fn note_answer(shared: &Shared, index: usize, status: u16) {
    let mut arrivals = locked(&shared.arrivals);
    arrivals[index].answered = Some(Instant::now());
    arrivals[index].taken = (200..300).contains(&status);
}

/// Keys with their actions in the order of first arrival, repeats (same `event_uid`) left out.
pub fn first_arrivals(arrivals: &[Arrival]) -> std::collections::HashMap<String, Vec<Arrival>> {
    let mut seen = std::collections::HashSet::new();
    let mut by_key = std::collections::HashMap::<String, Vec<Arrival>>::new();
    for arrival in arrivals {
        if seen.insert(&arrival.uid) {
            by_key.entry(arrival.key.clone()).or_default().push(arrival.clone());
        }
    }
    by_key
}
