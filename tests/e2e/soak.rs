//! A day of a tenant in minutes: what the service holds must not grow with what it has read.
//!
//! `tests/soak` runs it.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use aadstream::demo::random::Random;

use crate::SHUTDOWN;
use crate::chaos::corpus::{Corpus, Scene, Truth};
use crate::chaos::feed::Feeder;
use crate::chaos::judge::Books;
use crate::support::{Broker, Config, Rig, Service, audit, now_ms, number_of, sum, unique};

const PARTITIONS: usize = 6;
/// In the mean; the busiest hour has twice as many.
const MESSAGES_PER_SECOND: usize = 1000;
const DRAIN: Duration = Duration::from_secs(180);
const HOUR_MS: i64 = 3_600_000;

/// How busy each hour of the day is, in percent of the mean.
const BUSY: [usize; 24] = [
    30, 20, 20, 20, 30, 60, 110, 170, 200, 200, 180, 160, 150, 170, 180, 170, 150, 120, 90, 80, 70, 50, 40,
    30,
];

/// Codes that fail an interactive sign-in and are worth an event; some are common all day, the others come and go.
const CODES: [u32; 16] = [
    50_126, 50_053, 53_003, 50_034, 50_105, 700_016, 50_057, 50_011, 53_000, 50_020, 65_004, 50_128, 53_001,
    70_001, 54_005, 75_011,
];

const RULE: &str = include_str!("../../rules/codes/AADSTS50126.md");

struct Orders {
    seed: u64,
    hours: usize,
    seconds: usize,
}

impl Orders {
    fn read() -> Self {
        let number = |name, default| number_of(name).map_or(default, |it| usize::try_from(it).expect("few"));
        Self {
            seed: number_of("AADSTREAM_SOAK_SEED").unwrap_or(1),
            hours: number("AADSTREAM_SOAK_HOURS", 24),
            seconds: 60 * number("AADSTREAM_SOAK_MINUTES", 10),
        }
    }

    fn hour(&self) -> Duration {
        Duration::from_secs(self.seconds as u64) / u32::try_from(self.hours).expect("few")
    }
}

#[test]
#[ignore = "it takes minutes; tests/soak"]
fn a_day_in_minutes() {
    let Some(rig) = Rig::get() else { return };
    let orders = Orders::read();
    eprintln!("soak --minutes {} --hours {} --seed {}", orders.seconds / 60, orders.hours, orders.seed);
    let broker = Broker::prepare(rig);
    broker.start();
    let [input, output, dead] = ["soak", "events", "dead"].map(unique);
    broker.create_topic(&input, PARTITIONS.try_into().expect("few"));
    broker.create_topic_with(&output, 3, &[("max.message.bytes", "5000")]);
    broker.create_topic_with(&dead, 2, &[("max.message.bytes", "100000")]);
    let rules = tempfile::tempdir().expect("a temporary folder");
    let config = Config::new(&broker.plain, &input)
        .set("forward", "topic", &output)
        .set("forward.options", "batch.size", "16000")
        .set("dead_letters", "policy", "dlq")
        .set("dead_letters", "topic", &dead)
        .set("rules", "dir", rules.path().to_str().expect("a path of letters"));
    let rule = rules.path().join("AADSTS50126.md");
    fs::write(&rule, RULE).expect("the rule is written");
    let mut service = Service::start(rig, &config);
    let (mut books, samples, reloads) = thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(&broker, &input, &orders));
        let mut watch = Watch::new(&service, &orders);
        let mut changes = Changes { config: &config, rule: &rule, made: 0 };
        while !feeder.is_finished() {
            watch.look();
            if watch.samples.len().is_multiple_of(10) {
                changes.make(&service);
            }
        }
        (feeder.join().expect("all messages are sent"), watch.samples, changes.made)
    });
    broker.wait_committed_for(&input, &input, DRAIN);
    assert!(service.ended().is_none(), "it runs");
    let metrics = service.metrics();
    assert_eq!(service.terminate(SHUTDOWN).0.code(), Some(0));

    broker.read_each(&output, |record| books.found_event(&input, &record));
    broker.read_each(&dead, |record| books.found_letter(&input, &record));
    let verdict = books.verdict(&[0; PARTITIONS], &[]);
    let [events, letters] = verdict.expected;
    eprintln!(
        "  {} messages, {events} events and {letters} dead letters expected",
        sum(&broker.ends(&input))
    );
    eprintln!(
        "  {} lost, {} doubled, {} unexpected",
        verdict.lost.len(),
        verdict.doubled,
        verdict.unexpected.len()
    );
    let reloaded = metrics.count("aadstream_rules_reloads_total", &[]);
    let refused = metrics.count("aadstream_rules_reload_failures_total", &[]);
    let repeats = metrics.count("aadstream_duplicate_records_total", &[("kind", "refresh")]);
    eprintln!("  {repeats} repeats of refreshes; {reloads} changes, {reloaded} taken, {refused} refused");
    let problems = judge(&samples);
    fs::write(&rule, RULE).expect("the rule is written");
    let (code, report) = audit(rig, &config);
    assert!(verdict.lost.is_empty() && verdict.unexpected.is_empty() && verdict.doubled == 0, "{verdict:?}");
    assert_eq!(code, Some(0), "{report:#}");
    assert!(repeats > 0 && reloaded > 0 && refused > 0, "the day had all of it");
    assert_eq!(problems, Vec::<String>::new());
}

