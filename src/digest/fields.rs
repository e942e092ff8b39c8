//! Reads the members of one record that anybody asks for, whatever the shape they come in.
//!
//! camelCase (diagnostic settings), `PascalCase` (Log Analytics), lower case, portal columns; nested or as a JSON string;
//! numbers as strings and the reverse. A member of an unexpected type is left out, never an error: a record must not
//! be lost for a field that nobody needs. Of repeated keys the last wins. Shapes: `domain` §1 and §2.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A scalar as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    /// A boolean, a negative or a broken number.
    Unreadable,
}

/// Declares [`Fields`] with the text members in one list, so that owning and merging cannot forget one.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What was found in one record.
        #[derive(Clone, Debug, Default)]
        pub struct Fields<'a> {
            $($(#[$doc])* pub $name: Option<Cow<'a, str>>,)+
            pub result_type: Option<Scalar<'a>>,
            /// `status.errorCode`, at the top or in `properties`; else `ErrorCode` of a sign-in table.
            pub error_code: Option<Scalar<'a>>,
            pub is_interactive: Option<bool>,
            pub has: Has,
        }

        impl<'a> Fields<'a> {
            pub fn into_owned(self) -> Fields<'static> {
                let own = |scalar: Option<Scalar<'a>>| scalar.map(|scalar| match scalar {
                    Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
                    Scalar::Number(number) => Scalar::Number(number),
                    Scalar::Unreadable => Scalar::Unreadable,
                });
                Fields {
                    $($name: self.$name.map(|text| Cow::Owned(text.into_owned())),)+
                    result_type: own(self.result_type),
                    error_code: own(self.error_code),
                    is_interactive: self.is_interactive,
                    has: self.has,
                }
            }

            /// Takes over what `inner`, read from a JSON string in this record, has.
            fn merge(&mut self, inner: Self) {
                $(if inner.$name.is_some() { self.$name = inner.$name; })+
                if inner.result_type.is_some() { self.result_type = inner.result_type; }
                if inner.error_code.is_some() { self.error_code = inner.error_code; }
                if inner.is_interactive.is_some() { self.is_interactive = inner.is_interactive; }
                self.has.merge(inner.has);
            }
        }
    };
}

fields! {
    category,
    /// The Log Analytics table (`Type`).
    table,
    operation_name,
    /// The Entra tenant where the record names it without doubt (`AADTenantId`, `CustomerTenantId`).
    entra_tenant_id,
    /// `tenantId`: the Entra tenant, except in Log Analytics records, where it is the workspace.
    tenant_id,
    /// `/tenants/<id>/…` of a diagnostic record.
    resource_path,
    result_description,
    failure_reason,
    additional_details,
    /// When it happened: `createdDateTime`.
    created,
    /// When the log wrote it: `time`, `TimeGenerated`, `timeStamp`.
    written,
    start_time,
    end_time,
    app_id,
    app_name,
    service_principal_id,
    service_principal_name,
    credential_key_id,
    resource_name,
    user_principal_name,
    user_id,
    /// The first of `signInEventTypes`.
    event_type,
    authentication_protocol,
    correlation_id,
    /// `id` of a sign-in or of a refresh.
    id,
    request_id,
    /// `status` as a word.
    status_word,
    extended_status,
    /// `serviceExceptionJson` of the refresh itself, not of its attempts.
    service_exception,
    /// Texts of `messages[]` of type Error.
    error_messages,
    /// Power BI's or OAuth's own name of the error.
    error_name,
    /// An error of a pipeline activity, or inside its output.
    activity_error,
    workspace_id,
    dataset_id,
}

/// Marks of a shape: keys that were there, whatever their values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Has {
    pub refresh_keys: bool,
    pub pipeline_keys: bool,
    /// `status` with an `errorCode`, as Graph's sign-ins have it.
    pub status_object: bool,
}

impl Has {
    fn merge(&mut self, other: Self) {
        self.refresh_keys |= other.refresh_keys;
        self.pipeline_keys |= other.pipeline_keys;
        self.status_object |= other.status_object;
    }
}

