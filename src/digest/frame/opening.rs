//! What a piece of a file begins with, for a reader that holds only a part of it.

use super::token::skip_blank;
use super::{Entries, EnvelopeIds, Framer, Object, Opens, Receiver, Sketch};
use crate::terms::Reason;

/// What a piece of a file begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening<'a> {
    /// An array of records; its elements begin at this index.
    Elements { at: usize, ids: EnvelopeIds<'a> },
    /// A value that must be read whole, or text.
    Other,
}

/// Looks for an array of records whose elements may be read one after another.
pub fn opening(bytes: &[u8]) -> Opening<'_> {
    struct Nobody;
    impl Receiver for Nobody {
        fn record(&mut self, _: &[u8], _: &Sketch<'_>, _: &EnvelopeIds<'_>) -> bool {
            true
        }
        fn text(&mut self, _: &[u8]) {}
        fn broken(&mut self, _: &[u8], _: Reason) {}
    }
    let mut nobody = Nobody;
    let framer = Framer::new(bytes, Entries::Lines, &mut nobody);
    let at = skip_blank(bytes, 0);
    if at == bytes.len() {
        return Opening::Other;
    }
    let mut ids = EnvelopeIds::default();
    match framer.opens(at) {
        Opens::Array => Opening::Elements { at: at + 1, ids },
        Opens::Object => match framer.members(at + 1, 1, &mut ids, false) {
            Some(Object::Envelope { at }) if bytes[at] == b'[' => Opening::Elements { at: at + 1, ids },
            _ => Opening::Other,
        },
        Opens::Text => Opening::Other,
    }
}
