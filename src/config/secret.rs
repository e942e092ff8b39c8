//! Values that are never printed: passwords and keys, which stand in a file of their own or in a variable.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::read::filled;
use super::source::{Environment, Origin, Table, Value};

/// librdkafka's options whose value is shown to nobody. One that is given by file or variable is not shown either.
const SECRET_OPTIONS: &[&str] = &[
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl_key",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    // Holds whatever the token provider wants, the secret among it.
    "sasl.oauthbearer.config",
];

pub(super) fn is_secret(option: &str) -> bool {
    // Options that librdkafka does not have may be another client's, with a secret in them.
    SECRET_OPTIONS.contains(&option)
        || ["password", "secret", "jaas", "passphrase"].iter().any(|word| option.contains(word))
}

/// A value that no log, page or error may show. Only [`Secret::expose`] gives it away.
#[derive(Clone, Eq)]
pub struct Secret {
    value: String,
    pub source: SecretSource,
}

/// Where a secret was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    File(PathBuf),
    Variable(String),
}

impl Secret {
    /// `{ file = "…" }` or `{ env = "NAME" }`, or a variable that sets the key itself. A configuration is copied, shown
    /// and checked in, so a secret does not stand in it.
    pub(super) fn read(value: Value, origin: &Origin, environment: &Environment) -> Result<Self, String> {
        match (value, origin) {
            (Value::Table(table), _) => Self::refer(table, environment),
            (Value::Variable(_), Origin::Environment(name)) => Self::from_variable(name.clone(), environment),
            _ => Err("a secret does not stand in the configuration; say where it is: \
                      { file = \"/run/secrets/NAME\" } or { env = \"NAME\" }"
                .to_owned()),
        }
    }

    fn refer(table: Table, environment: &Environment) -> Result<Self, String> {
        let mut pairs = table.into_iter();
        let (Some((key, item)), None) = (pairs.next(), pairs.next()) else {
            return Err("expected either { file = \"…\" } or { env = \"NAME\" }".to_owned());
        };
        let name = filled(item.value)?;
        if key == "file" { Self::from_file(name.into()) } else { Self::from_variable(name, environment) }
    }

    pub(super) fn from_variable(name: String, environment: &Environment) -> Result<Self, String> {
        match environment.get(&name) {
            Some("") => Err(format!("the variable {name} is empty")),
            Some(value) => Ok(Self { value: value.to_owned(), source: SecretSource::Variable(name) }),
            None => Err(format!("the variable {name} is not set")),
        }
    }

    fn from_file(path: PathBuf) -> Result<Self, String> {
        Ok(Self { value: read_file(&path)?, source: SecretSource::File(path) })
    }

    /// The value as it is now: a file may have been written anew since.
    pub(super) fn current(&self) -> Result<String, String> {
        match &self.source {
            SecretSource::File(path) => read_file(path),
            SecretSource::Variable(_) => Ok(self.value.clone()),
        }
    }

    pub fn expose(&self) -> &str {
        &self.value
    }
}

/// Reads a secret; editors end a file with a line end, which is no part of a password.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the secret {}: {error}", path.display()))?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(format!("the secret {} is empty", path.display()));
    }
    Ok(value.to_owned())
}

/// Another value in the same place is no other configuration.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(*** from {:?})", self.source)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A key in a file, of any bytes.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyFile {
    pub path: PathBuf,
    bytes: Vec<u8>,
    /// Everybody on this machine may read it.
    pub is_open: bool,
}

/// What HMAC-SHA-256 asks of a key: fewer bytes are easier to guess than its result.
const KEY_BYTES_MIN: usize = 32;

/// A key is no more than this; somebody named the wrong file.
const KEY_BYTES_MAX: usize = 4096;

impl KeyFile {
    /// Reads the file; each of its bytes counts, a line end too.
    pub(super) fn read(path: PathBuf) -> Result<Self, String> {
        let cannot = |error| format!("cannot read the key {}: {error}", path.display());
        // Opening a pipe would wait for whoever writes into it.
        if !std::fs::metadata(&path).map_err(cannot)?.is_file() {
            return Err(format!("cannot read the key {}: it is no file", path.display()));
        }
        let mut file = File::open(&path).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.permissions().mode();
        let mut bytes = Vec::new();
        file.by_ref().take(KEY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
        match bytes.len() {
            KEY_BYTES_MIN..=KEY_BYTES_MAX => Ok(Self { path, bytes, is_open: mode & 0o004 != 0 }),
            count if count < KEY_BYTES_MIN => Err(format!(
                "the key {} has {count} bytes, it needs at least {KEY_BYTES_MIN}: head -c 32 /dev/urandom makes one",
                path.display()
            )),
            _ => Err(format!("{} is longer than {KEY_BYTES_MAX} bytes: that is no key", path.display())),
        }
    }

    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile(*** from {})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_never_shows_the_value() {
        let environment = Environment::of([("NAME", "hunter2")]);
        let secret = Secret::from_variable("NAME".to_owned(), &environment).unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** Secret(*** from Variable(\"NAME\"))");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn one_line_end_of_a_file_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        for (content, expected) in
            [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(Secret::from_file(path.clone()).unwrap().expose(), expected, "of {content:?}");
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(Secret::from_file(path.clone()).unwrap_err().ends_with("is empty"));
        let missing = Secret::from_file(directory.path().join("none")).unwrap_err();
        assert!(missing.starts_with("cannot read the secret ") && missing.contains("/none: "), "{missing}");
    }
}
