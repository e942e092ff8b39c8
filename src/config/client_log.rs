//! Remembers why librdkafka has no connection: its calls say only that there is none, the reason stands in its log and in
//! its error callback.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::oauth::OAuth;
use super::token::{self, Token};

/// Warnings of a client's set-up that are kept; there are as many as options at most.
const WARNINGS_MAX: usize = 32;

/// After a token that did not come the client asks again before this.
const AGAIN: Duration = Duration::from_secs(12);

/// What stands between us and a broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// One plain sentence that names the broker and, where there is one, the way out.
    pub reason: String,
}

/// What one can hope for; ordered from most to least.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TroubleKind {
    /// Nobody answers: it may be up in a minute.
    Unreachable,
    /// Somebody answers in another protocol, or hung up at once: most likely a wrong setting, perhaps a start-up.
    Mismatch,
    /// Credentials or certificates were looked at and rejected: waiting will not help.
    Refused,
}

/// Cheap to clone; all clones remember the same. Give one to each client, as its context or inside of it.
#[derive(Clone, Debug, Default)]
pub struct ClientLog {
    memory: Arc<Mutex<Memory>>,
    /// Where the client's tokens come from; they fail as connections do.
    oauth: Option<Arc<OAuth>>,
}

#[derive(Debug, Default)]
struct Memory {
    trouble: Option<Trouble>,
    warnings: Vec<String>,
    /// When the client must have got another token.
    token_due: Option<Instant>,
}

impl ClientLog {
    /// For a client that may need tokens; the default is for one that connects nowhere.
    pub fn new(oauth: Option<&OAuth>) -> Self {
        Self { memory: Arc::default(), oauth: oauth.cloned().map(Arc::new) }
    }

    /// A token for the client, whose callback wants just this.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let oauth = self.oauth.as_ref().ok_or("no tokens are configured")?;
        let fetched = token::fetch(oauth);
        let lifetime = fetched.as_ref().map_or(AGAIN, |token| token.lifetime * 17 / 20);
        self.memory().token_due = Instant::now().checked_add(lifetime);
        match fetched {
            Ok(Token { value, expires_ms, .. }) => {
                tracing::debug!(expires_ms, "token received");
                // Brokers look for the user inside the token.
                let principal_name = oauth.client_id.clone().unwrap_or_else(|| "aadstream".to_owned());
                Ok(OAuthToken { token: value, principal_name, lifetime_ms: expires_ms })
            }
            Err(trouble) => {
                let reason = trouble.reason.clone();
                self.remember(trouble);
                Err(reason.into())
            }
        }
    }

    /// Whether the client should have asked for another token: it does so after four fifths of a token's life, or ten
    /// seconds after it got none, by a clock that may have been set back. After nine tenths it logs in again.
    pub fn is_token_due(&self) -> bool {
        self.memory().token_due.is_some_and(|due| Instant::now() >= due)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no code panics while it holds this lock")
    }

    /// Why there is no connection, in one sentence.
    pub fn reason(&self) -> Option<String> {
        self.trouble().map(|trouble| trouble.reason)
    }

    /// The latest trouble since [`ClientLog::forget`]; one that waiting cannot heal outlasts one that it can.
    pub fn trouble(&self) -> Option<Trouble> {
        self.memory().trouble.clone()
    }

    /// To be called when a broker answered.
    pub fn forget(&self) {
        self.memory().trouble = None;
    }

    /// What librdkafka says of the options of a new client.
    pub fn warnings(&self) -> Vec<String> {
        self.memory().warnings.clone()
    }

    /// Takes a line of librdkafka's log, or the text of its error callback.
    pub fn note(&self, facility: &str, line: &str) {
        let line =
            line.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, it)| it);
        if facility == "CONFWARN" {
            let mut memory = self.memory();
            if memory.warnings.len() < WARNINGS_MAX {
                memory.warnings.push(super::kafka::plain(line));
            }
            return;
        }
        if let Some(trouble) = read_trouble(line) {
            self.remember(trouble);
        }
    }

    fn remember(&self, trouble: Trouble) {
        let mut memory = self.memory();
        if memory.trouble.as_ref().is_none_or(|earlier| earlier.kind <= trouble.kind) {
            memory.trouble = Some(trouble);
        }
    }
}