/// Sends the messages of all hours. Refreshes are listed again hours later, which is no second event.
fn feed(broker: &Broker, topic: &str, orders: &Orders) -> Books {
    let mut random = Random::new(orders.seed ^ 0x5eed);
    let mut corpus = Corpus::new(orders.seed);
    let mut feeder = Feeder::new(broker, topic, orders.seed, PARTITIONS);
    let hours = i64::try_from(orders.hours).expect("few");
    let begin = now_ms() - hours * HOUR_MS;
    let mut listed = Vec::new();
    for hour in 0..orders.hours {
        let rate = MESSAGES_PER_SECOND * BUSY[hour % 24] / 100;
        let count = rate * usize::try_from(orders.hour().as_millis()).expect("few") / 1000;
        feeder.change_pace();
        for number in 0..count {
            let into = HOUR_MS * i64::try_from(number).expect("few") / i64::try_from(count).expect("few");
            let time_ms = begin + i64::try_from(hour).expect("few") * HOUR_MS + into;
            if !listed.is_empty() && random.percent(2) {
                let (partition, message): &(usize, crate::support::Message) =
                    &listed[random.below(listed.len())];
                feeder.send_to(*partition, message.clone().at(time_ms), &Truth::default());
            } else {
                let (message, truth) = corpus.next(&scene(&mut random, hour, time_ms));
                let is_refresh = message
                    .payload
                    .as_ref()
                    .is_some_and(|it| it.windows(11).any(|word| word == b"\"refreshes\""));
                let partition = feeder.send(message.clone().at(time_ms), &truth);
                if is_refresh && listed.len() < 2000 {
                    listed.push((partition, message));
                }
            }
            feeder.keep_pace(rate);
        }
    }
    feeder.finish()
}

/// Apps, datasets and codes of an hour, more of them in the first half of the day than the tables take: half of the codes change with the hour, and some have no rule.
fn scene(random: &mut Random, hour: usize, time_ms: i64) -> Scene {
    let id = |number: usize| format!("{number:08x}-0000-4000-8000-000000000000");
    let code = match random.below(20) {
        0 => 7_900_000 + u32::try_from(hour * 20 + random.below(20)).expect("few"),
        1..10 => CODES[(8 + hour + random.below(3)) % CODES.len()],
        _ => CODES[random.below(8)],
    };
    Scene {
        time_ms,
        app: id(hour * 200 + random.below(400)),
        dataset: id(hour * 600 + random.below(1200)),
        code,
    }
}

