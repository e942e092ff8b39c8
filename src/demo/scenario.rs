//! The stories of the demo and who plays in them, read from `deploy/demo.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::random::Random;
use crate::terms::{Flow, Outcome};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stories {
    pub wave_seconds: u64,
    /// A number that looks like a code and stands where it is none.
    pub bait: String,
    /// Apps that people use.
    pub app: Vec<App>,
    /// Apps that sign in by themselves.
    pub job: Vec<App>,
    pub dataset: Vec<Dataset>,
    pub scenario: Vec<Scenario>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub name: String,
    pub id: String,
    /// The secret that a job signs in with.
    pub key_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    pub name: String,
    pub id: String,
    pub workspace_id: String,
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
    /// What fails, one of them a message; none for what succeeds or is broken.
    #[serde(default)]
    pub codes: Vec<String>,
    pub umbrella: Option<String>,
    #[serde(default)]
    outcomes: BTreeMap<String, String>,
    /// What user sign-ins say of the failure, one of them a record.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// How many of a hundred sign-ins in a message fail.
    #[serde(default = "most")]
    pub failing: usize,
    /// The only address, where the story has one.
    pub address: Option<String>,
    /// The Conditional Access policy that refuses.
    pub policy: Option<String>,
    /// The apps or jobs of the story, by name; all without them.
    #[serde(default)]
    pub apps: Vec<String>,
    /// The datasets of the story, by name; all without them.
    #[serde(default)]
    pub datasets: Vec<String>,
}

const fn never() -> u64 {
    u64::MAX
}

const fn most() -> usize {
    70
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

    /// An app that may play in `scenario`: a job, or one that people use.
    pub fn app(&self, scenario: &Scenario, is_job: bool, random: &mut Random) -> &App {
        let all = if is_job { &self.job } else { &self.app };
        let of_story: Vec<&App> = all.iter().filter(|app| scenario.apps.contains(&app.name)).collect();
        if of_story.is_empty() { random.pick(all) } else { of_story[random.below(of_story.len())] }
    }

    pub fn dataset(&self, scenario: &Scenario, random: &mut Random) -> &Dataset {
        let is_in = |dataset: &&Dataset| scenario.datasets.contains(&dataset.name);
        let of_story: Vec<&Dataset> = self.dataset.iter().filter(is_in).collect();
        if of_story.is_empty() { random.pick(&self.dataset) } else { of_story[random.below(of_story.len())] }
    }
}

impl Scenario {
    /// Whether the story is one of those that come and go.
    pub const fn is_passing(&self) -> bool {
        self.to != u64::MAX
    }

    /// Whether the story's codes occur in `flow`.
    pub fn has(&self, flow: Flow) -> bool {
        self.outcomes.contains_key(flow.as_str())
    }

    /// What the service must make of the story's codes in `flow`; success if it has none.
    pub fn outcome(&self, flow: Flow) -> Outcome {
        if self.codes.is_empty() {
            return Outcome::Success;
        }
        self.outcomes
            .get(flow.as_str())
            .and_then(|word| Outcome::parse(word))
            .unwrap_or_else(|| panic!("deploy/demo.toml: `{}` has no outcome for {flow}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_apps_and_datasets_exist() {
        let stories = Stories::embedded();
        for story in &stories.scenario {
            for name in &story.apps {
                let mut all = stories.app.iter().chain(&stories.job);
                assert!(all.any(|app| app.name == *name), "{}: {name}", story.name);
            }
            for name in &story.datasets {
                assert!(stories.dataset.iter().any(|set| set.name == *name), "{}: {name}", story.name);
            }
        }
    }

    #[test]
    fn a_story_begins_ends_and_begins_again() {
        let stories = Stories::embedded();
        let story = stories.scenario.iter().find(|story| story.is_passing()).unwrap();
        let is_on = |second| stories.at(second).iter().any(|other| other.name == story.name);
        assert!(is_on(story.from) && !is_on(story.to) && is_on(story.from + stories.wave_seconds));
    }
}
