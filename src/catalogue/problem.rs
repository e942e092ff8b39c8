//! What is wrong with rules: all problems of all files are collected first, then reported at once.

use std::fmt;

/// One thing to repair, where it stands.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    pub path: String,
    /// From 1; `None` when the whole file or directory is meant.
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Every problem found, in the order of files and lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn push(&mut self, path: impl Into<String>, line: Option<usize>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), line, message: message.into() });
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Brings the problems into the order in which somebody repairs them.
    pub fn sort(&mut self) {
        self.0.sort();
        self.0.dedup();
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural}", self.0.len())
    }
}

impl std::error::Error for Problems {}

/// ``; did you mean `severity`?``, or nothing when no candidate is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest_word(word, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// `; did you mean A, B or C?` of what is near already, or nothing.
pub fn did_you_mean_any(near: &[impl ToString]) -> String {
    let words: Vec<String> = near.iter().map(ToString::to_string).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => format!("; did you mean {last}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
    }
}

/// The candidate that a typing slip most likely meant. Half of the letters must be right.
pub fn nearest_word<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let letters = word.chars().count();
    // Where one is more than twice as long, half of the letters are wrong.
    let is_comparable = |candidate: &&str| {
        let length = candidate.chars().count();
        length.max(letters) <= 2 * length.min(letters)
    };
    candidates
        .into_iter()
        .filter(is_comparable)
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&word, &candidate.to_lowercase()), candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_one_a_line_and_counted() {
        let mut problems = Problems::default();
        problems.push("b.md", Some(3), "later");
        problems.push("a.md", None, "whole file");
        problems.sort();
        assert_eq!(problems.to_string(), "a.md: whole file\nb.md:3: later\n2 problems");
    }

    #[test]
    fn what_is_near_is_joined_like_a_sentence() {
        assert_eq!(did_you_mean_any(&[""; 0]), "");
        assert_eq!(did_you_mean_any(&["a"]), "; did you mean a?");
        assert_eq!(did_you_mean_any(&["a", "b", "c"]), "; did you mean a, b or c?");
    }

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let keys = ["severity", "category", "flows"];
        assert_eq!(nearest_word("sevrity", keys), Some("severity"));
        assert_eq!(nearest_word("Flow", keys), Some("flows"));
        assert_eq!(nearest_word("xyzzy", keys), None);
    }
}
