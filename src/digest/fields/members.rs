//! Walks over the members of an object and the elements of an array; a value is skipped, not parsed, until somebody
//! asks for it.
//!
//! Of a skipped value only strings and brackets are checked, as in [`frame`](super::super::frame): most of a sign-in
//! is subtrees that nobody asks for.

use std::borrow::Cow;

use super::super::frame::token::{is_json, scalar_length, skip_blank};
use super::super::simd::string_stop;
use super::super::structure::{Walk, Walker};

/// Not JSON where it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault;

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    text: &'a str,
    /// A string without escapes and control bytes: its content is what stands between the quotes.
    is_plain: bool,
}

/// What a value is, nested ones unread.
pub enum Value<'a> {
    Null,
    Bool(bool),
    Number(u64),
    /// Negative, fractional or too large.
    Unreadable,
    Text(Cow<'a, str>),
    Object(Members<'a>),
    Array(Elements<'a>),
}

impl<'a> Raw<'a> {
    /// The value that begins `text`; what follows it is left alone.
    pub fn first_of(text: &'a str) -> Result<Self, Fault> {
        let start = skip_blank(text.as_bytes(), 0);
        raw(text, start)
    }

    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The content of a string.
    fn content(self) -> Result<Cow<'a, str>, Fault> {
        if self.is_plain {
            return Ok(Cow::Borrowed(&self.text[1..self.text.len() - 1]));
        }
        serde_json::from_str(self.text).map(Cow::Owned).map_err(|_| Fault)
    }

    pub fn read(self) -> Result<Value<'a>, Fault> {
        let digits = self.text.as_bytes();
        Ok(match digits[0] {
            b'"' => Value::Text(self.content()?),
            b'{' => Value::Object(Members { text: self.text, at: 1, is_first: true }),
            b'[' => Value::Array(Elements { text: self.text, at: 1, is_first: true }),
            b'1'..=b'9' if digits.len() < 19 && digits.iter().all(u8::is_ascii_digit) => {
                Value::Number(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
            }
            _ => match serde_json::from_str(self.text) {
                Ok(serde_json::Value::Bool(flag)) => Value::Bool(flag),
                Ok(serde_json::Value::Number(number)) => whole(&number),
                Ok(_) => Value::Null,
                // A number that is well formed and beyond every type, such as 1e400.
                Err(_) if is_json(self.text.as_bytes()) => Value::Unreadable,
                Err(_) => return Err(Fault),
            },
        })
    }
}

fn whole<'a>(number: &serde_json::Number) -> Value<'a> {
    // Tables that were through a data frame write whole numbers as 50126.0. Adding 0 makes 0 of -0.
    let of_float = || number.as_f64().and_then(|number| (number + 0.0).to_string().parse().ok());
    number.as_u64().or_else(of_float).map_or(Value::Unreadable, Value::Number)
}

/// Members in the order of the text. Behind each key its value must be taken, skipped or entered.
pub struct Members<'a> {
    text: &'a str,
    at: usize,
    is_first: bool,
}

impl<'a> Members<'a> {
    /// The next key; `None` behind the last one.
    pub fn next_key(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        if !separated(self.text, &mut self.at, &mut self.is_first, b'}')? {
            return Ok(None);
        }
        let key = string(self.text, self.at)?;
        let colon = skip_blank(self.text.as_bytes(), self.at + key.text.len());
        if self.text.as_bytes().get(colon) != Some(&b':') {
            return Err(Fault);
        }
        self.at = skip_blank(self.text.as_bytes(), colon + 1);
        Ok(Some(key.content()?))
    }

    pub fn value(&mut self) -> Result<Raw<'a>, Fault> {
        let value = raw(self.text, self.at)?;
        self.at += value.text.len();
        Ok(value)
    }

    /// The members of the object that is the value, if it is one. Give them back to [`Self::leave`] when all were read:
    /// so the object need not be walked over to find its end first.
    pub fn enter(&self) -> Option<Self> {
        let is_object = self.text.as_bytes().get(self.at) == Some(&b'{');
        is_object.then_some(Self { text: self.text, at: self.at + 1, is_first: true })
    }

    pub const fn leave(&mut self, inner: &Self) {
        self.at = inner.at + 1;
    }
}

/// Elements in the order of the text.
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
    is_first: bool,
}

