//! What the Kafka client tells us: log lines, errors, statistics, rebalances, finished commits.
//!
//! All of it runs on the thread that polls, so nothing here may wait for long.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::commit::{commit_now, note};
use super::progress::{Progress, TopicPartition};
use super::start::{Beginning, beginnings};
use super::transaction::Transaction;
use crate::config::client_log::ClientLog;
use crate::config::{Kafka, Start};
use crate::digest::time::Millis;
use crate::log::Rarely;
use crate::metrics::Metrics;

/// A revoked partition's last batches are waited for this long: digesting them takes milliseconds, and the group waits
/// meanwhile.
pub const DRAIN: Duration = Duration::from_secs(10);

/// A broker that is away says so many times a second.
const OUTAGE_LINE: Duration = Duration::from_secs(60);

/// State that callbacks share with the poll loop.
pub struct Context {
    pub progress: Arc<Progress>,
    pub metrics: Arc<Metrics>,
    /// Where offsets go along with what is sent.
    transaction: Option<Arc<Transaction>>,
    pub client_log: ClientLog,
    start: Start,
    /// The group answered: partitions were assigned, or there are none for this member.
    pub has_joined: AtomicBool,
    /// Some broker has answered since the start.
    pub has_connected: AtomicBool,
    /// A partition is assigned whose beginning could not be found yet.
    pub needs_repair: AtomicBool,
    /// Another consumer has taken its place: whatever comes of this one moves nothing.
    is_retired: AtomicBool,
    outage: Rarely,
    /// About commits that fail.
    pub commit_line: Rarely,
}

