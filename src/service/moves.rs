//! Takes partitions up again at another offset.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::PollLoop;
use super::progress::TopicPartition;
use super::start::Beginning;
use super::transaction::Committed;

/// The brokers' answer is waited for so long; meanwhile nobody polls.
const ANSWER: Duration = Duration::from_secs(2);

impl PollLoop<'_, '_> {
    /// Takes partitions whose position is gone, or was never found, up again where they can be read.
    pub fn repair(&self) {
        let context = self.consumer.context();
        let positions = self.service.progress.positions();
        let found = match context.locate(self.consumer, &positions) {
            Ok(found) => found,
            Err(error) => return warn!(%error, "cannot find where partitions begin; will ask again"),
        };
        context.needs_repair.store(false, Ordering::Relaxed);
        for (Beginning { partition, offset, high, .. }, (_, known)) in found.iter().zip(&positions) {
            // The client may have found the beginning by itself since; what it brought would come twice.
            if *known == Some(*offset) || known.is_none() && self.service.progress.is_read(partition) {
                continue;
            }
            if let Err(error) = self.move_to(partition, Offset::Offset(*offset)) {
                warn!(%error, "cannot move a partition to where it can be read");
                context.needs_repair.store(true, Ordering::Relaxed);
            }
            self.service.progress.reposition(partition, *offset);
            self.service.progress.high(partition, *high);
            info!(
                topic = &*partition.0,
                partition = partition.1,
                offset,
                "partition goes on at another offset"
            );
        }
    }

    /// Goes back to the committed offsets; false if the brokers have to tell them and do not yet. Between two turns no
    /// batch is being filled.
    pub fn rewind(&mut self, offsets: Committed) -> KafkaResult<bool> {
        if offsets == Committed::Unknown
            && let Err(error) = self.ask_committed()
        {
            if let Some(suppressed) = self.error_line.permit() {
                warn!(%error, suppressed, "cannot learn which offsets are committed; will ask again");
            }
            return Ok(false);
        }
        for (partition, committed) in self.service.progress.rewind() {
            // Where its beginning was never found the client asks for it, or reports that there is none.
            self.move_to(&partition, committed.map_or(Offset::Stored, Offset::Offset))?;
        }
        // What was paused stays so: the next turn makes room and looks who stands.
        Ok(true)
    }

    /// Takes the word of the brokers for what is committed. They give it once no transaction is open that may change it.
    fn ask_committed(&self) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), _) in self.service.progress.positions() {
            list.add_partition(&topic, partition);
        }
        if list.count() == 0 {
            return Ok(());
        }
        let told = self.consumer.committed_offsets(list, ANSWER)?;
        for element in told.elements() {
            element.error()?;
            // Where nothing was ever committed, it began where it began.
            if let Offset::Offset(offset) = element.offset() {
                self.service.progress.committed(&(element.topic().into(), element.partition()), offset);
            }
        }
        Ok(())
    }

    /// Reads on at this offset.
    fn move_to(&self, partition: &TopicPartition, offset: Offset) -> KafkaResult<()> {
        let mut tpl = TopicPartitionList::new();
        tpl.add_partition_offset(&partition.0, partition.1, offset)?;
        self.consumer.incremental_unassign(&tpl)?;
        self.consumer.incremental_assign(&tpl)
    }
}
