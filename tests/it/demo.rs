//! `aadstream demo` ends clearly, whatever it is asked for; its counts are checked end to end.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

fn demo(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_aadstream"))
        .arg("demo")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn without_traffic_it_says_so_and_a_taken_port_is_no_obstacle() {
    // If this fails somebody else has the port, which is the same to the demo.
    let _taken = TcpListener::bind("127.0.0.1:9877");
    let output = demo(&["--duration", "0s", "--rate", "0"]).wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let (address, rest) = stdout.split_once('\n').unwrap();
    assert!(address.starts_with("http://127.0.0.1:") && !address.contains(":9877/"), "{address}");
    assert_eq!(rest, "\nnothing was sent, and nothing was counted\n");
    assert!(stderr.contains("listens on 127.0.0.1:9877; the demo takes a free port"), "{stderr}");
}

#[test]
fn a_signal_ends_it_in_order_from_the_first_line_on() {
    let mut child = demo(&["--listen", "127.0.0.1:0"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let is_told = rest.contains("every count is as expected") || rest.contains("nothing was sent");
    assert!(is_told, "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let output = demo(&["--listen", "nowhere"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected host:port"));
}
