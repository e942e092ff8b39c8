//! `[forward]` and `[dead_letters]`: what leaves besides metrics, and where to.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use regex_lite::Regex;

use super::producer::refusal;
use super::read::{Notes, Section, optional, word};
use super::source::{Item, Origin, Table, Value};
use super::tables::{read_options, severity_word};
use super::values::{brokers, topic};
use super::{DeadLetters, Delivery, Destination, Forward, OptionValue, Policy, Profile, Settings};
use crate::catalogue::problem::did_you_mean;
use crate::terms::Reason;

pub(super) const POLICIES: [(&str, Policy); 3] =
    [("skip", Policy::Skip), ("dlq", Policy::Keep), ("halt", Policy::Halt)];

pub(super) const DELIVERIES: [(&str, Delivery); 2] =
    [("at_least_once", Delivery::AtLeastOnce), ("exactly_once", Delivery::ExactlyOnce)];

pub(super) fn read_forward(table: Table, notes: &mut Notes<'_>) -> Forward {
    let defaults = Forward::default();
    let mut section = Section::new("forward", table, notes);
    let forward = Forward {
        topic: section.take("topic", None, topic),
        min_severity: section.take("min_severity", defaults.min_severity, severity_word),
        delivery: section.take("delivery", defaults.delivery, word(&DELIVERIES)),
        brokers: section.take("brokers", defaults.brokers, |value| match optional(value.clone()) {
            Ok(None) => Ok(String::new()),
            _ => brokers(value),
        }),
        ..defaults
    };
    let options = section.take_table("options");
    section.finish();
    Forward { options: read_options("forward.options", options, refusal, notes), ..forward }
}

pub(super) fn read_dead_letters(table: Table, notes: &mut Notes<'_>) -> DeadLetters {
    let mut section = Section::new("dead_letters", table, notes);
    let policy = section.take("policy", Policy::default(), word(&POLICIES));
    let topic = section.take("topic", None, topic);
    let file = section.take("file", None, optional);
    let by_reason = section.take_table("policies");
    let origin = section.notes.origins.get("dead_letters.file").cloned().unwrap_or_default();
    section.finish();
    if topic.is_some() && file.is_some() {
        origin.report(
            &mut notes.problems,
            "cannot use `dead_letters.file` beside `dead_letters.topic`: keep one",
        );
    }
    let destination = topic.map(Destination::Topic).or(file.map(|file| Destination::File(file.into())));
    DeadLetters { policy, destination, policies: read_policies(by_reason, notes) }
}

/// `[dead_letters.policies]`: a policy by reason.
fn read_policies(table: Table, notes: &mut Notes<'_>) -> Vec<(Reason, Policy)> {
    let mut policies = Vec::new();
    for (key, Item { value, origin }) in table {
        let reason = Reason::parse(&key).ok_or_else(|| {
            let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
            let near = did_you_mean(&key, reasons.iter().copied());
            format!("no such reason; there are {}{near}", reasons.join(", "))
        });
        match reason.and_then(|reason| Ok((reason, policy(value)?))) {
            Ok(entry) => {
                notes.origins.insert(format!("dead_letters.policies.{key}"), origin);
                policies.push(entry);
            }
            Err(message) => {
                let message = format!("cannot use `dead_letters.policies.{key}`: {message}");
                origin.report(&mut notes.problems, message);
            }
        }
    }
    policies
}

fn policy(value: Value) -> Result<Policy, String> {
    word(&POLICIES)(value)
}

/// An address as every spelling of it.
fn address(broker: &str) -> String {
    broker.split_once("://").map_or(broker, |(_, address)| address).to_ascii_lowercase()
}

impl Settings {
    /// Brokers of `[forward]` of which one is a broker of `[kafka]` are no other cluster: an address belongs to one.
    pub(super) fn join_clusters(&mut self) {
        let input: Vec<String> = self.kafka.brokers.split(',').map(address).collect();
        if self.forward.brokers.split(',').any(|broker| input.contains(&address(broker))) {
            self.forward.brokers.clear();
        }
    }

