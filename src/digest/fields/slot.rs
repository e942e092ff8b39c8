//! Which members of a record anybody asks for, by the object they stand in and their key.

use std::borrow::Cow;

use super::Fields;

/// The object that a key stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
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
pub enum Special {
    ResultType,
    ErrorCode,
    StatusErrorCode,
    IsInteractive,
    ServiceException,
    ExtendedStatus,
    RefreshMark,
    PipelineMark,
    OauthError,
    ErrorName,
    ActivityText,
}

pub enum Slot {
    Ignore,
    Text(for<'f, 'a> fn(&'f mut Fields<'a>) -> &'f mut Option<Cow<'a, str>>),
    Special(Special),
    Nested(Place),
    Messages,
    EventTypes,
}

/// Longest key that is looked at, in bytes; longer ones are nobody's.
const KEY_BYTES: usize = 40;

/// What to do with the member `key` of an object; the letter case does not matter.
pub fn slot(place: Place, key: &str) -> Slot {
    let mut lower = [0; KEY_BYTES];
    let Some(lower) = lower.get_mut(..key.len()) else { return Slot::Ignore };
    lower.copy_from_slice(key.as_bytes());
    lower.make_ascii_lowercase();
    let key = &*lower;
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
            b"errorcode" | b"code" => Slot::Special(Special::ErrorName),
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
        b"serviceprincipalid" | b"service principal id" | b"managed identity id" => {
            Text(|fields| &mut fields.service_principal_id)
        }
        b"serviceprincipalname" | b"service principal name" | b"managed identity name" => {
            Text(|fields| &mut fields.service_principal_name)
        }
        b"managed identity type" => Text(|fields| &mut fields.managed_identity_type),
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
