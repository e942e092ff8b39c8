//! Digests batches, counts what they say, and sends out what has to leave: in this order, so that nothing delays counting.

use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use tracing::error;

use super::Service;
use super::batch::{Batch, Batches};
use super::context::now_ms;
use super::outbox::Outbox;
use super::outbox::letter::{Letter, Paper};
use super::progress::Parcel;
use super::transaction::Pass;
use crate::config::Policy;
use crate::digest::event::Event;
use crate::digest::frame::EnvelopeIds;
use crate::digest::time::Millis;
use crate::digest::{Digest, Framing, Held, Input, Position, Reject};
use crate::terms::Kind;
use crate::window::Old;

/// Batches that wait for one worker; the bytes in flight have a limit of their own.
const WAITING: usize = 4;

/// Starts the workers; they end when the batches are dropped.
pub fn spawn<'scope, 'env, 'c: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    service: &'scope Service,
    outbox: Option<&'scope Outbox>,
    count: usize,
) -> (Batches<'c>, Vec<ScopedJoinHandle<'scope, ()>>) {
    let (senders, workers) = (0..count)
        .map(|number| {
            let (batch_tx, batch_rx) = bounded(WAITING);
            let thread = std::thread::Builder::new().name(format!("digest-{number}"));
            let worker = thread.spawn_scoped(scope, move || work(service, outbox, &batch_rx));
            (batch_tx, worker.expect("the system gives a service a few threads"))
        })
        .unzip();
    let batches = Batches::new(senders, service.progress.clone(), service.metrics.clone());
    (batches, workers)
}

fn work(service: &Service, outbox: Option<&Outbox>, batches: &Receiver<Batch<'_>>) {
    for batch in batches {
        let mut sending = outbox.map(|outbox| Sending::new(outbox, &batch));
        let digest = digest(service, &batch, sending.as_mut());
        halt(service, &batch, &digest);
        let parcel = sending.as_ref().map(|sending| &sending.parcel);
        service.progress.digested(&batch.shares, batch.bytes as u64, parcel);
        let now = now_ms();
        for share in &batch.shares {
            service.metrics.last_progress(&share.partition.0, share.partition.1, now);
        }
        if let Some(mut sending) = sending {
            let started = Instant::now();
            sending.events(&digest.events);
            let keeps =
                |reject: &&Reject| service.settings.dead_letters.policy(reject.reason) == Policy::Keep;
            digest.rejects.iter().filter(keeps).for_each(|reject| sending.dead_letter(reject));
            sending.finish();
            service.metrics.step("send", started.elapsed());
        }
    }
}

/// Counts what the batch says and gives what has to leave.
fn digest(service: &Service, batch: &Batch<'_>, mut sending: Option<&mut Sending<'_, '_>>) -> Digest {
    let started = Instant::now();
    let inputs: Vec<Input<'_>> = batch.messages.iter().map(|message| input(&batch.topic, message)).collect();
    // Very many events do not wait until their batch is counted: they would not fit into memory.
    let middle = service.middle();
    let mut digest = middle.digest_draining(&inputs, &mut |events| {
        if let Some(sending) = &mut sending {
            sending.events(events);
            events.clear();
        }
    });
    if !digest.held.is_empty() {
        let age = Millis::try_from(service.age_ms()).ok();
        let mut window = service.window.lock().expect("no code panics while it holds this lock");
        digest.held.iter_mut().for_each(|held| locate(held, &batch.messages));
        digest.admit(&middle, |held| window.judge(held, age, Old::IsRepeat));
    }
    let digested = Instant::now();
    service.metrics.step("digest", digested - started);
    service.metrics.record(&digest.tally, &batch.topic);
    service.metrics.step("record", digested.elapsed());
    digest
}

