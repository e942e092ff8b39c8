//! The pages behind a web configuration file: passwords, TLS, client certificates, all read anew when they change.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use crate::running::Running;

struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Identity {
    /// Signed by `authority`, or an authority of its own.
    fn new(authority: Option<&Self>) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        let mut serial = BigNum::new().unwrap();
        serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", if authority.is_some() { "leaf" } else { "authority" }).unwrap();
        let name = name.build();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(authority.map_or(&name, |it| it.certificate.subject_name())).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        if authority.is_some() {
            let name =
                SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None));
            builder.append_extension(name.unwrap()).unwrap();
        } else {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        builder.sign(authority.map_or(&key, |it| &it.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), self.certificate.to_pem().unwrap()).unwrap();
        fs::write(folder.join(format!("{name}-key.pem")), self.key.private_key_to_pem_pkcs8().unwrap())
            .unwrap();
    }
}

fn start(folder: &Path) -> Running {
    Running::start("", &[("AADSTREAM_WEB__CONFIG_FILE", folder.join("web.yml").to_str().unwrap())])
}

fn users(folder: &Path, user: &str, password: &str) {
    let hash = bcrypt::hash(password, 4).unwrap();
    fs::write(folder.join("web.yml"), format!("basic_auth_users:\n  {user}: {hash}\n")).unwrap();
}

/// The status of a page for this user and password.
fn status(running: &Running, path: &str, login: Option<&str>) -> String {
    let header = login.map(|login| {
        let login = openssl::base64::encode_block(login.as_bytes());
        format!("Authorization: Basic {login}\r\n")
    });
    let response = running.ask("GET", path, &header.unwrap_or_default());
    response.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_password_opens_the_pages_and_probes_need_none() {
    let folder = tempfile::tempdir().unwrap();
    users(folder.path(), "prometheus", "päss:word");
    let running = start(folder.path());
    for (path, login, expected) in [
        ("/metrics", None, "401"),
        ("/", None, "401"),
        ("/none", None, "401"),
        ("/metrics", Some("prometheus:päss:word"), "200"),
        ("/metrics", Some("prometheus:päss:word"), "200"),
        ("/", Some("prometheus:päss:word"), "200"),
        ("/metrics", Some("prometheus:other"), "401"),
        ("/metrics", Some("prometheus:"), "401"),
        ("/metrics", Some("somebody:päss:word"), "401"),
        ("/-/healthy", None, "200"),
    ] {
        assert_eq!(status(&running, path, login), expected, "{path} as {login:?}");
    }
    assert!(running.ask("GET", "/metrics", "").contains("www-authenticate: Basic realm=\"aadstream\""));
    assert!(["200", "503"].contains(&status(&running, "/-/ready", None).as_str()), "in its own words");
    assert_eq!(running.ask("POST", "/-/reload", "").split(' ').nth(1), Some("401"));

    users(folder.path(), "prometheus", "another");
    assert_eq!(status(&running, "/metrics", Some("prometheus:päss:word")), "401");
    assert_eq!(status(&running, "/metrics", Some("prometheus:another")), "200");
    fs::write(folder.path().join("web.yml"), "basic_auth_user: {}\n").unwrap();
    assert_eq!(status(&running, "/metrics", Some("prometheus:another")), "200", "the last good file holds");
    let line = running.logged("what was read before stays", 0);
    assert!(line.contains("unknown field `basic_auth_user`"), "{line}");
    let log = running.log();
    assert!(!log.contains("another") && !log.contains("$2"), "{log}");
}

/// The answer over TLS and the certificate that came with it.
fn ask_tls(
    running: &Running,
    path: &str,
    authority: &X509,
    client: Option<&str>,
) -> Result<(String, X509), String> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.cert_store_mut().add_cert(authority.clone()).unwrap();
    if let Some(name) = client {
        builder.set_certificate_file(format!("{name}.pem"), SslFiletype::PEM).unwrap();
        builder.set_private_key_file(format!("{name}-key.pem"), SslFiletype::PEM).unwrap();
    }
    let address = running.address();
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let mut stream = builder.build().connect("127.0.0.1", stream).map_err(|error| error.to_string())?;
    let server = stream.ssl().peer_certificate().unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map_err(|error| error.to_string())?;
    Ok((String::from_utf8_lossy(&response).into_owned(), server))
}

