//! `aadstream run` in front of a broker inside the test's process.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;

pub const TOPIC: &str = "signin";

pub struct Running {
    cluster: MockCluster<'static, DefaultProducerContext>,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    address: String,
    pub folder: TempDir,
}

impl Running {
    /// Starts it with these lines in its configuration, beside those that every test needs.
    pub fn start(more: &str, variables: &[(&str, &str)]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 2, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        Self::start_at(cluster, &brokers, more, variables)
    }

    /// The same in front of a cluster of the test's own, reached at these addresses.
    pub fn start_at(
        cluster: MockCluster<'static, DefaultProducerContext>,
        brokers: &str,
        more: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("aadstream.toml"), config(brokers, more)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_aadstream"))
            .args(["run", "-c"])
            .arg(folder.path().join("aadstream.toml"))
            .envs(variables.iter().copied())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, copy) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map(Result::unwrap) {
                let mut log = copy.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut running = Self { cluster, child, log, reader: Some(reader), address: String::new(), folder };
        running.address = running.wait("it says where it listens", |it| {
            let log = it.log();
            log.split_once("address=")
                .and_then(|(_, rest)| rest.split_once('\n'))
                .map(|(line, _)| line.to_owned())
        });
        running
    }

    /// Writes another configuration in the place of the first.
    pub fn configure(&self, more: &str) {
        fs::write(self.path("aadstream.toml"), config(&self.cluster.bootstrap_servers(), more)).unwrap();
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn produce(&self, messages: impl IntoIterator<Item = Vec<u8>>) {
        self.produce_to(messages.into_iter().map(|bytes| (None, bytes)));
    }

    /// The same to a partition, where one is given.
    pub fn produce_to(&self, messages: impl IntoIterator<Item = (Option<i32>, Vec<u8>)>) {
        let producer = self.producer();
        for (partition, bytes) in messages {
            let header = Header { key: "c4nary", value: Some("c4nary") };
            let mut record = BaseRecord::to(TOPIC).key("c4nary-key").payload(&bytes);
            record.partition = partition;
            let sent = producer.send(record.headers(OwnedHeaders::new().insert(header)));
            sent.map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// An event of this id in the topic `out` that nothing caused.
    pub fn plant(&self, id: &str) {
        let producer = self.producer();
        let headers = OwnedHeaders::new().insert(Header { key: "event-id", value: Some(id) });
        let record = BaseRecord::<(), [u8]>::to("out").payload(b"{}").headers(headers);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn producer(&self) -> BaseProducer {
        ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("linger.ms", "1")
            .create()
            .unwrap()
    }

    /// The first so many events of the topic `out`, which `[forward]` must name.
    pub fn events(&self, count: usize) -> Vec<Value> {
        let body = |message: OwnedMessage| serde_json::from_slice(message.payload().unwrap()).unwrap();
        self.messages("out", count).into_iter().map(body).collect()
    }

    /// The first so many messages of a topic.
    pub fn messages(&self, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        for found in consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap().topics() {
            for partition in found.partitions() {
                partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&partitions).unwrap();
        let next = |_| consumer.poll(Duration::from_secs(30)).expect("a message in time").unwrap().detach();
        (0..count).map(next).collect()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The next line of the log with these words in it, from the `skip`th on: a log comes later than an answer.
    #[track_caller]
    pub fn logged(&self, words: &str, skip: usize) -> String {
        self.wait(words, |it| {
            it.log().lines().filter(|line| line.contains(words)).nth(skip).map(str::to_owned)
        })
    }

    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    /// The response as it comes, its head included.
    pub fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// The sum of the samples that begin so.
    pub fn sum(&self, start: &str) -> f64 {
        let metrics = self.get("/metrics");
        let samples = metrics.lines().filter(|line| line.starts_with(start));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The same of counters.
    pub fn count(&self, start: &str) -> usize {
        let metrics = self.get("/metrics");
        let samples = metrics.lines().filter(|line| line.starts_with(start));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    /// Waits until so many messages were read.
    pub fn wait_read(&self, count: usize) {
        self.wait("it has read everything", |it| {
            let read =
                it.sum("aadstream_messages_processed_total{") + it.sum("aadstream_messages_rejected_total{");
            (read >= count as f64).then_some(())
        });
    }

    /// Looks again and again until `look` finds something.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "in vain: {what}; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// So many open files at most.
    pub fn limit_files(&self, count: usize) {
        let limited = Command::new("prlimit")
            .args(["--pid", &self.pid().to_string(), &format!("--nofile={count}")])
            .status();
        assert!(limited.unwrap().success());
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// How it ended on SIGTERM, and everything it logged.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `terminate` it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(brokers: &str, more: &str) -> String {
    format!(
        "[kafka]\nbrokers = {brokers:?}\ntopics = [{TOPIC:?}]\n[metrics]\nbirth_hold_seconds = 0\n{more}\n[web]\n\
         listen = \"127.0.0.1:0\"\nlifecycle = true\n"
    )
}
