//! OAUTHBEARER over TLS against a broker that checks signatures, audience and expiry, with tokens that an identity
//! provider of a private authority gives over TLS.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::PROCESSED;
use crate::clock::{Clock, HOUR};
use crate::messages::failure;
use crate::security::{WRONG, assert_refused, assert_secret};
use crate::support::{Broker, Config, PATIENCE, Rig, Service, free_port, get, unique, wait_until};

const ASSERTION: &str = "right-assertion";
const SECRET: &str = "right-password";

struct Issuer {
    child: Child,
}

impl Issuer {
    /// Returns when it gives out its keys.
    fn start(folder: &Path, [plain, secure]: [u16; 2]) -> Self {
        let child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/issuer"))
            .arg(folder)
            .args([plain.to_string(), secure.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the issuer runs");
        let issuer = Self { child };
        wait_until("the issuer gives out keys", PATIENCE, || {
            get(&format!("127.0.0.1:{plain}"), "/keys").ok().filter(|response| response.status == 200)
        });
        issuer
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Place {
    broker: Broker,
    topic: String,
    ports: [u16; 2],
}

impl Place {
    /// Asks for tokens as this client, in the words of a TOML file.
    fn config(&self, method: &str, client: &str) -> Config {
        let [plain, secure] = self.ports;
        let config = Config::new(&self.broker.listener("OAUTH"), &self.topic)
            .kafka("group_id", &unique("oauth"))
            .kafka_raw("startup_timeout_seconds", "10")
            .option("security.protocol", "sasl_ssl")
            .option("ssl.ca.location", &self.broker.pem("ca"))
            .option("debug", "all")
            .set("log", "level", "trace");
        let oauth = |config: Config, key: &str, value: &str| config.set("kafka.oauth", key, value);
        let config = oauth(oauth(config, "method", method), "scope", "api://kafka/.default");
        if method == "managed_identity" {
            return oauth(config, "token_url", &format!("http://127.0.0.1:{plain}/machine"));
        }
        let config = oauth(config, "token_url", &format!("https://127.0.0.1:{secure}/token"));
        let config = oauth(config, "client_id", client);
        if method == "workload_identity" {
            let file = self.broker.dir.join("assertion");
            fs::write(&file, ASSERTION).expect("the assertion is written");
            return oauth(config, "assertion_file", file.to_str().expect("a path of letters"));
        }
        config.set_raw("kafka.oauth", "client_secret", "{ env = \"E2E_SECRET\" }").env("E2E_SECRET", SECRET)
    }

    fn trusting(&self, config: Config) -> Config {
        config.set("kafka.oauth", "ca_file", &self.broker.pem("ca"))
    }
}

/// No token, no part of one, and no secret.
fn assert_silent(log: &str) {
    // The first letters of every JWT.
    for secret in [SECRET, ASSERTION, WRONG, "eyJ"] {
        assert_secret(log, secret);
    }
}

#[test]
fn tokens_open_the_way_and_are_renewed() {
    let Some(rig) = Rig::get() else { return };
    let ports = [free_port(), free_port()];
    let broker = Broker::prepare_trusting(rig, &format!("http://127.0.0.1:{}/keys", ports[0]));
    let issuer = Issuer::start(&broker.dir, ports);
    broker.start();
    let place = Place { topic: unique("oauth"), broker, ports };
    let (broker, topic) = (&place.broker, place.topic.as_str());
    let output = unique("oauth-events");
    broker.create_topic(topic, 1);
    broker.create_topic(&output, 1);
    broker.produce(topic, [failure(50_126)]);

    let clock = Clock::new();
    // Without TLS: to a clock that is set back no certificate is valid yet.
    let short = place.config("client_credentials", "short").clock(rig, &clock);
    let short = short.set("kafka.oauth", "token_url", &format!("http://127.0.0.1:{}/token", ports[0]));
    let mut short = Service::start(rig, &short);
    // By the time of day its first token lives for hours from here.
    clock.set(-6 * HOUR);
    let others = [
        // The producer gets tokens too.
        place.trusting(place.config("client_credentials", "long")).set("forward", "topic", &output),
        place.trusting(place.config("workload_identity", "pod")),
        place.config("managed_identity", ""),
    ];
    for (number, config) in others.iter().enumerate() {
        let mut service = Service::start(rig, config);
        service.wait_count(PROCESSED, &[("topic", topic)], 1);
        if number == 0 {
            service.wait_count("aadstream_events_forwarded_total", &[("topic", &output)], 1);
        }
        let file = service.log_file();
        assert_eq!(service.terminate(crate::SHUTDOWN).0.code(), Some(0));
        assert_silent(&fs::read_to_string(file).unwrap());
    }
    refuse(rig, &place);

    // It has outlived two tokens, and none of it was an interruption.
    let tokens = |service: &Service| service.log().matches("token received").count();
    wait_until("it has got a fourth token", PATIENCE, || (tokens(&short) >= 4).then_some(()));
    broker.produce(topic, [failure(50_126)]);
    short.wait_count(PROCESSED, &[("topic", topic)], 2);
    let log = short.log();
    assert!(
        !log.contains(" WARN ") && !log.contains("partitions given up"),
        "{}",
        short.log_file().display()
    );

    // Without tokens it is cut off, says so once, and waits; with them it goes on, once a certificate is valid again.
    clock.set(0);
    drop(issuer);
    wait_until("it misses its tokens", PATIENCE, || {
        (!short.complaints_about("no token from http://127.0.0.1:").is_empty()).then_some(())
    });
    let issuer = Issuer::start(&broker.dir, ports);
    let had = tokens(&short);
    wait_until("it gets tokens again", PATIENCE, || (tokens(&short) > had).then_some(()));
    broker.produce(topic, [failure(50_126)]);
    short.wait_count(PROCESSED, &[("topic", topic)], 3);
    assert_eq!(short.complaints_about("no token from http://127.0.0.1:").len(), 1);
    let file = short.log_file();
    assert_eq!(short.terminate(crate::SHUTDOWN).0.code(), Some(0));
    assert_silent(&fs::read_to_string(file).unwrap());
    drop(issuer);
}

/// Tokens that are none of this broker's, and providers that give none: one line, the exit code of a refusal.
fn refuse(rig: &Rig, place: &Place) {
    let token = |client| place.trusting(place.config("client_credentials", client));
    let nobody = format!("https://127.0.0.1:{}/token", place.ports[0]);
    let refused = "refused our token: ";
    let cases = [
        (token("expired"), refused),
        (token("audience"), refused),
        (token("stranger"), refused),
        (
            token("x").env("E2E_SECRET", WRONG),
            "/token: 401: invalid_client: AADSTS7000215: Invalid client secret provided: ***",
        ),
        (
            place.config("client_credentials", "x"),
            "its certificate is not trusted, or is not for this name: set ca_file",
        ),
        (token("x").set("kafka.oauth", "token_url", &nobody), "it does not speak TLS"),
        // Who vouches for the provider does not vouch for the brokers.
        (
            token("long").option("ssl.ca.location", &place.broker.pem("stranger-ca")),
            "is not trusted, or is not for this name",
        ),
    ];
    let services: Vec<_> =
        cases.into_iter().map(|(config, words)| (Service::spawn(rig, &config), words)).collect();
    for (service, words) in services {
        let file = service.log_file();
        assert_refused(service, words);
        assert_silent(&fs::read_to_string(file).unwrap());
    }
}
