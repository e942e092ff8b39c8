//! `[kafka.oauth]`: who gives the tokens that Kafka's OAUTHBEARER wants, and what we show for them.

use std::net::IpAddr;
use std::path::PathBuf;

use super::read::{Notes, Section, optional, text, word};
use super::source::{Environment, Table, Value};
use super::values::anonymous;
use super::{Kafka, Origin, Profile, Secret};

pub(super) const METHODS: [(&str, Method); 3] = [
    ("client_credentials", Method::ClientCredentials),
    ("workload_identity", Method::WorkloadIdentity),
    ("managed_identity", Method::ManagedIdentity),
];

/// Where a virtual machine of Azure asks for the tokens of its identity.
const AZURE_MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
/// Microsoft's sign-in service, where a pod does not say another one.
const AZURE_AUTHORITY: &str = "https://login.microsoftonline.com/";

/// What is shown for a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// A client secret.
    ClientCredentials,
    /// A token that the platform keeps fresh in a file: federation, as in Kubernetes.
    WorkloadIdentity,
    /// Nothing: the machine itself is known at an address that only it reaches.
    ManagedIdentity,
}

/// How to get tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuth {
    pub method: Method,
    pub token_url: String,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub assertion_file: Option<PathBuf>,
    pub scope: Option<String>,
    /// The authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// What App Service and Container Apps want to see in place of a machine's address.
    pub identity_header: Option<Secret>,
}

/// Reads the table; without one there are no tokens.
pub(super) fn read(table: Table, kafka: &Kafka, notes: &mut Notes<'_>) -> Option<OAuth> {
    if table.is_empty() {
        return None;
    }
    let problems = notes.problems.len();
    let mut section = Section::new("kafka.oauth", table, notes);
    let method = section.take("method", None, |value| word(&METHODS)(value).map(Some));
    let given = OAuth {
        method: method.unwrap_or(Method::ClientCredentials),
        token_url: section.take("token_url", String::new(), token_url),
        client_id: section.take("client_id", None, optional),
        client_secret: section.take_secret("client_secret"),
        assertion_file: section.take("assertion_file", None, file),
        scope: section.take("scope", None, optional),
        ca_file: section.take("ca_file", None, file),
        identity_header: None,
    };
    section.finish();
    let oauth = given.with_defaults(kafka, notes.environment);
    // Whatever was refused may be what is missing.
    if notes.problems.len() == problems {
        let origin = notes.origins.get("kafka.oauth.method").cloned().unwrap_or_default();
        match method {
            None => {
                origin
                    .report(&mut notes.problems, format!("no `method` in [kafka.oauth]: set {}", methods()));
            }
            Some(_) => oauth.report_missing(&origin, notes),
        }
    }
    Some(oauth)
}

fn methods() -> String {
    METHODS.map(|(word, _)| word).join(" or ")
}

impl OAuth {
    /// What Azure tells its pods and apps in variables, and what an Event Hubs namespace wants.
    fn with_defaults(mut self, kafka: &Kafka, environment: &Environment) -> Self {
        let variable =
            |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        if kafka.profile == Some(Profile::EventHubs) && self.scope.is_none() {
            let host = kafka.brokers.split([',', ':']).next().unwrap_or_default();
            self.scope = Some(format!("https://{host}/.default"));
        }
        match self.method {
            Method::ClientCredentials => {}
            Method::WorkloadIdentity => {
                self.client_id = self.client_id.or_else(|| variable("AZURE_CLIENT_ID"));
                self.assertion_file =
                    self.assertion_file.or_else(|| variable("AZURE_FEDERATED_TOKEN_FILE").map(Into::into));
                if let (true, Some(tenant)) = (self.token_url.is_empty(), variable("AZURE_TENANT_ID")) {
                    let authority =
                        variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AZURE_AUTHORITY.to_owned());
                    self.token_url =
                        format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
                }
            }
            Method::ManagedIdentity => {
                if self.token_url.is_empty() {
                    self.identity_header =
                        Secret::from_variable("IDENTITY_HEADER".to_owned(), environment).ok();
                    let app = self.identity_header.as_ref().and_then(|_| variable("IDENTITY_ENDPOINT"));
                    self.token_url = app.unwrap_or_else(|| AZURE_MACHINE.to_owned());
                }
            }
        }
        self
    }

    fn report_missing(&self, origin: &Origin, notes: &mut Notes<'_>) {
        let secret = "{ file = \"/run/secrets/kafka\" }";
        let needs: &[(&str, bool, &str)] = match self.method {
            Method::ClientCredentials => &[
                ("token_url", self.token_url.is_empty(), "the token endpoint of the identity provider"),
                ("client_id", self.client_id.is_none(), "the id of our app there"),
                ("client_secret", self.client_secret.is_none(), secret),
            ],
            Method::WorkloadIdentity => &[
                ("token_url", self.token_url.is_empty(), "the token endpoint, or AZURE_TENANT_ID"),
                ("client_id", self.client_id.is_none(), "the id of our app there, or AZURE_CLIENT_ID"),
                (
                    "assertion_file",
                    self.assertion_file.is_none(),
                    "the file with the platform's token, or AZURE_FEDERATED_TOKEN_FILE",
                ),
            ],
            Method::ManagedIdentity => &[(
                "scope",
                self.scope.is_none(),
                "what the token is for, such as https://NAMESPACE.servicebus.windows.net/.default",
            )],
        };
        for (key, _, meaning) in needs.iter().filter(|(_, is_missing, _)| *is_missing) {
            origin.report(&mut notes.problems, format!("no `{key}` in [kafka.oauth]: give {meaning}"));
        }
    }
}

/// The credentials that are sent there are worth as much as a password.
fn token_url(value: Value) -> Result<String, String> {
    let url = text(value)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.contains([' ', '#', '"', '@'])) else {
        return Err(format!(
            "expected an address such as https://login.microsoftonline.com/TENANT/oauth2/v2.0/token, found `{}`",
            anonymous(&url)
        ));
    };
    if url.starts_with("https://") || is_near(rest.split(['/', '?']).next().unwrap_or_default()) {
        return Ok(url);
    }
    Err("a token endpoint is asked over https://, for we send it credentials; http:// is for this machine only".to_owned())
}

/// Whether what is sent to this host and port stays on the machine or on its own cable.
fn is_near(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

fn file(value: Value) -> Result<Option<PathBuf>, String> {
    let Some(path) = optional(value)? else { return Ok(None) };
    match std::fs::metadata(&path) {
        Ok(_) => Ok(Some(path.into())),
        Err(error) => Err(format!("cannot read {path}: {error}")),
    }
}
