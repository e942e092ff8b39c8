//! Reads the members of one record that anybody asks for, whatever the shape they come in.
//!
//! camelCase (diagnostic settings), `PascalCase` (Log Analytics), lower case, portal columns; nested or as a JSON string;
//! numbers as strings and the reverse. A member of an unexpected type is left out, never an error: a record must not
//! be lost for a field that nobody needs. Of repeated keys the last wins. Shapes: `domain` §1 and §2.

use std::borrow::Cow;

use serde::Deserialize;

use members::{Fault, Members, Raw, Value};
use slot::{Place, Slot, Special, slot};

mod members;
mod slot;

/// Objects inside lists inside strings that are followed; no writer nests what is asked for so deep.
const DEPTH_MAX: u32 = 16;

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
    /// A column of the portal's exports; empty or `None` where a person or an app signed in.
    managed_identity_type,
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
#[expect(clippy::struct_excessive_bools, reason = "marks that stand side by side, no state")]
pub struct Has {
    pub refresh_keys: bool,
    pub pipeline_keys: bool,
    /// `status` with an `errorCode`, as Graph's sign-ins have it.
    pub status_object: bool,
    /// The header of an export of sign-ins.
    pub sign_in_columns: bool,
}

impl Has {
    fn merge(&mut self, other: Self) {
        self.refresh_keys |= other.refresh_keys;
        self.pipeline_keys |= other.pipeline_keys;
        self.status_object |= other.status_object;
        self.sign_in_columns |= other.sign_in_columns;
    }
}

impl<'a> Fields<'a> {
    /// Reads a JSON object.
    pub fn from_json(json: &'a str) -> Result<Self, Fault> {
        let mut fields = Self::default();
        fields.read(Place::Top, Raw::first_of(json)?, DEPTH_MAX)?;
        Ok(fields)
    }

    /// Reads an object, a list of objects, or either as a JSON string.
    fn read(&mut self, place: Place, raw: Raw<'a>, depth: u32) -> Result<(), Fault> {
        match raw.read()? {
            _ if depth == 0 => {}
            Value::Object(mut members) => self.members(place, &mut members, depth - 1)?,
            Value::Array(mut elements) => {
                while let Some(element) = elements.next()? {
                    self.read(place, element, depth - 1)?;
                }
            }
            Value::Text(text) => self.nested_text(place, &text, depth - 1),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Unreadable => {}
        }
        Ok(())
    }

    fn members(&mut self, place: Place, members: &mut Members<'a>, depth: u32) -> Result<(), Fault> {
        while let Some(key) = members.next_key()? {
            let slot = slot(place, &key);
            if let Slot::Nested(place) = slot
                && depth > 0
                && let Some(mut inner) = members.enter()
            {
                self.members(place, &mut inner, depth - 1)?;
                members.leave(&inner);
                continue;
            }
            let raw = members.value()?;
            match slot {
                Slot::Ignore => {}
                Slot::Text(text) => {
                    if let Some(value) = into_text(raw.read()?) {
                        *text(self) = Some(value);
                    }
                }
                Slot::Special(special) => self.set(special, raw.read()?),
                Slot::Nested(place) => self.read(place, raw, depth)?,
                Slot::Messages => list(raw, |message| self.message(message)),
                Slot::EventTypes => list(raw, |event_type: String| {
                    self.event_type.get_or_insert(Cow::Owned(event_type));
                }),
            }
        }
        // An error with a name and without a message is an error all the same; one whose members are empty is none.
        if place == Place::Error && self.error_name.is_some() && self.activity_error.is_none() {
            self.activity_error = Some(Cow::Borrowed("error"));
        }
        Ok(())
    }

