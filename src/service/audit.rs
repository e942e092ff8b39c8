//! Reads what came in and what went out again, for [`crate::audit`].

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Message, Offset, TopicPartitionList};
use regex_lite::Regex;
use serde::Deserialize;

use super::now_ms;
use super::outbox::letter::UNDELIVERABLE;
use super::worker::{input, locate};
use crate::audit::{Books, Kind, LIMIT, Range, TooMany, WHOLE};
use crate::catalogue::Catalogue;
use crate::config::client_log::ClientLog;
use crate::config::kafka::client_config;
use crate::config::producer::reader_config;
use crate::config::{Destination, Policy, Settings, Start};
use crate::digest::{Admission, Digest, Middle};
use crate::window;

/// One request to the brokers, and how long a topic may be silent before its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open transaction ends within the brokers' limit, which is a minute unless somebody set it.
const OPEN: Duration = Duration::from_secs(90);

type Reader = BaseConsumer<ClientLog>;

/// Where the input ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Where the consumer group has committed.
    Committed,
    /// Where the log ends now.
    Log,
}

/// Compares what should have left of the input with what did.
pub fn audit(settings: &Settings, catalogue: Arc<Catalogue>, from: Start, end: End) -> anyhow::Result<Books> {
    let config = client_config(settings);
    let reader = reader(&config, settings, true)?;
    let ranges = ranges(&reader, settings, from, end)?;
    let mut books = Books::new(ranges);
    read_input(settings, catalogue, &config, &mut books)?;
    books.close();
    let outputs = reader_config(settings);
    if let Some(topic) = &settings.forward.topic {
        read_topic(&outputs, settings, topic, |message| note_event(&mut books, message))?;
    }
    match &settings.dead_letters.destination {
        Some(Destination::Topic(topic)) => {
            read_topic(&outputs, settings, topic, |message| {
                note_letter(&mut books, &address(message), &place(message));
            })?;
        }
        Some(Destination::File(path)) => {
            let cannot = || format!("cannot read dead letters from {}", path.display());
            let file = std::fs::File::open(path).with_context(cannot)?;
            for (number, line) in BufReader::new(file).lines().enumerate() {
                let line = line.with_context(cannot)?;
                let address = serde_json::from_str(&line).unwrap_or_default();
                note_letter(&mut books, &address, &format!("line {}", number + 1));
            }
        }
        None => {}
    }
    Ok(books)
}

fn reader(config: &ClientConfig, settings: &Settings, is_committed: bool) -> anyhow::Result<Reader> {
    let mut config = config.clone();
    config.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
    config.remove("group.instance.id");
    if !is_committed {
        config.set("isolation.level", "read_uncommitted");
    }
    let context = ClientLog::new(settings.kafka.oauth.as_ref());
    config.create_with_context(context).context("cannot create the Kafka client")
}

/// The partitions of the input and what of each is compared.
fn ranges(reader: &Reader, settings: &Settings, from: Start, end: End) -> anyhow::Result<Vec<Range>> {
    let metadata = reader.fetch_metadata(None, PATIENCE).context("cannot ask the brokers for topics")?;
    let mut ranges = Vec::new();
    for wanted in &settings.kafka.topics {
        let pattern = wanted.starts_with('^').then(|| Regex::new(wanted)).transpose()?;
        let is_wanted = |name: &str| match &pattern {
            Some(pattern) => pattern.is_match(name),
            None => name == wanted,
        };
        let found: Vec<&MetadataTopic> =
            metadata.topics().iter().filter(|topic| is_wanted(topic.name())).collect();
        if found.is_empty() {
            bail!("no topic `{wanted}` that we may see");
        }
        for topic in found {
            for partition in topic.partitions().iter().map(MetadataPartition::id) {
                let is_known = |range: &Range| range.topic == topic.name() && range.partition == partition;
                if !ranges.iter().any(is_known) {
                    ranges.push(range(reader, topic.name(), partition, from, end)?);
                }
            }
        }
    }
    Ok(ranges)
}

