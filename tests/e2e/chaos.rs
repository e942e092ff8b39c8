//! Chaos: messages flow while processes and brokers come and go, by a seed. At the end nothing is lost, and doubled is
//! only what a fault explains; with exactly once, nothing.
//!
//! `tests/chaos` runs it, and `tests/run` for a few kills.

pub mod corpus;
mod faults;
pub mod feed;
pub mod judge;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use corpus::{Corpus, Scene};
use faults::{BROKERS, Fault, INSTANCES, Step, plan};
use feed::Feeder;
use judge::{Books, Exposed, Verdict};

use crate::SHUTDOWN;
use crate::clock::Clock;
use crate::support::{Broker, Config, PATIENCE, Rig, Service, audit, number_of, sum, unique, wait_until};

const PARTITIONS: usize = 6;
const MESSAGES_PER_SECOND: usize = 500;
/// After the last message everything must be delivered and committed within this.
const DRAIN: Duration = Duration::from_secs(180);
/// An event above is refused by its topic.
const EVENT_LIMIT: (&str, &str) = ("max.message.bytes", "5000");
/// More copies than there are: the output takes nothing.
const AWAY: (&str, &str) = ("min.insync.replicas", "4");

/// What `tests/chaos` was told.
struct Orders {
    seed: u64,
    kills: usize,
    seconds: usize,
}

impl Orders {
    fn read() -> Self {
        let kills = number_of("AADSTREAM_CHAOS_KILLS").unwrap_or(5);
        Self {
            seed: number_of("AADSTREAM_CHAOS_SEED").unwrap_or(1),
            kills: usize::try_from(kills).expect("few kills"),
            seconds: usize::try_from(number_of("AADSTREAM_CHAOS_SECONDS").unwrap_or(7 * kills)).expect("few"),
        }
    }
}

#[test]
#[ignore = "it wants the machine for itself; tests/chaos"]
fn chaos() {
    let Some(rig) = Rig::get() else { return };
    let orders = Orders::read();
    eprintln!("chaos --kills {} --seed {} --seconds {}", orders.kills, orders.seed, orders.seconds);
    let brokers = Broker::cluster(rig);
    for delivery in ["at_least_once", "exactly_once"] {
        Run::start(rig, &brokers, &orders, delivery).finish();
    }
}

/// One delivery under all faults.
struct Run<'a> {
    rig: &'a Rig,
    brokers: &'a [Broker; BROKERS],
    delivery: &'static str,
    topics: Topics,
    fleet: [Option<Service>; INSTANCES],
    clocks: [Clock; INSTANCES],
    stopped: Option<usize>,
    is_away: bool,
    exposed: Vec<Exposed>,
    books: Books,
    counts: BTreeMap<&'static str, u64>,
    since: Instant,
}

struct Topics {
    input: String,
    output: String,
    dead: String,
}

impl<'a> Run<'a> {
    /// Runs the plan while messages flow, heals what is broken and waits until all is delivered.
    fn start(rig: &'a Rig, brokers: &'a [Broker; BROKERS], orders: &Orders, delivery: &'static str) -> Self {
        let topics = Topics { input: unique("chaos"), output: unique("events"), dead: unique("dead") };
        let partitions = i32::try_from(PARTITIONS).expect("few");
        brokers[0].create_topic(&topics.input, partitions);
        brokers[0].create_topic_with(&topics.output, 3, &[EVENT_LIMIT]);
        brokers[0].create_topic_with(&topics.dead, 2, &[("max.message.bytes", "100000")]);
        let mut run = Self {
            rig,
            brokers,
            delivery,
            topics,
            fleet: [const { None }; INSTANCES],
            clocks: std::array::from_fn(|_| Clock::new()),
            stopped: None,
            is_away: false,
            exposed: Vec::new(),
            books: Books::default(),
            counts: BTreeMap::new(),
            since: Instant::now(),
        };
        (0..INSTANCES).for_each(|instance| run.join(instance));
        run.flow(orders);
        run
    }

