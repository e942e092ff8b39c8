//! Notices partitions that stand still although there is more to read in them: the client can wait for ever for one broker.
//!
//! A client that waits so knows no end that moves. So another client is asked, a new one each time, for its connections must
//! not have died the same death. What it cannot learn is no ground for a judgement: brokers that are away are an outage,
//! which passes by itself. Only the end that the brokers tell a stranger, beyond where we stand and for long, is a stall.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::progress::{Progress, Step, TopicPartition};
use crate::config::Settings;
use crate::config::client_log::ClientLog;
use crate::config::kafka::client_config;

/// A stranger's connection and its first answer take this long at most.
const GREETING: Duration = Duration::from_secs(15);
/// One leader's answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long one question waits before the stranger's own callbacks get their turn: they fetch its tokens.
const QUESTION: Duration = Duration::from_millis(500);
/// Looks in a period.
const LOOKS: u32 = 4;
/// Consumers that were built anew in vain double the period, at most so often: a partition that no consumer can read must
/// not keep its group in rebalances.
const DOUBLINGS: u32 = 4;

/// Why a consumer is built anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// These partitions stand still, each at this offset.
    Stalled(Vec<(TopicPartition, i64)>),
    /// A file that the client read when it was built has changed.
    Files,
}

impl Renewal {
    /// Its word in `aadstream_consumer_rebuilds_total`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stalled(_) => "stalled",
            Self::Files => "files",
        }
    }
}

/// Shared by the poll loop, its own thread and readiness.
pub struct Watchdog {
    period: Duration,
    progress: Arc<Progress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    marks: BTreeMap<TopicPartition, Mark>,
    /// Partitions that were found standing still, and where; they leave the list when they move.
    stalled: BTreeMap<TopicPartition, i64>,
    /// How often in a row consumers were built anew for them.
    in_vain: u32,
    wanted: Option<Renewal>,
}

/// What was seen of a partition.
struct Mark {
    generation: u64,
    position: i64,
    /// When it was last seen elsewhere.
    moved: Instant,
    /// From when on it could have been read: neither paused nor halted.
    open: Instant,
    /// Since when there is known to be more.
    behind: Option<Instant>,
}

