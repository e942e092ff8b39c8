//! A TCP proxy in front of Kafka brokers that can go silent: it swallows what one broker says, and closes nothing.
//!
//! Brokers tell their clients where to find each other. Where an answer names a broker's address the proxy writes its own
//! in its place, of the same length, so clients stay behind it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Proxy {
    shared: Arc<Mutex<Shared>>,
    doors: Vec<SocketAddr>,
}

#[derive(Default)]
struct Shared {
    /// Each broker's own port and the proxy's for it.
    ports: Vec<(u16, u16)>,
    /// Of each broker: how often it went silent as a whole, to those who fetch, and to those who end a transaction.
    silences: Vec<[u64; 3]>,
    /// Bytes that were swallowed.
    swallowed: u64,
    /// Nobody gets through any more.
    is_shut: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// One door for each of these brokers on 127.0.0.1.
    pub fn start(brokers: &str) -> Self {
        let brokers: Vec<SocketAddr> = brokers.split(',').map(|it| it.parse().unwrap()).collect();
        let doors: Vec<TcpListener> =
            brokers.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<SocketAddr> = doors.iter().map(|door| door.local_addr().unwrap()).collect();
        let shared = Shared {
            ports: brokers.iter().zip(&addresses).map(|(own, door)| (own.port(), door.port())).collect(),
            silences: vec![[0; 3]; brokers.len()],
            ..Shared::default()
        };
        let shared = Arc::new(Mutex::new(shared));
        for (number, (door, broker)) in doors.into_iter().zip(brokers).enumerate() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for client in door.incoming().map_while(Result::ok) {
                    if shared.lock().unwrap().is_shut {
                        // A reset, as of a port where nobody listens.
                        drop(client);
                    } else if let Ok(server) = TcpStream::connect(broker) {
                        carry(&shared, number, client, server);
                    }
                }
            });
        }
        Self { shared, doors: addresses }
    }

    /// What clients take for the brokers.
    pub fn addresses(&self) -> String {
        self.doors.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
    }

    /// From now on nothing of this broker comes through the connections that there are; new ones work.
    pub fn silence(&self, broker: usize) {
        self.shared.lock().unwrap().silences[broker][0] += 1;
    }

    /// The same of connections on which somebody has fetched messages: a client talks to its coordinator on another one.
    pub fn silence_fetches(&self, broker: usize) {
        self.shared.lock().unwrap().silences[broker][1] += 1;
    }

    /// The same of connections on which somebody ends a transaction from now on: it ends, and nobody hears of it.
    pub fn silence_ends(&self, broker: usize) {
        self.shared.lock().unwrap().silences[broker][2] += 1;
    }

    pub fn swallowed(&self) -> u64 {
        self.shared.lock().unwrap().swallowed
    }

    /// Breaks every connection, and each that comes.
    pub fn shut(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.is_shut = true;
        for stream in shared.streams.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.shared.lock().unwrap().is_shut = false;
    }
}

fn carry(shared: &Arc<Mutex<Shared>>, number: usize, client: TcpStream, server: TcpStream) {
    let began = {
        let mut shared = shared.lock().unwrap();
        shared.streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        shared.silences[number]
    };
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let fetches = Arc::new(AtomicBool::new(false));
    let has_fetched = Arc::clone(&fetches);
    let ends = Arc::new(AtomicBool::new(false));
    let (has_ended, armed) = (Arc::clone(&ends), Arc::clone(shared));
    thread::spawn(move || {
        const FETCH: &[u8] = &[0, 1];
        const END_TXN: &[u8] = &[0, 26];
        // Either end may hang up.
        while let Ok(request) = read_frame(&mut from_client) {
            if request[4..].starts_with(FETCH) {
                has_fetched.store(true, Ordering::Relaxed);
            }
            let is_armed = || armed.lock().unwrap().silences[number][2] != began[2];
            if request[4..].starts_with(END_TXN) && is_armed() {
                has_ended.store(true, Ordering::Relaxed);
            }
            if to_server.write_all(&request).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let (mut server, mut client) = (server, client);
        while let Ok(mut answer) = read_frame(&mut server) {
            let ports = {
                let mut shared = shared.lock().unwrap();
                let [all, fetchers, _] = shared.silences[number];
                let is_silent = all != began[0]
                    || fetches.load(Ordering::Relaxed) && fetchers != began[1]
                    || ends.load(Ordering::Relaxed);
                if is_silent {
                    shared.swallowed += answer.len() as u64;
                    continue;
                }
                shared.ports.clone()
            };
            readdress(&mut answer, &ports);
            if client.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

/// One request or answer with the four bytes of its length.
fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// A host and the four bytes of its port, wherever they stand.
fn readdress(answer: &mut [u8], ports: &[(u16, u16)]) {
    const HOST: &[u8] = b"127.0.0.1";
    let length = HOST.len() + 4;
    for at in 0..answer.len().saturating_sub(length - 1) {
        let Some((host, port)) = answer[at..at + length].split_at_checked(HOST.len()) else { continue };
        if host == HOST
            && let Some((_, door)) =
                ports.iter().find(|(own, _)| u32::from(*own).to_be_bytes().as_slice() == port)
        {
            answer[at + HOST.len()..at + length].copy_from_slice(&u32::from(*door).to_be_bytes());
        }
    }
}