fn range(reader: &Reader, topic: &str, partition: i32, from: Start, end: End) -> anyhow::Result<Range> {
    let cannot = || format!("cannot ask the brokers for offsets of {topic}/{partition}");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let committed = reader.committed_offsets(list.clone(), PATIENCE).with_context(cannot)?;
    // Asked for before the output is: what is committed has left.
    let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE).with_context(cannot)?;
    let at = |found: TopicPartitionList| found.elements().first().map(TopicPartitionListElem::offset);
    let to = match (end, at(committed)) {
        (End::Log, _) => high,
        (End::Committed, Some(Offset::Offset(offset))) => offset,
        (End::Committed, _) => low,
    };
    let since = match from {
        Start::Ago(ago) => Some(now_ms() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        Start::At(millis) => Some(millis),
        Start::Earliest | Start::Latest => None,
    };
    let from = match since {
        Some(time) => {
            list.set_partition_offset(topic, partition, Offset::Offset(time)).with_context(cannot)?;
            match at(reader.offsets_for_times(list, PATIENCE).with_context(cannot)?) {
                Some(Offset::Offset(offset)) => offset,
                _ => high,
            }
        }
        None => low,
    };
    Ok(Range { topic: topic.to_owned(), partition, from: from.min(to), to, deleted_before: low })
}

/// Works out what must have come of the input.
fn read_input(
    settings: &Settings,
    catalogue: Arc<Catalogue>,
    config: &ClientConfig,
    books: &mut Books,
) -> anyhow::Result<()> {
    let middle = Middle::new(catalogue, settings.service_options());
    let mut topics: Vec<String> = books.ranges.iter().map(|range| range.topic.clone()).collect();
    topics.dedup();
    for topic in topics {
        let reader = reader(config, settings, true)?;
        let is_its = |(_, range): &(usize, &Range)| range.topic == topic;
        let numbers: Vec<(usize, i32)> =
            books.ranges.iter().enumerate().filter(is_its).map(|(at, range)| (at, range.partition)).collect();
        let parts: Vec<(i32, i64, i64)> = numbers
            .iter()
            .map(|(at, number)| (*number, books.ranges[*at].from, books.ranges[*at].to))
            .collect();
        read(&reader, &topic, &parts, |message| {
            let at = numbers.iter().find(|(_, number)| *number == message.partition());
            let (at, _) = at.expect("only these partitions are read");
            expect(settings, &middle, &topic, *at, message, books).map_err(|TooMany| {
                anyhow!("more than {LIMIT} events in this range: audit a smaller one with --from")
            })
        })?;
    }
    Ok(())
}

/// What must come of one message.
fn expect(
    settings: &Settings,
    middle: &Middle,
    topic: &str,
    range: usize,
    message: &BorrowedMessage<'_>,
    books: &mut Books,
) -> Result<(), TooMany> {
    let mut digest = middle.digest(&[input(topic, message)]);
    let offset = message.offset();
    for event in &digest.events {
        books.expect(Kind::Event, range, offset, event.source.index)?;
    }
    for reject in digest.rejects.iter().filter(|it| settings.dead_letters.policy(it.reason) == Policy::Keep) {
        let index = reject.piece.as_ref().map_or(WHOLE, |(index, _)| *index);
        books.expect(Kind::Letter, range, offset, index)?;
    }
    for mut held in std::mem::take(&mut digest.held) {
        locate(&mut held, std::slice::from_ref(message));
        let (key, is_old) = (held.key.clone(), window::is_old(&held));
        if is_old {
            continue;
        }
        let mut one = Digest { held: vec![held], ..Digest::default() };
        one.admit(middle, |_| Admission::New);
        for event in &one.events {
            match &key {
                Some(key) => books.expect_once(key.clone(), range, offset, event.source.index)?,
                None => books.expect(Kind::Event, range, offset, event.source.index)?,
            }
        }
    }
    Ok(())
}

