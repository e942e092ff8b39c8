//! `aadstream demo`: broker, traffic, service and metrics in one process, and a check of the counts at its end.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::run::Running;
use super::terminal;
use crate::catalogue::Catalogue;
use crate::cli::DemoArgs;
use crate::config::{LogFormat, Settings};
use crate::demo::Traffic;
use crate::demo::broker::Broker;
use crate::demo::truth::Truth;
use crate::demo::writer::{Message, TOPICS};
use crate::digest::time::Millis;
use crate::exit_code::{Exit, ExitError};

mod compare;
mod summary;

/// A turn of the loop that sends, draws and looks for the end.
const TURN: Duration = Duration::from_millis(20);

/// What was sent is read within this time, or something is wrong.
const DRAIN: Duration = Duration::from_secs(30);

pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    crate::log::init(LogFormat::Text, tracing::Level::WARN);
    let mut broker = Broker::start()?;
    let catalogue = Arc::new(Catalogue::embedded());
    let running = Running::start(settings(&broker, args), Arc::clone(&catalogue), true)?;
    terminal::print(&format!("http://{}/\n", running.address))?;
    terminal::remark(&summary::introduction(&running.address.to_string(), args));
    let stop = stop_signal(&running);
    let mut demo =
        Demo { traffic: Traffic::new(args.seed), truth: Truth::default(), waiting: None, sent: 0, args };
    let mut live = summary::Live::new(io::stderr().is_terminal());
    let started = Instant::now();
    while !*stop.borrow() && args.duration.is_none_or(|duration| started.elapsed() < duration) {
        demo.send(started, &mut broker)?;
        broker.read(&running.service.positions());
        live.draw(started.elapsed(), demo.sent, &demo.stories(started), &running.service, &catalogue);
        std::thread::sleep(TURN);
    }
    broker.flush()?;
    let drained = drain(&mut broker, &running);
    live.finish();
    running.service.metrics.end_holds();
    let (_, text) = running.service.metrics.encode(false);
    let ended = running.end();
    let result = compare::compare(&demo.truth, &String::from_utf8_lossy(&text), &catalogue);
    terminal::print(&result.text)?;
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
    settings.web.listen.clone_from(&args.listen);
    settings
}

/// Becomes true at SIGINT or SIGTERM.
fn stop_signal(running: &Running) -> watch::Receiver<bool> {
    let (stop_tx, stop_rx) = watch::channel(false);
    running.spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop_tx.send_replace(true);
    });
    stop_rx
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

    /// Sends what is due by the rate, as far as there is room.
    fn send(&mut self, started: Instant, broker: &mut Broker) -> anyhow::Result<()> {
        let elapsed = started.elapsed();
        let due = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) * u64::from(self.args.rate) / 1000;
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
