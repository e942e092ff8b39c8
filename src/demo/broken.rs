//! Input that cannot be used, whole or in part: what Azure, networks and people really send (`domain` §1.1).

use super::diagnostic::plain_success as plain;
use super::framing::gzip;
use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome, Reason};

/// Counts successes that stand beside something broken.
fn count_plain(draft: &mut Draft<'_>, count: usize) {
    (0..count).for_each(|_| draft.truth.record(LogCategory::SignIn, Outcome::Success));
}

/// A batch whose last record is cut.
pub fn truncated(draft: &mut Draft<'_>) -> Vec<u8> {
    let (whole, cut) = (plain(draft), plain(draft));
    count_plain(draft, 1);
    draft.truth.rejected_record(Reason::InvalidJson);
    format!("{{\"records\":[{whole},{}", &cut[..100 + draft.random.below(100)]).into_bytes()
}

/// A batch whose second record of three is cut behind a member; its neighbours are whole.
pub fn cut_in_the_middle(draft: &mut Draft<'_>) -> Vec<u8> {
    let (first, cut, last) = (plain(draft), plain(draft), plain(draft));
    count_plain(draft, 2);
    draft.truth.rejected_record(Reason::InvalidJson);
    let end = cut.find(",\"category\"").expect("records have a category");
    format!("{{\"records\":[{first},{},{last}]}}", &cut[..end]).into_bytes()
}

/// JSON with the quotes of another language.
pub fn single_quotes(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::InvalidJson);
    let time = draft.moment.iso();
    format!("{{'records': [{{'time': '{time}', 'category': 'Functions', 'message': 'it failed'}}]}}")
        .into_bytes()
}

/// A raw line end inside a string; the code in the text is found all the same.
pub fn raw_newline(draft: &mut Draft<'_>) -> Vec<u8> {
    let neighbour = plain(draft);
    count_plain(draft, 1);
    draft.truth.rejected_record(Reason::InvalidJson);
    draft.event(Flow::Text);
    let text = format!("first line\nsecond line: {}: refused", draft.code());
    format!("{{\"records\":[{neighbour},{{\"category\":\"FunctionAppLogs\",\"message\":\"{text}\"}}]}}")
        .into_bytes()
}

/// Values that are no records stand where records should.
pub fn bare_numbers(draft: &mut Draft<'_>) -> Vec<u8> {
    let whole = plain(draft);
    count_plain(draft, 1);
    (0..3).for_each(|_| draft.truth.rejected_record(Reason::UnknownShape));
    format!("{{\"records\":[{},{whole},\"text\",null]}}", draft.stories.bait).into_bytes()
}

pub fn invalid_utf8(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::InvalidUtf8);
    b"{\"category\":\"SignInLogs\",\"identity\":\"\xc3\x28\"}".to_vec()
}

/// One record of a batch has bytes of another encoding.
pub fn invalid_utf8_record(draft: &mut Draft<'_>) -> Vec<u8> {
    let whole = plain(draft);
    count_plain(draft, 1);
    draft.truth.rejected_record(Reason::InvalidUtf8);
    let latin1 = b"{\"category\":\"SignInLogs\",\"identity\":\"M\xfcller\"}";
    [b"{\"records\":[", &latin1[..], b",", whole.as_bytes(), b"]}"].concat()
}

pub fn empty(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::Empty);
    draft.random.pick(&[&b""[..], b" \r\n"]).to_vec()
}

pub fn tombstone(draft: &mut Draft<'_>) -> Option<Vec<u8>> {
    draft.truth.rejected_message(Reason::NullPayload);
    None
}

pub fn number(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::UnknownShape);
    draft.stories.bait.clone().into_bytes()
}

pub fn deep(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::TooDeep);
    let (open, close) = ("{\"a\":".repeat(10_000), "}".repeat(10_000));
    format!("{open}1{close}").into_bytes()
}

/// A compressed message that lost its end.
pub fn broken_gzip(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.rejected_message(Reason::BadCompression);
    let packed = gzip(plain(draft).as_bytes());
    packed[..packed.len() / 2].to_vec()
}

/// What a console prints in place of bytes: text, though it begins with a bracket.
pub fn blob_note(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.text();
    b"[ 227 B blob data ]".to_vec()
}
