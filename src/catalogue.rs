//! What is known about codes: the embedded rules, an operator's overrides, and the look-ups over them.
//!
//! A catalogue is a value that never changes; a reload builds a new one and swaps it whole.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::code::Code;
use crate::terms::{Audience, Category, Flow, Outcome, Severity};
use parse::Entry;
use problem::{Problems, did_you_mean_any};
use rule::{ByFlow, Rule};

pub mod rule;
pub mod problem;
mod head;
pub mod page;
pub mod parse;
mod version;
pub mod laws;
pub mod render;

/// (file name, content), sorted by name; written by `build.rs`.
static EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The table of the configuration that overrides severities: a problem of one is reported under its key.
pub const OVERRIDES: &str = "rules.severity";

/// Near codes that are worth showing for a mistyped one.
const NEAR_MAX: usize = 3;

/// An operator's word on the severity of a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeverityOverride {
    pub code: Code,
    /// For every flow that `by_flow` does not name; `None` leaves those as the rule says.
    pub default: Option<Severity>,
    pub by_flow: Vec<(Flow, Severity)>,
}

impl SeverityOverride {
    /// One severity in every flow.
    pub const fn constant(code: Code, severity: Severity) -> Self {
        Self { code, default: Some(severity), by_flow: Vec::new() }
    }

    fn apply(&self, rule: &mut Rule) {
        self.apply_to(&mut rule.severity);
        for severity in rule.variants.iter_mut().filter_map(|variant| variant.severity.as_mut()) {
            self.apply_to(severity);
        }
    }

    fn apply_to(&self, severity: &mut ByFlow<Severity>) {
        let effective: Vec<(Flow, Severity)> = Flow::ALL
            .iter()
            .map(|flow| {
                let named = self.by_flow.iter().find(|(named, _)| named == flow).map(|(_, value)| *value);
                (*flow, named.or(self.default).unwrap_or_else(|| severity.of(*flow)))
            })
            .collect();
        severity.default = self.default.unwrap_or(severity.default);
        severity.by_flow = effective.into_iter().filter(|(_, value)| *value != severity.default).collect();
    }
}

/// What a code means in one situation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub severity: Severity,
    pub audience: Audience,
    pub category: Category,
}

impl Verdict {
    /// Of a code without a rule: somebody who knows the tenant looks at it this week.
    pub const UNKNOWN: Self = Self {
        outcome: Outcome::Failure,
        severity: Severity::Medium,
        audience: Audience::IdentityAdmin,
        category: Category::Other,
    };
}

/// All rules in force.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// In order of code.
    entries: Vec<Entry>,
    /// Position in `entries`.
    index: FxHashMap<Code, usize>,
    /// Beside `entries`: links in both directions, sorted. To know them every page is read.
    related: OnceLock<Vec<Vec<Code>>>,
    literals: Vec<&'static str>,
    version: String,
    override_count: usize,
}

impl Catalogue {
    /// The rules that the program was built with.
    pub fn embedded() -> Self {
        Self::new(embedded_entries(), &[])
    }

    /// The embedded rules, those of `rules_dir` in their place or beside them, then severity overrides.
    pub fn load(rules_dir: Option<&Path>, overrides: &[SeverityOverride]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let catalogue = Self::assemble(embedded_entries(), rules_dir, overrides, &mut problems);
        problems.extend(laws::check_overrides(&catalogue));
        problems.sort();
        if problems.is_empty() { Ok(catalogue) } else { Err(problems) }
    }

    /// Every problem of the rules that [`Catalogue::load`] would load, the laws of style included; how many
    /// rules there are.
    pub fn check(rules_dir: Option<&Path>) -> (usize, Problems) {
        let mut problems = Problems::default();
        let entries = read_embedded(&mut problems);
        let catalogue = Self::assemble(entries, rules_dir, &[], &mut problems);
        problems.extend(laws::check(&catalogue));
        problems.sort();
        (catalogue.len(), problems)
    }

