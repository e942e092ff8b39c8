//! What the pages answer to any request target: never a fault of the server, never a script of the caller's.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use aadstream::catalogue::Catalogue;
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::web::{Health, Site, bind, serve};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

struct Well;

impl Health for Well {
    fn unhealthy(&self) -> Option<String> {
        None
    }
    fn unready(&self) -> Option<String> {
        None
    }
}

/// Server and caller share a thread: nothing waits for another one to be woken.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (listener, address) = RUNTIME.block_on(bind("127.0.0.1:0")).expect("a free port");
    let metrics = Arc::new(Metrics::new(&Catalogue::embedded(), MetricsOptions::default()));
    let site = Site { metrics, health: Arc::new(Well), hosts: Arc::new([]), reload: None, access: None };
    RUNTIME.spawn(serve(listener, site, std::future::pending()));
    address
});
static CONNECTION: Mutex<Option<TcpStream>> = Mutex::new(None);

pub fn check(bytes: &[u8]) {
    // These end a target, so what follows would be a header.
    let target: Vec<u8> = bytes.iter().copied().filter(|byte| !b" \r\n".contains(byte)).collect();
    // A hundred kilobytes of metrics are no news.
    if target.is_empty() || target.starts_with(b"/metrics") {
        return;
    }
    let mut open = CONNECTION.lock().expect("no other thread");
    // A server may close after an answer, and then the request finds nobody.
    let server = *SERVER;
    let mut answer = || RUNTIME.block_on(ask(&mut open, server, &target));
    let (status, body) = answer().or_else(answer).expect("a server answers on a new connection");
    assert!(status < 500, "{status} for {:?}", String::from_utf8_lossy(&target));
    assert!(!String::from_utf8_lossy(&body).to_ascii_lowercase().contains("<script"), "a script");
}

/// Status and body; the connection stays open where the server keeps it.
async fn ask(open: &mut Option<TcpStream>, server: SocketAddr, target: &[u8]) -> Option<(u16, Vec<u8>)> {
    let stream = match open.take() {
        Some(stream) => stream,
        None => TcpStream::connect(server).await.expect("the server listens"),
    };
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
    stream.writable().await.ok()?;
    let written = stream.try_write(&request).ok()?;
    assert_eq!(written, request.len(), "a request is far smaller than a socket's buffer");
    let mut answer = Vec::new();
    let (head, start, length) = loop {
        receive(&stream, &mut answer).await?;
        let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Some(0), |length| length.parse().ok())?;
        break (head, end + 4, length);
    };
    while answer.len() < start + length {
        receive(&stream, &mut answer).await?;
    }
    if !head.lines().any(|line| line == "connection: close") {
        *open = Some(stream);
    }
    Some((head.split(' ').nth(1)?.parse().ok()?, answer.split_off(start)))
}

/// More of the answer; `None` at its end.
async fn receive(stream: &TcpStream, answer: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        stream.readable().await.ok()?;
        match stream.try_read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => return Some(answer.extend_from_slice(&bytes[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}