    /// Outputs that cannot work.
    pub(super) fn find_output_problems(&self) -> Vec<(Origin, String)> {
        let mut problems = Vec::new();
        let DeadLetters { destination, policy, policies } = &self.dead_letters;
        if destination.is_none() {
            let mut keeping = Vec::new();
            if *policy == Policy::Keep {
                keeping.push("dead_letters.policy".to_owned());
            }
            let kept = policies.iter().filter(|(_, policy)| *policy == Policy::Keep);
            keeping.extend(kept.map(|(reason, _)| format!("dead_letters.policies.{reason}")));
            for key in keeping {
                let message =
                    format!("cannot use `{key}`: set `topic` or `file` in [dead_letters] to say where");
                problems.push((self.origin(&key), message));
            }
        }
        let dead_topic = match destination {
            Some(Destination::Topic(topic)) => Some(topic),
            _ => None,
        };
        if self.forward.topic.is_some() && self.forward.topic.as_ref() == dead_topic {
            let message =
                "cannot use `dead_letters.topic`: events go there; give dead letters a topic of their own";
            problems.push((self.origin("dead_letters.topic"), message.to_owned()));
        }
        if let Some((option, _)) = self.forward.options.iter().find(|(option, value)| {
            option.starts_with("sasl.mechanism") && value.expose().eq_ignore_ascii_case("OAUTHBEARER")
        }) && self.output_oauth().is_none()
        {
            let message = "cannot use OAUTHBEARER in [forward.options]: the tokens of [kafka.oauth] are for its cluster";
            problems.push((self.origin(&format!("forward.options.{option}")), message.to_owned()));
        }
        // On another cluster the same name is another topic.
        if self.forward.brokers.is_empty() {
            let outputs =
                [("forward.topic", self.forward.topic.as_ref()), ("dead_letters.topic", dead_topic)];
            for (key, topic) in outputs {
                if topic.is_some_and(|topic| self.reads(topic)) {
                    let message = format!(
                        "cannot use `{key}`: [kafka] topics reads it, what is written would come back"
                    );
                    problems.push((self.origin(key), message));
                }
            }
        }
        problems
    }

    /// What stands in the way of transactions, by key.
    pub(super) fn find_delivery_problems(&self) -> Vec<(Origin, String)> {
        if self.forward.delivery != Delivery::ExactlyOnce {
            return Vec::new();
        }
        let reads_uncommitted = self
            .kafka
            .options
            .get("isolation.level")
            .is_some_and(|level| level.expose() == "read_uncommitted");
        let obstacles = [
            (!self.produces(), "nothing is sent; set `topic` in [forward] or in [dead_letters]"),
            (
                !self.forward.brokers.is_empty(),
                "`forward.brokers` names another cluster, and a transaction spans events and offsets of one",
            ),
            (
                matches!(self.dead_letters.destination, Some(Destination::File(_))),
                "`dead_letters.file` takes no part in a transaction; keep dead letters in a topic",
            ),
            (
                self.kafka.profile == Some(Profile::EventHubs),
                "Event Hubs has transactions in its dearest tiers only, and not for every client; drop events whose \
                 `event-id` you have seen instead",
            ),
            (
                reads_uncommitted,
                "`isolation.level` read_uncommitted shows offsets of transactions that may yet be aborted",
            ),
        ];
        let origin = self.origin("forward.delivery");
        let problem = |(_, why): (bool, &str)| {
            (origin.clone(), format!("cannot use `forward.delivery` exactly_once: {why}"))
        };
        obstacles.into_iter().filter(|(stands, _)| *stands).map(problem).collect()
    }

    /// Whether what leaves goes in transactions.
    pub fn is_transactional(&self) -> bool {
        self.forward.delivery == Delivery::ExactlyOnce && self.produces()
    }

    /// How long the brokers wait for the end of a transaction before they abort it.
    pub fn transaction_timeout(&self) -> Duration {
        /// librdkafka's own default.
        const DEFAULT: Duration = Duration::from_secs(60);
        let set = self.forward.options.get("transaction.timeout.ms").map(OptionValue::expose);
        set.and_then(|value| value.parse().ok()).map_or(DEFAULT, Duration::from_millis)
    }

    /// How long a letter is tried; in a transaction it fails, and takes that along, before the brokers give it up.
    pub fn letter_timeout(&self) -> Option<Duration> {
        self.is_transactional().then(|| self.transaction_timeout() / 2)
    }

    /// The producer's name in its transactions. A static member has one that survives a restart, which ends at once what
    /// its predecessor left open. Others get a new one at each start: what keeps instances apart is not this name but the
    /// generation of the consumer group, which goes along with the offsets (KIP-447).
    pub fn transactional_id(&self) -> String {
        match &self.kafka.group_instance_id {
            Some(instance) => self.transactional_id_of(instance),
            None => self.transactional_id_of(&format!("{:016x}", RandomState::new().hash_one("instance"))),
        }
    }

