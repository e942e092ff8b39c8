//! Writes JSON as log writers do: keys in the writer's order and letter case.

use std::fmt::Display;

/// The letter case of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Case {
    /// As given.
    Camel,
    /// The first letter is a capital.
    Pascal,
    Lower,
}

/// A JSON object in the making.
#[derive(Debug)]
pub struct Object {
    json: String,
    case: Case,
}

impl Object {
    pub fn new(case: Case) -> Self {
        Self { json: "{".to_owned(), case }
    }

    pub fn camel() -> Self {
        Self::new(Case::Camel)
    }

    /// A member whose value is JSON already.
    pub fn json(&mut self, key: &str, value: impl Display) -> &mut Self {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        let key = match self.case {
            Case::Camel => key.to_owned(),
            Case::Pascal => key[..1].to_ascii_uppercase() + &key[1..],
            Case::Lower => key.to_ascii_lowercase(),
        };
        self.json.push_str(&format!("\"{key}\":{value}"));
        self
    }

    pub fn text(&mut self, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.json(key, quoted(value.as_ref()))
    }

    /// A text, or null where there is none.
    pub fn text_or_null(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        self.json(key, value.map_or_else(|| "null".to_owned(), quoted))
    }

    pub fn end(&mut self) -> String {
        let mut json = std::mem::take(&mut self.json);
        json.push('}');
        json
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

/// A JSON array of what is JSON already.
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(","))
}

/// The same JSON over many lines.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 5 / 4);
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for letter in json.chars() {
        if in_string {
            out.push(letter);
            in_string = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
            continue;
        }
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match letter {
            '{' | '[' => {
                depth += 1;
                out.push(letter);
                out.push_str(&line(depth));
            }
            '}' | ']' => {
                depth -= 1;
                out.push_str(&line(depth));
                out.push(letter);
            }
            ',' => out.push_str(&(",".to_owned() + &line(depth))),
            ':' => out.push_str(": "),
            _ => {
                in_string = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_take_the_case_of_the_writer() {
        let write = |case| Object::new(case).text("userId", "a\"b").json("isX", true).end();
        assert_eq!(write(Case::Camel), r#"{"userId":"a\"b","isX":true}"#);
        assert_eq!(write(Case::Pascal), r#"{"UserId":"a\"b","IsX":true}"#);
        assert_eq!(write(Case::Lower), r#"{"userid":"a\"b","isx":true}"#);
    }

    #[test]
    fn pretty_json_says_the_same() {
        let json = r#"{"a":"x\\\"{,:}\\","b":[{},[],1,true,null],"c":{"d":"é"}}"#;
        let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&pretty(json)), value(json));
        assert!(pretty(json).lines().count() > 10);
    }
}