impl Watchdog {
    pub fn new(period: Duration, progress: Arc<Progress>) -> Self {
        Self { period, progress, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Asks for another consumer.
    pub fn renew(&self, renewal: Renewal) {
        self.lock().wanted = Some(renewal);
    }

    /// What was asked for, once.
    pub fn take(&self) -> Option<Renewal> {
        self.lock().wanted.take()
    }

    pub fn stalled(&self) -> Vec<(TopicPartition, i64)> {
        self.lock().stalled.iter().map(|(partition, at)| (partition.clone(), *at)).collect()
    }

    /// Notes how far each assigned partition has come. Gives how many stand still.
    pub fn observe(&self, steps: &[Step], is_paused: bool, now: Instant) -> usize {
        let mut state = self.lock();
        let State { marks, stalled, in_vain, .. } = &mut *state;
        marks.retain(|partition, mark| {
            steps.iter().any(|step| step.partition == *partition && step.generation == mark.generation)
        });
        for Step { partition, generation, position, is_halted } in steps {
            let Some(position) = *position else { continue };
            let fresh = Mark { generation: *generation, position, moved: now, open: now, behind: None };
            let mark = marks.entry(partition.clone()).or_insert(fresh);
            if mark.position != position {
                (mark.position, mark.moved, mark.behind) = (position, now, None);
            }
            if is_paused || *is_halted {
                (mark.open, mark.behind) = (now, None);
            }
            if stalled.get(partition).is_some_and(|at| position > *at) {
                stalled.remove(partition);
            }
        }
        // While the group is joined anew nobody knows whose they are.
        if !steps.is_empty() {
            stalled.retain(|partition, _| steps.iter().any(|step| step.partition == *partition));
        }
        if stalled.is_empty() {
            *in_vain = 0;
        }
        stalled.len()
    }

    /// Partitions whose end is worth a question.
    fn doubtful(&self, now: Instant) -> Vec<TopicPartition> {
        let state = self.lock();
        let is_quiet = |mark: &Mark| now.saturating_duration_since(mark.moved) >= self.period / 2;
        state
            .marks
            .iter()
            .filter(|(_, mark)| is_quiet(mark))
            .map(|(partition, _)| partition.clone())
            .collect()
    }

    /// Judges by what was answered of each partition's end; without an answer nothing is known.
    fn judge(&self, answers: &[(TopicPartition, Option<i64>)], now: Instant) {
        for (partition, end) in answers {
            if let Some(end) = end {
                // The lag of a partition that is not fetched is heard of nowhere else.
                self.progress.high(partition, *end);
            }
        }
        let mut state = self.lock();
        let patience = self.period * 2_u32.pow(state.in_vain.min(DOUBLINGS));
        let mut found = Vec::new();
        for (partition, end) in answers {
            let Some(mark) = state.marks.get_mut(partition) else { continue };
            if end.is_none_or(|end| end <= mark.position) {
                mark.behind = None;
                continue;
            }
            let for_long = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
            let behind = *mark.behind.get_or_insert(now);
            if for_long(mark.moved.max(mark.open), patience) && for_long(behind, patience / 2) {
                found.push((partition.clone(), mark.position));
            }
        }
        if !found.is_empty() {
            state.in_vain += 1;
            state.stalled.extend(found.iter().cloned());
            state.wanted = Some(Renewal::Stalled(found));
            state.marks.clear();
        }
    }

    /// Looks again and again, on a thread of its own, until what this returns is dropped.
    pub fn guard(self: &Arc<Self>, settings: &Settings) -> anyhow::Result<Sender<()>> {
        let (alive, ended) = bounded(0);
        let (watchdog, settings) = (Arc::clone(self), settings.clone());
        // Nobody waits for it at the end: a question may be under way.
        let look = move || {
            while ended.recv_timeout(watchdog.period / LOOKS) == Err(RecvTimeoutError::Timeout) {
                let doubtful = watchdog.doubtful(Instant::now());
                if !doubtful.is_empty() {
                    let answers = ask(&settings, &doubtful);
                    watchdog.judge(&answers, Instant::now());
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        thread.spawn(look).context("cannot start the watchdog's thread")?;
        Ok(alive)
    }
}

/// The end of each partition as a stranger hears it.
fn ask(settings: &Settings, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<i64>)> {
    let ends =
        Stranger::new(settings).and_then(|stranger| stranger.ends(partitions)).unwrap_or_else(|error| {
            debug!(%error, "the watchdog has no answer");
            BTreeMap::new()
        });
    partitions.iter().map(|partition| (partition.clone(), ends.get(partition).copied())).collect()
}

/// A client that only asks.
struct Stranger(BaseConsumer<ClientLog>);

impl Stranger {
    fn new(settings: &Settings) -> KafkaResult<Self> {
        let mut config = client_config(settings);
        // It must be no member of the group.
        config.remove("group.id").remove("group.instance.id").remove("statistics.interval.ms");
        Ok(Self(config.create_with_context(ClientLog::new(settings.kafka.oauth.as_ref()))?))
    }

    /// One question a leader, so that one who does not answer silences nobody else.
    fn ends(&self, partitions: &[TopicPartition]) -> KafkaResult<BTreeMap<TopicPartition, i64>> {
        let mut by_leader: BTreeMap<i32, TopicPartitionList> = BTreeMap::new();
        let topics: BTreeSet<&str> = partitions.iter().map(|(topic, _)| &**topic).collect();
        for topic in topics {
            for (number, leader) in self.leaders(topic)? {
                if partitions.iter().any(|(name, partition)| **name == *topic && *partition == number) {
                    let list = by_leader.entry(leader).or_default();
                    // Where a time is meant, this asks for the end that readers may see.
                    list.add_partition_offset(topic, number, Offset::End)?;
                }
            }
        }
        let mut ends = BTreeMap::new();
        for (leader, list) in by_leader {
            match self.0.offsets_for_times(list, ANSWER) {
                Ok(answer) => ends.extend(answer.elements().iter().filter_map(|element| {
                    let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
                    Some(((element.topic().into(), element.partition()), offset))
                })),
                Err(error) => debug!(leader, %error, "the watchdog has no answer"),
            }
        }
        Ok(ends)
    }

    fn leaders(&self, topic: &str) -> KafkaResult<Vec<(i32, i32)>> {
        let deadline = Instant::now() + GREETING;
        loop {
            let error = match self.0.fetch_metadata(Some(topic), QUESTION) {
                Ok(metadata) => {
                    let found = metadata.topics().iter().filter(|found| found.name() == topic);
                    let partitions = found.flat_map(MetadataTopic::partitions);
                    return Ok(partitions.map(|it| (it.id(), it.leader())).filter(|it| it.1 >= 0).collect());
                }
                Err(error) => error,
            };
            while self.0.poll(Duration::ZERO).is_some() {}
            if Instant::now() >= deadline {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(100);

    struct Scene {
        watchdog: Watchdog,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { watchdog: Watchdog::new(PERIOD, Arc::default()), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Partition 0 was seen at `position`.
        fn observe(&self, seconds: u64, generation: u64, position: i64, is_paused: bool) -> usize {
            let step = Step { partition: key(), generation, position: Some(position), is_halted: false };
            self.watchdog.observe(&[step], is_paused, self.at(seconds))
        }

        /// Asks if that is due; whether a consumer is to be built anew then.
        fn look(&self, seconds: u64, end: Option<i64>) -> bool {
            let doubtful = self.watchdog.doubtful(self.at(seconds));
            let answers: Vec<_> = doubtful.into_iter().map(|partition| (partition, end)).collect();
            self.watchdog.judge(&answers, self.at(seconds));
            self.watchdog.take().is_some()
        }
    }

    fn key() -> TopicPartition {
        ("t".into(), 0)
    }

    #[test]
    fn a_partition_behind_its_end_for_a_period_is_stalled() {
        let scene = Scene::new();
        scene.observe(0, 1, 10, false);
        for (seconds, stalled) in [(25, false), (50, false), (75, false), (100, true), (125, false)] {
            assert_eq!(scene.look(seconds, Some(20)), stalled, "after {seconds} s");
        }
        assert_eq!(scene.watchdog.stalled(), [(key(), 10)]);
        assert_eq!(scene.observe(126, 2, 10, false), 1, "the next consumer has it and did not move it yet");
        assert_eq!(scene.observe(127, 2, 11, false), 0);
    }

    #[test]
    fn silence_is_no_stall() {
        let scene = Scene::new();
        scene.observe(0, 1, 10, false);
        for seconds in (25..1000).step_by(25) {
            assert!(!scene.look(seconds, Some(10)), "nothing to read");
        }
        for seconds in (1000..2000).step_by(25) {
            assert!(!scene.look(seconds, None), "nobody answers");
        }
        assert!(!scene.look(2000, Some(11)), "a message that came this moment");
        assert!(!scene.look(2025, None), "what was known is in doubt again");
        assert!(!scene.look(2050, Some(11)));
        assert!(!scene.look(2075, Some(11)));
        assert!(scene.look(2100, Some(11)));
    }

    #[test]
    fn a_paused_partition_is_not_stalled_and_begins_anew() {
        let scene = Scene::new();
        scene.observe(0, 1, 10, false);
        for seconds in (25..500).step_by(25) {
            scene.observe(seconds, 1, 10, true);
            assert!(!scene.look(seconds, Some(20)), "after {seconds} s");
        }
        scene.observe(500, 1, 10, false);
        assert!(!scene.look(525, Some(20)));
        assert!(!scene.look(550, Some(20)));
        assert!(scene.look(575, Some(20)), "a period after it was last seen paused");
    }

    #[test]
    fn consumers_built_in_vain_grow_rare() {
        let scene = Scene::new();
        let mut at = Vec::new();
        for seconds in (0..4000).step_by(25) {
            scene.observe(seconds, 1, 10, false);
            if scene.look(seconds, Some(20)) {
                at.push(seconds);
            }
        }
        assert_eq!(at, [100, 325, 750, 1575, 3200], "each time twice as long, and one look to begin with");
        scene.observe(4000, 1, 20, false);
        assert_eq!(scene.watchdog.lock().in_vain, 0, "it moved");
    }

    #[test]
    fn of_a_partition_of_others_nothing_is_left() {
        let scene = Scene::new();
        scene.observe(0, 1, 10, false);
        for seconds in [50, 75, 100] {
            scene.look(seconds, Some(20));
        }
        let other = Step { partition: ("t".into(), 1), generation: 2, position: Some(0), is_halted: false };
        assert_eq!(scene.watchdog.observe(&[], false, scene.at(101)), 1, "the group is being joined");
        assert_eq!(scene.watchdog.observe(&[other], false, scene.at(102)), 0);
    }

    #[test]
    fn a_stranger_hears_the_ends() {
        use rdkafka::mocking::MockCluster;
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let cluster = MockCluster::new(2).unwrap();
        cluster.create_topic("t", 3, 1).unwrap();
        let producer: BaseProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .unwrap();
        for _ in 0..7 {
            producer.send(BaseRecord::<(), str>::to("t").partition(1).payload("x")).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let mut settings = Settings::default();
        settings.kafka.brokers = cluster.bootstrap_servers();
        let partitions: Vec<TopicPartition> = (0..3).map(|number| ("t".into(), number)).collect();
        let ends: Vec<_> = ask(&settings, &partitions).into_iter().map(|(_, end)| end).collect();
        assert_eq!(ends, [Some(0), Some(7), Some(0)]);
        let missing = [("t".into(), 3)];
        assert_eq!(ask(&settings, &missing), [(("t".into(), 3), None)]);
    }
}
