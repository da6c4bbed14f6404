//! What carries a connection's bytes: TCP, or TLS over it. The rooms above are generic over it, so that a plain
//! connection pays nothing for TLS.

use std::io::{ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Answers that wait in a TLS connection whose client does not read; the library's own bound is 64 KiB.
const UNSENT_BYTES_MAX: usize = 16 * 1024;
/// Between looks at a first byte that could begin either protocol; such a client is odd or slow.
const PEEK_AGAIN: Duration = Duration::from_millis(10);

pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What was written may stay in it until it is flushed.
    const HOLDS_BACK: bool;

    /// The connection below: what is only discarded need not be decrypted.
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Transport for TcpStream {
    const HOLDS_BACK: bool = false;

    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

/// A TLS connection after its handshake.
pub(super) struct Encrypted(TlsStream<TcpStream>);

impl Encrypted {
    /// The handshake. The caller's watch ends one that takes too long.
    ///
    /// # Errors
    /// The client speaks no TLS, or they cannot agree.
    pub(super) async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> Result<Self> {
        let bound = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        TlsAcceptor::from(config).accept_with(stream, bound).await.map(Self)
    }

    /// Whether HTTP/2 was agreed on, or, without any agreement, begins. HTTP/2 without ALPN must begin in one piece.
    pub(super) async fn begins_as_h2(&mut self) -> Result<bool> {
        match self.0.get_ref().1.alpn_protocol() {
            Some(protocol) => Ok(protocol == super::tls::ALPN_H2),
            None => Ok(self.0.fill_buf().await?.starts_with(b"PRI")),
        }
    }
}

impl Transport for Encrypted {
    const HOLDS_BACK: bool = true;

    fn tcp(&mut self) -> &mut TcpStream {
        self.0.get_mut().0
    }
}

impl AsyncRead for Encrypted {
    /// An end without TLS's own farewell is an end: requests say themselves how long they are.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Whether the first bytes are those of an HTTP/2 preface. Two of them would not tell it from PROPFIND.
pub(super) async fn begins_as_h2(stream: &TcpStream) -> Result<bool> {
    let mut head = [0; 3];
    loop {
        match stream.peek(&mut head).await? {
            count @ 1..3 if b"PRI".starts_with(&head[..count]) => tokio::time::sleep(PEEK_AGAIN).await,
            count => return Ok(count == 3 && head == *b"PRI"),
        }
    }
}
