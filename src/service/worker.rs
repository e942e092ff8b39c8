//! Digests batches and counts what they say.

use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};

use super::Service;
use super::batch::{Batch, Batches};
use super::context::now_ms;
use crate::digest::frame::EnvelopeIds;
use crate::digest::{Framing, Held, Input, Position};
use crate::terms::Kind;
use crate::window::Old;

/// Batches that wait for one worker; the bytes in flight have a limit of their own.
const WAITING: usize = 4;

/// Starts the workers; they end when the batches are dropped.
pub fn spawn<'scope, 'env, 'c: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    service: &'scope Service,
    count: usize,
) -> (Batches<'c>, Vec<ScopedJoinHandle<'scope, ()>>) {
    let (senders, workers) = (0..count)
        .map(|number| {
            let (batch_tx, batch_rx) = bounded(WAITING);
            let thread = std::thread::Builder::new().name(format!("digest-{number}"));
            let worker = thread.spawn_scoped(scope, move || work(service, &batch_rx));
            (batch_tx, worker.expect("the system gives a service a few threads"))
        })
        .unzip();
    let batches = Batches::new(senders, service.progress.clone(), service.metrics.clone());
    (batches, workers)
}

fn work(service: &Service, batches: &Receiver<Batch<'_>>) {
    for batch in batches {
        digest(service, &batch);
        service.progress.done(&batch.shares, batch.bytes as u64);
        let now = now_ms();
        for share in &batch.shares {
            service.metrics.last_progress(&share.partition.0, share.partition.1, now);
        }
    }
}

fn digest(service: &Service, batch: &Batch<'_>) {
    let started = Instant::now();
    let inputs: Vec<Input<'_>> = batch.messages.iter().map(|message| input(&batch.topic, message)).collect();
    let middle = service.middle();
    let mut digest = middle.digest(&inputs);
    if !digest.held.is_empty() {
        let now = now_ms();
        let mut window = service.window.lock().expect("no code panics while it holds this lock");
        digest.held.iter_mut().for_each(|held| locate(held, &batch.messages));
        digest.admit(&middle, |held| window.judge(held, Some(now), Old::IsRepeat));
    }
    let digested = Instant::now();
    service.metrics.step("digest", digested - started);
    service.metrics.record(&digest.tally, &batch.topic);
    service.metrics.step("record", digested.elapsed());
}

fn input<'a>(topic: &'a str, message: &'a BorrowedMessage<'_>) -> Input<'a> {
    Input {
        payload: message.payload(),
        framing: Framing::Message,
        timestamp_ms: message.timestamp().to_millis(),
        source: Position { topic, partition: message.partition(), offset: message.offset(), index: 0 },
    }
}

/// Gives a refresh the ids of its message's headers. Only then are headers parsed: sign-ins have none of interest.
fn locate(held: &mut Held, messages: &[BorrowedMessage<'_>]) {
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