/// Reads all that is in a topic now.
fn read_topic(
    config: &ClientConfig,
    settings: &Settings,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> anyhow::Result<()> {
    let cannot = || format!("cannot ask the brokers for offsets of `{topic}`");
    let (committed, all) = (reader(config, settings, true)?, reader(config, settings, false)?);
    let metadata = all.fetch_metadata(Some(topic), PATIENCE).with_context(cannot)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let found = found.with_context(|| format!("no topic `{topic}` that we may see"))?;
    let mut parts = Vec::new();
    for partition in found.partitions().iter().map(MetadataPartition::id) {
        let (low, high) = all.fetch_watermarks(topic, partition, PATIENCE).with_context(cannot)?;
        // What stands behind an open transaction cannot be seen before it ends.
        let began = Instant::now();
        while committed.fetch_watermarks(topic, partition, PATIENCE).with_context(cannot)?.1 < high {
            if began.elapsed() >= OPEN {
                bail!("a transaction in {topic}/{partition} is still open; try again when it has ended");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        parts.push((partition, low, high));
    }
    read(&committed, topic, &parts, |message| {
        take(message);
        Ok(())
    })
}

/// Reads partitions of a topic, each from an offset up to another one; all before it must be there to read.
fn read(
    reader: &Reader,
    topic: &str,
    parts: &[(i32, i64, i64)],
    mut take: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut open: Vec<(i32, i64, i64)> = parts.iter().copied().filter(|(_, from, to)| from < to).collect();
    let mut list = TopicPartitionList::new();
    for (partition, from, _) in &open {
        list.add_partition_offset(topic, *partition, Offset::Offset(*from))?;
    }
    reader.assign(&list).with_context(|| format!("cannot read `{topic}`"))?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        match reader.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some(at) = open.iter().position(|part| part.0 == message.partition()) else { continue };
                let to = open[at].2;
                if message.offset() < to {
                    take(&message)?;
                }
                if message.offset() + 1 >= to {
                    close(reader, topic, open.swap_remove(at).0);
                }
            }
            // Behind the last message there may be marks of transactions.
            Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|part| part.0 != partition),
            Some(Err(error)) => tracing::debug!(%error, "the Kafka client goes on by itself"),
            None if heard.elapsed() < PATIENCE => {}
            None => bail!(
                "cannot read `{topic}` to its end: {}",
                reader.context().reason().unwrap_or_else(|| "nothing came for 30 s".to_owned())
            ),
        }
    }
    Ok(())
}

/// What stands behind the range is not fetched.
fn close(reader: &Reader, topic: &str, partition: i32) {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    if let Err(error) = reader.pause(&list) {
        tracing::debug!(%error, "read on in vain");
    }
}

/// The last header of a name; those of the original message stand before ours.
fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = message.headers()?;
    let header = headers.iter().filter(|header| header.key == name).last()?;
    std::str::from_utf8(header.value?).ok()
}

fn note_event(books: &mut Books, message: &BorrowedMessage<'_>) {
    books.found_event(header(message, "event-id").unwrap_or_default(), &place(message));
}

fn place(message: &BorrowedMessage<'_>) -> String {
    format!("{}/{}/{}", message.topic(), message.partition(), message.offset())
}

/// What a dead letter says of itself.
#[derive(Debug, Default, Deserialize)]
struct Address {
    reason: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    index: Option<u32>,
}

fn address(message: &BorrowedMessage<'_>) -> Address {
    let text = |name| header(message, name).map(str::to_owned);
    Address {
        reason: text("reason"),
        topic: text("topic"),
        partition: text("partition").and_then(|text| text.parse().ok()),
        offset: text("offset").and_then(|text| text.parse().ok()),
        index: text("index").and_then(|text| text.parse().ok()),
    }
}

fn note_letter(books: &mut Books, address: &Address, at: &str) {
    let Address { reason, topic, partition, offset, index } = address;
    // An event that its topic refused was delivered here.
    let kind = if reason.as_deref() == Some(UNDELIVERABLE) { Kind::Event } else { Kind::Letter };
    match (topic, partition, offset) {
        (Some(topic), Some(partition), Some(offset)) => {
            books.found(kind, (topic, *partition, *offset, index.unwrap_or(WHOLE)), at);
        }
        _ => books.found_stranger(kind, format!("{at}, a dead letter without a position")),
    }
}