impl ClientContext for ClientLog {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.note(facility, line);
        match level {
            // Whoever owns the client reports its trouble once, in plain words, at a limited rate.
            _ if facility == "FAIL" => tracing::debug!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{line}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note("ERROR", reason);
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for ClientLog {}

impl ProducerContext for ClientLog {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Understands `sasl_ssl://host:9093/bootstrap: what happened (after 3ms in state CONNECT)`.
fn read_trouble(line: &str) -> Option<Trouble> {
    let (name, mut what) = line.split_once(": ")?;
    let mut broker = name.split_once("://").map_or(name, |(_, address)| address);
    broker = broker.split_once('/').map_or(broker, |(address, _)| address);
    if !is_address(broker) {
        // The group's coordinator has a name of its own, its address follows.
        (broker, what) = what.split_once(": ").filter(|(address, _)| is_address(address))?;
    }
    let (what, state) = what.rsplit_once(" (after ").unwrap_or((what, ""));
    let scheme = name.split_once("://").map_or("plaintext", |(scheme, _)| scheme);
    let (kind, reason) = hung_up(broker, scheme, what, state).or_else(|| classify(broker, what, state))?;
    Some(Trouble { kind, reason })
}

/// What a connection means that the broker closed without a word.
fn hung_up(broker: &str, scheme: &str, what: &str, state: &str) -> Option<(TroubleKind, String)> {
    if !what.starts_with("Disconnected") {
        return None;
    }
    if state.contains("APIVERSION") && !scheme.ends_with("ssl") {
        let protocol = if scheme.starts_with("sasl") { "sasl_ssl" } else { "ssl or sasl_ssl" };
        return Some((
            TroubleKind::Mismatch,
            format!("the listener {broker} speaks TLS, or is no Kafka: set security.protocol to {protocol}"),
        ));
    }
    // An idle connection is closed after minutes, one without the password that was wanted at once.
    let (age, rest) = state.split_once("ms")?;
    if rest.contains("state UP")
        && age.parse::<u32>().is_ok_and(|age| age < 2_000)
        && !scheme.starts_with("sasl")
    {
        let protocol = if scheme == "ssl" { "sasl_ssl" } else { "sasl_plaintext or sasl_ssl" };
        return Some((
            TroubleKind::Mismatch,
            format!("the listener {broker} wants a password: set security.protocol to {protocol}"),
        ));
    }
    None
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The sentences of librdkafka 2.12, as seen against a real broker.
fn classify(broker: &str, what: &str, state: &str) -> Option<(TroubleKind, String)> {
    use TroubleKind::{Mismatch, Refused, Unreachable};
    let has = |words: &str| what.contains(words);
    let tail = || what.rsplit(": ").next().unwrap_or(what).to_lowercase();
    if has("SASL authentication error") || has("SASL authentication failure") {
        let said = what.split_once(": ").map_or(what, |(_, said)| said);
        // What OAUTHBEARER answers.
        if let Some(status) = said.strip_prefix("{\"status\":\"").and_then(|rest| rest.split('"').next()) {
            return Some((
                Refused,
                format!(
                    "the broker {broker} refused our token: {status}; it is over, not meant for this broker, or not \
                     of a provider it trusts: look at scope and token_url in [kafka.oauth]"
                ),
            ));
        }
        return Some((Refused, format!("the broker {broker} refused the user or the password: {said}")));
    }
    if let Some((_, supported)) = what.split_once("broker's supported mechanisms:") {
        let wanted = what.strip_prefix("SASL ").and_then(|rest| rest.split(' ').next()).unwrap_or("SASL");
        let supported = supported.trim();
        return Some((
            Refused,
            if supported.is_empty() {
                format!("the listener {broker} wants no password: set security.protocol to plaintext or ssl")
            } else {
                format!(
                    "the broker {broker} does not take {wanted}: set sasl.mechanisms to one of {supported}"
                )
            },
        ));
    }
    if has("certificate verify failed") || has("verify broker certificate") {
        return Some((
            Refused,
            format!(
                "the certificate of the broker {broker} is not trusted, or is not for this name: \
                 set ssl.ca.location to the file of the authority that signed it"
            ),
        ));
    }
    let wants_certificate =
        ["alert bad certificate", "certificate required", "client SSL authentication might"];
    if wants_certificate.iter().any(|words| has(words)) {
        return Some((
            Refused,
            format!(
                "the broker {broker} does not take our certificate, or wants one: \
                 set ssl.certificate.location and ssl.key.location"
            ),
        ));
    }
    let no_tls =
        ["unexpected eof", "wrong version number", "PLAINTEXT broker listener", "packet length too long"];
    if state.contains("SSL_HANDSHAKE") && no_tls.iter().any(|words| has(words)) {
        return Some((
            Mismatch,
            format!(
                "the listener {broker} does not speak TLS: set security.protocol to plaintext or sasl_plaintext"
            ),
        ));
    }
    if has("Invalid response size") {
        return Some((Mismatch, format!("{broker} is no Kafka broker: it answers in another protocol")));
    }
    if has("Failed to resolve") {
        return Some((Unreachable, format!("no host answers to the name of {broker}: {}", tail())));
    }
    if has("Connect to ") || has("Connection setup timed out") {
        let why = if has("timed out") { "timed out".to_owned() } else { tail() };
        return Some((Unreachable, format!("no broker answers at {broker}: {why}")));
    }
    // Idle connections are closed all the time; that is no trouble before one is open.
    let is_opening = ["CONNECT", "HANDSHAKE", "AUTH", "APIVERSION"].iter().any(|word| state.contains(word));
    is_opening.then(|| (Unreachable, format!("no connection to {broker}: {}", super::kafka::plain(what))))
}

#[cfg(test)]
mod tests {
    use super::TroubleKind::{Mismatch, Refused, Unreachable};
    use super::*;

    #[track_caller]
    fn check(line: &str, kind: TroubleKind, reason: &str) {
        let trouble = read_trouble(line).unwrap();
        assert!(trouble.reason.starts_with(reason), "{trouble:?}");
        assert_eq!(trouble.kind, kind);
    }

    #[test]
    fn each_sentence_of_the_client_is_one_of_ours() {
        check(
            "sasl_plaintext://h:9094/bootstrap: SASL authentication error: Authentication failed: Invalid username \
             or password (after 331ms in state AUTH_REQ)",
            Refused,
            "the broker h:9094 refused the user or the password: Authentication failed: Invalid",
        );
        check(
            "sasl_ssl://h:9/bootstrap: SASL authentication error: {\"status\":\"invalid_token\"} (after 305ms in state \
             AUTH_REQ, 1 identical error(s) suppressed)",
            Refused,
            "the broker h:9 refused our token: invalid_token; it is over, ",
        );
        check(
            "sasl_plaintext://h:9094/1: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL \
             mechanism: broker's supported mechanisms: PLAIN (after 301ms in state AUTH_HANDSHAKE)",
            Refused,
            "the broker h:9094 does not take SCRAM-SHA-256: set sasl.mechanisms to one of PLAIN",
        );
        check(
            "sasl_plaintext://h:9/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in \
             current SASL state: broker's supported mechanisms:  (after 17ms in state AUTH_HANDSHAKE)",
            Refused,
            "the listener h:9 wants no password",
        );
        check(
            "ssl://h:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
             broker certificate could not be verified (after 411ms in state SSL_HANDSHAKE)",
            Refused,
            "the certificate of the broker h:9093 is not trusted",
        );
        check(
            "ssl://h:9/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL \
             alert number 42 (after 2ms in state APIVERSION_QUERY)",
            Refused,
            "the broker h:9 does not take our certificate",
        );
        check(
            "ssl://h:9/bootstrap: SSL handshake failed: error:0A000126:SSL routines::unexpected eof while reading \
             (after 7ms in state SSL_HANDSHAKE)",
            Mismatch,
            "the listener h:9 does not speak TLS",
        );
        check(
            "h:9/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect \
             security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10 (see \
             api.version.request) (after 3ms in state APIVERSION_QUERY)",
            Mismatch,
            "the listener h:9 speaks TLS",
        );
        check(
            "h:9/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 3ms in state \
             APIVERSION_QUERY)",
            Mismatch,
            "the listener h:9 speaks TLS",
        );
        check(
            "h:9/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 12ms in state UP)",
            Mismatch,
            "the listener h:9 wants a password",
        );
        check(
            "h:9/bootstrap: Disconnected: verify that security.protocol is correctly configured, broker might \
             require SASL authentication (after 0ms in state UP)",
            Mismatch,
            "the listener h:9 wants a password",
        );
        check(
            "h:80/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase \
             receive.message.max.bytes (after 2ms in state APIVERSION_QUERY)",
            Mismatch,
            "h:80 is no Kafka broker",
        );
        check(
            "[::1]:9/bootstrap: Connect to ipv6#[::1]:9 failed: Connection refused (after 0ms in state CONNECT)",
            Unreachable,
            "no broker answers at [::1]:9: connection refused",
        );
        check(
            "n.invalid:9/bootstrap: Failed to resolve 'n.invalid:9': Name or service not known (after 0ms in state \
             CONNECT)",
            Unreachable,
            "no host answers to the name of n.invalid:9: name or service not known",
        );
        check(
            "GroupCoordinator: h:9: Connection setup timed out in state CONNECT (after 30001ms in state CONNECT)",
            Unreachable,
            "no broker answers at h:9: timed out",
        );
    }

    #[test]
    fn an_idle_connection_that_is_closed_is_no_trouble() {
        assert_eq!(read_trouble("h:9/1: Disconnected (after 600000ms in state UP)"), None);
        assert_eq!(read_trouble("2/2 brokers are down"), None);
    }

    #[test]
    fn a_refusal_outlasts_a_silence_until_it_is_forgotten() {
        let log = ClientLog::default();
        let refused = "[thrd:h:9/b]: h:9/b: SASL authentication error: no (after 1ms in state AUTH_REQ)";
        log.note("FAIL", refused);
        log.note(
            "FAIL",
            "i:9/b: Connect to ipv4#1:9 failed: Connection refused (after 0ms in state CONNECT)",
        );
        assert_eq!(log.reason().unwrap(), "the broker h:9 refused the user or the password: no");
        log.forget();
        assert_eq!(log.reason(), None);
    }
}
