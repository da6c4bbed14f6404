//! Stands between the product and a server: passes bytes on, late, or not at all, or is not there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Dropped: it listens no longer, and its connections end.
pub struct Relay {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Answers are held for so long, in milliseconds.
    delay_ms: AtomicU64,
    /// Bytes vanish; connections stay.
    silent: AtomicBool,
    /// Connections end at once.
    refusing: AtomicBool,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                if shared.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let twin = |stream: &TcpStream| stream.try_clone().unwrap();
                shared.open.lock().unwrap().extend([twin(&client), twin(&server)]);
                pass(twin(&client), twin(&server), Arc::clone(&shared), false);
                pass(server, client, Arc::clone(&shared), true);
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Answers are so late from now on.
    pub fn delay(&self, by: Duration) {
        self.state.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// What is sent vanishes, both ways, as with a cut cable; connections from before stay dead afterwards.
    pub fn silence(&self, on: bool) {
        self.state.silent.store(on, Ordering::SeqCst);
        if !on {
            self.cut();
        }
    }

    /// Open connections end, and new ones at once.
    pub fn refuse(&self, on: bool) {
        self.state.refusing.store(on, Ordering::SeqCst);
        if on {
            self.cut();
        }
    }

    /// Open connections end.
    pub fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the one that waits for connections.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: Arc<State>, answers: bool) {
    std::thread::spawn(move || {
        let mut block = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut block) {
            let delay = state.delay_ms.load(Ordering::SeqCst);
            if answers && delay > 0 {
                std::thread::sleep(Duration::from_millis(delay));
            }
            if !state.silent.load(Ordering::SeqCst) && to.write_all(&block[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}
