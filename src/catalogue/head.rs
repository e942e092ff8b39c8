//! Reads the TOML head of a rule file, strictly: every wrong key and value is a problem with its line.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, did_you_mean};
use super::rule::{ByFlow, Variant};
use crate::code::{Code, intern, parse_digits};
use crate::terms::{Audience, Category, Flow, Outcome, Severity};

const KEYS: &[&str] = &[
    "name",
    "tier",
    "category",
    "flows",
    "outcome",
    "severity",
    "audience",
    "transient",
    "umbrella",
    "related",
    "references",
    "variant",
];
const REQUIRED: &[&str] =
    &["tier", "category", "flows", "outcome", "severity", "audience", "transient", "related", "references"];
const VARIANT_KEYS: &[&str] = &["name", "contains", "outcome", "severity", "audience", "summary", "fix"];

/// The values of a head; absent ones have been reported.
#[derive(Default)]
pub(super) struct Head {
    pub name: Option<String>,
    pub tier: Option<u8>,
    pub category: Option<Category>,
    pub flows: Vec<Flow>,
    pub outcome: Option<ByFlow<Outcome>>,
    pub severity: Option<ByFlow<Severity>>,
    pub audience: Option<ByFlow<Audience>>,
    pub transient: bool,
    pub umbrella: bool,
    pub related: Vec<Code>,
    pub references: Vec<String>,
    pub variants: Vec<Variant>,
}

/// A word of a closed vocabulary that a head may hold.
trait Word: Copy + PartialEq + Display + 'static {
    const WORDS: &'static [Self];
    fn spelling(self) -> &'static str;
}

macro_rules! word {
    ($($name:ident: $words:expr),+ $(,)?) => { $(impl Word for $name {
        const WORDS: &'static [Self] = $words;
        fn spelling(self) -> &'static str { self.as_str() }
    })+ };
}
word!(
    Category: Self::ALL,
    Flow: Self::ALL,
    Severity: Self::ALL,
    Audience: Self::ALL,
    // The other outcomes come from records, never from a code.
    Outcome: &[Self::Interrupt, Self::Failure],
);

/// Reads `text`, which begins at line `first_line` of `path`.
pub(super) fn read(text: &str, path: &str, first_line: usize, problems: &mut Problems) -> Head {
    let mut reader = Reader { text, path, first_line, problems };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.problem(&error.span().unwrap_or_default(), error.message());
    }
    reader.head(table.get_ref(), errors.is_empty())
}

/// The code that a rule file or a `related` list names: prefix and digits, or a product's literal.
pub(super) fn code_of_rule(word: &str) -> Option<Code> {
    let family = |prefix: &str| word.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix));
    if let Some(prefix) = family("AADSTS").or_else(|| family("AADB2C")) {
        let number = parse_digits(&word.as_bytes()[prefix.len()..])?;
        return match prefix {
            "AADSTS" => Some(Code::Aadsts(number)),
            "AADB2C" => Some(Code::Aadb2c(number)),
            _ => None,
        };
    }
    let is_literal = word.len() >= 4
        && word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    is_literal.then(|| Code::Named(intern(word)))
}

