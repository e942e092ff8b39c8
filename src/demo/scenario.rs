//! The stories of the demo, read from `deploy/demo.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::random::Random;
use crate::terms::{Flow, Outcome};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stories {
    pub wave_seconds: u64,
    pub scenario: Vec<Scenario>,
}

/// One story.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub story: String,
    share: usize,
    #[serde(default)]
    from: u64,
    #[serde(default = "never")]
    to: u64,
    pub writers: Vec<String>,
    /// What fails; absent for what succeeds or is broken.
    pub code: Option<String>,
    pub umbrella: Option<String>,
    #[serde(default)]
    outcomes: BTreeMap<String, String>,
}

const fn never() -> u64 {
    u64::MAX
}

impl Stories {
    /// The stories that are built in.
    pub fn embedded() -> Self {
        toml::from_str(include_str!("../../deploy/demo.toml")).expect("a test reads the embedded stories")
    }

    /// The stories that happen `seconds` after the start.
    pub fn at(&self, seconds: u64) -> Vec<&Scenario> {
        let second = seconds % self.wave_seconds;
        self.scenario.iter().filter(|story| (story.from..story.to).contains(&second)).collect()
    }

    /// One of the stories of that moment, by their shares.
    pub fn pick(&self, seconds: u64, random: &mut Random) -> &Scenario {
        let active = self.at(seconds);
        let mut left = random.below(active.iter().map(|story| story.share).sum());
        for story in &active {
            match left.checked_sub(story.share) {
                Some(rest) => left = rest,
                None => return story,
            }
        }
        active[0]
    }
}

impl Scenario {
    /// Whether the story is one of those that come and go.
    pub const fn is_passing(&self) -> bool {
        self.to != u64::MAX
    }

    /// The digits of an AADSTS code, as sign-in records carry it; 0 is success.
    pub fn number(&self) -> &str {
        self.code.as_deref().and_then(|code| code.strip_prefix("AADSTS")).unwrap_or("0")
    }

    /// What the service must make of the code in `flow`.
    pub fn outcome(&self, flow: Flow) -> Outcome {
        match &self.code {
            None => Outcome::Success,
            Some(_) => self
                .outcomes
                .get(flow.as_str())
                .and_then(|word| Outcome::parse(word))
                .unwrap_or_else(|| panic!("deploy/demo.toml: `{}` has no outcome for {flow}", self.name)),
        }
    }
}
