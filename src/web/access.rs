//! Who may see the pages: TLS, client certificates and passwords, by a web configuration file of Prometheus' exporters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::log::Rarely;
use crate::look::Looks;

/// A password is looked at for a tenth of a second; one at a time leaves the other cores to the logs.
const LOOKS: usize = 1;
/// What an unknown user's password is compared with, so that it takes as long; the hash of nothing anybody knows.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// The file as its authors write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default)]
    min_version: Version,
}

/// In the words of the file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    RequestClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum Version {
    #[default]
    TLS12,
    TLS13,
}

/// What the file and those that it names say now.
pub struct Rules {
    /// `None` speaks plainly.
    pub tls: Option<SslAcceptor>,
    pub wants_certificate: bool,
    users: BTreeMap<String, String>,
    /// The files when they were read.
    seen: Looks,
}

/// The file, read anew when it or a certificate changes.
pub struct Access {
    path: PathBuf,
    rules: Mutex<Arc<Rules>>,
    looks: Semaphore,
    /// Of each user the last password that was right, as a digest with the hash that it was compared with.
    known: Mutex<BTreeMap<String, Vec<u8>>>,
    salt: [u8; 32],
    complaint: Rarely,
}

impl Access {
    pub fn new(path: &Path) -> Result<Self, String> {
        let rules = read(path)?;
        let mut salt = [0; 32];
        openssl::rand::rand_bytes(&mut salt)
            .map_err(|error| format!("cannot make a random number: {error}"))?;
        Ok(Self {
            path: path.to_owned(),
            rules: Mutex::new(Arc::new(rules)),
            looks: Semaphore::new(LOOKS),
            known: Mutex::default(),
            salt,
            complaint: Rarely::new(Duration::from_secs(60)),
        })
    }

    /// The rules of now. Where the files have become wrong the last good ones stay.
    pub fn rules(&self) -> Arc<Rules> {
        let mut rules = self.rules.lock().expect("no code panics while it holds this lock");
        if !rules.seen.hold() {
            match read(&self.path) {
                Ok(new) => *rules = Arc::new(new),
                Err(problem) => {
                    if let Some(suppressed) = self.complaint.permit() {
                        tracing::error!(suppressed, "{problem}; what was read before stays");
                    }
                }
            }
        }
        Arc::clone(&rules)
    }

    /// Whether the `Authorization` of a request is that of a user; always, where there are none.
    pub async fn admits(self: &Arc<Self>, rules: &Rules, authorization: Option<&str>) -> bool {
        if rules.users.is_empty() {
            return true;
        }
        let Some((user, password)) = authorization.and_then(credentials) else { return false };
        let hash = rules.users.get(&user).cloned();
        let digest = self.digest(&user, hash.as_deref().unwrap_or_default(), &password);
        let is_known = {
            let known = self.known.lock().expect("no code panics while it holds this lock");
            known.get(&user).is_some_and(|known| openssl::memcmp::eq(known, &digest))
        };
        if is_known {
            return true;
        }
        let Ok(_turn) = self.looks.acquire().await else { return false };
        let compared = hash.clone().unwrap_or_else(|| NOBODY.to_owned());
        let is_right = tokio::task::spawn_blocking(move || bcrypt::verify(password, &compared)).await;
        let is_right = hash.is_some() && matches!(is_right, Ok(Ok(true)));
        if is_right {
            self.known.lock().expect("no code panics while it holds this lock").insert(user, digest);
        }
        is_right
    }

    fn digest(&self, user: &str, hash: &str, password: &str) -> Vec<u8> {
        let mut text = self.salt.to_vec();
        for part in [user, hash, password] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        openssl::hash::hash(MessageDigest::sha256(), &text).expect("OpenSSL has SHA-256").to_vec()
    }
}

/// `Basic` and user:password in Base64.
fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    let decoded = openssl::base64::decode_block(encoded.trim())
        .ok()
        .filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// A value that it quotes may be a password.