    fn flow(&mut self, orders: &Orders) {
        let (input, broker) = (self.topics.input.clone(), &self.brokers[0]);
        let count = orders.seconds * MESSAGES_PER_SECOND;
        let steps = plan(orders.seed, orders.kills);
        thread::scope(|scope| {
            let feeder = scope.spawn(move || feed(broker, &input, orders.seed, count));
            for step in steps {
                self.step(step);
                if feeder.is_finished() {
                    self.note("faults after the last message");
                }
            }
            self.heal();
            self.books = feeder.join().expect("all messages are sent");
        });
        self.counts.insert("messages", count as u64);
        self.watch_over();
        self.wait_committed();
    }

    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn config(&self, instance: usize) -> Config {
        let config = Config::new(&self.brokers[0].plain, &self.topics.input)
            .set("forward", "topic", &self.topics.output)
            .set("forward", "delivery", self.delivery)
            // Batches that are compressed below the limit of the topic, unless an event in them is too large.
            .set("forward.options", "batch.size", "16000")
            // Else a group of which somebody is killed every few seconds would never be whole.
            .option("session.timeout.ms", "3000")
            .set("dead_letters", "policy", "dlq")
            .set("dead_letters", "topic", &self.topics.dead)
            .clock(self.rig, &self.clocks[instance]);
        let config = if self.delivery == "exactly_once" {
            config.set("forward.options", "transaction.timeout.ms", "10000")
        } else {
            config
        };
        // One keeps its name, and with it its partitions and transactions, over a restart; the others have none.
        if instance == 0 { config.kafka("group_instance_id", "first") } else { config }
    }

    fn join(&mut self, instance: usize) {
        self.fleet[instance] = Some(Service::spawn(self.rig, &self.config(instance)));
    }

    /// The instance, or the next one that is there.
    fn present(&self, instance: usize) -> usize {
        let is_there = |&at: &usize| self.fleet[at].is_some();
        (0..INSTANCES).map(|step| (instance + step) % INSTANCES).find(is_there).expect("not all are away")
    }

    fn take(&mut self, instance: usize) -> Service {
        self.fleet[instance].take().expect("it is there")
    }

    /// Who ended without being told is followed by another: it may only if its transactions were taken from it.
    fn watch_over(&mut self) {
        for instance in 0..INSTANCES {
            let Some(service) = &mut self.fleet[instance] else { continue };
            let Some(status) = service.ended() else { continue };
            let log = service.log();
            let is_fenced = self.delivery == "exactly_once" && log.contains("fenced: ");
            assert!(is_fenced, "aadstream ended with {status}:\n{log}");
            self.note("fenced");
            self.join(instance);
        }
    }

    fn step(&mut self, step: Step) {
        let since = Instant::now();
        wait_until("messages flow", PATIENCE, || (since.elapsed() >= step.after).then_some(()));
        self.watch_over();
        if let Fault::Clock(instance, hours) = step.fault {
            // No fault that explains copies.
            self.clocks[instance].set(hours * 3600);
            self.note("clocks set");
            return;
        }
        let from = self.brokers[0].committed(&self.topics.input, &self.topics.input);
        let to = self.brokers[0].ends(&self.topics.input);
        let exposed = Exposed { from, to };
        if let Some(before) = self.exposed.last_mut() {
            // It may show as late as this.
            before.to.clone_from(&exposed.to);
        }
        let in_flight = self.counts.entry("uncommitted at most").or_default();
        *in_flight = (*in_flight).max(exposed.messages().try_into().unwrap_or_default());
        if self.is_away && !matches!(step.fault, Fault::Kill(_)) {
            self.bring_back();
        }
        self.commit_fault(step.fault, &exposed);
        self.exposed.push(exposed);
    }

    fn commit_fault(&mut self, fault: Fault, now: &Exposed) {
        match fault {
            Fault::Kill(instance) => {
                let instance = self.present(instance);
                self.take(instance).kill();
                self.join(instance);
                self.note("kills");
            }
            Fault::Replace(instance) => {
                let instance = self.present(instance);
                self.leave(instance);
                self.join(instance);
            }
            Fault::LeaveOrJoin(instance) if self.fleet[instance].is_none() => self.join(instance),
            Fault::LeaveOrJoin(instance) => self.leave(instance),
            Fault::StopOrStart(broker) if self.stopped == Some(broker) => {
                self.brokers[broker].start();
                self.stopped = None;
            }
            Fault::StopOrStart(broker) => {
                self.brokers[broker].stop();
                self.stopped = Some(broker);
                self.note("brokers stopped");
            }
            Fault::Slow(broker, time) if self.stopped != Some(broker) => {
                self.slow(broker, time);
                self.note("brokers slowed");
            }
            Fault::Slow(..) | Fault::Clock(..) => {}
            Fault::OutputAway => {
                self.brokers[0].configure_topic(&self.topics.output, &[EVENT_LIMIT, AWAY]);
                self.is_away = true;
                self.note("output away");
            }
            Fault::DeleteRecords => {
                let last = PARTITIONS - 1;
                let offset = now.from[last] + (now.to[last] - now.from[last]) * 3 / 4;
                let partition = i32::try_from(last).expect("few");
                self.brokers[0].delete_records_before(&self.topics.input, partition, offset);
                self.note("records deleted");
            }
        }
    }