impl Context {
    pub fn new(
        progress: Arc<Progress>,
        metrics: Arc<Metrics>,
        transaction: Option<Arc<Transaction>>,
        kafka: &Kafka,
    ) -> Self {
        Self {
            progress,
            metrics,
            transaction,
            client_log: ClientLog::new(kafka.oauth.as_ref()),
            start: kafka.start,
            has_joined: AtomicBool::new(false),
            has_connected: AtomicBool::new(false),
            needs_repair: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            outage: Rarely::new(OUTAGE_LINE),
            commit_line: Rarely::new(OUTAGE_LINE),
        }
    }

    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Finds beginnings and notes what was lost.
    pub fn locate(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[(TopicPartition, Option<i64>)],
    ) -> KafkaResult<Vec<Beginning>> {
        let found = beginnings(consumer, partitions, self.start, now_ms())?;
        for beginning in found.iter().filter(|beginning| beginning.lost > 0) {
            let (topic, partition) = &beginning.partition;
            self.metrics.messages_lost(topic, beginning.lost);
            warn!(
                topic = &**topic,
                partition,
                lost = beginning.lost,
                "messages were deleted before they were read"
            );
        }
        Ok(found)
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, tpl: &mut TopicPartitionList) {
        let partitions = keys(tpl);
        info!(count = partitions.len(), partitions = %names(&partitions), "partitions assigned");
        partitions.iter().for_each(|(topic, _)| self.metrics.declare_topic(topic));
        let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), None)).collect();
        let found = if asked.is_empty() { Ok(Vec::new()) } else { self.locate(consumer, &asked) };
        match found {
            Ok(found) => {
                for Beginning { partition: (topic, number), offset, .. } in &found {
                    // The partition is in the list, so this cannot fail.
                    let _ = tpl.set_partition_offset(topic, *number, Offset::Offset(*offset));
                }
                self.progress.assign(found.iter().map(|found| (found.partition.clone(), Some(found.offset))));
                found.iter().for_each(|found| self.progress.high(&found.partition, found.high));
            }
            Err(error) => {
                // Without a beginning the client would go by its own reset policy, which is `error`; the poll loop
                // asks again when it reports that.
                warn!(%error, "cannot find where the partitions begin; will ask again");
                self.progress.assign(asked);
                self.needs_repair.store(true, Ordering::Relaxed);
            }
        }
        let result = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(tpl),
            _ => consumer.assign(tpl),
        };
        if let Err(error) = result {
            warn!(%error, "cannot take the assigned partitions");
        }
        self.has_joined.store(true, Ordering::Relaxed);
        self.metrics.rebalance("assign");
        self.metrics.assigned_partitions(self.progress.positions().len());
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, tpl: &TopicPartitionList) {
        let partitions = keys(tpl);
        let is_lost = consumer.assignment_lost();
        let kind = if is_lost { "lost" } else { "revoke" };
        info!(count = partitions.len(), partitions = %names(&partitions), kind, "partitions given up");
        if is_lost {
            info!(
                "the group had not heard of this process for session.timeout.ms, or forgot it; it joins anew, which may \
                 take as long again while the group still waits for it"
            );
        }
        let deadline = Instant::now() + DRAIN;
        if let Some(transaction) = self.transaction.as_ref().filter(|_| !partitions.is_empty()) {
            let is_committed = !is_lost
                && self.progress.wait_until_drained(&partitions, deadline)
                && transaction.settle(deadline);
            if !is_committed {
                transaction.break_off("partitions were given up before all that came of them was delivered");
            }
            self.progress.revoke(&partitions, Instant::now());
        } else {
            let commits = self.progress.revoke(&partitions, deadline);
            // Of a lost assignment somebody else reads already; a commit would be refused.
            if !is_lost && !commits.is_empty() {
                commit_now(consumer, &commits);
            }
        }
        give_up(consumer, tpl);
        // The commit may have taken so long that another consumer has them by now.
        if self.is_retired() {
            return;
        }
        partitions.iter().for_each(|(topic, partition)| self.metrics.forget_partition(topic, *partition));
        self.metrics.rebalance(kind);
        self.metrics.assigned_partitions(self.progress.positions().len());
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        match error {
            _ if self.is_retired() => give_up(consumer, tpl),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, tpl),
            _ => self.revoke(consumer, tpl),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        note(self, result, offsets);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.client_log.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client_log.note(facility, message);
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                self.outage_line(message);
            }
            _ => debug!(facility, message, "kafka client"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A missing topic has a line of its own, which says what to do.
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition)) {
            return;
        }
        self.client_log.note("ERROR", reason);
        debug!(%error, reason, "kafka client error");
        self.outage_line(reason);
    }

    fn stats(&self, statistics: Statistics) {
        if self.is_retired() {
            return;
        }
        if statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0) {
            self.has_connected.store(true, Ordering::Relaxed);
            self.client_log.forget();
        }
        #[expect(clippy::iter_over_hash_type, reason = "each partition is noted by its own key")]
        for (name, topic) in &statistics.topics {
            let topic_name: Arc<str> = name.as_str().into();
            for (number, partition) in &topic.partitions {
                let key = (Arc::clone(&topic_name), *number);
                if partition.hi_offset >= 0 {
                    self.progress.high(&key, partition.hi_offset);
                }
                if partition.next_offset >= 0 {
                    self.progress.fetched(&key, partition.next_offset, partition.fetchq_cnt == 0);
                }
            }
        }
    }
}

impl Context {
    /// One line at once when brokers are away or refuse us, then one a minute.
    fn outage_line(&self, reason: &str) {
        if let Some(suppressed) = self.outage.permit() {
            let cause = self.client_log.reason().unwrap_or_else(|| reason.to_owned());
            warn!(cause, suppressed, "waiting for Kafka");
        }
    }
}

fn give_up(consumer: &BaseConsumer<Context>, tpl: &TopicPartitionList) {
    let result = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(tpl),
        _ => consumer.unassign(),
    };
    if let Err(error) = result {
        warn!(%error, "cannot give up partitions");
    }
}

fn keys(tpl: &TopicPartitionList) -> Vec<TopicPartition> {
    // `elements` of an empty list is not safe in every version of the client.
    if tpl.count() == 0 {
        return Vec::new();
    }
    tpl.elements().iter().map(|element| (element.topic().into(), element.partition())).collect()
}

fn names(partitions: &[TopicPartition]) -> String {
    /// Partitions that a log line names.
    const SHOWN: usize = 12;
    let mut names: Vec<String> =
        partitions.iter().take(SHOWN).map(|(topic, number)| format!("{topic}/{number}")).collect();
    if partitions.len() > SHOWN {
        names.push(format!("{} more", partitions.len() - SHOWN));
    }
    names.join(" ")
}

pub fn now_ms() -> Millis {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
