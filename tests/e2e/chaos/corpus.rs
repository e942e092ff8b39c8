//! Messages by a seed, each with what must come of it.

use aadstream::demo::random::Random;
use serde_json::{Value, json};

use crate::forward::long_names;
use crate::messages::{APP, DATASET, activity_run, refresh_at, sign_in_at, text};
use crate::support::{Message, now_ms};

/// What must come of one message: written down when it is made, not found out by the program.
#[derive(Debug, Default)]
pub struct Truth {
    /// Index of every event.
    pub events: Vec<u32>,
    /// Index, `None` for a message as a whole, and reason of every dead letter.
    pub letters: Vec<(Option<u32>, &'static str)>,
}

/// When and where a message happens.
#[derive(Clone, Debug)]
pub struct Scene {
    pub time_ms: i64,
    pub app: String,
    pub dataset: String,
    /// Why sign-ins fail.
    pub code: u32,
}

impl Scene {
    /// The same app and dataset, now.
    pub fn now() -> Self {
        Self { time_ms: now_ms(), app: APP.to_owned(), dataset: DATASET.to_owned(), code: 50_126 }
    }
}

/// Bytes above `[input] max_message_bytes`: few, for the sake of the brokers.
const HUGE: usize = 17 << 20;
/// One message in so many is huge, or is a small one that unpacks to as much.
const HUGE_EVERY: usize = 4000;
/// One in so many becomes an event that its topic refuses.
const REFUSED_EVERY: usize = 2500;

/// One element of an array, or line of a message.
enum Piece {
    Success,
    Failure,
    /// Its bytes and the reason; it spells a code or does not.
    Poison(Vec<u8>, &'static str, bool),
}

pub struct Corpus {
    random: Random,
    made: usize,
}

impl Corpus {
    pub const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), made: 0 }
    }

    pub fn next(&mut self, scene: &Scene) -> (Message, Truth) {
        self.made += 1;
        match self.made % HUGE_EVERY {
            100 => return whole(vec![b'{'; HUGE], "too_large"),
            200 => return whole(gzip(&vec![b'['; 4 * HUGE]), "too_large"),
            _ => {}
        }
        if self.made % REFUSED_EVERY == 500 {
            return (long_names(self.made.try_into().expect("few messages")), event());
        }
        match self.random.below(100) {
            0..50 => self.clean(scene),
            50..60 => (refresh_at(scene.time_ms, &scene.dataset, 50_173), event()),
            60..66 => (text(700_016), event()),
            66..72 => (crate::messages::batch(&[activity_run(7_000_215)]), event()),
            72..90 => self.poisoned(scene),
            _ => self.poison(),
        }
    }

    /// Sign-ins without a fault; some compressed.
    fn clean(&mut self, scene: &Scene) -> (Message, Truth) {
        let pieces = (0..=self.random.below(4)).map(|_| self.sign_in()).collect();
        let (bytes, truth) = framed(pieces, true, scene);
        let bytes = if self.random.percent(10) { gzip(&bytes) } else { bytes };
        (Message::new(bytes), truth)
    }

    fn sign_in(&mut self) -> Piece {
        if self.random.percent(50) { Piece::Success } else { Piece::Failure }
    }

    /// A broken piece in front of, between or behind good ones, in an array or in lines.
    fn poisoned(&mut self, scene: &Scene) -> (Message, Truth) {
        let neighbours = 1 + self.random.below(3);
        let mut pieces: Vec<Piece> = (0..neighbours).map(|_| self.sign_in()).collect();
        let is_array = self.random.percent(60);
        let at = self.random.below(neighbours + 1);
        pieces.insert(at, self.broken_piece(is_array));
        let (bytes, truth) = framed(pieces, is_array, scene);
        (Message::new(bytes), truth)
    }

    fn broken_piece(&mut self, is_array: bool) -> Piece {
        let (bytes, reason): (Vec<u8>, _) = match self.random.below(if is_array { 6 } else { 5 }) {
            0 => (br#"{"a":1 "b":2}"#.to_vec(), "invalid_json"),
            1 => (br#"{"a":"AADSTS50126: bad" "b":2}"#.to_vec(), "invalid_json"),
            2 => (b"{\"a\":\"\xc3\x28\"}".to_vec(), "invalid_utf8"),
            3 => (deep(), "too_deep"),
            4 => (b"{\"a\":\"\x01\"}".to_vec(), "invalid_json"),
            _ => (b"42".to_vec(), "unknown_shape"),
        };
        let is_spelled = bytes.windows(6).any(|word| word == b"AADSTS");
        Piece::Poison(bytes, reason, is_spelled)
    }

    /// Nothing but poison.
    fn poison(&mut self) -> (Message, Truth) {
        match self.random.below(7) {
            0 => {
                let letters = vec![(None, "null_payload")];
                (Message::default(), Truth { letters, ..Truth::default() })
            }
            1 => whole(Vec::new(), "empty"),
            2 => whole(br#"{"records":[{"category":"SignInLogs""#.to_vec(), "invalid_json"),
            3 => whole(b"42".to_vec(), "unknown_shape"),
            4 => whole(deep(), "too_deep"),
            5 => whole(b"\x1f\x8b\x08\0\0\0\0\0\0\x03not deflate at all".to_vec(), "bad_compression"),
            _ => whole(b"{\"category\":\"SignInLogs\",\"identity\":\"\xc3\x28\"}".to_vec(), "invalid_utf8"),
        }
    }
}

fn event() -> Truth {
    Truth { events: vec![0], ..Truth::default() }
}

fn whole(bytes: Vec<u8>, reason: &'static str) -> (Message, Truth) {
    (Message::new(bytes), Truth { letters: vec![(None, reason)], ..Truth::default() })
}

fn deep() -> Vec<u8> {
    format!("{}1{}", r#"{"a":"#.repeat(2000), "}".repeat(2000)).into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// The pieces as one message, and what comes of each by its position.
fn framed(pieces: Vec<Piece>, is_array: bool, scene: &Scene) -> (Vec<u8>, Truth) {
    let mut truth = Truth::default();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (index, piece) in (0..).zip(pieces) {
        let good = |code| json_bytes(&sign_in_at(scene.time_ms, "SignInLogs", &scene.app, code));
        match piece {
            Piece::Success => parts.push(good(0)),
            Piece::Failure => {
                truth.events.push(index);
                parts.push(good(scene.code));
            }
            Piece::Poison(bytes, reason, is_spelled) => {
                truth.letters.push((Some(index), reason));
                if is_spelled {
                    truth.events.push(index);
                }
                parts.push(bytes);
            }
        }
    }
    let mut bytes = parts.join(if is_array { &b","[..] } else { b"\n" });
    if is_array {
        bytes.splice(..0, *br#"{"records":["#);
        bytes.extend_from_slice(b"]}");
    }
    (bytes, truth)
}

fn json_bytes(value: &Value) -> Vec<u8> {
    json!(value).to_string().into_bytes()
}
