//! Callers of the pages that want no answer, or too much of one: metrics stay answered, and memory bounded.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::running::Running;

/// Many more than there are seats.
const MANY: usize = 1000;
/// What all of them together may make the service keep.
const ROOM_KIB: u64 = 48 * 1024;

fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn resident_kib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Asks over a connection of its own, beside whatever the others do.
#[track_caller]
fn assert_answered(running: &Running) {
    let mut stream = connect(running);
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("aadstream_build_info"), "{answer:.300}");
}

/// The same over a connection that stays open.
#[track_caller]
fn assert_answered_over(stream: &mut TcpStream) {
    write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // The rest is short and is there, or comes with the next answer.
    let mut rest = [0; 1024];
    let _ = stream.read(&mut rest).unwrap();
}

#[test]
fn idle_and_slow_callers_make_room_for_those_who_ask() {
    let running = Running::start("", &[]);
    // Many systems let a process open 1024.
    running.limit_files(512);
    let before = resident_kib(&running);
    let mut regular = connect(&running);
    assert_answered_over(&mut regular);
    let mut callers: Vec<TcpStream> = Vec::new();
    for number in 0..MANY {
        let mut stream = connect(&running);
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").unwrap();
        }
        callers.push(stream);
        if number % 20 == 0 {
            assert_answered_over(&mut regular);
        }
    }
    assert_answered(&running);
    assert_answered_over(&mut regular);
    // A byte at a time. Those that lost their seat learn it.
    let is_gone =
        |stream: &mut TcpStream| stream.write_all(b"X").and_then(|()| stream.write_all(b"-")).is_err();
    running.wait("most of them were closed", |_| {
        (callers.iter_mut().filter_map(|stream| is_gone(stream).then_some(())).count() > MANY / 2)
            .then_some(())
    });
    assert_answered(&running);
    let kept = resident_kib(&running).saturating_sub(before);
    assert!(kept < ROOM_KIB, "{kept} KiB");
    assert!(running.terminate().0.success(), "they do not hold up its end");
}

#[test]
fn endless_heads_and_garbage_are_refused() {
    let running = Running::start("", &[]);
    let before = resident_kib(&running);
    let line = format!("x-header: {}\r\n", "y".repeat(8000));
    for _ in 0..20 {
        let mut stream = connect(&running);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        let sent = (0..10_000).take_while(|_| stream.write_all(line.as_bytes()).is_ok()).count();
        assert!(sent < 10_000, "{} MB of a head were taken", sent * line.len() / 1_000_000);
    }
    let mut endless = connect(&running);
    let sent = (0..100_000).take_while(|_| endless.write_all(&[b'y'; 8000]).is_ok()).count();
    assert!(sent < 100_000, "a request line without end was taken");
    for garbage in
        [&b"\0\0\0\0\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0\r\n\r\n", b"GET\r\n\r\n", b"{}\r\n\r\n"]
    {
        let mut stream = connect(&running);
        let _ = stream.write_all(&garbage.repeat(1000));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_answered(&running);
    let kept = resident_kib(&running).saturating_sub(before);
    assert!(kept < ROOM_KIB, "{kept} KiB");
}

/// Asks for a thousand pages at once and reads none of them.
#[test]
fn pages_that_nobody_reads_fill_no_memory() {
    let running = Running::start("", &[]);
    let before = resident_kib(&running);
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let mut callers: Vec<TcpStream> = (0..200).map(|_| connect(&running)).collect();
    for stream in &mut callers {
        let _ = stream.write_all(asked.as_bytes());
    }
    assert_answered(&running);
    let kept = resident_kib(&running).saturating_sub(before);
    assert!(kept < ROOM_KIB, "{kept} KiB");
    for stream in &callers {
        let _ = stream.shutdown(Shutdown::Both);
    }
    assert_answered(&running);
}