/// What is asked of the process every second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident: u64,
    descriptors: u64,
    threads: u64,
    series: u64,
    log: u64,
}

struct Watch<'a> {
    service: &'a Service,
    samples: Vec<Sample>,
    since: Instant,
    said: usize,
    orders: &'a Orders,
}

impl<'a> Watch<'a> {
    const EVERY: Duration = Duration::from_secs(1);

    fn new(service: &'a Service, orders: &'a Orders) -> Self {
        Self { service, samples: Vec::new(), since: Instant::now(), said: 0, orders }
    }

    /// Waits for the next second and scrapes.
    fn look(&mut self) {
        let due = Self::EVERY * u32::try_from(self.samples.len() + 1).expect("few");
        let (_running, stopped) = mpsc::channel::<()>();
        while self.since.elapsed() < due {
            let left = due.saturating_sub(self.since.elapsed());
            assert_eq!(stopped.recv_timeout(left), Err(RecvTimeoutError::Timeout));
        }
        let metrics = self.service.metrics();
        let folder = format!("/proc/{}/task", self.service.pid());
        let sample = Sample {
            resident: metrics.count("process_resident_memory_bytes", &[]),
            descriptors: metrics.count("process_open_fds", &[]),
            threads: fs::read_dir(folder).expect("it runs").count() as u64,
            series: metrics.series() as u64,
            log: fs::metadata(self.service.log_file()).expect("it has a log").len(),
        };
        self.samples.push(sample);
        let tenth = self.samples.len() * 10 / self.orders.seconds;
        if tenth > self.said {
            self.said = tenth;
            eprintln!("  {} s: {sample:?}", self.samples.len());
        }
    }
}

/// Rules and severities change while messages flow; every third set has a mistake.
struct Changes<'a> {
    config: &'a Config,
    rule: &'a Path,
    made: usize,
}

impl Changes<'_> {
    fn make(&mut self, service: &Service) {
        self.made += 1;
        match self.made % 3 {
            0 => fs::write(self.rule, "no rule"),
            1 => fs::write(self.rule, format!("{RULE}\n")),
            _ => fs::write(self.rule, RULE),
        }
        .expect("the rule is written");
        // Above the limit of events either way.
        let severity = ["high", "critical"][self.made % 2];
        service.configure(&self.config.clone().set("rules.severity", "AADSTS50053", severity));
        service.hang_up();
    }
}

/// What is usual in the second half beside the most of the first: what is more than it may be. The first tenth is the
/// start. Not the most of the second: a message of 17 MiB may be under way when it is looked at.
fn judge(samples: &[Sample]) -> Vec<String> {
    const MIB: u64 = 1 << 20;
    let (first, second) = samples[samples.len() / 10..].split_at(samples.len() * 4 / 10);
    let (log_first, log_second) = (samples[samples.len() / 2].log, samples[samples.len() - 1].log);
    let most = |half: &[Sample], of: fn(&Sample) -> u64| half.iter().map(of).max().unwrap_or_default();
    let median = |half: &[Sample], of: fn(&Sample) -> u64| {
        let mut all: Vec<u64> = half.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let mut problems = Vec::new();
    let mut compare = |what: &str, of: fn(&Sample) -> u64, room: fn(u64) -> u64| {
        let (before, after) = (most(first, of), median(second, of));
        let peak = most(second, of);
        eprintln!("  {what}: at most {before} in the first half; in the second {after}, at most {peak}");
        if after > before + room(before) {
            problems.push(format!("{what}: {before}, then {after}"));
        }
    };
    compare("resident bytes", |it| it.resident, |before| before / 20 + 4 * MIB);
    compare("open descriptors", |it| it.descriptors, |_| 2);
    compare("threads", |it| it.threads, |_| 1);
    compare("series", |it| it.series, |before| before / 50);
    eprintln!("  log: {log_first} bytes in the first half, {} in the second", log_second - log_first);
    if log_second > 2 * log_first + 4096 {
        problems.push(format!("log: {log_first} bytes, then {}", log_second - log_first));
    }
    problems
}
