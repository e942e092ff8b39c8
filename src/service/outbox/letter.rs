//! A letter: one event or dead letter on its way, and what it is written on.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, OwnedHeaders};
use sha2::{Digest as _, Sha256};

use crate::digest::Reject;
use crate::digest::event::Event;
use crate::service::progress::{Parcel, Share, TopicPartition};

/// What librdkafka and we keep of a letter beside its bytes.
const COST_BYTES: u64 = 512;

/// Why an event is a dead letter: the topic refuses it for good.
pub const UNDELIVERABLE: &str = "undeliverable";

/// What is known of a letter until it is delivered.
#[derive(Debug)]
pub struct Letter {
    pub parcel: Arc<Parcel>,
    pub content: Content,
    pub partition: i32,
    pub offset: i64,
    /// Of the record or piece in its message; absent for a message as a whole.
    pub index: Option<u32>,
    /// What it takes of the bytes in flight.
    pub bytes: u64,
    /// It goes in a batch of its own.
    pub is_alone: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    Event,
    Dead {
        reason: &'static str,
        /// The bytes were too many; their hash goes in their place.
        is_digest: bool,
    },
}

/// Which letter it is, however often it is written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    pub partition: TopicPartition,
    pub offset: i64,
    pub index: Option<u32>,
    /// Of a broken piece there may be both.
    pub is_event: bool,
}

/// Key, body and headers.
#[derive(Debug)]
pub struct Paper<'a> {
    pub key: Option<Cow<'a, [u8]>>,
    pub body: Option<Cow<'a, [u8]>>,
    pub headers: OwnedHeaders,
}

impl Paper<'_> {
    pub fn into_owned(self) -> Paper<'static> {
        let own = |bytes: Option<Cow<'_, [u8]>>| bytes.map(|bytes| Cow::Owned(bytes.into_owned()));
        Paper { key: own(self.key), body: own(self.body), headers: self.headers }
    }

    fn bytes(&self) -> u64 {
        let length = |bytes: &Option<Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers: usize =
            self.headers.iter().map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum();
        (length(&self.key) + length(&self.body) + headers) as u64 + COST_BYTES
    }
}

impl Letter {
    pub fn event(parcel: &Arc<Parcel>, event: &Event) -> (Box<Self>, Paper<'static>) {
        let mut headers = OwnedHeaders::new();
        let schema = event.schema.to_string();
        for (key, value) in [
            ("event-id", &*event.id),
            ("code", &event.code),
            ("severity", event.severity),
            ("schema", &schema),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let paper = Paper {
            key: event.key().map(|key| Cow::Owned(key.into_bytes())),
            body: Some(Cow::Owned(event.body().into_bytes())),
            headers,
        };
        let source = &event.source;
        let place = (source.partition, source.offset, Some(source.index));
        (Self::boxed(parcel, Content::Event, place, &paper), paper)
    }

    /// The original bytes, key and headers; reason and position in headers behind those.
    pub fn dead<'m>(
        parcel: &Arc<Parcel>,
        reject: &'m Reject,
        message: &'m BorrowedMessage<'_>,
    ) -> (Box<Self>, Paper<'m>) {
        let paper = Paper {
            key: message.key().map(Cow::Borrowed),
            body: match &reject.piece {
                Some((_, bytes)) => Some(Cow::Borrowed(bytes)),
                None => message.payload().map(Cow::Borrowed),
            },
            headers: message.headers().map_or_else(OwnedHeaders::new, BorrowedHeaders::detach),
        };
        let content = Content::Dead { reason: reject.reason.as_str(), is_digest: false };
        let index = reject.piece.as_ref().map(|(index, _)| *index);
        let mut letter = Self::boxed(parcel, content, (reject.partition, reject.offset, index), &paper);
        let paper = letter.address(paper);
        letter.bytes = paper.bytes();
        (letter, paper)
    }

    fn boxed(
        parcel: &Arc<Parcel>,
        content: Content,
        (partition, offset, index): (i32, i64, Option<u32>),
        paper: &Paper<'_>,
    ) -> Box<Self> {
        let parcel = Arc::clone(parcel);
        Box::new(Self { parcel, content, partition, offset, index, bytes: paper.bytes(), is_alone: false })
    }

    /// What the letter's partition contributed to its batch.
    pub fn share(&self) -> Option<&Share> {
        self.parcel.shares().iter().find(|share| share.partition.1 == self.partition)
    }

    /// `None` for a letter of nowhere.
    pub fn place(&self) -> Option<Place> {
        let is_event = match self.content {
            Content::Event => true,
            Content::Dead { reason, .. } => reason == UNDELIVERABLE,
        };
        let partition = self.share()?.partition.clone();
        Some(Place { partition, offset: self.offset, index: self.index, is_event })
    }

    pub fn topic(&self) -> &str {
        self.parcel.shares().first().map_or("", |share| &share.partition.0)
    }

    /// Reason and position, for whoever opens a dead letter.
    fn address<'p>(&self, paper: Paper<'p>) -> Paper<'p> {
        let Content::Dead { reason, .. } = self.content else { return paper };
        let position = [
            ("reason", Some(reason.to_owned())),
            ("topic", Some(self.topic().to_owned())),
            ("partition", Some(self.partition.to_string())),
            ("offset", Some(self.offset.to_string())),
            ("index", self.index.map(|index| index.to_string())),
        ];
        let mut headers = paper.headers;
        for (key, value) in position.iter().filter_map(|(key, value)| Some((key, value.as_deref()?))) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        Paper { headers, ..paper }
    }

    /// An event that its topic refuses becomes a dead letter.
    pub fn into_undeliverable(mut self: Box<Self>, paper: Paper<'_>) -> (Box<Self>, Paper<'_>) {
        self.content = Content::Dead { reason: UNDELIVERABLE, is_digest: false };
        self.is_alone = false;
        let paper = self.address(paper);
        (self, paper)
    }

    /// A dead letter that its topic refuses becomes the hash and the length of its bytes.
    pub fn into_digest(mut self: Box<Self>, paper: Paper<'_>) -> (Box<Self>, Paper<'_>) {
        if let Content::Dead { is_digest, .. } = &mut self.content {
            *is_digest = true;
        }
        self.is_alone = false;
        let body = paper.body.unwrap_or_default();
        let mut hash = String::new();
        for byte in Sha256::digest(&body) {
            write!(hash, "{byte:02x}").expect("a String takes every write");
        }
        let headers = OwnedHeaders::new()
            .insert(Header { key: "sha256", value: Some(&hash) })
            .insert(Header { key: "bytes", value: Some(&body.len().to_string()) });
        let paper = self.address(Paper { key: None, body: None, headers });
        (self, paper)
    }
}
