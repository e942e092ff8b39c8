//! What the pages answer to any request target: never a fault of the server, never a script of the caller's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};

use aadstream::catalogue::Catalogue;
use aadstream::metrics::{Metrics, MetricsOptions};
use aadstream::web::{Health, Site, bind, serve};

struct Well;

impl Health for Well {
    fn unhealthy(&self) -> Option<String> {
        None
    }
    fn unready(&self) -> Option<String> {
        None
    }
}

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (listener, address) = bind("127.0.0.1:0").await.expect("a free port");
            tell.send(address).expect("somebody waits for it");
            let metrics = Arc::new(Metrics::new(&Catalogue::embedded(), MetricsOptions::default()));
            let site =
                Site { metrics, health: Arc::new(Well), hosts: Arc::new([]), reload: None, access: None };
            serve(listener, site, std::future::pending()).await
        })
    });
    told.recv().expect("the server starts")
});
static CONNECTION: Mutex<Option<BufReader<TcpStream>>> = Mutex::new(None);

pub fn check(bytes: &[u8]) {
    // These end a target, so what follows would be a header.
    let target: Vec<u8> = bytes.iter().copied().filter(|byte| !b" \r\n".contains(byte)).collect();
    // A hundred kilobytes of metrics are no news.
    if target.is_empty() || target.starts_with(b"/metrics") {
        return;
    }
    let mut open = CONNECTION.lock().expect("no other thread");
    // A server may close after an answer, and then the request finds nobody.
    let (status, body) = ask(&mut open, &target)
        .or_else(|| {
            *open = None;
            ask(&mut open, &target)
        })
        .expect("a server answers on a new connection");
    assert!(status < 500, "{status} for {:?}", String::from_utf8_lossy(&target));
    assert!(!String::from_utf8_lossy(&body).to_ascii_lowercase().contains("<script"), "a script");
}

fn ask(open: &mut Option<BufReader<TcpStream>>, target: &[u8]) -> Option<(u16, Vec<u8>)> {
    let stream = match open {
        Some(stream) => stream,
        None => open.insert(BufReader::new(TcpStream::connect(*SERVER).expect("the server listens"))),
    };
    stream.get_mut().set_nodelay(true).ok()?;
    stream.get_mut().write_all(&[b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()).ok()?;
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let (mut length, mut closes) = (0, false);
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        closes |= line == "connection: close";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    if closes {
        *open = None;
    }
    Some((status, body))
}
