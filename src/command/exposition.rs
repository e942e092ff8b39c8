//! Reads the text exposition format, as far as our own metrics use it.

/// One line of it.
#[derive(Debug)]
pub struct Sample<'t> {
    pub name: &'t str,
    labels: Vec<(&'t str, String)>,
    pub value: f64,
}

/// A count as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are whole and not negative"
)]
pub const fn whole(count: f64) -> u64 {
    count as u64
}

impl Sample<'_> {
    /// The value of a label; empty if it has none of that name.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The samples of a scrape.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = series.split_once('{') else {
        return Some(Sample { name: series, labels: Vec::new(), value });
    };
    let mut labels = Vec::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((key, tail)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut letters = tail.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    escaped => escaped,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.push((key, value));
        rest = tail[end + 1..].trim_start_matches(',');
    }
    Some(Sample { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_with_their_escapes() {
        let text = "# HELP a b\na_total{x=\"1\",y=\"q\\\"}\\\\,\\n\"} 3\nb 0.5\n";
        let found: Vec<Sample<'_>> = samples(text).collect();
        assert_eq!((found[0].name, found[0].value), ("a_total", 3.0));
        assert_eq!((found[0].label("x"), found[0].label("y"), found[0].label("z")), ("1", "q\"}\\,\n", ""));
        assert_eq!((found[1].name, found[1].value), ("b", 0.5));
    }
}
