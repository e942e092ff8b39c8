//! Every way into Kafka: who has what it takes reads, who has not ends with one line that says why. No secret shows
//! in any output, the Kafka client's debug lines included.

use std::fs;
use std::time::Duration;

use crate::PROCESSED;
use crate::messages::failure;
use crate::support::{AUTHORITIES, Broker, Config, Rig, Service, unique};

const PASSWORD: &str = "right-password";
pub const WRONG: &str = "canary-of-a-wrong-password";

/// `[kafka] startup_timeout_seconds` of those that are refused.
const TIMEOUT: Duration = Duration::from_secs(10);

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// One attempt: whatever the program and its Kafka client can say, they say.
fn attempt(broker: &Broker, listener: &str, topic: &str, protocol: &str) -> Config {
    Config::new(&broker.listener(listener), topic)
        .kafka("group_id", &unique("way"))
        .option("security.protocol", protocol)
        .option("debug", "all")
        .set("log", "level", "trace")
}

fn sasl(config: Config, mechanism: &str, password: &str) -> Config {
    config
        .option("sasl.mechanism", mechanism)
        .option("sasl.username", "aadstream")
        .option_raw("sasl.password", r#"{ env = "E2E_PASSWORD" }"#)
        .env("E2E_PASSWORD", password)
}

fn certificate(config: Config, broker: &Broker, name: &str) -> Config {
    config
        .option("ssl.certificate.location", &broker.pem(&format!("{name}-cert")))
        .option("ssl.key.location", &broker.pem(&format!("{name}-key")))
}

fn trusting(config: Config, broker: &Broker, authority: &str) -> Config {
    config.option("ssl.ca.location", &broker.pem(authority))
}

#[test]
fn every_way_in_is_open_to_those_who_belong_there() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("ways"));
    broker.create_topic(&topic, 1);
    broker.produce(&topic, [failure(50_126)]);
    let attempt = |listener, protocol| attempt(&broker, listener, &topic, protocol);
    let trusting = |config| trusting(config, &broker, "ca");

    let locked = trusting(attempt("MTLS", "ssl"))
        .option("ssl.certificate.location", &broker.pem("client-cert"))
        .option("ssl.key.location", &broker.pem("client-locked"))
        .option_raw("ssl.key.password", r#"{ env = "E2E_PASSWORD" }"#)
        .env("E2E_PASSWORD", PASSWORD);
    let mut configs = vec![
        locked,
        trusting(attempt("SSL", "ssl")),
        certificate(trusting(attempt("MTLS", "ssl")), &broker, "client"),
        attempt("SSL", "ssl").option("ssl.ca.pem", &fs::read_to_string(broker.pem("ca")).unwrap()),
    ];
    for mechanism in MECHANISMS {
        configs.push(sasl(attempt("SASL", "sasl_plaintext"), mechanism, PASSWORD));
        configs.push(sasl(trusting(attempt("SASL_SSL", "sasl_ssl")), mechanism, PASSWORD));
    }
    let services: Vec<Service> = configs.iter().map(|config| Service::spawn(rig, config)).collect();
    for mut service in services {
        service.wait_status("/-/ready", 200);
        service.wait_count(PROCESSED, &[("topic", &topic)], 1);
        let file = service.log_file();
        assert_eq!(service.terminate(crate::SHUTDOWN).0.code(), Some(0));
        assert_secret(&fs::read_to_string(file).unwrap(), PASSWORD);
    }
}

/// Else `ssl.ca.location` could be missing everywhere and all of this would pass.
#[test]
fn only_the_configuration_says_which_authorities_to_trust() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("environment"));
    broker.create_topic(&topic, 1);
    let service = Service::start(rig, &Config::new(&broker.plain, &topic));
    for process in ["self".to_owned(), service.pid().to_string()] {
        let variables = fs::read(format!("/proc/{process}/environ")).unwrap();
        let variables = String::from_utf8_lossy(&variables);
        assert!(variables.contains("AADSTREAM_E2E_WORK="), "those of another process");
        let told = variables.split('\0').find(|variable| variable.starts_with(AUTHORITIES));
        assert_eq!(told, None, "{process}");
    }
}