/// What leaves of one batch.
struct Sending<'o, 'b> {
    outbox: &'o Outbox,
    batch: &'b Batch<'b>,
    parcel: Arc<Parcel>,
    /// With transactions: since the first letter, and the partitions that are still ours.
    pass: Option<(Pass<'o>, Vec<i32>)>,
    /// False at the end of the service: then the rest is not sent, and the batch is read again.
    is_whole: bool,
}

impl<'o, 'b> Sending<'o, 'b> {
    fn new(outbox: &'o Outbox, batch: &'b Batch<'b>) -> Self {
        Self { outbox, batch, parcel: Parcel::new(batch.shares.clone()), pass: None, is_whole: true }
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            let (letter, paper) = Letter::event(&self.parcel, event);
            self.send(letter, paper);
        }
    }

    fn dead_letter(&mut self, reject: &Reject) {
        let is_its = |message: &&BorrowedMessage<'_>| {
            (message.partition(), message.offset()) == (reject.partition, reject.offset)
        };
        let message = self.batch.messages.iter().find(is_its).expect("what is rejected was read");
        let (letter, paper) = Letter::dead(&self.parcel, reject, message);
        self.send(letter, paper);
    }

    fn send(&mut self, letter: Box<Letter>, paper: Paper<'_>) {
        if !self.is_whole {
            return;
        }
        if let Some(transaction) = self.outbox.transaction() {
            if self.pass.is_none() {
                // While a parcel is inside, no partition goes back to what is committed.
                let pass = transaction.enter();
                self.pass = pass.map(|pass| (pass, self.outbox.progress().current(self.parcel.shares())));
            }
            match &mut self.pass {
                // It is read again, by us or by its new owner.
                Some((_, current)) if !current.contains(&letter.partition) => return,
                Some((pass, _)) => pass.letters += 1,
                None => return self.is_whole = false,
            }
        }
        self.is_whole = self.outbox.send(letter, paper);
    }

    /// Lets the batch be committed once all of it is acknowledged.
    fn finish(self) {
        if self.is_whole {
            self.outbox.settle(&self.parcel);
        }
        // The pass goes now: whoever ends the transaction finds this parcel settled, but for acknowledgements.
        drop(self.pass);
    }
}

/// Stops partitions in front of what the operator wants to look at first.
fn halt(service: &Service, batch: &Batch<'_>, digest: &Digest) {
    let dead_letters = &service.settings.dead_letters;
    for reject in digest.rejects.iter().filter(|reject| dead_letters.policy(reject.reason) == Policy::Halt) {
        let Some(share) = batch.shares.iter().find(|share| share.partition.1 == reject.partition) else {
            continue;
        };
        if service.progress.halt(&share.partition, share.generation, reject.offset) {
            let (topic, partition) = &share.partition;
            error!(
                topic = &**topic,
                partition,
                offset = reject.offset,
                reason = reject.reason.as_str(),
                "partition halted; [dead_letters] policy says so"
            );
            if let Some(transaction) = &service.transaction {
                transaction.break_off("a partition halted, and nothing behind its message may leave");
            }
        }
    }
}

pub fn input<'a>(topic: &'a str, message: &'a BorrowedMessage<'_>) -> Input<'a> {
    Input {
        payload: message.payload(),
        framing: Framing::Message,
        timestamp_ms: message.timestamp().to_millis(),
        source: Position { topic, partition: message.partition(), offset: message.offset(), index: 0 },
    }
}

/// Gives a refresh the ids of its message's headers. Only then are headers parsed: sign-ins have none of interest.
pub fn locate(held: &mut Held, messages: &[BorrowedMessage<'_>]) {
    if held.found.kind == Kind::Refresh
        && let Some(message) =
            messages.iter().find(|message| (message.partition(), message.offset()) == held.position())
    {
        held.locate(&ids(message));
    }
}

/// Whoever publishes refresh histories says in headers where they come from; the body does not.
fn ids<'a>(message: &'a BorrowedMessage<'_>) -> EnvelopeIds<'a> {
    let mut ids = EnvelopeIds::default();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let value =
            header.value.and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty());
        match header.key {
            "workspace-id" => ids.workspace_id = value,
            "dataset-id" => ids.dataset_id = value,
            _ => {}
        }
    }
    ids
}
