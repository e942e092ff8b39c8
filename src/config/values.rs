//! Values with a form of their own: addresses, topics, points in time.

use std::time::Duration;

use super::Start;
use super::kafka::is_pattern;
use super::read::{optional, text, texts};
use super::source::Value;
use crate::catalogue::problem::did_you_mean;

/// Kafka's own limit on the name of a topic.
const TOPIC_LETTERS_MAX: usize = 249;

/// Splits `host:port`, also `[::1]:9092`.
/// An address without the user and password that may stand in front of its host.
pub(super) fn anonymous(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
            format!("{}***@{host}", scheme.unwrap_or_default())
        }
        None => address.to_owned(),
    }
}

fn host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    (!host.is_empty() && (is_bracketed || !host.contains([':', '[', ']', ' ']))).then_some((host, port))
}

pub(super) fn brokers(value: Value) -> Result<String, String> {
    let list = match value {
        Value::List(_) => texts(value)?.join(","),
        value => text(value)?,
    };
    let is_address = |broker: &&str| {
        let address = broker.split_once("://").map_or(*broker, |(_, address)| address);
        host_port(address).is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let (brokers, wrong): (Vec<&str>, Vec<&str>) =
        list.split(',').map(str::trim).filter(|broker| !broker.is_empty()).partition(is_address);
    if !wrong.is_empty() {
        return Err(format!(
            "expected host:port, such as \"kafka:9092\", found `{}`",
            anonymous(&wrong.join("`, `"))
        ));
    }
    if brokers.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(brokers.join(",")) }
}

pub(super) fn topics(value: Value) -> Result<Vec<String>, String> {
    let mut topics: Vec<String> = Vec::new();
    for topic in texts(value)? {
        // Kafka refuses a subscription that names a topic twice.
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    let wrong: Vec<String> = topics.iter().filter_map(|topic| check_topic_or_pattern(topic).err()).collect();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    if topics.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(topics) }
}

fn check_topic_or_pattern(topic: &str) -> Result<(), String> {
    if !topic.starts_with('^') {
        return check_topic(topic).map_err(|reason| format!("{reason}, patterns begin with ^"));
    }
    if is_pattern(topic) { Ok(()) } else { Err(format!("the pattern `{topic}` is no regular expression")) }
}

/// The name of one topic; the empty text stands for none.
pub(super) fn topic(value: Value) -> Result<Option<String>, String> {
    let topic = optional(value)?;
    topic.as_deref().map_or(Ok(()), check_topic)?;
    Ok(topic)
}

fn check_topic(topic: &str) -> Result<(), String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if topic.len() <= TOPIC_LETTERS_MAX && topic.chars().all(is_letter) {
        return Ok(());
    }
    Err(format!(
        "`{topic}` is no topic: names have at most {TOPIC_LETTERS_MAX} of the letters A-Z a-z 0-9 . _ -"
    ))
}

/// Where an audit begins, as it is typed.
pub fn parse_start(text: &str) -> Result<Start, String> {
    match start(Value::Text(text.to_owned()))? {
        Start::Latest => Err("nothing comes after latest".to_owned()),
        start => Ok(start),
    }
}

pub(super) fn start(value: Value) -> Result<Start, String> {
    let word = match value {
        Value::Other(time) => time,
        value => text(value)?,
    };
    match word.as_str() {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Some(time) = word.strip_prefix('-').and_then(ago) {
        return Ok(Start::Ago(time));
    }
    if let Ok(time) = word.parse::<jiff::Timestamp>() {
        return Ok(Start::At(time.as_millisecond()));
    }
    let near = did_you_mean(&word, ["earliest", "latest"]);
    Err(format!(
        "expected earliest, latest, a time ago such as -1h, or a time such as 2026-01-31T08:00:00Z, \
         found `{word}`{near}"
    ))
}

/// Reads `90s`, `30m`, `1h`, `2d`; a number needs its unit here.
fn ago(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    // As milliseconds they are subtracted from the time of day.
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (seconds <= 100 * 366 * 86_400).then(|| Duration::from_secs(seconds))
}

pub(super) fn listen(value: Value) -> Result<String, String> {
    listen_address(&text(value)?)
}

/// An address to listen on; port 0 takes a free one.
pub fn listen_address(address: &str) -> Result<String, String> {
    match host_port(address) {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(address.to_owned()),
        _ => Err(format!(
            "expected host:port, such as 127.0.0.1:9877 or 0.0.0.0:9877, found `{}`",
            anonymous(address)
        )),
    }
}

pub(super) fn external_url(value: Value) -> Result<Option<String>, String> {
    let Some(url) = optional(value)? else { return Ok(None) };
    let url = url.trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains([' ', '?', '#', '"', '<', '@'])) {
        let found = anonymous(url);
        return Err(format!("expected an address such as https://aadstream.example.com, found `{found}`"));
    }
    Ok(Some(url.to_owned()))
}