struct Reader<'a> {
    text: &'a str,
    path: &'a str,
    first_line: usize,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = self.first_line + memchr::memchr_iter(b'\n', before).count();
        self.problems.push(self.path, Some(line), message);
    }

    fn head(&mut self, table: &DeTable<'_>, is_whole: bool) -> Head {
        let mut head = Head::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => head.name = self.string("name", value),
                "tier" => head.tier = self.tier(value),
                "category" => head.category = self.word("category", value),
                "flows" => head.flows = self.flows(value),
                "outcome" => head.outcome = self.by_flow("outcome", value),
                "severity" => head.severity = self.by_flow("severity", value),
                "audience" => head.audience = self.by_flow("audience", value),
                "transient" => head.transient = self.boolean("transient", value),
                "umbrella" => head.umbrella = self.boolean("umbrella", value),
                "related" => head.related = self.related(value),
                "references" => head.references = self.strings("references", value),
                "variant" => head.variants = self.variants(value),
                unknown => {
                    let near = did_you_mean(unknown, KEYS.iter().copied());
                    self.problem(&key.span(), format!("unknown key `{unknown}`{near}"));
                }
            }
        }
        // A head that does not parse may lack keys only because the parser skipped them.
        if is_whole {
            for key in REQUIRED {
                if !table.iter().any(|(present, _)| present.get_ref() == key) {
                    self.problem(&(0..0), format!("the head has no `{key}`"));
                }
            }
        }
        head
    }

    fn string(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.problem(&value.span(), format!("`{key}` must be a string that is not empty"));
        }
        text.map(str::to_owned)
    }

    fn strings(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let Some(items) = value.get_ref().as_array() else {
            self.problem(&value.span(), format!("`{key}` must be an array of strings"));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.string(key, item)).collect()
    }

    fn boolean(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> bool {
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.problem(&value.span(), format!("`{key}` must be true or false"));
            false
        })
    }

    fn tier(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u8> {
        match value.get_ref().as_integer().map(toml::de::DeInteger::as_str) {
            Some("1") => Some(1),
            Some("2") => Some(2),
            _ => {
                self.problem(&value.span(), "`tier` must be 1 (full depth) or 2 (short)");
                None
            }
        }
    }

    fn word<T: Word>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            self.problem(&value.span(), format!("`{key}` must be a word"));
            return None;
        };
        let word = T::WORDS.iter().copied().find(|word| word.spelling() == text);
        if word.is_none() {
            let words: Vec<&str> = T::WORDS.iter().map(|word| word.spelling()).collect();
            let near = did_you_mean(text, words.iter().copied());
            let near = if near.is_empty() { format!("; expected one of {}", words.join(", ")) } else { near };
            self.problem(&value.span(), format!("`{key}` cannot be `{text}`{near}"));
        }
        word
    }

    fn flows(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Flow> {
        let Some(items) = value.get_ref().as_array() else {
            self.problem(&value.span(), "`flows` must be an array of flows");
            return Vec::new();
        };
        let mut flows: Vec<Flow> = Vec::new();
        for item in items {
            let Some(flow) = self.word("flows", item) else { continue };
            if flows.contains(&flow) {
                self.problem(&item.span(), format!("`flows` names {flow} twice"));
            } else {
                flows.push(flow);
            }
        }
        if items.is_empty() {
            self.problem(&value.span(), "`flows` must name at least one flow");
        }
        flows.sort_unstable();
        flows
    }

    fn by_flow<T: Word>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<ByFlow<T>> {
        let Some(table) = value.get_ref().as_table() else {
            return self.word(key, value).map(ByFlow::constant);
        };
        let mut default = None;
        let mut by_flow: Vec<(Flow, T)> = Vec::new();
        for (name, value) in table {
            let name_text = name.get_ref().as_ref();
            let word = self.word(&format!("{key}.{name_text}"), value);
            if name_text == "default" {
                default = word;
            } else if let Some(flow) = Flow::parse(name_text) {
                by_flow.extend(word.map(|word| (flow, word)));
            } else {
                let names = Flow::ALL.iter().map(|flow| flow.as_str()).chain(["default"]);
                let near = did_you_mean(name_text, names);
                self.problem(&name.span(), format!("`{key}` has no flow `{name_text}`{near}"));
            }
        }
        if !table.iter().any(|(name, _)| name.get_ref() == "default") {
            self.problem(&value.span(), format!("`{key}` is a table by flow and has no `default`"));
        }
        let default = default?;
        by_flow.retain(|(_, word)| *word != default);
        by_flow.sort_unstable_by_key(|(flow, _)| *flow);
        Some(ByFlow { default, by_flow })
    }

    fn related(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Code> {
        let Some(items) = value.get_ref().as_array() else {
            self.problem(&value.span(), "`related` must be an array of codes");
            return Vec::new();
        };
        let mut codes = Vec::new();
        for item in items {
            let code = item.get_ref().as_str().and_then(code_of_rule);
            match code {
                Some(code) if codes.contains(&code) => {
                    self.problem(&item.span(), format!("`related` names {code} twice"));
                }
                Some(code) => codes.push(code),
                None => self.problem(&item.span(), "`related` must hold codes such as \"AADSTS\" and digits"),
            }
        }
        codes
    }

    fn variants(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Variant> {
        let Some(items) = value.get_ref().as_array() else {
            self.problem(&value.span(), "write each variant as [[variant]]");
            return Vec::new();
        };
        let mut variants: Vec<Variant> = Vec::new();
        for item in items {
            let Some(variant) = self.variant(item) else { continue };
            if variants.iter().any(|other| other.name == variant.name) {
                self.problem(&item.span(), format!("two variants are named `{}`", variant.name));
            }
            variants.push(variant);
        }
        variants
    }

    fn variant(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Variant> {
        let Some(table) = value.get_ref().as_table() else {
            self.problem(&value.span(), "write each variant as [[variant]]");
            return None;
        };
        let mut name = None;
        let mut variant = Variant {
            name: "",
            contains: Vec::new(),
            outcome: None,
            severity: None,
            audience: None,
            summary: None,
            fix: Vec::new(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = self.string("name", value),
                "contains" => {
                    let words = self.strings("contains", value);
                    variant.contains = words.iter().map(|word| word.to_ascii_lowercase()).collect();
                }
                "outcome" => variant.outcome = self.by_flow("outcome", value),
                "severity" => variant.severity = self.by_flow("severity", value),
                "audience" => variant.audience = self.by_flow("audience", value),
                "summary" => variant.summary = self.string("summary", value),
                "fix" => variant.fix = self.strings("fix", value),
                unknown => {
                    let near = did_you_mean(unknown, VARIANT_KEYS.iter().copied());
                    self.problem(&key.span(), format!("unknown key `{unknown}` in a variant{near}"));
                }
            }
        }
        if name.is_none() || variant.contains.is_empty() {
            self.problem(&value.span(), "a variant needs `name` and `contains`");
        }
        variant.name = intern(&name?);
        Some(variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut problems = Problems::default();
        read(text, "a.md", 2, &mut problems);
        problems.sort();
        let actual: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(actual, expected, "of {text}");
    }

    const GOOD: &str = "tier = 2\ncategory = \"mfa\"\nflows = [\"text\"]\noutcome = \"failure\"\n\
        severity = \"low\"\naudience = \"user\"\ntransient = false\nrelated = []\nreferences = []\n";

    #[test]
    fn a_whole_head_has_no_problems() {
        check(GOOD, &[]);
    }

    #[test]
    fn a_wrong_key_names_the_nearest_right_one() {
        check(
            &GOOD.replace("severity", "sevrity"),
            &[
                "a.md:2: the head has no `severity`",
                "a.md:6: unknown key `sevrity`; did you mean `severity`?",
            ],
        );
    }

    #[test]
    fn a_wrong_word_names_the_nearest_right_one() {
        check(
            &GOOD.replace("\"low\"", "{ default = \"hihg\", refesh = \"low\" }"),
            &[
                "a.md:6: `severity.default` cannot be `hihg`; did you mean `high`?",
                "a.md:6: `severity` has no flow `refesh`; did you mean `refresh`?",
            ],
        );
    }

    #[test]
    fn a_table_by_flow_needs_a_default() {
        check(
            &GOOD.replace("\"low\"", "{ refresh = \"low\" }"),
            &["a.md:6: `severity` is a table by flow and has no `default`"],
        );
    }

    #[test]
    fn broken_toml_is_one_problem_at_its_line() {
        let mut problems = Problems::default();
        read("tier = 2\ncategory = \n", "a.md", 2, &mut problems);
        assert_eq!(problems.iter().next().expect("a problem").line, Some(3));
    }

    #[test]
    fn rules_are_named_exactly_as_their_codes() {
        assert_eq!(code_of_rule("AADSTS50076"), Some(Code::Aadsts(50076)));
        assert_eq!(code_of_rule("AADB2C90091"), Some(Code::Aadb2c(90091)));
        assert_eq!(code_of_rule("DM_GWPipeline"), Some(Code::Named("DM_GWPipeline")));
        for word in ["aadsts50076", "AADSTS", "AADSTS50076a", "AADSTS050076", "two words", "", "x"] {
            assert_eq!(code_of_rule(word), None, "{word:?}");
        }
    }
}
