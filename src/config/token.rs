//! Asks an identity provider for one token.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body, Error};

use super::client_log::{Trouble, TroubleKind};
use super::kafka::plain;
use super::oauth::{Method, OAuth};
use super::secret::read_file;

/// The Kafka client asks on the thread that polls, so an answer is not waited for longer; it asks again after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A token has a few KiB.
const ANSWER_BYTES: u64 = 1024 * 1024;
/// What an error says of itself is cut here.
const REASON_LETTERS: usize = 300;

/// What is asked, and the keys in it whose values nobody is shown.
type Pairs = Vec<(&'static str, String)>;
const SECRETS: [&str; 2] = ["client_secret", "client_assertion"];

/// A token and its end, in milliseconds since 1970.
pub struct Token {
    pub value: String,
    pub expires_ms: i64,
    /// From when it came to its end.
    pub lifetime: Duration,
}

/// Gets a token, or says why there is none.
pub fn fetch(oauth: &OAuth) -> Result<Token, Trouble> {
    let url = &oauth.token_url;
    let trouble = |kind, reason: String| Trouble { kind, reason: format!("no token from {url}: {reason}") };
    let pairs = question(oauth).map_err(|reason| trouble(TroubleKind::Refused, reason))?;
    let agent = agent(oauth).map_err(|reason| trouble(TroubleKind::Refused, reason))?;
    let mut response = ask(&agent, oauth, &pairs).map_err(|error| match error {
        Error::NativeTls(_) | Error::Tls(_) => trouble(TroubleKind::Refused, tls_reason(&error.to_string())),
        Error::Io(error) => trouble(TroubleKind::Unreachable, plain(&error.to_string())),
        error => trouble(TroubleKind::Unreachable, error.to_string()),
    })?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_string();
    let body = body.map_err(|error| trouble(TroubleKind::Unreachable, error.to_string()))?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if !status.is_success() {
        // Too many requests, or a fault over there: it may answer later.
        let is_passing = status.is_server_error() || status.as_u16() == 429;
        let kind = if is_passing { TroubleKind::Unreachable } else { TroubleKind::Refused };
        return Err(trouble(kind, format!("{}: {}", status.as_u16(), complaint(&answer, &pairs))));
    }
    let now = now_ms();
    match (answer["access_token"].as_str(), expires_ms(&answer, now)) {
        (Some(_), Some(expires_ms)) if expires_ms <= now => {
            Err(trouble(TroubleKind::Refused, "it has expired already; look at the clocks".to_owned()))
        }
        (Some(value), Some(expires_ms)) => {
            let lifetime = Duration::from_millis((expires_ms - now).unsigned_abs());
            Ok(Token { value: value.to_owned(), expires_ms, lifetime })
        }
        _ => Err(trouble(
            TroubleKind::Refused,
            "the answer has no access_token, or no expires_in; is this a token endpoint?".to_owned(),
        )),
    }
}

/// What is asked. Secrets are read anew each time, so that they can be rotated.
fn question(oauth: &OAuth) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let scope = oauth.scope.clone();
    if oauth.method == Method::ManagedIdentity {
        let version = if oauth.identity_header.is_some() { "2019-08-01" } else { "2018-02-01" };
        pairs.push(("api-version", version.to_owned()));
        // This older protocol names the resource, not what of it is wanted.
        pairs.extend(scope.map(|scope| ("resource", scope.trim_end_matches("/.default").to_owned())));
    } else {
        pairs.push(("grant_type", "client_credentials".to_owned()));
        pairs.extend(scope.map(|scope| ("scope", scope)));
    }
    pairs.extend(oauth.client_id.clone().map(|id| ("client_id", id)));
    match oauth.method {
        Method::ManagedIdentity => {}
        Method::ClientCredentials => {
            let secret = oauth.client_secret.as_ref().ok_or("no client_secret")?;
            pairs.push((SECRETS[0], secret.current()?));
        }
        Method::WorkloadIdentity => {
            let file = oauth.assertion_file.as_deref().ok_or("no assertion_file")?;
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            pairs.push(("client_assertion_type", kind.to_owned()));
            pairs.push((SECRETS[1], read_file(file)?));
        }
    }
    Ok(pairs)
}

fn agent(oauth: &OAuth) -> Result<Agent, String> {
    let roots = match &oauth.ca_file {
        // The OpenSSL inside the program looks where this system keeps its certificates.
        None => RootCerts::PlatformVerifier,
        Some(path) => {
            let pem =
                std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(format!("there is no certificate in {}", path.display()));
            }
            RootCerts::Specific(Arc::new(certificates))
        }
    };
    let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
    let mut config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // Credentials go where the configuration says and nowhere else.
        .max_redirects(0)
        .user_agent(concat!("aadstream/", env!("CARGO_PKG_VERSION")));
    if oauth.method == Method::ManagedIdentity {
        // No proxy reaches an address that is this machine's own.
        config = config.proxy(None);
    }
    Ok(config.build().into())
}

