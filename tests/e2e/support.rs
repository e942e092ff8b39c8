//! What the end-to-end tests stand on: a broker, a running `aadstream`, a Prometheus that scrapes it, all on loopback.
//!
//! Nothing here sleeps for a fixed time: [`wait_until`] looks again and again until a deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Once, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::clock::Clock;

/// Long enough for a group to form on a busy machine of two cores; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the variables begin that tell OpenSSL which authorities to trust: they hide that the configuration does not.
pub const AUTHORITIES: &str = "SSL_CERT_";

/// What `tests/run` started, read from its environment.
pub struct Rig {
    pub binary: PathBuf,
    work: PathBuf,
    kafka: Option<PathBuf>,
    /// `clock.c` as a library.
    clock: PathBuf,
}

impl Rig {
    /// `None` where no broker runs: the test passes, and one line says that it proved nothing.
    pub fn get() -> Option<&'static Self> {
        static RIG: OnceLock<Option<Rig>> = OnceLock::new();
        static SAID: Once = Once::new();
        let rig = RIG.get_or_init(Self::from_env).as_ref();
        if rig.is_none() {
            // Past the capture of the test harness, else nobody would see it.
            SAID.call_once(|| {
                let _ = writeln!(io::stderr(), "end-to-end tests skipped: no Kafka; run tests/run");
            });
        }
        rig
    }

    fn from_env() -> Option<Self> {
        let work = std::env::var("AADSTREAM_E2E_WORK").ok()?.into();
        // Of this process, so of all that it starts, and of the clients in it.
        let told_before =
            std::env::vars_os().find(|(name, _)| name.to_string_lossy().starts_with(AUTHORITIES));
        assert_eq!(told_before, None, "tests/run clears it");
        let kafka = std::env::var("AADSTREAM_E2E_KAFKA").ok().map(PathBuf::from);
        Some(Self { work, kafka, binary: told("AADSTREAM_BIN"), clock: told("AADSTREAM_E2E_CLOCK") })
    }

    /// The broker that all tests share. A test that stops or freezes its broker takes [`Broker::prepare`].
    pub fn broker(&self) -> Broker {
        Broker::of(self.kafka.clone().expect("tests/run e2e starts it"), None)
    }

    fn log_file(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.work.join("logs").join(format!("{name}-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A number that `tests/chaos` or `tests/soak` tells.
pub fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// A path that `tests/run` tells.
pub fn told(name: &str) -> PathBuf {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("AADSTREAM_E2E_WORK is set, {name} is not; run tests/run"))
        .into()
}

/// Looks every 50 ms until `look` gives a value.
pub fn wait_until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A name that no earlier run used, for a topic and the group that reads it.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port that was free a moment ago, below those that the kernel hands out to clients.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    (0..12_000)
        .map(|_| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("some port between 20000 and 32000 is free")
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292 million")
}

pub fn signal(pid: u32, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill -{name} {pid} failed");
}

// ---------------------------------------------------------------------------------------------------------------
// Kafka

/// One Kafka message to produce.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub payload: Option<Vec<u8>>,
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
}

impl Message {
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    pub fn in_partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub fn at(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }
}

/// A real broker: the shared one, or one that a test starts for itself and may freeze or stop.
pub struct Broker {
    /// Its listener without any security; of a broker of a cluster, those of all.
    pub plain: String,
    pub dir: PathBuf,
    own: Option<TempDir>,
    /// Copies of each partition of new topics.
    replicas: i32,
}

impl Broker {
    /// A broker of the test's own, formatted but not started.
    pub fn prepare(rig: &Rig) -> Self {
        Self::format(rig, ports(), &[])
    }

    /// The same with the listener OAUTH, for tokens that these keys signed.
    pub fn prepare_trusting(rig: &Rig, keys: &str) -> Self {
        Self::format(rig, ports(), &[("AADSTREAM_KAFKA_JWKS", keys)])
    }

    /// Brokers of one cluster, each a controller too, that have started.
    pub fn cluster<const N: usize>(rig: &Rig) -> [Self; N] {
        let ports: [[u16; 7]; N] = std::array::from_fn(|_| ports());
        let voter = |node: usize| format!("{}@127.0.0.1:{}", node + 1, ports[node][6]);
        let voters: Vec<String> = (0..N).map(voter).collect();
        let mut brokers: [Self; N] = std::array::from_fn(|node| {
            let name = (node + 1).to_string();
            let variables = [("AADSTREAM_KAFKA_NODE", &*name), ("AADSTREAM_KAFKA_VOTERS", &voters.join(","))];
            Self::format(rig, ports[node], &variables)
        });
        let all: Vec<String> = brokers.iter().map(|broker| broker.plain.clone()).collect();
        for broker in &mut brokers {
            broker.plain = all.join(",");
            broker.replicas = N.try_into().expect("few brokers");
        }
        // None of them starts without most of the others.
        thread::scope(|scope| brokers.iter().for_each(|broker| drop(scope.spawn(|| broker.start()))));
        brokers
    }

    fn format(rig: &Rig, ports: [u16; 7], variables: &[(&str, &str)]) -> Self {
        // Where tests/run finds it, should this process not live to stop it.
        let own = TempDir::new_in(rig.work.join("brokers")).expect("a temporary folder");
        let dir = own.path().to_owned();
        let mut command = broker_script("format", &dir);
        command.args(ports.map(|port| port.to_string()));
        command.envs(variables.iter().copied());
        run_script(command);
        Self::of(dir, Some(own))
    }

    fn of(dir: PathBuf, own: Option<TempDir>) -> Self {
        let mut broker = Self { plain: String::new(), dir, own, replicas: 1 };
        broker.plain = broker.listener("PLAINTEXT");
        broker
    }

    /// The address of a listener that `tests/kafka/broker` names.
    pub fn listener(&self, name: &str) -> String {
        let properties = fs::read_to_string(self.dir.join("server.properties")).expect("it was formatted");
        let all = properties.lines().find_map(|line| line.strip_prefix("advertised.listeners="));
        let mut addresses = all.expect("it has listeners").split(',');
        let prefix = format!("{name}://");
        addresses.find_map(|it| it.strip_prefix(&prefix)).expect("a listener of this name").to_owned()
    }

    pub fn start(&self) {
        run_script(broker_script("start", &self.dir));
    }

    /// SIGTERM, and it starts again with what it has on disk.
    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    pub fn stop(&self) {
        assert!(self.own.is_some(), "the shared broker must go on");
        run_script(broker_script("stop", &self.dir));
    }

    /// Stops the process where it stands; connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        assert!(self.own.is_some(), "the shared broker must go on");
        let pid = fs::read_to_string(self.dir.join("pid")).expect("the broker runs");
        signal(pid.trim().parse().expect("a pid"), name);
    }

    /// The path of a key or certificate that `tests/kafka/broker` made.
    pub fn pem(&self, name: &str) -> String {
        self.dir.join(format!("{name}.pem")).to_str().expect("a path of letters").to_owned()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.plain).set("message.max.bytes", "80000000");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    pub fn create_topic_with(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(self.replicas));
        for (key, value) in configs {
            new = new.set(key, value);
        }
        let created =
            block_on(self.admin().create_topics([&new], &AdminOptions::new())).expect("topics are created");
        for result in created {
            result.expect("the topic is created");
        }
        // The answer comes before every broker thread knows the topic.
        wait_until("the new topic has leaders", PATIENCE, || {
            let client: BaseConsumer = self.client().create().ok()?;
            let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
            let found = metadata.topics().iter().find(|found| found.name() == topic)?;
            (found.partitions().len() == usize::try_from(partitions).ok()?
                && found.partitions().iter().all(|partition| partition.leader() >= 0))
            .then_some(())
        });
    }

    /// Sets these of a topic, and all others to what they are by default.
    pub fn configure_topic(&self, topic: &str, configs: &[(&str, &str)]) {
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (key, value) in configs {
            alter = alter.set(key, value);
        }
        wait_until("the topic is configured", PATIENCE, || {
            block_on(self.admin().alter_configs([&alter], &AdminOptions::new())).ok()?.pop()?.ok()
        });
    }

    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("records are deleted");
    }

    pub fn produce(&self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        self.produce_as("none", topic, messages);
    }

    pub fn produce_as(&self, codec: &str, topic: &str, messages: impl IntoIterator<Item = Message>) {
        send_all(&self.producer(codec), topic, messages);
    }

    pub fn producer(&self, codec: &str) -> BaseProducer {
        self.client()
            .set("compression.type", codec)
            .set("linger.ms", "5")
            .set("enable.idempotence", "true") // in order and once, whatever happens to a broker
            .set("sticky.partitioning.linger.ms", "0") // else all of a short burst lands in one partition
            .create()
            .expect("a producer")
    }

    /// Produces `per_tick` messages every 20 ms until stopped.
    pub fn trickle(&self, topic: &str, per_tick: usize, message: Message) -> Trickle {
        let (stop, stopped) = mpsc::channel();
        let (producer, topic) = (self.producer("none"), topic.to_owned());
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
                send_all(&producer, &topic, std::iter::repeat_n(message.clone(), per_tick));
            }
        });
        Trickle { stop, thread }
    }

    /// The committed offset of each partition, 0 where the group has none.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<i64> {
        let mut config = self.client();
        // Offsets in a transaction that is open are not committed; nobody waits for it here.
        config.set("group.id", group).set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a client");
        let mut list = TopicPartitionList::new();
        for partition in Self::partitions(&consumer, topic) {
            list.add_partition(topic, partition);
        }
        // One that has just started may not coordinate the group yet.
        let committed = wait_until("the broker tells offsets", PATIENCE, || {
            consumer.committed_offsets(list.clone(), Duration::from_secs(10)).ok()
        });
        committed.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).collect()
    }

    /// The end of each partition.
    pub fn ends(&self, topic: &str) -> Vec<i64> {
        self.watermarks(topic).into_iter().map(|(_, end)| end).collect()
    }

    /// The first message of each partition that is there, and its end.
    pub fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer: BaseConsumer = self.client().create().expect("a client");
        let watermarks = |partition| {
            wait_until("the broker tells ends", PATIENCE, || {
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok()
            })
        };
        Self::partitions(&consumer, topic).into_iter().map(watermarks).collect()
    }

    /// Everything that is in a topic now, but for what stands in transactions that were not committed.
    pub fn read_all(&self, topic: &str) -> Vec<Record> {
        let mut records = Vec::new();
        self.read_each(topic, |record| records.push(record));
        records
    }

    /// The same, one after the other.
    pub fn read_each(&self, topic: &str, mut take: impl FnMut(Record)) {
        let mut config = self.client();
        config.set("group.id", unique("reader")).set("fetch.message.max.bytes", "80000000");
        config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        // The brokers end what a killed process left open, in their time; before that it hides what stands behind it.
        wait_until("no transaction is open", PATIENCE, || (!self.hides_some(topic)?).then_some(()));
        let mut consumer: BaseConsumer = config.create().expect("a client");
        let mut next: Vec<i64> = self.watermarks(topic).into_iter().map(|(first, _)| first).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..next.len() {
            let partition = i32::try_from(partition).expect("a number of a partition");
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&assignment).expect("partitions are assigned");
        let (mut ended, mut read, mut stood_at) = (BTreeSet::new(), 0, None);
        while ended.len() < next.len() {
            // Brokers that have just come back may move leaders meanwhile.
            match consumer.poll(PATIENCE) {
                Some(Ok(message)) => {
                    read += 1;
                    next[usize::try_from(message.partition()).expect("a partition")] = message.offset() + 1;
                    take(Record::of(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(Err(error)) => panic!("cannot read {topic}: {error}"),
                None => {
                    let ends = self.watermarks(topic);
                    eprintln!("{topic} stands still after {read} messages: {next:?} of {ends:?}");
                    // A client that lost a leader may wait for ever; another one shows whether the brokers give nothing.
                    assert_ne!(
                        stood_at.replace(read),
                        Some(read),
                        "{topic}: another client gets nothing either"
                    );
                    consumer = config.create().expect("a client");
                    for (partition, offset) in next.iter().enumerate() {
                        let partition = i32::try_from(partition).expect("a number of a partition");
                        let offset = Offset::Offset(*offset);
                        assignment.set_partition_offset(topic, partition, offset).expect("an offset");
                    }
                    consumer.assign(&assignment).expect("partitions are assigned");
                }
            }
        }
    }

    /// Whether something in the topic stands in, or behind, a transaction that is open; `None` if the brokers do not say.
    pub fn hides_some(&self, topic: &str) -> Option<bool> {
        let reader = |level| -> BaseConsumer {
            self.client().set("isolation.level", level).create().expect("a client")
        };
        let (committed, all) = (reader("read_committed"), reader("read_uncommitted"));
        for partition in Self::partitions(&all, topic) {
            let end = |client: &BaseConsumer| client.fetch_watermarks(topic, partition, PATIENCE).ok();
            if end(&committed)? != end(&all)? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// An event that nothing caused.
    pub fn plant(&self, topic: &str, id: &str) {
        let headers = BTreeMap::from([("event-id".to_owned(), id.to_owned())]);
        self.copy(topic, &Record { key: None, payload: Some(b"{}".to_vec()), headers });
    }

    /// A message as it stood in a topic.
    pub fn copy(&self, topic: &str, message: &Record) {
        let producer: BaseProducer = self.client().create().expect("a producer");
        let add = |all: OwnedHeaders, (key, value): (&String, &String)| {
            all.insert(Header { key, value: Some(value.as_str()) })
        };
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        let record = record.headers(message.headers.iter().fold(OwnedHeaders::new(), add));
        producer.send(record).expect("it is taken");
        producer.flush(PATIENCE).expect("it is delivered");
    }

    /// Another process of the same name in transactions begins: the brokers fence the first one.
    pub fn take_over_transactions(&self, id: &str) {
        let producer: BaseProducer = self.client().set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions begin");
    }

    fn partitions(client: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = wait_until("the broker tells topics", PATIENCE, || {
            client.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()
        });
        let mut ids: Vec<i32> =
            metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
        ids.sort_unstable();
        ids
    }

    /// Waits until the group has committed everything that is in the topic.
    pub fn wait_committed(&self, group: &str, topic: &str) {
        self.wait_committed_for(group, topic, PATIENCE);
    }

    pub fn wait_committed_for(&self, group: &str, topic: &str, patience: Duration) {
        wait_until(&format!("{group} commits the ends of {topic}"), patience, || {
            (self.committed(group, topic) == self.ends(topic)).then_some(())
        });
    }
}

pub fn sum(offsets: &[i64]) -> u64 {
    offsets.iter().map(|&offset| u64::try_from(offset).expect("offsets are not negative")).sum()
}

/// A message of an output topic.
#[derive(Debug)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |header: Header<'_, &[u8]>| {
            let value = header.value.map(|value| String::from_utf8_lossy(value).into_owned());
            (header.key.to_owned(), value.unwrap_or_default())
        };
        Self {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().into_iter().flat_map(Headers::iter).map(text).collect(),
        }
    }

    pub fn header(&self, key: &str) -> &str {
        self.headers.get(key).map_or("", String::as_str)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.own.is_some() {
            let _ = broker_script("stop", &self.dir).status();
        }
    }
}

/// A producer in the background.
pub struct Trickle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Trickle {
    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("the producer did its work");
    }
}