impl<'a> Fields<'a> {
    /// Reads a JSON object.
    pub fn from_json(json: &'a str) -> serde_json::Result<Self> {
        let mut fields = Self::default();
        let mut json = serde_json::Deserializer::from_str(json);
        Object { fields: &mut fields, place: Place::Top }.deserialize(&mut json)?;
        json.end()?;
        Ok(fields)
    }

    /// Sets a member by the name that a column has in an export.
    pub fn set_column(&mut self, name: &str, value: &'a str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        let mut lower = [0; KEY_BYTES];
        match slot(Place::Top, lowered(name.trim(), &mut lower)) {
            Slot::Ignore | Slot::Messages | Slot::EventTypes => {}
            Slot::Nested(place) => self.nested_text(place, value),
            Slot::Text(text) => *text(self) = Some(Cow::Borrowed(value)),
            Slot::Special(special) => self.set(special, Value::Text(Cow::Borrowed(value))),
        }
    }

    fn set(&mut self, special: Special, value: Value<'a>) {
        match special {
            Special::ResultType => self.result_type = value.into_scalar(),
            Special::ErrorCode => self.error_code = value.into_scalar(),
            Special::StatusErrorCode => {
                self.has.status_object = true;
                self.error_code = value.into_scalar();
            }
            Special::IsInteractive => {
                self.is_interactive = match value {
                    Value::Bool(flag) => Some(flag),
                    Value::Text(text) => text.to_ascii_lowercase().parse().ok(),
                    _ => None,
                };
            }
            Special::ServiceException => {
                self.has.refresh_keys = true;
                if let Value::Text(text) = value
                    && !is_placeholder(&text)
                {
                    let mut inner = Fields::default();
                    inner.read_text(Place::Exception, &text);
                    if let Some(name) = inner.error_name {
                        self.error_name = Some(Cow::Owned(name.into_owned()));
                    }
                    self.service_exception = Some(text);
                }
            }
            Special::ExtendedStatus => {
                self.has.refresh_keys = true;
                self.extended_status = value.into_text();
            }
            Special::RefreshMark => self.has.refresh_keys = true,
            Special::PipelineMark => self.has.pipeline_keys = true,
            Special::OauthError => {
                if let Some(name) = value.into_text().filter(|name| OAUTH_ERRORS.contains(&name.as_ref())) {
                    self.error_name = Some(name);
                }
            }
            Special::ActivityText => {
                if let Value::Text(text) = value {
                    self.activity_text(text);
                }
            }
        }
    }

    fn activity_text(&mut self, text: Cow<'a, str>) {
        if !is_placeholder(&text) {
            self.activity_error = Some(text);
        }
    }

    /// A nested value that came as a string: JSON, or a word.
    fn nested_text(&mut self, place: Place, text: &str) {
        match place {
            Place::Status if !text.trim_start().starts_with('{') => {
                self.status_word = Some(Cow::Owned(text.to_owned()));
            }
            Place::Error => {
                if !self.read_text(place, text) {
                    self.activity_text(Cow::Owned(text.to_owned()));
                }
                if text.starts_with(|c: char| c.is_ascii_lowercase()) {
                    self.set(Special::OauthError, Value::Text(Cow::Owned(text.to_owned())));
                }
            }
            _ => {
                self.read_text(place, text);
            }
        }
    }

    /// Reads JSON in a string; false if it is none, or not to its end.
    fn read_text(&mut self, place: Place, text: &str) -> bool {
        if !text.trim_start().starts_with('{') {
            return false;
        }
        let mut inner = Fields::default();
        let mut json = serde_json::Deserializer::from_str(text);
        // A string that is no JSON after all is text; whatever was read before the fault holds.
        let read = Object { fields: &mut inner, place }.deserialize(&mut json);
        self.merge(inner.into_owned());
        read.is_ok()
    }
}

/// OAuth's error words worth a bounded label (`domain` §2.6).
const OAUTH_ERRORS: &[&str] = &[
    "invalid_request",
    "invalid_grant",
    "unauthorized_client",
    "invalid_client",
    "unsupported_grant_type",
    "invalid_resource",
    "interaction_required",
    "temporarily_unavailable",
    "invalid_scope",
    "access_denied",
    "authorization_pending",
    "insufficient_claims",
];

