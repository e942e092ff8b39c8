//! Commits offsets and notes what came of it.
//!
//! librdkafka tells the outcome of an asynchronous commit only to a callback of its configuration, which rdkafka 0.39
//! does not set, or to a queue that is named with the commit. So this names the queue that the consumer polls:
//! [`Context::commit_callback`](super::context::Context) hears of it there.
#![expect(unsafe_code, reason = "the one call of librdkafka that rdkafka does not wrap")]

use std::ptr;

use rdkafka::bindings::{rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{IsError, KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use super::context::{Context, now_ms};
use super::progress::TopicPartition;

/// Commits and waits for the answer.
pub fn commit_now(consumer: &BaseConsumer<Context>, offsets: &[(TopicPartition, i64)]) {
    let list = list(offsets);
    note(consumer.context(), consumer.commit(&list, CommitMode::Sync), &list);
}

/// Commits; a later poll hears the answer.
pub fn commit_soon(consumer: &BaseConsumer<Context>, offsets: &[(TopicPartition, i64)]) {
    let list = list(offsets);
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as the consumer, the list until the call returns, which copies it. The queue is
    // counted by reference: the commit keeps it as long as it needs it.
    let code = unsafe {
        let queue = rd_kafka_queue_get_consumer(client);
        let code = rd_kafka_commit_queue(client, list.ptr(), queue, None, ptr::null_mut());
        rd_kafka_queue_destroy(queue);
        code
    };
    if code.is_error() {
        note(consumer.context(), Err(KafkaError::ConsumerCommit(code.into())), &list);
    }
}

/// Counts a commit, or says that it failed; the next one takes the same offsets along.
pub fn note(context: &Context, result: KafkaResult<()>, offsets: &TopicPartitionList) {
    match result {
        Ok(()) => {
            context.metrics.commit();
            let now = now_ms();
            for element in offsets.elements() {
                let partition = (element.topic().into(), element.partition());
                if let (Offset::Offset(offset), Ok(()), false) =
                    (element.offset(), element.error(), context.is_retired())
                {
                    context.progress.committed(&partition, offset);
                    context.metrics.last_commit(element.topic(), element.partition(), now);
                }
            }
        }
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => {
            context.metrics.commit_failure();
            if let Some(suppressed) = context.commit_line.permit() {
                warn!(%error, suppressed, "cannot commit offsets; will try again");
            }
        }
    }
}

pub fn list(offsets: &[(TopicPartition, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next_offset) in offsets {
        // Every offset comes from a message, so it is a valid one.
        let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next_offset));
    }
    list
}
