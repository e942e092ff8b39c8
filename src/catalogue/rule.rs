//! One rule: what the catalogue knows about a code.

use crate::code::Code;
use crate::terms::{Audience, Category, Flow, Outcome, Severity};

/// A value that may differ by flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ByFlow<T> {
    pub default: T,
    /// Only the flows that differ from the default, in the order of [`Flow::ALL`].
    pub by_flow: Vec<(Flow, T)>,
}

impl<T: Copy> ByFlow<T> {
    pub const fn constant(default: T) -> Self {
        Self { default, by_flow: Vec::new() }
    }

    pub fn of(&self, flow: Flow) -> T {
        self.by_flow.iter().find(|(named, _)| *named == flow).map_or(self.default, |(_, value)| *value)
    }
}

/// A cause that the text tells apart although the code is the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variant {
    pub name: &'static str,
    /// Lower-case words; one of them in the text is enough.
    pub contains: Vec<String>,
    pub outcome: Option<ByFlow<Outcome>>,
    pub severity: Option<ByFlow<Severity>>,
    pub audience: Option<ByFlow<Audience>>,
    pub summary: Option<String>,
    /// Plain text, one entry a step; empty: the rule's own.
    pub fix: Vec<String>,
}

/// The catalogue's entry for one code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    pub code: Code,
    /// Microsoft's symbolic name: a label for people, never a key.
    pub name: Option<String>,
    /// 1 full depth, 2 short.
    pub tier: u8,
    pub title: String,
    pub category: Category,
    /// Where the code occurs; these series exist at 0 from the first scrape.
    pub flows: Vec<Flow>,
    pub outcome: ByFlow<Outcome>,
    pub severity: ByFlow<Severity>,
    pub audience: ByFlow<Audience>,
    /// Does the same request succeed later without anybody acting?
    pub transient: bool,
    /// Opens a message whose second code is the diagnosis.
    pub umbrella: bool,
    /// As the file says; [`Catalogue::related`](super::Catalogue::related) adds the other direction.
    pub related: Vec<Code>,
    pub references: Vec<String>,
    pub variants: Vec<Variant>,
    /// First paragraph, one line, at most 240 characters.
    pub summary: String,
    /// Markdown of the further paragraphs of the meaning; may be empty.
    pub meaning: String,
    /// Markdown, likeliest first.
    pub causes: Vec<String>,
    /// Steps as plain text on one line each; the first is at most 160 bytes.
    pub fix: Vec<String>,
    /// Markdown list items.
    pub prevent: Vec<String>,
    /// Markdown list items, each beginning with the other code.
    pub do_not_confuse: Vec<String>,
    /// A line in which the scanner finds exactly this code.
    pub example: String,
    /// The page without its head: what `explain --format markdown` prints.
    pub page: String,
    /// From the embedded catalogue, or from a directory of the operator.
    pub is_override: bool,
}

impl Rule {
    pub fn variant(&self, name: Option<&str>) -> Option<&Variant> {
        name.and_then(|name| self.variants.iter().find(|variant| variant.name == name))
    }
}