    /// The rules that could be read, and what is wrong with the others.
    fn assemble(
        mut entries: Vec<Entry>,
        rules_dir: Option<&Path>,
        overrides: &[SeverityOverride],
        problems: &mut Problems,
    ) -> Self {
        if let Some(directory) = rules_dir {
            let replacing = read_directory(directory, problems);
            let replaced: FxHashSet<Code> = replacing.iter().map(|entry| entry.code).collect();
            entries.retain(|entry| !replaced.contains(&entry.code));
            entries.extend(replacing);
        }
        let mut catalogue = Self::new(entries, overrides);
        for word in overrides {
            let Some(position) = catalogue.index.get(&word.code).copied() else {
                let near: Vec<Code> =
                    catalogue.nearest(&word.code.to_string()).iter().map(|rule| rule.code).collect();
                let near = match did_you_mean_any(&near) {
                    none if none.is_empty() => "; `aadstream rules list` shows all".to_owned(),
                    near => near,
                };
                let message = format!("no rule has this code{near}");
                problems.push(format!("{OVERRIDES}.{}", word.code), None, message);
                continue;
            };
            catalogue.entries[position].set_severity(word.clone());
        }
        catalogue
    }

    fn new(mut entries: Vec<Entry>, overrides: &[SeverityOverride]) -> Self {
        entries.sort_by_key(|entry| entry.code);
        let index = entries.iter().enumerate().map(|(position, entry)| (entry.code, position)).collect();
        let literals = entries.iter().filter_map(|entry| match entry.code {
            Code::Named(name) => Some(name),
            _ => None,
        });
        Self {
            literals: literals.collect(),
            version: version::of(&entries, overrides),
            override_count: entries.iter().filter(|entry| entry.is_override).count(),
            entries,
            index,
            related: OnceLock::new(),
        }
    }

    pub fn rule(&self, code: Code) -> Option<&Rule> {
        self.index.get(&code).map(|position| self.entries[*position].rule())
    }