    fn message(&mut self, message: RefreshMessage) {
        if !message.r#type.eq_ignore_ascii_case("error") {
            return;
        }
        let texts = self.error_messages.get_or_insert_default().to_mut();
        texts.push_str(&message.message);
        texts.push('\n');
        if !message.code.is_empty() {
            self.error_name = Some(Cow::Owned(message.code));
        }
    }

    /// Sets a member by the name that a column has in an export.
    pub fn set_column(&mut self, name: &str, value: &'a str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        match slot(Place::Top, name.trim()) {
            Slot::Ignore | Slot::Messages | Slot::EventTypes => {}
            Slot::Nested(place) => self.nested_text(place, value, DEPTH_MAX),
            Slot::Text(text) => *text(self) = Some(Cow::Borrowed(value)),
            Slot::Special(special) => self.set(special, Value::Text(Cow::Borrowed(value))),
        }
    }

    fn set(&mut self, special: Special, value: Value<'a>) {
        match special {
            Special::ResultType => self.result_type = into_scalar(value),
            Special::ErrorCode => self.error_code = into_scalar(value),
            Special::StatusErrorCode => {
                self.has.status_object = true;
                self.error_code = into_scalar(value);
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
                    inner.read_text(Place::Exception, &text, DEPTH_MAX);
                    if let Some(name) = inner.error_name {
                        self.error_name = Some(Cow::Owned(name.into_owned()));
                    }
                    self.service_exception = Some(text);
                }
            }
            Special::ExtendedStatus => {
                self.has.refresh_keys = true;
                self.extended_status = into_text(value);
            }
            Special::RefreshMark => self.has.refresh_keys = true,
            Special::PipelineMark => self.has.pipeline_keys = true,
            Special::OauthError => {
                if let Some(name) = into_text(value).filter(|name| OAUTH_ERRORS.contains(&name.as_ref())) {
                    self.error_name = Some(name);
                }
            }
            Special::ErrorName => {
                if let Some(name) = into_text(value).filter(|name| !is_placeholder(name)) {
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
    fn nested_text(&mut self, place: Place, text: &str, depth: u32) {
        match place {
            Place::Status if !text.trim_start().starts_with('{') => {
                self.status_word = Some(Cow::Owned(text.to_owned()));
            }
            Place::Error => {
                if !self.read_text(place, text, depth) {
                    self.activity_text(Cow::Owned(text.to_owned()));
                }
                if text.starts_with(|c: char| c.is_ascii_lowercase()) {
                    self.set(Special::OauthError, Value::Text(Cow::Owned(text.to_owned())));
                }
            }
            _ => {
                self.read_text(place, text, depth);
            }
        }
    }

    /// Reads JSON in a string; false if it is none, or not to its end.
    fn read_text(&mut self, place: Place, text: &str, depth: u32) -> bool {
        if !text.trim_start().starts_with('{') {
            return false;
        }
        let mut inner = Fields::default();
        // A string that is no JSON after all is text; whatever was read before the fault holds.
        let read = Raw::first_of(text).and_then(|raw| inner.read(place, raw, depth));
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

fn into_scalar(value: Value<'_>) -> Option<Scalar<'_>> {
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::Text(text) if text.trim().is_empty() => None,
        Value::Text(text) => Some(Scalar::Text(text)),
        Value::Number(number) => Some(Scalar::Number(number)),
        Value::Bool(_) | Value::Unreadable => Some(Scalar::Unreadable),
    }
}

/// Text that says something; an empty string is the same as a missing one.
fn into_text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// A message of an enhanced refresh (`domain` §2.2).
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RefreshMessage {
    code: String,
    message: String,
    r#type: String,
}

/// The items of a list, or of a list as a JSON string. A list of another shape must not cost the record.
fn list<T: for<'t> Deserialize<'t>>(raw: Raw<'_>, each: impl FnMut(T)) {
    let text = match raw.read() {
        Ok(Value::Text(text)) => text,
        _ => Cow::Borrowed(raw.as_str()),
    };
    serde_json::from_str::<Vec<T>>(&text).unwrap_or_default().into_iter().for_each(each);
}

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
        for json in [
            r#"{"properties":{"Error":"null"}}"#,
            r#"{"properties":{"Error":"{\"errorCode\":\"null\",\"message\":\"null\",\"target\":\"Copy\"}"}}"#,
            r#"{"error":{"errorCode":"","message":"","failureType":""}}"#,
        ] {
            assert!(read(json).activity_error.is_none(), "{json}");
        }
    }
}