/// Returns when the broker has all of them.
fn send_all(producer: &BaseProducer, topic: &str, messages: impl IntoIterator<Item = Message>) {
    send(producer, topic, messages);
    producer.flush(PATIENCE).expect("everything is delivered");
}

/// Returns when the producer has taken all of them.
pub fn send(producer: &BaseProducer, topic: &str, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        let mut record = BaseRecord::<(), [u8]>::to(topic);
        record.payload = message.payload.as_deref();
        record.partition = message.partition;
        record.timestamp = message.timestamp_ms;
        while let Err((error, back)) = producer.send(record) {
            let full = error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
            assert!(full, "cannot produce to {topic}: {error}");
            producer.poll(Duration::from_millis(20));
            record = back;
        }
    }
}

/// One for each listener that `tests/kafka/broker` names.
fn ports() -> [u16; 7] {
    std::array::from_fn(|_| free_port())
}

fn broker_script(command: &str, dir: &Path) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker"));
    script.arg(command).arg(dir).stdin(Stdio::null());
    script
}

fn run_script(mut script: Command) {
    // The broker that `start` leaves behind holds the script's output open: a pipe would never end.
    let status = script.stdout(Stdio::null()).status().expect("the broker script runs");
    assert!(status.success(), "{script:?} failed");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

// ---------------------------------------------------------------------------------------------------------------
// aadstream

/// The configuration of one instance, a few keys at a time.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Tables of keys and their values as TOML writes them.
    tables: BTreeMap<String, BTreeMap<String, String>>,
    /// No file of this process may be longer: a disk that is full.
    file_limit_bytes: Option<u64>,
    env: Vec<(String, String)>,
}