    /// In order of code.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.entries.iter().map(Entry::rule)
    }

    pub fn is_known(&self, code: Code) -> bool {
        self.index.contains_key(&code)
    }

    /// Whether `code` only opens a message whose second code is the diagnosis.
    pub fn umbrella(&self, code: Code) -> bool {
        self.rule(code).is_some_and(|rule| rule.umbrella)
    }

    /// Codes that this rule or the other one links, sorted.
    pub fn related(&self, code: Code) -> &[Code] {
        self.index.get(&code).map_or(&[], |position| &self.all_related()[*position])
    }

    fn all_related(&self) -> &[Vec<Code>] {
        self.related.get_or_init(|| {
            let mut related: Vec<Vec<Code>> = vec![Vec::new(); self.entries.len()];
            for (position, rule) in self.rules().enumerate() {
                for (code, other) in rule.related.iter().filter_map(|code| self.index.get_key_value(code)) {
                    related[position].push(*code);
                    related[*other].push(rule.code);
                }
            }
            for codes in &mut related {
                codes.sort_unstable();
                codes.dedup();
            }
            related
        })
    }

    /// The spellings of all codes that are names, sorted.
    pub fn literals(&self) -> &[&'static str] {
        &self.literals
    }

    /// Twelve hexadecimal characters that change with any rule or override.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Rules in force that the program was built with.
    pub fn embedded_count(&self) -> usize {
        self.entries.len() - self.override_count
    }

    /// Rules in force that come from an operator's directory.
    pub fn override_count(&self) -> usize {
        self.override_count
    }

    /// What `code` means in `flow`; `None` for a code without a rule (see [`Verdict::UNKNOWN`]).
    pub fn verdict(&self, code: Code, flow: Flow, variant: Option<&str>) -> Option<Verdict> {
        let rule = self.rule(code)?;
        let variant = rule.variant(variant);
        Some(Verdict {
            outcome: variant.and_then(|variant| variant.outcome.as_ref()).unwrap_or(&rule.outcome).of(flow),
            severity: variant
                .and_then(|variant| variant.severity.as_ref())
                .unwrap_or(&rule.severity)
                .of(flow),
            audience: variant
                .and_then(|variant| variant.audience.as_ref())
                .unwrap_or(&rule.audience)
                .of(flow),
            category: rule.category,
        })
    }

    /// The variant that `text` tells, case ignored; the first in the order of the file.
    /// Few rules have variants, so the text is asked for only where one does.
    pub fn variant(&self, code: Code, text: impl FnOnce() -> String) -> Option<&'static str> {
        let rule = self.rule(code).filter(|rule| !rule.variants.is_empty())?;
        let text = text().to_ascii_lowercase();
        let found = rule
            .variants
            .iter()
            .find(|variant| variant.contains.iter().any(|words| text.contains(words.as_str())));
        found.map(|variant| variant.name)
    }

    /// The code that a label or a word spells: an AADSTS or AADB2C code, or a literal of the catalogue.
    pub fn find(&self, word: &str) -> Option<Code> {
        let literal =
            || self.literals().iter().find(|literal| **literal == word).map(|literal| Code::Named(literal));
        Code::parse(word).or_else(literal)
    }

    /// A hint for an unknown code: the rule of the longest known number that it begins with.
    pub fn family(&self, code: Code) -> Option<&Rule> {
        let number = code.number()?;
        std::iter::successors(Some(number / 10), |prefix| (*prefix >= 10).then_some(prefix / 10))
            .find_map(|prefix| self.rule(code.renumbered(prefix)))
    }

    /// Another hint: what most rules are about whose codes differ in the last digit alone, else in the last two; how
    /// many of how many. Microsoft numbers by subject.
    pub fn neighbourhood(&self, code: Code) -> Option<(Category, usize, usize)> {
        let number = code.number()?;
        [10, 100].into_iter().find_map(|size| {
            let first = number / size * size;
            let near: Vec<Category> = (first..first + size)
                .filter_map(|number| self.rule(code.renumbered(number)))
                .map(|rule| rule.category)
                .collect();
            let count = |category: Category| near.iter().filter(|other| **other == category).count();
            let most = *near.iter().max_by_key(|category| count(**category))?;
            (near.len() >= 2 && count(most) * 2 > near.len()).then(|| (most, count(most), near.len()))
        })
    }

    /// Rules that a typing slip in a code or in Microsoft's name for it may have meant, nearest first, at most three.
    pub fn nearest(&self, word: &str) -> Vec<&Rule> {
        let word = Code::parse(word).map_or_else(|| word.to_owned(), |code| code.to_string());
        let word = word.to_ascii_lowercase();
        let mut near: Vec<((usize, usize), &Rule)> = Vec::new();
        for rule in self.rules() {
            let code = rule.code.to_string();
            // Numbers are dense: two wrong digits lead anywhere. Names are long and far apart.
            let tolerated = if matches!(rule.code, Code::Named(_)) { code.len() / 4 } else { 1 };
            let by_name = rule.name.as_deref().and_then(|name| slips(&word, name, name.len() / 4));
            let by_code = slips(&word, &code, tolerated).filter(|slips| slips.0 > 0);
            near.extend(by_code.into_iter().chain(by_name).min().map(|slips| (slips, rule)));
        }
        near.sort_by_key(|(slips, rule)| (*slips, rule.code));
        near.into_iter().take(NEAR_MAX).map(|(_, rule)| rule).collect()
    }

    /// The rules with their files, for the laws.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// How many slips part `word`, in lower case, from `spelling`, then by how much one is longer: a wrong digit is likelier
/// than one too many. `None` for more than `tolerated`.
fn slips(word: &str, spelling: &str, tolerated: usize) -> Option<(usize, usize)> {
    let longer = spelling.len().abs_diff(word.len());
    if longer > tolerated {
        return None;
    }
    let slips = strsim::osa_distance(word, &spelling.to_ascii_lowercase());
    (slips <= tolerated).then_some((slips, longer))
}

fn embedded_entries() -> Vec<Entry> {
    EMBEDDED.iter().map(|(name, source)| Entry::embedded(name, source)).collect()
}

fn read_embedded(problems: &mut Problems) -> Vec<Entry> {
    let read = |(name, source): &(&str, &'static str)| {
        parse::parse(name, format!("rules/codes/{name}"), Cow::Borrowed(source), false, problems)
    };
    EMBEDDED.iter().filter_map(read).collect()
}

