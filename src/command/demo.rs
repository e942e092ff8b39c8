//! `aadstream demo`: broker, traffic, service and metrics in one process, and a check of the counts at its end.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::Running;
use super::{signals, terminal};
use crate::catalogue::Catalogue;
use crate::cli::DemoArgs;
use crate::config::{LogFormat, Settings};
use crate::demo::Traffic;
use crate::demo::broker::Broker;
use crate::demo::truth::Truth;
use crate::demo::writer::{Message, TOPICS};
use crate::digest::time::Millis;
use crate::exit_code::{Exit, ExitError};
use crate::report::table::thousands;

mod compare;
mod summary;

/// A turn of the loop that sends, draws and looks for the end.
const TURN: Duration = Duration::from_millis(20);

/// What was sent is read within this time, or something is wrong.
const DRAIN: Duration = Duration::from_secs(30);

pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    crate::log::init(LogFormat::Text, tracing::Level::WARN);
    let stop = signals::stop()?;
    let mut broker = Broker::start()?;
    let catalogue = Arc::new(Catalogue::embedded());
    let running = Running::start(settings(&broker, args), Arc::clone(&catalogue), None)?;
    terminal::print(&format!("http://{}/\n", running.address))?;
    terminal::remark(&summary::introduction(&running.address.to_string(), args));
    let mut demo =
        Demo { traffic: Traffic::new(args.seed), truth: Truth::default(), waiting: None, sent: 0, args };
    let mut live = summary::Live::new(io::stderr().is_terminal());
    let started = Instant::now();
    while stop.borrow().is_none() && args.duration.is_none_or(|duration| started.elapsed() < duration) {
        demo.send(started, &mut broker)?;
        broker.read(&running.service.positions());
        live.draw(started.elapsed(), demo.sent, &demo.stories(started), &running.service, &catalogue);
        std::thread::sleep(TURN);
    }
    let elapsed = started.elapsed();
    broker.flush()?;
    let drained = drain(&mut broker, &running);
    live.finish();
    running.service.metrics.end_holds();
    let (_, text) = running.service.metrics.encode(false);
    let ended = running.end();
    let result = compare::compare(&demo.truth, &String::from_utf8_lossy(&text), &catalogue);
    terminal::print(&result.text)?;
    if let Some(held_back) = demo.held_back(elapsed) {
        terminal::print(&held_back)?;
    }
    ended?;
    if !drained {
        return Err(ExitError::new(Exit::Failure, "the service did not read everything in time"));
    }
    Ok(if result.is_equal { Exit::Done } else { Exit::Failure })
}

fn settings(broker: &Broker, args: &DemoArgs) -> Settings {
    let mut settings = Settings::default();
    settings.kafka.brokers = broker.address();
    settings.kafka.topics = TOPICS.iter().map(|topic| (*topic).to_owned()).collect();
    "aadstream-demo".clone_into(&mut settings.kafka.group_id);
    if let Some(listen) = args.listen.clone().or_else(|| other_address(&settings.web.listen)) {
        settings.web.listen = listen;
    }
    settings
}

/// A free port where another service, or another demo, has the usual one.
fn other_address(usual: &str) -> Option<String> {
    let is_taken = TcpListener::bind(usual).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    is_taken.then(|| {
        terminal::remark(&format!("Another program listens on {usual}; the demo takes a free port."));
        "127.0.0.1:0".to_owned()
    })
}

/// The side that sends.
struct Demo<'a> {
    traffic: Traffic,
    truth: Truth,
    /// A message whose partition had no room yet.
    waiting: Option<Message>,
    sent: u64,
    args: &'a DemoArgs,
}

impl Demo<'_> {
    fn stories(&self, started: Instant) -> Vec<String> {
        let active = self.traffic.stories.at(started.elapsed().as_secs());
        active.into_iter().filter(|story| story.is_passing()).map(|story| story.story.clone()).collect()
    }

    /// Messages that the rate asks for in this time.
    fn due(&self, elapsed: Duration) -> u64 {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        millis.saturating_mul(u64::from(self.args.rate)) / 1000
    }

    /// Says so where less than half was sent of what the rate asked for.
    fn held_back(&self, elapsed: Duration) -> Option<String> {
        let due = self.due(elapsed);
        (self.sent < due / 2).then(|| {
            let [sent, due] = [self.sent, due].map(thousands);
            format!("of {due} messages {sent} were sent: the broker in the process keeps little, so the rest was held back\n")
        })
    }

    /// Sends what is due by the rate, as far as there is room.
    fn send(&mut self, started: Instant, broker: &mut Broker) -> anyhow::Result<()> {
        let elapsed = started.elapsed();
        let due = self.due(elapsed);
        while self.sent < due {
            let message =
                self.waiting.take().unwrap_or_else(|| self.traffic.next(elapsed.as_secs(), now_ms()));
            if !broker.send(&message)? {
                self.waiting = Some(message);
                return Ok(());
            }
            self.truth.merge(&message.truth);
            self.sent += 1;
        }
        Ok(())
    }
}

fn drain(broker: &mut Broker, running: &Running) -> bool {
    let deadline = Instant::now() + DRAIN;
    loop {
        broker.read(&running.service.positions());
        if broker.is_read() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(TURN);
    }
}

fn now_ms() -> Millis {
    crate::service::now_ms()
}