fn tls_status(
    running: &Running,
    path: &str,
    authority: &X509,
    client: Option<&str>,
) -> Result<String, String> {
    let (response, _) = ask_tls(running, path, authority, client)?;
    Ok(response.split(' ').nth(1).unwrap_or_default().to_owned())
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server-key.pem\n";

#[test]
fn certificates_are_served_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Identity::new(None);
    Identity::new(Some(&authority)).write(folder.path(), "server");
    fs::write(folder.path().join("web.yml"), TLS).unwrap();
    let running = start(folder.path());
    let (response, first) = ask_tls(&running, "/metrics", &authority.certificate, None).unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.contains("aadstream_build_info"), "{response}");
    let mut plain = TcpStream::connect(running.address()).unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "nothing is said in the open");

    let second = Identity::new(Some(&authority));
    second.write(folder.path(), "server");
    let (_, served) = ask_tls(&running, "/", &authority.certificate, None).unwrap();
    assert_ne!(served.to_der().unwrap(), first.to_der().unwrap());
    assert_eq!(served.to_der().unwrap(), second.certificate.to_der().unwrap());
}

#[test]
fn a_client_certificate_opens_the_pages_and_probes_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Identity::new(None), Identity::new(None));
    authority.write(folder.path(), "authority");
    for (name, by) in [("server", &authority), ("client", &authority), ("stranger", &stranger)] {
        Identity::new(Some(by)).write(folder.path(), name);
    }
    let more = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.pem\n";
    fs::write(folder.path().join("web.yml"), format!("{TLS}{more}")).unwrap();
    let running = start(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let status = |page, client: Option<&str>| {
        tls_status(&running, page, &authority.certificate, client.map(path).as_deref())
    };
    assert_eq!(status("/metrics", Some("client")).unwrap(), "200");
    assert_eq!(status("/metrics", None).unwrap(), "403");
    assert_eq!(status("/-/healthy", None).unwrap(), "200");
    assert!(status("/metrics", Some("stranger")).is_err(), "its authority is not ours");
    assert_eq!(status("/metrics", Some("client")).unwrap(), "200");
}

#[test]
fn config_check_names_what_is_wrong_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    Identity::new(None).write(folder.path(), "server");
    let check = |text: &str| {
        fs::write(folder.path().join("web.yml"), text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_aadstream"))
            .args(["config", "check"])
            .env("AADSTREAM_KAFKA__BROKERS", "h:1")
            .env("AADSTREAM_KAFKA__TOPICS", "t")
            .env("AADSTREAM_WEB__CONFIG_FILE", folder.path().join("web.yml"))
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for fine in ["", "# nothing\n", TLS, &format!("{TLS}  min_version: TLS13\n")] {
        assert_eq!(check(fine), (0, String::new()), "{fine}");
    }
    for (text, expected) in [
        ("tls_server_config:\n  cert_file: server.pem\n", "missing field `key_file` at line 2"),
        ("tls_server_config: {cert_file: none.pem, key_file: server-key.pem}\n", "none.pem: No such file"),
        (
            "tls_server_config: {cert_file: server-key.pem, key_file: server-key.pem}\n",
            "it holds no certificate in PEM",
        ),
        ("tls_server_config: {cert_file: server.pem, key_file: server.pem}\n", "it holds no key in PEM"),
        (&format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n"), "wants client_ca_file"),
        (
            &format!("{TLS}  client_auth_type: always\n"),
            "unknown variant `always`, expected one of `NoClientCert`",
        ),
        ("basic_auth_users:\n  a: secret\n", "the password of `a` is no bcrypt hash"),
        ("http_server_config: {}\n", "unknown field `http_server_config`"),
    ] {
        let (code, error) = check(text);
        assert_eq!(code, 3, "{text}");
        assert!(error.contains("cannot use `web.config_file`: ") && error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