fn ask(agent: &Agent, oauth: &OAuth, pairs: &Pairs) -> Result<Response<Body>, Error> {
    let pairs = pairs.iter().map(|(key, value)| (*key, value.as_str()));
    match oauth.method {
        Method::ManagedIdentity => {
            let request = agent.get(&oauth.token_url).query_pairs(pairs);
            match oauth.identity_header.as_ref() {
                Some(header) => request.header("X-IDENTITY-HEADER", header.expose()),
                None => request.header("Metadata", "true"),
            }
            .call()
        }
        Method::ClientCredentials | Method::WorkloadIdentity => agent.post(&oauth.token_url).send_form(pairs),
    }
}

/// OpenSSL's sentences name its own source files.
fn tls_reason(error: &str) -> String {
    if error.contains("certificate verify failed") {
        return "its certificate is not trusted, or is not for this name: set ca_file in [kafka.oauth] to the file of \
                the authority that signed it"
            .to_owned();
    }
    if error.contains("wrong version number") { "it does not speak TLS".to_owned() } else { error.to_owned() }
}

/// `expires_in` in seconds, or `expires_on` in seconds since 1970, as a number or a text.
fn expires_ms(answer: &Value, now: i64) -> Option<i64> {
    let seconds = |key: &str| match &answer[key] {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let relative = seconds("expires_in").and_then(|seconds| seconds.checked_mul(1000)?.checked_add(now));
    relative.or_else(|| seconds("expires_on")?.checked_mul(1000))
}

/// What an identity provider says of a refusal, on one line, without what was sent.
fn complaint(answer: &Value, pairs: &Pairs) -> String {
    let parts = ["error", "error_description"].map(|key| answer[key].as_str().unwrap_or_default().trim());
    let mut said = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(": ");
    for (_, secret) in pairs.iter().filter(|(key, _)| SECRETS.contains(key)) {
        said = said.replace(secret.as_str(), "***");
    }
    let said = said.lines().next().unwrap_or_default();
    let letters = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = letters.take(REASON_LETTERS).collect();
    if line.is_empty() { "no reason given".to_owned() } else { line }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Environment, Settings};

    /// Answers one request with `response`, and gives what was asked.
    fn provider(response: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                reader.read_line(&mut head).unwrap();
                if let Some(value) = head[start..].to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, answer) = response.split_once('\n').unwrap();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
            head + &String::from_utf8(body).unwrap()
        });
        (url, thread)
    }

    fn settings(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let common = [("AADSTREAM_KAFKA__BROKERS", "h:9093"), ("AADSTREAM_KAFKA__TOPICS", "t")];
        let pairs = common.iter().chain(pairs).copied();
        Settings::load_with(None, &Environment::of(pairs), true)
    }

    fn oauth(pairs: &[(&str, &str)]) -> OAuth {
        settings(pairs).unwrap().kafka.oauth.unwrap()
    }

    const METHOD: &str = "AADSTREAM_KAFKA__OAUTH__METHOD";
    const URL: &str = "AADSTREAM_KAFKA__OAUTH__TOKEN_URL";
    const ID: &str = "AADSTREAM_KAFKA__OAUTH__CLIENT_ID";
    const SECRET: &str = "AADSTREAM_KAFKA__OAUTH__CLIENT_SECRET";
    const SCOPE: &str = "AADSTREAM_KAFKA__OAUTH__SCOPE";

    fn by_secret(url: &str) -> OAuth {
        oauth(&[
            (METHOD, "client_credentials"),
            (URL, url),
            (ID, "app"),
            (SECRET, "s e&cret"),
            (SCOPE, "x/.default"),
        ])
    }

    #[test]
    fn a_client_secret_is_posted_as_a_form() {
        let (url, asked) = provider("200 OK\n{\"access_token\":\"t\",\"expires_in\":3600}");
        let token = fetch(&by_secret(&url)).ok().unwrap();
        let left = token.expires_ms - now_ms();
        assert!(token.value == "t" && (3_590_000..=3_600_000).contains(&left), "{left}");
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
        let form = asked.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(
            form,
            "grant_type=client_credentials&scope=x%2F.default&client_id=app&client_secret=s+e%26cret"
        );
    }

    #[test]
    fn a_federated_token_is_read_anew_and_a_machine_shows_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let (url, asked) = provider("200 OK\n{\"access_token\":\"t\",\"expires_in\":\"60\"}");
        let pod = oauth(&[
            (METHOD, "workload_identity"),
            (URL, &url),
            ("AZURE_CLIENT_ID", "pod"),
            ("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap()),
        ]);
        std::fs::write(&path, "second\n").unwrap();
        assert!(fetch(&pod).is_ok());
        let asked = asked.join().unwrap();
        assert!(asked.ends_with("&client_assertion=second") && asked.contains("&client_id=pod&"), "{asked}");

        let (url, asked) = provider("200 OK\n{\"access_token\":\"t\",\"expires_on\":\"99999999999\"}");
        let machine = oauth(&[(METHOD, "managed_identity"), (URL, &url), (SCOPE, "https://n/.default")]);
        assert_eq!(fetch(&machine).ok().unwrap().expires_ms, 99_999_999_999_000);
        let asked = asked.join().unwrap();
        let line = "GET /token?api-version=2018-02-01&resource=https";
        assert!(asked.starts_with(line) && asked.to_lowercase().contains("metadata: true"), "{asked}");
    }

    #[test]
    fn azure_says_in_variables_where_to_ask() {
        let pod = oauth(&[
            (METHOD, "workload_identity"),
            ("AADSTREAM_KAFKA__PROFILE", "event_hubs"),
            ("AZURE_CLIENT_ID", "pod"),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/etc/hostname"),
        ]);
        assert_eq!(pod.token_url, "https://login.microsoftonline.com/tenant/oauth2/v2.0/token");
        assert_eq!(pod.scope.as_deref(), Some("https://h/.default"));
        let app = oauth(&[
            (METHOD, "managed_identity"),
            (SCOPE, "https://n/.default"),
            ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi"),
            ("IDENTITY_HEADER", "key"),
        ]);
        assert!(app.token_url.ends_with("/msi") && app.identity_header.is_some());
    }

    #[track_caller]
    fn check_refused(response: &'static str, kind: TroubleKind, words: &str) {
        let (url, asked) = provider(response);
        let trouble = fetch(&by_secret(&url)).err().unwrap();
        asked.join().unwrap();
        assert_eq!((trouble.kind, trouble.reason), (kind, format!("no token from {url}: {words}")));
    }

    #[test]
    fn a_refusal_is_told_without_the_secret() {
        check_refused(
            "401 Unauthorized\n{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: not s e&cret\\r\\nTrace\"}",
            TroubleKind::Refused,
            "401: invalid_client: AADSTS7000215: not ***",
        );
        check_refused("503 Busy\nlater", TroubleKind::Unreachable, "503: no reason given");
        check_refused("302 Found\n", TroubleKind::Refused, "302: no reason given");
        check_refused(
            "200 OK\n<html>",
            TroubleKind::Refused,
            "the answer has no access_token, or no expires_in; is this a token endpoint?",
        );
        check_refused(
            "200 OK\n{\"access_token\":\"t\",\"expires_in\":0}",
            TroubleKind::Refused,
            "it has expired already; look at the clocks",
        );
    }

    #[track_caller]
    fn check_wrong(pairs: &[(&str, &str)], expected: &str) {
        let error = settings(pairs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_missing_or_unsafe_is_named() {
        let method = (METHOD, "client_credentials");
        check_wrong(&[method], "no `client_secret` in [kafka.oauth]: give { file = ");
        check_wrong(
            &[(ID, "x")],
            "no `method` in [kafka.oauth]: set client_credentials or workload_identity",
        );
        check_wrong(&[(METHOD, "managed_identity")], "no `scope` in [kafka.oauth]");
        check_wrong(&[method, (URL, "http://login.example/token")], "is asked over https://");
        check_wrong(&[method, (URL, "login.example")], "expected an address such as https://");
        let complete = [method, (URL, "https://h/t"), (ID, "x"), (SECRET, "y")];
        let options = "AADSTREAM_KAFKA__OPTIONS__SASL_MECHANISMS";
        check_wrong(&[&complete[..], &[(options, "PLAIN")]].concat(), "[kafka.oauth] is for OAUTHBEARER");
        let protocol = ("AADSTREAM_KAFKA__OPTIONS__SECURITY_PROTOCOL", "ssl");
        check_wrong(
            &[&complete[..], &[protocol]].concat(),
            "[kafka.oauth] needs security.protocol = \"sasl_ssl\"",
        );
        let sasl = ("AADSTREAM_KAFKA__OPTIONS__SECURITY_PROTOCOL", "sasl_ssl");
        check_wrong(&[(options, "OAUTHBEARER"), sasl], "set `method` in [kafka.oauth]");
    }
}