#[test]
fn who_does_not_belong_there_is_told_why() {
    let Some(rig) = Rig::get() else { return };
    let (broker, topic) = (rig.broker(), unique("refused"));
    broker.create_topic(&topic, 1);
    let attempt = |listener, protocol| {
        attempt(&broker, listener, &topic, protocol)
            .kafka_raw("startup_timeout_seconds", &TIMEOUT.as_secs().to_string())
    };
    let trusting = |config| trusting(config, &broker, "ca");
    let tls = |listener, protocol| trusting(attempt(listener, protocol));
    let strange = |listener, protocol| self::trusting(attempt(listener, protocol), &broker, "stranger-ca");

    let untrusted = "is not trusted, or is not for this name: set ssl.ca.location";
    let no_certificate = "does not take our certificate, or wants one: set ssl.certificate.location";
    let mut cases = vec![
        (attempt("SSL", "ssl"), untrusted),
        (strange("SSL", "ssl"), untrusted),
        (sasl(strange("SASL_SSL", "sasl_ssl"), "PLAIN", PASSWORD), untrusted),
        (certificate(strange("MTLS", "ssl"), &broker, "client"), untrusted),
        (tls("MTLS", "ssl"), no_certificate),
        (certificate(tls("MTLS", "ssl"), &broker, "stranger"), no_certificate),
        (attempt("SSL", "plaintext"), "speaks TLS, or is no Kafka: set security.protocol to ssl"),
        (attempt("SASL_SSL", "plaintext"), "speaks TLS, or is no Kafka: set security.protocol to ssl"),
        (sasl(attempt("SASL_SSL", "sasl_plaintext"), "PLAIN", PASSWORD), "set security.protocol to sasl_ssl"),
        (tls("PLAINTEXT", "ssl"), "does not speak TLS: set security.protocol to plaintext"),
        (
            sasl(tls("SASL", "sasl_ssl"), "PLAIN", PASSWORD),
            "does not speak TLS: set security.protocol to plaintext or sasl",
        ),
        (attempt("SASL", "plaintext"), "wants a password: set security.protocol to sasl_plaintext"),
        (tls("SASL_SSL", "ssl"), "wants a password: set security.protocol to sasl_ssl"),
        (
            sasl(attempt("PLAINTEXT", "sasl_plaintext"), "PLAIN", PASSWORD),
            "wants no password: set security.protocol",
        ),
    ];
    for mechanism in MECHANISMS {
        let refused = "refused the user or the password";
        cases.push((sasl(attempt("SASL", "sasl_plaintext"), mechanism, WRONG), refused));
        cases.push((sasl(tls("SASL_SSL", "sasl_ssl"), mechanism, WRONG), refused));
    }
    let services: Vec<(Service, &str)> =
        cases.into_iter().map(|(config, words)| (Service::spawn(rig, &config), words)).collect();
    for (service, words) in services {
        assert_refused(service, words);
    }
}

/// It ends with 1 in time, its one error says these words, and nobody learns a password.
pub fn assert_refused(service: Service, words: &str) {
    let file = service.log_file();
    let (status, _) = service.wait_exit(TIMEOUT + Duration::from_secs(15));
    let log = fs::read_to_string(&file).unwrap();
    assert_eq!(status.code(), Some(1), "{}", file.display());
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("aadstream: ")).collect();
    assert_eq!(errors.len(), 1, "one error, once: {}", file.display());
    assert!(errors[0].starts_with("aadstream: cannot connect to 127.0.0.1:"), "{}", errors[0]);
    assert!(errors[0].contains(words), "no `{words}` in: {}; log: {}", errors[0], file.display());
    for secret in [PASSWORD, WRONG] {
        assert_secret(&log, secret);
    }
}

#[track_caller]
pub fn assert_secret(output: &str, secret: &str) {
    assert!(output.contains("DEBUG kafka client"), "the client was asked to say everything");
    let line = output.lines().find(|line| line.contains(secret));
    assert_eq!(line, None, "the secret {secret} shows");
}