    fn leave(&mut self, instance: usize) {
        let service = self.take(instance);
        let log = service.log_file();
        let status = service.terminate(SHUTDOWN).0;
        assert_eq!(status.code(), Some(0), "after SIGTERM; log: {}", log.display());
        self.note("terminated");
    }

    fn slow(&self, broker: usize, time: Duration) {
        let since = Instant::now();
        while since.elapsed() < time {
            self.brokers[broker].freeze();
            let frozen = Instant::now();
            wait_until("it stands", PATIENCE, || (frozen.elapsed().as_millis() >= 450).then_some(()));
            self.brokers[broker].thaw();
        }
    }

    fn bring_back(&mut self) {
        self.brokers[0].configure_topic(&self.topics.output, &[EVENT_LIMIT]);
        self.is_away = false;
    }

    fn heal(&mut self) {
        if let Some(broker) = self.stopped.take() {
            self.brokers[broker].start();
        }
        self.bring_back();
        // Topics take nothing from far ahead; what was set back may stay so.
        self.clocks.iter().for_each(Clock::be_no_further);
        for instance in 0..INSTANCES {
            if self.fleet[instance].is_none() {
                self.join(instance);
            }
        }
    }

    fn wait_committed(&mut self) {
        let (broker, input) = (&self.brokers[0], self.topics.input.clone());
        broker.wait_committed_for(&input, &input, DRAIN);
        if let Some(last) = self.exposed.last_mut() {
            last.to = broker.ends(&input);
        }
    }

    /// Ends all processes, and judges what they left behind.
    fn finish(mut self) {
        self.watch_over();
        let seconds = self.since.elapsed().as_secs();
        (0..INSTANCES).for_each(|instance| self.leave(instance));
        let broker = &self.brokers[0];
        let Topics { input, output, dead } = &self.topics;
        let (low, ends): (Vec<i64>, Vec<i64>) = broker.watermarks(input).into_iter().unzip();
        assert_eq!(sum(&ends), self.counts["messages"], "all were sent, and once");
        let books = &mut self.books;
        broker.read_each(output, |record| books.found_event(input, &record));
        broker.read_each(dead, |record| books.found_letter(input, &record));
        let is_once = self.delivery == "exactly_once";
        let exposed = if is_once { &[][..] } else { &self.exposed };
        let verdict = books.verdict(&low, exposed);
        self.print(&verdict, seconds);
        let named = |ids: &[String]| ids.iter().take(5).cloned().collect::<Vec<_>>();
        let differences = [&verdict.lost, &verdict.unexplained, &verdict.unexpected].map(|ids| named(ids));
        let (code, report) = audit(self.rig, &self.config(0));
        assert_eq!(
            differences,
            [const { Vec::<String>::new() }; 3],
            "lost, unexplained, unexpected\n{report:#}"
        );
        let is_equal = verdict.doubled == 0;
        assert_eq!(code, Some(if is_equal { 0 } else { 7 }), "{report:#}");
        for (side, expected) in ["events", "dead_letters"].iter().zip(verdict.expected) {
            let counts = ["expected"].map(|key| report[*side][key].as_u64());
            let found = ["lost", "unexpected"].map(|key| report[*side][key]["count"].as_u64());
            assert_eq!((counts, found), ([Some(expected)], [Some(0); 2]), "{side}: {report:#}");
        }
    }

    fn print(&self, verdict: &Verdict, seconds: u64) {
        eprintln!("{}, until all is committed: {seconds} s", self.delivery);
        for (what, count) in &self.counts {
            eprintln!("  {count} {what}");
        }
        let [events, letters] = verdict.expected;
        eprintln!(
            "  {events} events and {letters} dead letters expected; {} lost, {} doubled, {} unexpected",
            verdict.lost.len(),
            verdict.doubled,
            verdict.unexpected.len()
        );
    }
}

/// Sends so many messages; what must come of them.
fn feed(broker: &Broker, topic: &str, seed: u64, count: usize) -> Books {
    let mut corpus = Corpus::new(seed);
    let mut feeder = Feeder::new(broker, topic, seed, PARTITIONS);
    for _ in 0..count {
        let (message, truth) = corpus.next(&Scene::now());
        feeder.send(message, &truth);
        feeder.keep_pace(MESSAGES_PER_SECOND);
    }
    feeder.finish()
}
