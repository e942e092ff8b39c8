//! What makes a rule a good rule, alone and beside the others; `rules/README.md` says the same to authors.
//!
//! [`check`] holds every law over a whole catalogue. Of an operator's own rules only the laws of form must hold
//! for the program to start ([`check_overrides`]); how deep they go is the operator's business.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Catalogue;
use super::page::{self, is_fence};
use super::parse::Entry;
use super::problem::Problems;
use super::rule::{ByFlow, Rule};
use crate::code::Code;
use crate::digest::scan::{Mentions, Scanner};
use crate::terms::{Audience, Category, Flow, Outcome, Severity};

mod sameness;

const TITLE_CHARS_MAX: usize = 60;
const SUMMARY_CHARS_MAX: usize = 240;
/// The first step is a label of `aadstream_rule_info`, and labels are cut at 160 bytes.
const FIRST_STEP_BYTES_MAX: usize = 160;
const LINE_CHARS_MAX: usize = 125;
const TIER_1_CAUSES_MIN: usize = 3;

/// Microsoft's list of codes: one line a code, too thin to be the only source of a rule in full depth.
const GENERAL_LIST: &str = "reference-error-codes";

/// Where facts may come from: Microsoft and its forums, standards, and public reports. A subdomain of a listed
/// host is listed too.
const HOSTS: &[&str] = &[
    "learn.microsoft.com",
    "login.microsoftonline.com",
    "graph.microsoft.com",
    "support.microsoft.com",
    "techcommunity.microsoft.com",
    "community.fabric.microsoft.com",
    "community.powerbi.com",
    "www.microsoftpartnercommunity.com",
    "github.com",
    "stackoverflow.com",
    "dev.to",
    "datatracker.ietf.org",
    "openid.net",
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Law {
    /// A step of a person's sign-in asks nobody for anything urgent.
    InterruptAboveLow,
    /// Nobody is there to take the next step, so it is a failure.
    InterruptWithoutPerson,
    /// Nobody is paged for what passes by itself.
    TransientCritical,
    /// All jobs of an app fail until its owner acts.
    AppCredentialBelowCritical,
    /// A step that waits for a person, or a policy that stops a job: the job fails every time.
    UnattendedBelowHigh,
    /// Nobody here can mend what is Microsoft's.
    ServiceAboveMedium,
}

/// A rule that breaks a law and is right to.
pub struct Exception {
    pub code: Code,
    pub law: Law,
    pub reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[];

/// Every law over every rule of the catalogue.
pub fn check(catalogue: &Catalogue) -> Problems {
    check_with(catalogue, EXCEPTIONS)
}

fn check_with(catalogue: &Catalogue, exceptions: &[Exception]) -> Problems {
    let mut laws = Laws::new(catalogue, exceptions);
    for entry in catalogue.entries() {
        laws.form(entry);
        laws.depth(entry);
        laws.sources(entry);
        laws.severity(entry);
        laws.lines(entry);
    }
    laws.titles(catalogue.entries());
    laws.whole();
    laws.problems.extend(sameness::check(catalogue.entries()));
    laws.problems.sort();
    laws.problems
}

/// The laws of form over an operator's own rules: without them labels, events and pages would not fit.
pub fn check_overrides(catalogue: &Catalogue) -> Problems {
    if catalogue.override_count() == 0 {
        return Problems::default();
    }
    let mut laws = Laws::new(catalogue, &[]);
    for entry in catalogue.entries().iter().filter(|entry| entry.is_override) {
        laws.form(entry);
    }
    laws.problems
}

/// Jobs that nobody watches. `text` is neither: its origin is unknown.
const fn is_unattended(flow: Flow) -> bool {
    !flow.has_person() && !matches!(flow, Flow::Text)
}

struct Laws<'a> {
    catalogue: &'a Catalogue,
    problems: Problems,
    /// Laws that an exception was needed for.
    broken: Vec<(Code, Law)>,
    exceptions: &'a [Exception],
    scanner: Scanner,
}

impl<'a> Laws<'a> {
    fn new(catalogue: &'a Catalogue, exceptions: &'a [Exception]) -> Self {
        let scanner = Scanner::new(catalogue.literals());
        Self { catalogue, problems: Problems::default(), broken: Vec::new(), exceptions, scanner }
    }

    fn head(&mut self, entry: &Entry, key: &str, message: impl Into<String>) {
        self.problems.push(entry.path.as_str(), Some(entry.head_line(key)), message);
    }

    /// Reports at the first line of the page that begins with `start`.
    fn page(&mut self, entry: &Entry, start: &str, message: impl Into<String>) {
        let line = entry.rule().page.lines().position(|line| line.starts_with(start)).unwrap_or(0);
        self.problems.push(entry.path.as_str(), Some(entry.page_line(line)), message);
    }

    fn form(&mut self, entry: &Entry) {
        let rule = entry.rule();
        let title_chars = rule.title.chars().count();
        if title_chars > TITLE_CHARS_MAX {
            self.page(
                entry,
                "# ",
                format!("the title has {title_chars} characters, {TITLE_CHARS_MAX} at most"),
            );
        }
        if rule.title.ends_with('.') {
            self.page(entry, "# ", "the title ends with a full stop");
        }
        self.summary(entry, "summary", &rule.summary);
        self.first_step(entry, "fix", &rule.fix);
        for variant in &rule.variants {
            self.summary(entry, variant.name, variant.summary.as_deref().unwrap_or_default());
            self.first_step(entry, variant.name, &variant.fix);
        }
        for code in &rule.related {
            if *code == rule.code {
                self.head(entry, &format!("\"{code}\""), "`related` names the rule itself");
            } else if !self.catalogue.is_known(*code) {
                self.head(
                    entry,
                    &format!("\"{code}\""),
                    format!("`related` names {code}, which has no rule"),
                );
            }
        }
        for item in &rule.do_not_confuse {
            let first = item.split([':', ' ', ',']).next().unwrap_or_default().trim_matches(['*', '`']);
            match super::head::code_of_rule(first) {
                Some(code) if code != rule.code => {}
                _ => self.page(
                    entry,
                    "## Do not",
                    format!("`{first}` begins an item in place of another code"),
                ),
            }
        }
        let mut mentions = Mentions::default();
        self.scanner.scan(rule.example.as_bytes(), &mut mentions);
        if mentions.codes != [rule.code] {
            let found: Vec<String> = mentions.codes.iter().map(ToString::to_string).collect();
            let found = if found.is_empty() { "no code".to_owned() } else { found.join(", ") };
            self.page(
                entry,
                "## Example",
                format!("the scanner must find this code alone here, it finds {found}"),
            );
        }
    }

    fn summary(&mut self, entry: &Entry, of: &str, summary: &str) {
        let chars = summary.chars().count();
        if chars > SUMMARY_CHARS_MAX {
            let message = format!("the {of} paragraph has {chars} characters, {SUMMARY_CHARS_MAX} at most");
            self.page(entry, "# ", message);
        }
    }

    fn first_step(&mut self, entry: &Entry, of: &str, steps: &[String]) {
        let bytes = steps.first().map_or(0, String::len);
        if bytes > FIRST_STEP_BYTES_MAX {
            let message = format!("the first step of {of} has {bytes} bytes, {FIRST_STEP_BYTES_MAX} at most");
            self.page(entry, "## Fix", message);
        }
    }

    /// Tier 1 promises full depth.
    fn depth(&mut self, entry: &Entry) {
        let rule = entry.rule();
        if rule.tier != 1 {
            return;
        }
        if rule.causes.len() < TIER_1_CAUSES_MIN {
            self.page(entry, "## Causes", format!("tier 1 names at least {TIER_1_CAUSES_MIN} causes"));
        }
        for (position, cause) in rule.causes.iter().enumerate() {
            if !cause.contains("Confirm:") {
                let number = position + 1;
                self.page(entry, &format!("{number}. "), format!("cause {number} has no `Confirm:`"));
            }
        }
        if !rule.fix.last().is_some_and(|step| step.starts_with("Verify")) {
            self.page(entry, "## Fix", "the last step begins with `Verify`");
        }
        if rule.references.iter().all(|reference| reference.contains(GENERAL_LIST)) {
            self.head(entry, "references", "tier 1 cites a source beyond the general list of codes");
        }
    }

    fn sources(&mut self, entry: &Entry) {
        if entry.rule().references.is_empty() {
            self.head(entry, "references", "a rule cites at least one source");
        }
        for reference in &entry.rule().references {
            let Some(rest) = reference.strip_prefix("https://") else {
                self.head(entry, reference, format!("`{reference}` is no https link"));
                continue;
            };
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let is_listed =
                |known: &str| host == known || host.strip_suffix(known).is_some_and(|sub| sub.ends_with('.'));
            // An operator's runbook cites the operator's wiki.
            if !HOSTS.iter().any(|known| is_listed(known)) && !self.is_addition(entry.rule()) {
                self.head(
                    entry,
                    reference,
                    format!("{host} is not among the hosts listed in catalogue/laws.rs"),
                );
            }
        }
    }

    /// Whether an operator's directory overrides single rules, rather than being the catalogue's own.
    fn is_addition(&self, rule: &Rule) -> bool {
        rule.is_override && self.catalogue.embedded_count() > 0
    }

    fn severity(&mut self, entry: &Entry) {
        let rule = entry.rule();
        self.situations(entry, &rule.outcome, &rule.severity);
        // A variant is there because it differs.
        for flow in rule.flows.iter().copied() {
            self.kind_of_failure(entry, flow, rule.severity.of(flow));
        }
        for variant in &rule.variants {
            if variant.outcome.is_some() || variant.severity.is_some() {
                let outcome = variant.outcome.as_ref().unwrap_or(&rule.outcome);
                self.situations(entry, outcome, variant.severity.as_ref().unwrap_or(&rule.severity));
            }
        }
    }

    fn situations(&mut self, entry: &Entry, outcome: &ByFlow<Outcome>, severity: &ByFlow<Severity>) {
        let rule = entry.rule();
        let is_named = |flow: Flow| {
            rule.flows.contains(&flow) || outcome.by_flow.iter().any(|(named, _)| *named == flow)
        };
        for flow in Flow::ALL.iter().copied().filter(|flow| is_named(*flow)) {
            let is_interrupt = outcome.of(flow) == Outcome::Interrupt;
            if is_interrupt && flow.has_person() && severity.of(flow) > Severity::Low {
                let message =
                    format!("an interrupt of a person ({flow}) is {}, low at most", severity.of(flow));
                self.breach(entry, Law::InterruptAboveLow, message);
            }
            if is_interrupt && is_unattended(flow) {
                let message = format!("an interrupt in {flow}, where nobody can answer it, is a failure");
                self.breach(entry, Law::InterruptWithoutPerson, message);
            }
        }
        let is_critical = Flow::ALL.iter().any(|flow| severity.of(*flow) == Severity::Critical);
        if rule.transient && is_critical {
            self.breach(
                entry,
                Law::TransientCritical,
                "a transient rule is critical: nobody is paged for it",
            );
        }
    }

    /// The lines of the policy that hold for every code of a category.
    fn kind_of_failure(&mut self, entry: &Entry, flow: Flow, severity: Severity) {
        let rule = entry.rule();
        let is_app = matches!(flow, Flow::ServicePrincipal | Flow::ManagedIdentity);
        match rule.category {
            Category::Credential
                if is_app
                    && rule.audience.of(flow) == Audience::AppOwner
                    && severity < Severity::Critical =>
            {
                let message = format!(
                    "a credential that its app's owner must mend is {severity} in {flow}, not critical"
                );
                self.breach(entry, Law::AppCredentialBelowCritical, message);
            }
            Category::Mfa | Category::ConditionalAccess
                if is_unattended(flow) && severity < Severity::High =>
            {
                let message = format!("what stops {flow} every time is {severity}, not high");
                self.breach(entry, Law::UnattendedBelowHigh, message);
            }
            Category::Service if severity > Severity::Medium => {
                let message = format!("a fault of Microsoft's is {severity} in {flow}, medium at most");
                self.breach(entry, Law::ServiceAboveMedium, message);
            }
            _ => {}
        }
    }

    fn breach(&mut self, entry: &Entry, law: Law, message: impl Into<String>) {
        let code = entry.code;
        self.broken.push((code, law));
        if !self.exceptions.iter().any(|exception| exception.code == code && exception.law == law) {
            let key = if law == Law::InterruptWithoutPerson { "outcome" } else { "severity" };
            self.head(entry, key, message);
        }
    }

    fn titles(&mut self, entries: &[Entry]) {
        let mut seen: FxHashMap<String, Code> = FxHashMap::default();
        for entry in entries {
            let title = entry.rule().title.to_lowercase();
            if let Some(other) = seen.insert(title, entry.code) {
                self.page(entry, "# ", format!("{other} has the same title"));
            }
        }
    }

    fn lines(&mut self, entry: &Entry) {
        let mut in_fence = false;
        for (number, line) in entry.source.lines().enumerate() {
            let is_inside = in_fence;
            in_fence ^= is_fence(line);
            // The head is a fence of its own, but only its links may be long.
            let is_free = (is_inside && number > entry.page_line(0)) || line.contains("https://");
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX && !is_free {
                let message = format!("the line has {chars} characters, {LINE_CHARS_MAX} at most");
                self.problems.push(entry.path.as_str(), Some(number + 1), message);
            }
        }
    }

    /// Laws that no single rule can break.
    fn whole(&mut self) {
        if !self.catalogue.rules().any(|rule| rule.umbrella) {
            self.problems.push("rules/codes", None, "no rule is an umbrella: primary codes would be wrong");
        }
        let broken: FxHashSet<String> =
            self.broken.iter().map(|(code, law)| format!("{code} {law:?}")).collect();
        for Exception { code, law, .. } in self.exceptions {
            if !broken.contains(&format!("{code} {law:?}")) {
                let message = format!("{code} needs no exception from {law:?} any more");
                self.problems.push("src/catalogue/laws.rs", None, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::tests::{catalogue_of, rule_file};

    /// A good rule with one change, beside an umbrella: the problems that come of the change.
    #[track_caller]
    fn check_change(from: &str, to: &str, expected: &[&str]) {
        let good = rule_file("AADSTS50076", "One thing");
        assert!(good.contains(from), "nothing to change");
        let umbrella = rule_file("AADSTS70002", "Another").replace("transient", "umbrella = true\ntransient");
        let umbrella = umbrella.replace("## Causes\n\n1. One cause", "## Causes\n\n1. Another cause");
        let catalogue = catalogue_of(&[("AADSTS50076", good.replace(from, to)), ("AADSTS70002", umbrella)]);
        let actual: Vec<String> = check_with(&catalogue, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(actual, expected, "after {from:?} became {to:?}");
    }

    #[test]
    fn a_good_rule_breaks_no_law() {
        check_change("One thing", "One thing", &[]);
    }

    #[test]
    fn lengths_are_limited() {
        check_change(
            "One thing",
            &"x".repeat(61),
            &["AADSTS50076.md:13: the title has 61 characters, 60 at most"],
        );
        check_change("One thing", "One thing.", &["AADSTS50076.md:13: the title ends with a full stop"]);
        check_change(
            "It has two lines.",
            &"word ".repeat(48),
            &[
                "AADSTS50076.md:13: the summary paragraph has 269 characters, 240 at most",
                "AADSTS50076.md:16: the line has 240 characters, 125 at most",
            ],
        );
        check_change(
            "1. Do this",
            &format!("1. Do {}\n   {}", "x".repeat(99), "x".repeat(99)),
            &["AADSTS50076.md:24: the first step of fix has 217 bytes, 160 at most"],
        );
    }

    #[test]
    fn titles_are_unique() {
        check_change("One thing", "another", &["AADSTS70002.md:14: AADSTS50076 has the same title"]);
    }

    #[test]
    fn links_lead_somewhere() {
        check_change(
            "related = []",
            "related = [\"AADSTS50079\"]",
            &["AADSTS50076.md:9: `related` names AADSTS50079, which has no rule"],
        );
        check_change(
            "https://learn.microsoft.com/x",
            "https://example.com/x",
            &["AADSTS50076.md:10: example.com is not among the hosts listed in catalogue/laws.rs"],
        );
        check_change(
            "https://learn",
            "http://learn",
            &["AADSTS50076.md:10: `http://learn.microsoft.com/x` is no https link"],
        );
    }

    #[test]
    fn the_example_spells_this_code_alone() {
        check_change(
            "AADSTS50076: a line",
            "AADSTS50076: or AADSTS50079",
            &[
                "AADSTS50076.md:30: the scanner must find this code alone here, it finds AADSTS50076, AADSTS50079",
            ],
        );
    }

    #[test]
    fn an_interrupt_is_quiet_and_has_somebody_to_answer_it() {
        check_change("outcome = \"failure\"", "outcome = \"interrupt\"", &[]);
        check_change(
            "flows = [\"interactive\", \"text\"]\noutcome = \"failure\"",
            "flows = [\"non_interactive\", \"refresh\"]\noutcome = \"interrupt\"",
            &[
                "AADSTS50076.md:5: an interrupt in refresh, where nobody can answer it, is a failure",
                "AADSTS50076.md:6: an interrupt of a person (non_interactive) is high, low at most",
            ],
        );
    }

    #[test]
    fn the_kind_of_failure_sets_the_severity() {
        check_change(
            "category = \"mfa\"\nflows = [\"interactive\", \"text\"]",
            "category = \"credential\"\nflows = [\"service_principal\"]",
            &[],
        );
        check_change(
            "category = \"mfa\"\nflows = [\"interactive\", \"text\"]\noutcome = \"failure\"\nseverity = { default = \"high\", interactive = \"low\" }\naudience = \"user\"",
            "category = \"credential\"\nflows = [\"service_principal\"]\noutcome = \"failure\"\nseverity = \"high\"\naudience = \"app_owner\"",
            &[
                "AADSTS50076.md:6: a credential that its app's owner must mend is high in service_principal, not critical",
            ],
        );
        check_change(
            "flows = [\"interactive\", \"text\"]\noutcome = \"failure\"\nseverity = { default = \"high\"",
            "flows = [\"refresh\"]\noutcome = \"failure\"\nseverity = { default = \"medium\"",
            &["AADSTS50076.md:6: what stops refresh every time is medium, not high"],
        );
        check_change(
            "category = \"mfa\"\nflows = [\"interactive\", \"text\"]",
            "category = \"service\"\nflows = [\"refresh\"]",
            &["AADSTS50076.md:6: a fault of Microsoft's is high in refresh, medium at most"],
        );
    }

    #[test]
    fn nobody_is_paged_for_what_passes_and_an_idle_exception_is_named() {
        let source = rule_file("AADSTS70002", "A")
            .replace("\"high\"", "\"critical\"")
            .replace("transient = false", "umbrella = true\ntransient = true");
        let exception = |law| Exception { code: Code::Aadsts(70002), law, reason: "the test wants one" };
        let catalogue = catalogue_of(&[("AADSTS70002", source)]);
        let problems = |exceptions: &[Exception]| check_with(&catalogue, exceptions).to_string();
        assert!(problems(&[]).starts_with("AADSTS70002.md:6: a transient rule is critical"));
        assert_eq!(problems(&[exception(Law::TransientCritical)]), "0 problems");
        assert!(
            problems(&[exception(Law::TransientCritical), exception(Law::InterruptAboveLow)])
                .starts_with("src/catalogue/laws.rs: AADSTS70002 needs no exception")
        );
    }

    #[test]
    fn tier_1_goes_deep() {
        let prevent = "## Prevent\n\n- x\n\n## Do not confuse with\n\n- Nothing: x\n\n## Example";
        let deep = rule_file("AADSTS70002", "A")
            .replace("tier = 2", "umbrella = true\ntier = 1")
            .replace("## Example", prevent)
            .replace("Verify", "Look");
        let problems = check_with(&catalogue_of(&[("AADSTS70002", deep)]), &[]).to_string();
        for expected in ["at least 3 causes", "cause 1 has no `Confirm:`", "begins with `Verify`"] {
            assert!(problems.contains(expected), "{expected} in {problems}");
        }
    }
}