/// Data Factory writes the word `null` where it has nothing (`domain` §2.5).
fn is_placeholder(text: &str) -> bool {
    matches!(text.trim(), "" | "null" | "{}" | "[]" | "None")
}

/// The object that a key stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Top,
    Properties,
    Status,
    /// `error` of an activity run.
    Error,
    /// The content of `serviceExceptionJson`.
    Exception,
    /// The output of an activity run.
    Output,
}

/// Members that need more than to be kept as text.
#[derive(Clone, Copy, Debug)]
enum Special {
    ResultType,
    ErrorCode,
    StatusErrorCode,
    IsInteractive,
    ServiceException,
    ExtendedStatus,
    RefreshMark,
    PipelineMark,
    OauthError,
    ActivityText,
}

enum Slot {
    Ignore,
    Text(for<'f, 'a> fn(&'f mut Fields<'a>) -> &'f mut Option<Cow<'a, str>>),
    Special(Special),
    Nested(Place),
    Messages,
    EventTypes,
}

/// Longest key that is looked at, in bytes; longer ones are nobody's.
const KEY_BYTES: usize = 40;

fn lowered<'b>(key: &str, buffer: &'b mut [u8; KEY_BYTES]) -> &'b [u8] {
    let Some(lower) = buffer.get_mut(..key.len()) else { return b"" };
    lower.copy_from_slice(key.as_bytes());
    lower.make_ascii_lowercase();
    lower
}

/// What to do with the member `key` (in lower case) of an object.
fn slot(place: Place, key: &[u8]) -> Slot {
    match place {
        Place::Top | Place::Properties => record_slot(place, key),
        Place::Status => match key {
            b"errorcode" => Slot::Special(Special::StatusErrorCode),
            b"failurereason" => Slot::Text(|fields| &mut fields.failure_reason),
            b"additionaldetails" => Slot::Text(|fields| &mut fields.additional_details),
            _ => Slot::Ignore,
        },
        Place::Error => match key {
            b"message" | b"errormessage" => Slot::Special(Special::ActivityText),
            b"errorcode" | b"code" => Slot::Text(|fields| &mut fields.error_name),
            _ => Slot::Ignore,
        },
        Place::Exception => match key {
            b"errorcode" => Slot::Text(|fields| &mut fields.error_name),
            _ => Slot::Ignore,
        },
        Place::Output => match key {
            b"errors" | b"error" => Slot::Nested(Place::Error),
            _ => Slot::Ignore,
        },
    }
}