    pub(super) fn transactional_id_of(&self, instance: &str) -> String {
        format!("aadstream/{}/{instance}", self.kafka.group_id)
    }

    /// Outputs that somebody set up and that get nothing.
    pub(super) fn find_output_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.produces() && self.forward != Forward::default() {
            warnings.push("[forward] has no `topic`: nothing is forwarded".to_owned());
        }
        let keeps = Reason::ALL.iter().any(|reason| self.dead_letters.policy(*reason) == Policy::Keep);
        if self.dead_letters.destination.is_some() && !keeps && self.forward.topic.is_none() {
            warnings.push(
                "[dead_letters] says where to keep what cannot be read, but its policy is to keep nothing: set `policy` \
                 to dlq"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Whether `[kafka] topics` names or matches this topic.
    fn reads(&self, topic: &str) -> bool {
        let matches = |pattern: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(topic));
        self.kafka.topics.iter().any(|name| if name.starts_with('^') { matches(name) } else { name == topic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::terms::Severity;

    fn load<const N: usize>(pairs: [(&str, &str); N]) -> Result<Settings, String> {
        let mut environment =
            vec![("AADSTREAM_KAFKA__BROKERS", "h:9092"), ("AADSTREAM_KAFKA__TOPICS", "signin,^logs-.*")];
        environment.extend(pairs);
        Settings::load_with(None, &Environment::of(environment), true).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_refused<const N: usize>(pairs: [(&str, &str); N], expected: &str) {
        let error = load(pairs).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn nothing_leaves_by_default() {
        let settings = load([]).unwrap();
        assert_eq!((settings.forward.topic, settings.forward.min_severity), (None, Severity::Low));
        assert_eq!(settings.dead_letters, DeadLetters::default());
        assert_eq!(DeadLetters::default().policy(Reason::Empty), Policy::Skip);
    }

    #[test]
    fn a_reason_may_have_a_policy_of_its_own() {
        let settings = load([
            ("AADSTREAM_DEAD_LETTERS__POLICY", "dlq"),
            ("AADSTREAM_DEAD_LETTERS__TOPIC", "dead"),
            ("AADSTREAM_DEAD_LETTERS__POLICIES__INTERNAL", "halt"),
        ]);
        let letters = settings.unwrap().dead_letters;
        assert_eq!(letters.policy(Reason::Internal), Policy::Halt);
        assert_eq!(letters.policy(Reason::Empty), Policy::Keep);
        check_refused(
            [("AADSTREAM_DEAD_LETTERS__POLICIES__INVALID_JSN", "halt")],
            "cannot use `dead_letters.policies.invalid_jsn`: no such reason; there are empty, null_payload, \
             invalid_json, invalid_utf8, too_large, too_deep, bad_compression, unknown_shape, internal; did you mean \
             `invalid_json`?",
        );
    }

    #[test]
    fn what_is_kept_needs_a_place() {
        let place = "set `topic` or `file` in [dead_letters] to say where";
        check_refused([("AADSTREAM_DEAD_LETTERS__POLICY", "dlq")], place);
        check_refused([("AADSTREAM_DEAD_LETTERS__POLICIES__EMPTY", "dlq")], place);
        check_refused(
            [("AADSTREAM_DEAD_LETTERS__TOPIC", "dead"), ("AADSTREAM_DEAD_LETTERS__FILE", "/tmp/dead")],
            "AADSTREAM_DEAD_LETTERS__FILE: cannot use `dead_letters.file` beside `dead_letters.topic`: keep one",
        );
    }

    #[test]
    fn an_output_that_gets_nothing_is_pointed_at() {
        let warnings = |pairs: [(&str, &str); 1]| load(pairs).unwrap().warnings().join("\n");
        assert!(warnings([("AADSTREAM_FORWARD__MIN_SEVERITY", "high")]).contains("nothing is forwarded"));
        assert!(warnings([("AADSTREAM_DEAD_LETTERS__TOPIC", "dead")]).contains("set `policy` to dlq"));
        assert_eq!(warnings([("AADSTREAM_FORWARD__TOPIC", "out")]), "");
        let both = [("AADSTREAM_FORWARD__TOPIC", "out"), ("AADSTREAM_DEAD_LETTERS__TOPIC", "dead")];
        assert_eq!(load(both).unwrap().warnings(), Vec::<String>::new(), "for events that are refused");
    }

    #[test]
    fn tokens_go_to_the_cluster_that_they_are_for() {
        let mechanism = ("AADSTREAM_FORWARD__OPTIONS__SASL_MECHANISM", "OAUTHBEARER");
        let other =
            [("AADSTREAM_FORWARD__TOPIC", "out"), ("AADSTREAM_FORWARD__BROKERS", "other:9092"), mechanism];
        check_refused(other, "cannot use OAUTHBEARER in [forward.options]: the tokens of [kafka.oauth] are");
        let same = [
            ("AADSTREAM_FORWARD__TOPIC", "out"),
            ("AADSTREAM_KAFKA__OAUTH__METHOD", "managed_identity"),
            ("AADSTREAM_KAFKA__OAUTH__SCOPE", "https://n/.default"),
        ];
        let settings = load(same).unwrap();
        assert!(settings.output_oauth().is_some());
        let producer = crate::config::producer::producer_config(&settings).unwrap();
        assert_eq!(producer.get("sasl.mechanisms"), Some("OAUTHBEARER"));
    }

    #[test]
    fn exactly_once_is_refused_where_no_transaction_reaches() {
        let once = [
            ("AADSTREAM_FORWARD__TOPIC", "out"),
            ("AADSTREAM_FORWARD__DELIVERY", "exactly_once"),
            ("AADSTREAM_KAFKA__GROUP_ID", "g"),
        ];
        let [topic, delivery, group] = once;
        assert!(load(once).unwrap().is_transactional());
        for brokers in ["h:9092", "PLAINTEXT://H:9092", "other:9092,h:9092"] {
            let same = load([topic, delivery, group, ("AADSTREAM_FORWARD__BROKERS", brokers)]).unwrap();
            assert!(
                same.is_transactional() && same.forward.brokers.is_empty(),
                "{brokers} is the same cluster"
            );
        }
        check_refused([delivery, group], "exactly_once: nothing is sent; set `topic` in [forward]");
        let check = |pair: (&str, &str), expected: &str| {
            let expected = format!(
                "AADSTREAM_FORWARD__DELIVERY: cannot use `forward.delivery` exactly_once: {expected}"
            );
            let password = ("AADSTREAM_KAFKA__OPTIONS__SASL_PASSWORD", "Endpoint=sb://x");
            check_refused([topic, delivery, group, password, pair], &expected);
        };
        check(("AADSTREAM_FORWARD__BROKERS", "other:9092"), "`forward.brokers` names another cluster");
        check(("AADSTREAM_DEAD_LETTERS__FILE", "/tmp/dead"), "`dead_letters.file` takes no part");
        check(("AADSTREAM_KAFKA__PROFILE", "event_hubs"), "Event Hubs has transactions");
        check(("AADSTREAM_KAFKA__OPTIONS__ISOLATION_LEVEL", "read_uncommitted"), "`isolation.level`");
    }

    #[test]
    fn a_static_member_keeps_its_name_in_transactions() {
        let id = |pairs: [(&str, &str); 2]| load(pairs).unwrap().transactional_id();
        let group = ("AADSTREAM_KAFKA__GROUP_ID", "g");
        let named = [group, ("AADSTREAM_KAFKA__GROUP_INSTANCE_ID", "pod-1")];
        assert_eq!((id(named), id(named)), ("aadstream/g/pod-1".to_owned(), "aadstream/g/pod-1".to_owned()));
        let unnamed = [group, ("AADSTREAM_FORWARD__TOPIC", "out")];
        assert!(id(unnamed).starts_with("aadstream/g/"));
        assert_ne!(id(unnamed), id(unnamed), "two instances without a name");
    }

    #[test]
    fn nothing_is_written_where_it_is_read() {
        let back = "what is written would come back";
        check_refused([("AADSTREAM_FORWARD__TOPIC", "signin")], back);
        check_refused([("AADSTREAM_DEAD_LETTERS__TOPIC", "logs-dead")], back);
        let other = [("AADSTREAM_FORWARD__TOPIC", "signin"), ("AADSTREAM_FORWARD__BROKERS", "other:9092")];
        load(other).unwrap();
        check_refused(
            [("AADSTREAM_FORWARD__TOPIC", "out"), ("AADSTREAM_DEAD_LETTERS__TOPIC", "out")],
            "give dead letters a topic of their own",
        );
        check_refused([("AADSTREAM_FORWARD__TOPIC", "a b")], "`a b` is no topic");
    }
}
