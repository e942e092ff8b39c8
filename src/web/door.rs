//! The listener of the pages: plain, or TLS as the access rules of the moment say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use openssl::ssl::Ssl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_openssl::SslStream;

use super::access::Access;
use super::seats::{Guest, Seats};

/// A handshake that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of the listener, such as no more files: it may pass.
const PAUSE: Duration = Duration::from_secs(1);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What is known of a caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    pub has_certificate: bool,
}

type Accepted = (Box<dyn Stream>, Caller);

/// Takes connections and greets them, many at a time.
pub struct Door {
    greeted: mpsc::Receiver<Accepted>,
}

impl Door {
    pub fn open(listener: TcpListener, access: Option<Arc<Access>>) -> Self {
        let (greeted_tx, greeted) = mpsc::channel(1);
        tokio::spawn(take(listener, access, greeted_tx));
        Self { greeted }
    }
}

impl axum::serve::Listener for Door {
    type Io = Box<dyn Stream>;
    type Addr = Caller;

    async fn accept(&mut self) -> Accepted {
        match self.greeted.recv().await {
            Some(accepted) => accepted,
            // The sender lives as long as the listener does.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller::default())
    }
}

impl Connected<IncomingStream<'_, Door>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        *stream.remote_addr()
    }
}

async fn take(listener: TcpListener, access: Option<Arc<Access>>, greeted: mpsc::Sender<Accepted>) {
    let mut seats = Seats::default();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            // The server has ended.
            () = greeted.closed() => return,
        };
        match stream {
            Ok((stream, _)) => {
                tokio::spawn(greet(seats.take(stream), access.clone(), greeted.clone()));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn greet(stream: Guest<TcpStream>, access: Option<Arc<Access>>, greeted: mpsc::Sender<Accepted>) {
    let rules = access.map(|access| access.rules());
    let Some(acceptor) = rules.as_ref().and_then(|rules| rules.tls.as_ref()) else {
        // A server that has ended needs no more callers.
        let _ = greeted.send((Box::new(stream), Caller::default())).await;
        return;
    };
    let Ok(mut stream) = Ssl::new(acceptor.context()).and_then(|ssl| SslStream::new(ssl, stream)) else {
        return;
    };
    // Scanners and strangers fail here all day long.
    if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, Pin::new(&mut stream).accept()).await {
        let has_certificate = stream.ssl().peer_certificate().is_some();
        let _ = greeted.send((Box::new(stream), Caller { has_certificate })).await;
    }
}