/// Reads the `.md` files of an operator's directory; its subdirectories are left alone.
fn read_directory(directory: &Path, problems: &mut Problems) -> Vec<Entry> {
    let shown = directory.display().to_string();
    let names = fs::read_dir(directory).and_then(|listing| {
        listing.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
    });
    let mut names = match names {
        Ok(names) => names,
        Err(error) => {
            problems.push(shown, None, format!("cannot read the directory: {error}"));
            return Vec::new();
        }
    };
    names.sort();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    if directory.join("codes").is_dir() {
        problems.push(shown, None, "the rules are in its subdirectory `codes`: name that one");
        return Vec::new();
    }
    if names.is_empty() {
        problems.push(shown, None, "the directory holds no rules (files that end in .md)");
    }
    let mut entries = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let shown = path.display().to_string();
        match fs::read_to_string(&path) {
            Ok(source) => {
                entries.extend(parse::parse(&name.to_string_lossy(), shown, source.into(), true, problems));
            }
            Err(error) => problems.push(shown, None, format!("cannot read the rule: {error}")),
        }
    }
    entries
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small rule file in good form.
    pub(crate) fn rule_file(code: &str, title: &str) -> String {
        format!(
            "```toml\ntier = 2\ncategory = \"mfa\"\nflows = [\"interactive\", \"text\"]\noutcome = \"failure\"\n\
             severity = {{ default = \"high\", interactive = \"low\" }}\naudience = \"user\"\ntransient = false\n\
             related = []\nreferences = [\"https://learn.microsoft.com/x\"]\n```\n\n# {code}: {title}\n\n\
             What happened in **plain** words.\nIt has two lines.\n\nMore about `it`.\n\n## Causes\n\n\
             1. One cause.\n\n## Fix\n\n1. Do this with `az\n   login`.\n2. Verify: it is gone.\n\n\
             ## Example\n\n```text\n{code}: a line.\n```\n"
        )
    }

    /// A catalogue of these files alone.
    pub(crate) fn catalogue_of(files: &[(&str, String)]) -> Catalogue {
        let mut problems = Problems::default();
        let read = |(code, source): &(&str, String)| {
            let name = format!("{code}.md");
            parse::parse(&name, name.clone(), source.clone().into(), false, &mut problems)
        };
        let entries = files.iter().filter_map(read).collect();
        assert!(problems.is_empty(), "{problems}");
        Catalogue::new(entries, &[])
    }

    fn sample() -> Catalogue {
        let linked = rule_file("AADSTS50076", "B")
            .replace("related = []", "related = [\"AADSTS50034\"]")
            .replace("tier", "name = \"StrongAuthRequired\"\ntier");
        let umbrella = rule_file("AADSTS70002", "C").replace("transient", "umbrella = true\ntransient");
        let variant = rule_file("AADSTS50053", "D").replace(
            "\n```\n\n#",
            "\n[[variant]]\nname = \"bad_address\"\ncontains = [\"Malicious IP\"]\nseverity = \"critical\"\n\
             [[variant]]\nname = \"locked\"\ncontains = [\"locked\", \"malicious\"]\n```\n\n#",
        );
        catalogue_of(&[
            ("AADSTS50034", rule_file("AADSTS50034", "A")),
            ("AADSTS50076", linked),
            ("AADSTS70002", umbrella),
            ("AADSTS50053", variant),
            ("DM_GWPipeline_Gateway", rule_file("DM_GWPipeline_Gateway", "E")),
            (
                "DM_GWPipeline_Gateway_OAuthTokenRefresh",
                rule_file("DM_GWPipeline_Gateway_OAuthTokenRefresh", "F"),
            ),
        ])
    }

    #[test]
    fn links_show_from_both_ends() {
        let catalogue = sample();
        assert_eq!(catalogue.related(Code::Aadsts(50034)), [Code::Aadsts(50076)]);
        assert_eq!(catalogue.related(Code::Aadsts(50076)), [Code::Aadsts(50034)]);
    }

    #[test]
    fn a_variant_overrides_only_what_it_names() {
        let catalogue = sample();
        let code = Code::Aadsts(50053);
        assert_eq!(catalogue.variant(code, || "from a MALICIOUS ip address".to_owned()), Some("bad_address"));
        assert_eq!(catalogue.variant(code, || "account is locked".to_owned()), Some("locked"));
        assert_eq!(catalogue.variant(code, String::new), None);
        let severity = |variant| catalogue.verdict(code, Flow::Interactive, variant).map(|it| it.severity);
        assert_eq!(severity(Some("bad_address")), Some(Severity::Critical));
        assert_eq!(severity(Some("locked")), Some(Severity::Low));
        assert_eq!(severity(None), Some(Severity::Low));
        assert_eq!(catalogue.verdict(Code::Aadsts(9999), Flow::Text, None), None);
    }

    #[test]
    fn unknown_codes_have_a_family_and_neighbours() {
        let catalogue = sample();
        let codes = |rules: Vec<&Rule>| rules.iter().map(|rule| rule.code.to_string()).collect::<Vec<_>>();
        assert_eq!(catalogue.family(Code::Aadsts(99_999)).map(|rule| rule.code), None);
        assert_eq!(catalogue.family(Code::Aadsts(700_029)).map(|rule| rule.code), Some(Code::Aadsts(70002)));
        let near = |number| catalogue.neighbourhood(Code::Aadsts(number));
        assert_eq!((near(50_059), near(51_000)), (Some((Category::Mfa, 3, 3)), None));
        assert_eq!(codes(catalogue.nearest("50067")), ["AADSTS50076"]);
        assert_eq!(codes(catalogue.nearest("DM_GWPipeline_Gatway")), ["DM_GWPipeline_Gateway"]);
        assert_eq!(codes(catalogue.nearest("strongauthrequierd")), ["AADSTS50076"]);
        assert!(catalogue.nearest("hello").is_empty());
    }

    #[track_caller]
    fn check_override(default: Option<Severity>, by_flow: &[(Flow, Severity)], expected: [Severity; 3]) {
        let word = SeverityOverride { code: Code::Aadsts(50076), default, by_flow: by_flow.to_vec() };
        let mut severity =
            ByFlow { default: Severity::High, by_flow: vec![(Flow::Interactive, Severity::Low)] };
        word.apply_to(&mut severity);
        assert_eq!([Flow::Interactive, Flow::Refresh, Flow::Text].map(|flow| severity.of(flow)), expected);
    }

    #[test]
    fn a_severity_override_leaves_flows_it_does_not_name() {
        use Severity::{Critical, High, Info, Low};
        check_override(Some(Info), &[], [Info, Info, Info]);
        check_override(None, &[(Flow::Refresh, Critical)], [Low, Critical, High]);
        check_override(None, &[(Flow::Interactive, High)], [High, High, High]);
        check_override(Some(Info), &[(Flow::Refresh, Critical)], [Info, Critical, Info]);
    }

    #[test]
    fn a_directory_replaces_and_adds_rules() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
        write("AADSTS7000222.md", rule_file("AADSTS7000222", "Ours"));
        write("CorpProxyError.md", rule_file("CorpProxyError", "The proxy"));
        let overrides = [SeverityOverride::constant(Code::Aadsts(7_000_222), Severity::Info)];
        let catalogue = Catalogue::load(Some(directory.path()), &overrides).unwrap();
        let embedded = Catalogue::embedded();
        assert_eq!(catalogue.len(), embedded.len() + 1);
        assert_eq!(catalogue.override_count(), 2);
        assert_ne!(catalogue.version(), embedded.version());
        let rule = catalogue.rule(Code::Aadsts(7_000_222)).unwrap();
        assert_eq!((rule.title.as_str(), rule.severity.default), ("Ours", Severity::Info));
        assert!(catalogue.literals().contains(&"CorpProxyError"));
    }

    #[test]
    fn every_problem_of_a_directory_and_of_overrides_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("AADSTS50076.md", "nothing");
        write("AADSTS1.md", "");
        let overrides = [SeverityOverride::constant(Code::Aadsts(7_000_221), Severity::Info)];
        let problems = Catalogue::load(Some(directory.path()), &overrides).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems}");
        let expected = "rules.severity.AADSTS7000221: no rule has this code; did you mean AADSTS7000222";
        assert!(problems.to_string().contains(expected), "{problems}");
    }
}