fn unquoted(error: &str) -> String {
    match (error.split_once('"'), error.rsplit_once('"')) {
        (Some((before, _)), Some((_, behind))) => format!("{before}***{behind}"),
        _ => error.to_owned(),
    }
}

fn read(path: &Path) -> Result<Rules, String> {
    let shown = path.display();
    let mut seen = Looks::of([path.to_owned()]);
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    // An empty file is a document that says nothing.
    let file: Option<File> = serde_yaml_ng::from_str(&text)
        .map_err(|error| format!("cannot use {shown}: {}", unquoted(&error.to_string())))?;
    let File { tls_server_config, basic_auth_users } = file.unwrap_or_default();
    let users = basic_auth_users.unwrap_or_default();
    for (user, hash) in &users {
        if hash.parse::<bcrypt::HashParts>().is_err() {
            return Err(format!(
                "cannot use {shown}: the password of `{user}` is no bcrypt hash (htpasswd -nBC 10 \"\" makes one)"
            ));
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let auth = tls_server_config.as_ref().map(|tls| tls.client_auth_type).unwrap_or_default();
    let tls = match tls_server_config {
        None => None,
        Some(tls) => {
            for file in
                [Some(&tls.cert_file), Some(&tls.key_file), tls.client_ca_file.as_ref()].into_iter().flatten()
            {
                seen.add(folder.join(file));
            }
            Some(acceptor(&tls, folder).map_err(|problem| format!("cannot use {shown}: {problem}"))?)
        }
    };
    let wants_certificate =
        matches!(auth, ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert);
    Ok(Rules { tls, wants_certificate, users, seen })
}

fn acceptor(tls: &Tls, folder: &Path) -> Result<SslAcceptor, String> {
    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(|error| error.to_string())?;
    let version = match tls.min_version {
        Version::TLS12 => SslVersion::TLS1_2,
        Version::TLS13 => SslVersion::TLS1_3,
    };
    builder.set_min_proto_version(Some(version)).map_err(|error| error.to_string())?;
    let (certificate, key) = (folder.join(&tls.cert_file), folder.join(&tls.key_file));
    let cannot = |file: &Path, what: &str| {
        let reason = match std::fs::read(file) {
            Ok(_) => format!("it holds no {what}"),
            Err(error) => error.to_string(),
        };
        format!("cannot read {}: {reason}", file.display())
    };
    builder
        .set_certificate_chain_file(&certificate)
        .map_err(|_| cannot(&certificate, "certificate in PEM"))?;
    builder
        .set_private_key_file(&key, SslFiletype::PEM)
        .map_err(|_| cannot(&key, "key in PEM of this certificate"))?;
    let verifies = matches!(
        tls.client_auth_type,
        ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert
    );
    match &tls.client_ca_file {
        Some(file) if verifies => {
            let file = folder.join(file);
            builder.set_ca_file(&file).map_err(|_| cannot(&file, "certificate in PEM"))?;
            // Nobody is turned away here for having none: the probes are open to all.
            builder.set_verify(SslVerifyMode::PEER);
        }
        None if verifies => return Err("client_auth_type wants client_ca_file".to_owned()),
        _ if tls.client_auth_type == ClientAuth::NoClientCert => builder.set_verify(SslVerifyMode::NONE),
        _ => builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true),
    }
    builder.set_session_id_context(b"aadstream").map_err(|error| error.to_string())?;
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_as_browsers_write_them() {
        let of = |text: &str| credentials(text).map(|(user, password)| format!("{user}|{password}"));
        assert_eq!(of("Basic dXNlcjpwYXNzOndvcmQ=").as_deref(), Some("user|pass:word"));
        assert_eq!(of("basic dXNlcjo=").as_deref(), Some("user|"));
        for odd in ["", "Basic", "Basic dXNlcg==", "Basic !", "Bearer dXNlcjpwYXNz", "Basic //8="] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn an_unknown_user_is_compared_with_a_real_hash() {
        assert!(!bcrypt::verify("", NOBODY).unwrap());
        assert_eq!(NOBODY.parse::<bcrypt::HashParts>().unwrap().get_cost(), 10);
    }
}
