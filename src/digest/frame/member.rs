//! Which members of an object decide how it is read.

use super::{EnvelopeIds, Sketch};

/// Remembers the few members that decide how closely a record is looked at.
pub fn note<'a>(name: &[u8], value: &'a [u8], sketch: &mut Sketch<'a>, ids: &mut EnvelopeIds<'a>) {
    match name.len() {
        8 if name.eq_ignore_ascii_case(b"category") => {
            sketch.odd |= sketch.category.is_some();
            match value {
                [b'"', content @ .., b'"'] if !content.contains(&b'\\') => sketch.category = Some(content),
                _ => sketch.odd = true,
            }
        }
        10 if name.eq_ignore_ascii_case(b"resultType") => {
            sketch.odd |= sketch.result_type.is_some();
            sketch.result_type = Some(value);
        }
        11 if name.eq_ignore_ascii_case(b"workspaceId") => {
            ids.workspace_id = plain(value).or(ids.workspace_id);
        }
        9 if name.eq_ignore_ascii_case(b"datasetId") => ids.dataset_id = plain(value).or(ids.dataset_id),
        _ => {}
    }
}

fn plain(value: &[u8]) -> Option<&str> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(content).ok().filter(|content| !content.is_empty() && !content.contains('\\'))
}

pub fn is_envelope_key(name: &[u8]) -> bool {
    match name.len() {
        5 => name.eq_ignore_ascii_case(b"value"),
        7 => name.eq_ignore_ascii_case(b"records"),
        9 => name.eq_ignore_ascii_case(b"refreshes"),
        _ => false,
    }
}