fn record_slot(place: Place, key: &[u8]) -> Slot {
    use Slot::{Ignore, Nested, Text};
    let special = Slot::Special;
    let top = place == Place::Top;
    match key {
        b"category" if top => Text(|fields| &mut fields.category),
        b"type" if top => Text(|fields| &mut fields.table),
        b"operationname" => Text(|fields| &mut fields.operation_name),
        b"resulttype" if top => special(Special::ResultType),
        b"errorcode" | b"sign-in error code" if top => special(Special::ErrorCode),
        b"resultdescription" if top => Text(|fields| &mut fields.result_description),
        b"failure reason" if top => Text(|fields| &mut fields.failure_reason),
        b"properties" if top => Nested(Place::Properties),
        b"status" => Nested(Place::Status),
        b"aadtenantid" | b"customertenantid" => Text(|fields| &mut fields.entra_tenant_id),
        b"tenantid" if top => Text(|fields| &mut fields.tenant_id),
        b"resourceid" if top => Text(|fields| &mut fields.resource_path),
        b"createddatetime" | b"date (utc)" | b"createddatetime [utc]" => Text(|fields| &mut fields.created),
        b"time" | b"timegenerated" | b"timestamp" | b"timegenerated [utc]" if top => {
            Text(|fields| &mut fields.written)
        }
        b"starttime" | b"start" | b"activityrunstart" | b"runstart" => Text(|fields| &mut fields.start_time),
        b"endtime" | b"end" | b"activityrunend" | b"runend" => Text(|fields| &mut fields.end_time),
        b"appid" | b"application id" | b"applicationid" => Text(|fields| &mut fields.app_id),
        b"appdisplayname" | b"application" => Text(|fields| &mut fields.app_name),
        b"serviceprincipalid" | b"service principal id" => Text(|fields| &mut fields.service_principal_id),
        b"serviceprincipalname" | b"service principal name" => {
            Text(|fields| &mut fields.service_principal_name)
        }
        b"serviceprincipalcredentialkeyid"
        | b"service principal credential key id"
        | b"credential key id" => Text(|fields| &mut fields.credential_key_id),
        b"resourcedisplayname" | b"resource" => Text(|fields| &mut fields.resource_name),
        b"userprincipalname" | b"username" => Text(|fields| &mut fields.user_principal_name),
        b"userid" | b"user id" => Text(|fields| &mut fields.user_id),
        b"isinteractive" => special(Special::IsInteractive),
        b"signineventtypes" => Slot::EventTypes,
        b"authenticationprotocol" | b"authentication protocol" => {
            Text(|fields| &mut fields.authentication_protocol)
        }
        b"correlationid" | b"correlation id" => Text(|fields| &mut fields.correlation_id),
        b"id" => Text(|fields| &mut fields.id),
        b"requestid" | b"request id" => Text(|fields| &mut fields.request_id),
        b"serviceexceptionjson" if top => special(Special::ServiceException),
        b"extendedstatus" if top => special(Special::ExtendedStatus),
        b"refreshtype" | b"refreshattempts" | b"currentrefreshtype" | b"commitmode" | b"numberofattempts"
            if top =>
        {
            special(Special::RefreshMark)
        }
        b"messages" if top => Slot::Messages,
        b"workspaceid" | b"groupid" if top => Text(|fields| &mut fields.workspace_id),
        b"datasetid" if top => Text(|fields| &mut fields.dataset_id),
        b"pipelinename" | b"activityname" | b"activityrunid" | b"pipelinerunid" if top => {
            special(Special::PipelineMark)
        }
        b"error" => Nested(Place::Error),
        b"errormessage" => special(Special::ActivityText),
        b"output" => Nested(Place::Output),
        _ => Ignore,
    }
}

/// Where a key leads; read without keeping the key.
struct KeySeed(Place);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Slot;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Slot, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Slot;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<Slot, E> {
        let mut lower = [0; KEY_BYTES];
        Ok(slot(self.0, lowered(key, &mut lower)))
    }
}

/// Reads an object, a list of objects, or either as a JSON string, into `fields`.
struct Object<'f, 'de> {
    fields: &'f mut Fields<'de>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(slot) = map.next_key_seed(KeySeed(self.place))? {
            match slot {
                Slot::Ignore => {
                    map.next_value::<IgnoredAny>()?;
                }
                Slot::Text(text) => {
                    if let Some(value) = map.next_value_seed(ValueSeed)?.into_text() {
                        *text(self.fields) = Some(value);
                    }
                }
                Slot::Special(special) => {
                    let value = map.next_value_seed(ValueSeed)?;
                    self.fields.set(special, value);
                }
                Slot::Nested(place) => map.next_value_seed(Object { fields: self.fields, place })?,
                Slot::Messages => map.next_value_seed(Messages(self.fields))?,
                Slot::EventTypes => map.next_value_seed(EventTypes(self.fields))?,
            }
        }
        // An error with a name and without a message is an error all the same; one whose members are empty is none.
        if self.place == Place::Error
            && self.fields.error_name.is_some()
            && self.fields.activity_error.is_none()
        {
            self.fields.activity_error = Some(Cow::Borrowed("error"));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Object { fields: self.fields, place: self.place })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.fields.nested_text(self.place, text);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Any value; nested ones are skipped.
enum Value<'a> {
    Null,
    Bool(bool),
    Number(u64),
    Unreadable,
    Text(Cow<'a, str>),
    Nested,
}

impl<'a> Value<'a> {
    fn into_scalar(self) -> Option<Scalar<'a>> {
        match self {
            Self::Null | Self::Nested => None,
            Self::Text(text) if text.trim().is_empty() => None,
            Self::Text(text) => Some(Scalar::Text(text)),
            Self::Number(number) => Some(Scalar::Number(number)),
            Self::Bool(_) | Self::Unreadable => Some(Scalar::Unreadable),
        }
    }