impl<'a> Elements<'a> {
    pub fn next(&mut self) -> Result<Option<Raw<'a>>, Fault> {
        if !separated(self.text, &mut self.at, &mut self.is_first, b']')? {
            return Ok(None);
        }
        let value = raw(self.text, self.at)?;
        self.at += value.text.len();
        Ok(Some(value))
    }
}

/// Moves `at` to the next member or element; false at the closing bracket.
fn separated(text: &str, at: &mut usize, is_first: &mut bool, close: u8) -> Result<bool, Fault> {
    let bytes = text.as_bytes();
    *at = skip_blank(bytes, *at);
    match bytes.get(*at) {
        Some(byte) if *byte == close => return Ok(false),
        Some(b',') if !*is_first => *at = skip_blank(bytes, *at + 1),
        Some(_) if *is_first => {}
        _ => return Err(Fault),
    }
    *is_first = false;
    Ok(true)
}

/// The value at `at`.
fn raw(text: &str, at: usize) -> Result<Raw<'_>, Fault> {
    let bytes = text.as_bytes();
    let first = *bytes.get(at).ok_or(Fault)?;
    let length = match first {
        b'"' => return string(text, at),
        b'{' | b'[' => match Walker::default().feed(&bytes[at..]) {
            Walk::Closed(length) if bytes[at + length - 1] == first + 2 => length,
            _ => return Err(Fault),
        },
        _ => match scalar_length(&bytes[at..]) {
            0 => return Err(Fault),
            length => length,
        },
    };
    Ok(Raw { text: &text[at..at + length], is_plain: false })
}

/// The string that opens at `at`.
fn string(text: &str, at: usize) -> Result<Raw<'_>, Fault> {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&b'"') {
        return Err(Fault);
    }
    let mut from = at + 1;
    let mut is_plain = true;
    loop {
        let stop = string_stop(bytes, from).ok_or(Fault)?;
        is_plain &= !stop.control;
        if bytes[stop.at] == b'"' {
            return Ok(Raw { text: &text[at..=stop.at], is_plain });
        }
        is_plain = false;
        from = stop.at + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything, as deep as it goes.
    fn value_of(raw: Raw<'_>) -> Result<serde_json::Value, Fault> {
        Ok(match raw.read()? {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => flag.into(),
            Value::Number(number) => number.into(),
            Value::Unreadable => serde_json::from_str(raw.as_str()).map_err(|_| Fault)?,
            Value::Text(text) => text.into(),
            Value::Object(mut members) => {
                let mut object = serde_json::Map::new();
                while let Some(key) = members.next_key()? {
                    object.insert(key.into_owned(), value_of(members.value()?)?);
                }
                object.into()
            }
            Value::Array(mut elements) => {
                let mut array = Vec::new();
                while let Some(element) = elements.next()? {
                    array.push(value_of(element)?);
                }
                array.into()
            }
        })
    }

    #[test]
    fn what_is_read_is_what_a_parser_reads() {
        for json in [
            "{}",
            "[]",
            r#"{"a":1,"b":[true,false,null,-3,1.5,{"c":"d"}],"e\n":"f\u00e9\\","":[[],{}]}"#,
            " { \"a\" :\t[ 1 , 2 ] ,\r\n\"b\" : { } } ",
            r"[18446744073709551615,1234567890123456789,0]",
            r#"{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"xxxxxxxxxxxxxxxxxxxxxxxx","k":"é"}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{,"a":1}"#,
            r"{a:1}",
            r"[1 2]",
            r#"{"a":tru}"#,
            r#"{"a":01}"#,
            r#"{"a":[1}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"#,
            r#"{"a":"b"#,
        ] {
            let ours = Raw::first_of(json).and_then(value_of).ok();
            assert_eq!(ours, serde_json::from_str(json).ok(), "{json}");
        }
    }

    #[test]
    fn a_number_is_what_it_amounts_to() {
        let read = |json| match Raw::first_of(json).and_then(Raw::read) {
            Ok(Value::Number(number)) => number.to_string(),
            Ok(Value::Unreadable) => "unreadable".to_owned(),
            _ => "no number".to_owned(),
        };
        for (json, expected) in [
            ("50126.0", "50126"),
            ("5.0126e4", "50126"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("-1", "unreadable"),
            ("0.5", "unreadable"),
            ("1e400", "unreadable"),
            ("-1E+400", "unreadable"),
            ("1e", "no number"),
            ("1e400e", "no number"),
            ("01", "no number"),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}