impl Config {
    /// Reads one topic as a group of the same name.
    pub fn new(brokers: &str, topic: &str) -> Self {
        Self::default()
            .kafka("brokers", brokers)
            .kafka_raw("topics", &format!("[{topic:?}]"))
            .kafka("group_id", topic)
            .set_raw("metrics", "birth_hold_seconds", "0")
            .option("session.timeout.ms", "6000") // a killed member must not hold its partitions for 45 s
            .option("heartbeat.interval.ms", "500") // and a rebalance is learned of within this
    }

    pub fn kafka(self, key: &str, value: &str) -> Self {
        self.kafka_raw(key, &format!("{value:?}"))
    }

    pub fn kafka_raw(self, key: &str, value: &str) -> Self {
        self.set_raw("kafka", key, value)
    }

    pub fn option(self, key: &str, value: &str) -> Self {
        self.option_raw(key, &format!("{value:?}"))
    }

    pub fn option_raw(self, key: &str, value: &str) -> Self {
        self.set_raw("kafka.options", key, value)
    }

    /// A text in any table.
    pub fn set(self, table: &str, key: &str, value: &str) -> Self {
        self.set_raw(table, key, &format!("{value:?}"))
    }

    /// A key of any table, its value as TOML writes it.
    pub fn set_raw(mut self, table: &str, key: &str, value: &str) -> Self {
        self.tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn file_limit(self, bytes: u64) -> Self {
        Self { file_limit_bytes: Some(bytes), ..self }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        assert!(!name.starts_with(AUTHORITIES), "a test that sets {name} proves nothing");
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The process has this wall clock.
    pub fn clock(self, rig: &Rig, clock: &Clock) -> Self {
        let name = |path: &Path| path.to_str().expect("a path of letters").to_owned();
        self.env("LD_PRELOAD", &name(&rig.clock)).env("AADSTREAM_TEST_CLOCK", &name(clock.path()))
    }

    /// Its file in this folder.
    fn write(&self, dir: &TempDir) -> PathBuf {
        let file = dir.path().join("aadstream.toml");
        fs::write(&file, self.to_toml()).expect("the configuration is written");
        file
    }

    fn to_toml(&self) -> String {
        let mut toml = String::new();
        for (head, keys) in &self.tables {
            let _ = writeln!(toml, "[{head}]");
            for (key, value) in keys {
                let _ = writeln!(toml, "{key:?} = {value}");
            }
        }
        toml
    }
}

/// Runs `aadstream audit`; its exit code and its report.
pub fn audit(rig: &Rig, config: &Config) -> (Option<i32>, serde_json::Value) {
    let (code, said) = audit_as(rig, config, "json");
    let report =
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("no report: {error}; it says {said}"));
    (code, report)
}

/// The same in a format; the report as it is printed, or what it says instead.
pub fn audit_as(rig: &Rig, config: &Config, format: &str) -> (Option<i32>, String) {
    let dir = TempDir::new().expect("a temporary folder");
    let file = config.write(&dir);
    let mut command = Command::new(&rig.binary);
    command.args(["audit", "--format", format, "-c"]).arg(&file).stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// A running `aadstream run`.
pub struct Service {
    child: Child,
    address: String,
    log: PathBuf,
    dir: TempDir,
}

impl Service {
    /// Starts it and does not wait for anything.
    pub fn spawn(rig: &Rig, config: &Config) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let address = format!("127.0.0.1:{}", free_port());
        let file = config.clone().set("web", "listen", &address).write(&dir);
        let log = rig.log_file(thread::current().name().unwrap_or("aadstream"));
        let output = File::create(&log).expect("a log file");
        // The signal of a file that grows too long is ignored, as it is for whoever writes to a full disk.
        let limit = config.file_limit_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let child = Command::new("sh")
            .args(["-c", r#"trap '' XFSZ; exec prlimit --fsize="$0":unlimited "$@""#, &limit])
            .arg(&rig.binary)
            .args(["run", "-c"])
            .arg(&file)
            .env("NO_COLOR", "1")
            .env("NO_PROXY", "127.0.0.1")
            .envs(config.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", rig.binary.display()));
        Self { child, address, log, dir }
    }

    /// Its configuration is this from now on, once it reads it anew.
    pub fn configure(&self, config: &Config) {
        config.clone().set("web", "listen", &self.address).write(&self.dir);
    }

    /// SIGHUP: it reads rules and severities anew.
    pub fn hang_up(&self) {
        signal(self.pid(), "HUP");
    }

    /// Starts it and waits until it is ready.
    pub fn start(rig: &Rig, config: &Config) -> Self {
        let mut service = Self::spawn(rig, config);
        service.wait_status("/-/ready", 200);
        service
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log can be read")
    }

    /// Warnings and errors that name `thing`.
    pub fn complaints_about(&self, thing: &str) -> Vec<String> {
        let log = self.log();
        let complaint =
            |line: &&str| (line.contains("WARN") || line.contains("ERROR")) && line.contains(thing);
        log.lines().filter(complaint).map(str::to_owned).collect()
    }

    pub fn status(&self, path: &str) -> Option<u16> {
        get(&self.address, path).ok().map(|response| response.status)
    }

    pub fn wait_status(&mut self, path: &str, status: u16) {
        let what = format!("{path} answers {status}; log: {}", self.log.display());
        wait_until(&what, PATIENCE, || {
            self.assert_running();
            (self.status(path) == Some(status)).then_some(())
        });
    }

    pub fn metrics(&self) -> Metrics {
        let response = get(&self.address, "/metrics").expect("/metrics answers");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.body)
    }

    /// Waits until `count` of a metric has come, and returns the metrics of that moment.
    pub fn wait_count(&mut self, metric: &str, labels: &[(&str, &str)], count: u64) -> Metrics {
        let mut last = 0;
        let what = format!("{metric}{labels:?} reaches {count}; log: {}", self.log.display());
        wait_until(&what, PATIENCE, || {
            self.assert_running();
            let metrics = self.metrics();
            last = metrics.count(metric, labels);
            (last >= count).then_some(metrics)
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("aadstream ended with {status}; {} says:\n{}", self.log.display(), self.log());
        }
    }

    /// Makes room on the disk again.
    pub fn lift_file_limit(&self) {
        let pid = self.pid().to_string();
        let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
        assert!(lifted.expect("prlimit runs").success(), "the limit of {pid} is lifted");
    }

    /// SIGTERM; the exit status, and how long it took.
    pub fn terminate(self, patience: Duration) -> (ExitStatus, Duration) {
        signal(self.pid(), "TERM");
        self.wait_exit(patience)
    }

    pub fn wait_exit(mut self, patience: Duration) -> (ExitStatus, Duration) {
        let since = Instant::now();
        let what = format!("aadstream ends; log: {}", self.log.display());
        let status = wait_until(&what, patience, || self.child.try_wait().expect("the child can be asked"));
        (status, since.elapsed())
    }

    /// SIGKILL: it gets no chance to commit anything.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One scrape.
#[derive(Debug)]
pub struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, String)>,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            samples: lines
                .map(|line| parse_sample(line).unwrap_or_else(|| panic!("no sample: {line}")))
                .collect(),
        }
    }

    /// The sum over all series of a counter or gauge that carry these labels; 0 where there is none.
    pub fn count(&self, metric: &str, labels: &[(&str, &str)]) -> u64 {
        let value = |text: &str| {
            text.parse::<u64>().unwrap_or_else(|_| panic!("{metric} is no whole number: {text}"))
        };
        self.matching(metric, labels).map(value).sum()
    }

    /// How many there are.
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is a series with these labels.
    pub fn has(&self, metric: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(metric, labels).next().is_some()
    }

    fn matching<'a>(&'a self, metric: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a str> {
        let matches = move |(name, found, _): &&(String, BTreeMap<String, String>, String)| {
            name == metric
                && labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(matches).map(|(_, _, text)| text.as_str())
    }
}

/// `name{key="value",…} value` of the text format 0.0.4.
fn parse_sample(line: &str) -> Option<(String, BTreeMap<String, String>, String)> {
    let Some((name, mut rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ')?;
        return Some((name.to_owned(), BTreeMap::new(), value.trim().to_owned()));
    };
    let mut labels = BTreeMap::new();
    while !rest.starts_with('}') {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.to_owned(), value);
        rest = after.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some((name.to_owned(), labels, rest.get(1..)?.trim().to_owned()))
}

// ---------------------------------------------------------------------------------------------------------------
// Prometheus

/// A Prometheus that scrapes one instance every second.
pub struct Prometheus {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Prometheus {
    pub const INTERVAL: Duration = Duration::from_secs(1);

    pub fn start(rig: &Rig, target: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let address = format!("127.0.0.1:{}", free_port());
        let file = dir.path().join("prometheus.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n- job_name: aadstream\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(&file, config).expect("the configuration is written");
        let prometheus = told("AADSTREAM_E2E_PROMETHEUS_BIN");
        let log = File::create(rig.log_file("prometheus")).expect("a log file");
        let child = Command::new(&prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", prometheus.display()));
        wait_until("Prometheus is ready", PATIENCE, || {
            get(&address, "/-/ready").ok().filter(|response| response.status == 200)
        });
        Self { child, address, _dir: dir }
    }

    /// The one value of an instant query at a time in Unix milliseconds; `None` where the answer is empty.
    pub fn value(&self, expression: &str, at_ms: i64) -> Option<f64> {
        let path =
            format!("/api/v1/query?query={}&time={}.{:03}", encode(expression), at_ms / 1000, at_ms % 1000);
        let response = get(&self.address, &path).expect("Prometheus answers");
        let answer: serde_json::Value = serde_json::from_str(&response.body).expect("the answer is JSON");
        assert_eq!(answer["status"], "success", "{expression}: {}", response.body);
        let result = answer["data"]["result"].as_array().expect("a vector");
        assert!(result.len() <= 1, "{expression} gives {} series; aggregate it", result.len());
        let value = result.first()?["value"][1].as_str().expect("a value");
        Some(value.parse().expect("a number"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---------------------------------------------------------------------------------------------------------------
// HTTP

pub struct Response {
    pub status: u16,
    pub body: String,
}

/// One GET over a connection of its own.
pub fn get(address: &str, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse_response(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

fn parse_response(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { join_chunks(body)? } else { body.to_vec() };
    Some(Response { status, body: String::from_utf8(body).ok()? })
}

fn join_chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = line + 2;
        body.extend_from_slice(bytes.get(start..start + size)?);
        bytes = bytes.get(start + size + 2..)?;
    }
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