    /// Text that says something; an empty string is the same as a missing one.
    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(flag))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Unreadable)
    }
    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        // Tables that were through a data frame write whole numbers as 50126.0.
        let text = number.to_string();
        Ok(text.parse().map_or(Value::Unreadable, Value::Number))
    }
    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }
}

/// The seed of a value that is only of use as a list; anything else is skipped.
macro_rules! list_seed {
    ($name:ident, |$fields:ident, $item:ident: $item_type:ty| $body:block) => {
        struct $name<'f, 'de>(&'f mut Fields<'de>);

        impl<'de> DeserializeSeed<'de> for $name<'_, 'de> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                let $fields = self.0;
                // A list of another shape must not cost the record: it is read as what it is first.
                let value = serde_json::Value::deserialize(deserializer)?;
                let text = match &value {
                    serde_json::Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
                    _ => value,
                };
                for $item in serde_json::from_value::<Vec<$item_type>>(text).unwrap_or_default() $body
                Ok(())
            }
        }
    };
}

use serde::Deserialize;

/// A message of an enhanced refresh (`domain` §2.2).
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RefreshMessage {
    code: String,
    message: String,
    r#type: String,
}

list_seed!(Messages, |fields, item: RefreshMessage| {
    if item.r#type.eq_ignore_ascii_case("error") {
        let texts = fields.error_messages.get_or_insert_default().to_mut();
        texts.push_str(&item.message);
        texts.push('\n');
        if !item.code.is_empty() {
            fields.error_name = Some(Cow::Owned(item.code));
        }
    }
});

list_seed!(EventTypes, |fields, item: String| {
    fields.event_type.get_or_insert(Cow::Owned(item));
});

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(json: &str) -> Fields<'_> {
        Fields::from_json(json).unwrap()
    }

    #[test]
    fn every_spelling_of_a_key_is_the_same_key() {
        for json in [
            r#"{"resultType":"50126"}"#,
            r#"{"ResultType":"50126"}"#,
            r#"{"resulttype":"50126"}"#,
            r#"{"resultType":1,"RESULTTYPE":"50126"}"#,
        ] {
            assert_eq!(read(json).result_type, Some(Scalar::Text("50126".into())), "{json}");
        }
    }

    #[test]
    fn status_is_read_as_object_string_and_word() {
        for json in [
            r#"{"properties":{"status":{"errorCode":7}}}"#,
            r#"{"Status":"{\"errorCode\":7}"}"#,
            r#"{"properties":"{\"status\":\"{\\\"errorCode\\\":7}\"}"}"#,
        ] {
            assert_eq!(read(json).error_code, Some(Scalar::Number(7)), "{json}");
        }
        assert_eq!(read(r#"{"status":"Failed"}"#).status_word.as_deref(), Some("Failed"));
    }

    #[test]
    fn members_of_odd_types_are_left_out() {
        let fields = read(
            r#"{"resultType":true,"appId":{"x":[1]},"status":[1],"messages":3,"signInEventTypes":{},"time":null}"#,
        );
        assert_eq!(fields.result_type, Some(Scalar::Unreadable));
        assert!(fields.app_id.is_none() && fields.written.is_none());
    }

    #[test]
    fn an_activity_error_is_read_from_string_and_object() {
        for json in [
            r#"{"properties":{"Error":"{\"errorCode\":\"2108\",\"message\":\"boom\"}"}}"#,
            r#"{"error":{"errorCode":"2108","message":"boom"}}"#,
            r#"{"Output":{"errors":[{"Code":1,"Message":"boom"}]}}"#,
        ] {
            assert_eq!(read(json).activity_error.as_deref(), Some("boom"), "{json}");
        }
        assert!(read(r#"{"properties":{"Error":"null"}}"#).activity_error.is_none());
    }
}
