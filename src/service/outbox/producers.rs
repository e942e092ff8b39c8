//! The producers of the moment, and the next ones where they are built anew: with other keys, or because they failed.

use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{Producer, PurgeConfig, ThreadedProducer};
use tracing::info;

use super::super::steady::renew_token;
use super::desk::{Desk, Post};
use crate::config::Settings;
use crate::config::producer::producer_config;

/// What is on its way in a producer that another one replaces may take so long to arrive. The rest is sent again.
const LEAVE: Duration = Duration::from_secs(5);

/// One producer for most letters, and one for those that go in batches of their own.
pub struct Producers {
    settings: Settings,
    desk: Arc<Desk>,
    pair: RwLock<Pair>,
}

struct Pair {
    usual: ThreadedProducer<Post>,
    /// For letters whose batch was too large. Made when first needed.
    single: OnceLock<ThreadedProducer<Post>>,
    config: ClientConfig,
}

impl Producers {
    /// `None` if nothing goes to Kafka.
    pub fn open(settings: &Settings, desk: &Arc<Desk>) -> anyhow::Result<Option<Self>> {
        let Some(pair) = Pair::open(settings, desk)? else { return Ok(None) };
        for (topic, what) in [(&desk.event_topic, "events"), (&desk.dead_topic, "dead letters")] {
            if let Some(topic) = topic {
                info!(topic, brokers = settings.output_brokers(), "sending {what}");
            }
        }
        let pair = RwLock::new(pair);
        Ok(Some(Self { settings: settings.clone(), desk: Arc::clone(desk), pair }))
    }

    /// Uses the producer of letters that go alone, or of the others; nobody replaces it meanwhile.
    pub fn with<R>(&self, is_alone: bool, call: impl FnOnce(&ThreadedProducer<Post>) -> R) -> R {
        let pair = self.pair.read().expect("no code panics while it holds this lock");
        call(if is_alone { pair.single(&self.desk) } else { &pair.usual })
    }

    /// Why a producer failed for good: that of letters that go alone, or of the others.
    pub fn fatal(&self, is_alone: bool) -> Option<(RDKafkaErrorCode, String)> {
        let pair = self.pair.read().expect("no code panics while it holds this lock");
        let producer = if is_alone { pair.single.get() } else { Some(&pair.usual) };
        producer?.client().fatal_error()
    }

    pub fn renew_tokens(&self) {
        let pair = self.pair.read().expect("no code panics while it holds this lock");
        for producer in std::iter::once(&pair.usual).chain(pair.single.get()) {
            renew_token(producer.client());
        }
    }

    /// Puts others in their place, which log in with what their files hold now. Whoever wants to send waits until the old
    /// ones have delivered what they can; the rest comes back.
    pub fn replace(&self) -> anyhow::Result<()> {
        let next = Pair::open(&self.settings, &self.desk)?.expect("the same settings had a producer before");
        let mut pair = self.pair.write().expect("no code panics while it holds this lock");
        pair.empty();
        let last = std::mem::replace(&mut *pair, next);
        drop(pair);
        // It takes a moment to close.
        drop(last);
        Ok(())
    }
}

impl Pair {
    fn open(settings: &Settings, desk: &Arc<Desk>) -> anyhow::Result<Option<Self>> {
        let Some(mut config) = producer_config(settings) else { return Ok(None) };
        if let Some(naming) = &desk.naming {
            config.set("transactional.id", &naming.id);
        }
        let made = config.create_with_context(Post(Arc::clone(desk)));
        let usual = made.context("cannot create the Kafka producer")?;
        Ok(Some(Self { usual, single: OnceLock::new(), config }))
    }

    fn single(&self, desk: &Arc<Desk>) -> &ThreadedProducer<Post> {
        self.single.get_or_init(|| {
            let mut config = self.config.clone();
            config.set("batch.num.messages", "1");
            if let Some(id) = config.get("transactional.id").map(|id| format!("{id}/alone")) {
                config.set("transactional.id", id);
            }
            let made = config.create_with_context(Post(Arc::clone(desk)));
            made.expect("its like was made from the same options")
        })
    }

    /// Delivers what can be delivered and gives the rest back.
    fn empty(&self) {
        let producers = || std::iter::once(&self.usual).chain(self.single.get());
        // Those that cannot deliver give back at once what they still hold.
        producers().for_each(|producer| drop(producer.flush(LEAVE)));
        for producer in producers() {
            producer.purge(PurgeConfig::default().queue().inflight());
            drop(producer.flush(LEAVE));
        }
    }
}
