//! The wall clock jumps, as when it is set after a restore or by NTP; the monotonic one goes on.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::messages::failure;
use crate::support::{Config, PATIENCE, Rig, Service, get, unique, wait_until};
use crate::{EVENTS, PROCESSED};

/// The wall clock of one process, over its restarts. `clock.c` reads it.
pub struct Clock(NamedTempFile);

impl Clock {
    /// It shows the time of this machine.
    pub fn new() -> Self {
        let clock = Self(NamedTempFile::new().expect("a temporary file"));
        clock.set(0);
        clock
    }

    /// From now on it is so many seconds ahead of this machine's, or behind.
    pub fn set(&self, ahead_seconds: i64) {
        let nanoseconds = ahead_seconds * 1_000_000_000;
        self.0.as_file().write_all_at(&nanoseconds.to_ne_bytes(), 0).expect("the clock is set");
    }

    /// If it is ahead it shows the time of this machine again.
    pub fn be_no_further(&self) {
        let mut ahead = [0; 8];
        self.0.as_file().read_exact_at(&mut ahead, 0).expect("it was set");
        if i64::from_ne_bytes(ahead) > 0 {
            self.set(0);
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

pub const HOUR: i64 = 3600;

/// The Kafka client waits for times of day: set back by hours, what waits would wait for hours. A group of which nobody
/// reads anything must go on as well.
#[test]
fn nothing_waits_for_a_clock_that_was_set_back() {
    const TURNS: (&str, &[(&str, &str)]) = ("aadstream_step_duration_seconds_count", &[("step", "wait")]);
    let Some(rig) = Rig::get() else { return };
    let (broker, topic, output) = (rig.broker(), unique("clock"), unique("events"));
    broker.create_topic(&topic, 2);
    broker.create_topic(&output, 1);
    let clock = Clock::new();
    let config = Config::new(&broker.plain, &topic).set("forward", "topic", &output).clock(rig, &clock);
    let mut service = Service::start(rig, &config);
    let mut sent = 0;
    for ahead in [-5 * HOUR, 9 * HOUR, -20 * HOUR, 0] {
        clock.set(ahead);
        // In a quiet stream a turn takes 100 ms: this is longer than its session.
        let turns = service.metrics().count(TURNS.0, TURNS.1);
        service.wait_count(TURNS.0, TURNS.1, turns + 80);
        assert_eq!(service.status("/-/healthy"), Some(200), "{ahead} s ahead");
        clock.set(ahead.min(0));
        broker.produce(&topic, (0..50).map(|_| failure(50_126)));
        sent += 50;
        service.wait_count(PROCESSED, &[("topic", &topic)], sent);
        broker.wait_committed(&topic, &topic);
    }
    let metrics = service.metrics();
    assert_eq!(metrics.count(EVENTS, &[("code", "AADSTS50126")]), sent, "each once");
    assert_eq!(metrics.count("aadstream_assigned_partitions", &[]), 2);
    assert_eq!(
        metrics.count("aadstream_rebalances_total", &[("kind", "lost")]),
        0,
        "it never left the group"
    );
    assert_eq!(broker.read_all(&output).len() as u64, sent);
}

/// A topic takes no event that is written further ahead than it allows, an hour by default: the event waits.
#[test]
fn events_wait_for_a_clock_that_is_far_ahead() {
    let Some(rig) = Rig::get() else { return };
    for delivery in ["at_least_once", "exactly_once"] {
        let (broker, topic, output) = (rig.broker(), unique("ahead"), unique("events"));
        broker.create_topic(&topic, 1);
        broker.create_topic(&output, 1);
        let clock = Clock::new();
        clock.set(6 * HOUR);
        let config = Config::new(&broker.plain, &topic)
            .set("forward", "topic", &output)
            .set("forward", "delivery", delivery)
            .clock(rig, &clock);
        let mut service = Service::start(rig, &config);
        broker.produce(&topic, (0..50).map(|_| failure(50_126)));
        wait_until("it says why it waits", PATIENCE, || {
            let ready = get(service.address(), "/-/ready").expect("it answers");
            ready.body.contains("look at the clocks").then_some(())
        });
        assert_eq!(broker.committed(&topic, &topic), [0], "{delivery}");
        clock.set(0);
        broker.wait_committed(&topic, &topic);
        service.wait_status("/-/ready", 200);
        assert_eq!(broker.read_all(&output).len(), 50, "{delivery}");
    }
}
