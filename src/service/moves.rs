//! Takes partitions up again at another offset.

use std::sync::atomic::Ordering;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::PollLoop;
use super::progress::TopicPartition;
use super::start::Beginning;

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

    /// Goes back to the committed offsets. Between two turns no batch is being filled.
    pub fn rewind(&mut self) -> KafkaResult<()> {
        for (partition, committed) in self.service.progress.rewind() {
            // Where its beginning was never found the client asks for it, or reports that there is none.
            self.move_to(&partition, committed.map_or(Offset::Stored, Offset::Offset))?;
        }
        // What was paused stays so: the next turn makes room and looks who stands.
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
