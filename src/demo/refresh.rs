//! Power BI refreshes and pipeline runs (`domain` §2.1, §2.2, §2.5).

use serde_json::{Value, json};

use super::sign_in::JOBS;
use super::writer::{Draft, Moment};
use crate::terms::{Flow, Kind, LogCategory, Outcome};

/// Name that Power BI gives to an OAuth sign-in that it could not repeat.
const WRAPPER: &str = "DMTS_OAuthTokenRefreshFailedError";
const PROCESSING: &str = "ModelRefresh_ShortMessage_ProcessingError";

/// Refreshes that were published before: a history is polled again and again.
#[derive(Debug, Default)]
pub struct Memory {
    last: Option<Value>,
}

const WORKSPACES: [&str; 2] =
    ["77777777-0000-4000-8000-00000000000a", "77777777-0000-4000-8000-00000000000b"];
const DATASETS: [&str; 4] = [
    "dddddddd-0000-4000-8000-000000000001",
    "dddddddd-0000-4000-8000-000000000002",
    "dddddddd-0000-4000-8000-000000000003",
    "dddddddd-0000-4000-8000-000000000004",
];

fn ids(draft: &mut Draft<'_>) -> (&'static str, &'static str) {
    let dataset = draft.random.below(DATASETS.len());
    (WORKSPACES[dataset % WORKSPACES.len()], DATASETS[dataset])
}

fn outcome(draft: &Draft<'_>) -> Outcome {
    if draft.scenario.code.is_some() { Outcome::Failure } else { Outcome::Success }
}

/// Notes a refresh with the scenario's code, and the names of Power BI that its error spells.
fn count(draft: &mut Draft<'_>, names: &[&str]) {
    let outcome = outcome(draft);
    draft.truth.record(LogCategory::Refresh, outcome);
    if outcome == Outcome::Failure {
        let expected = draft.scenario.outcome(Flow::Refresh);
        draft.event(Flow::Refresh, expected);
        let code = draft.code().to_owned();
        draft.truth.mention(&code);
        names.iter().for_each(|name| draft.truth.mention(name));
    }
}

/// The error as Power BI nests it: JSON in a string in JSON in a string in JSON.
fn exception(code: &str, moment: Moment) -> String {
    let text = format!(
        "{code}: The provided grant cannot be used.\r\nTrace ID: 11111111-aaaa-4bbb-8ccc-000000000100\r\nTimestamp: {}",
        moment.format("%Y-%m-%d %H:%M:%SZ")
    );
    let inner = json!({ "error": { "code": WRAPPER, "pbi.error": { "code": WRAPPER, "details": [
        { "code": "DM_ErrorDetailNameCode_UnderlyingErrorMessage", "detail": { "type": 1, "value": text } },
    ], "exceptionCulprit": 1 } } });
    json!({ "errorCode": PROCESSING, "errorDescription": format!("Data source error: {inner} Table: Sales.") }).to_string()
}

fn refresh(draft: &mut Draft<'_>) -> Value {
    let (start, end) = (draft.moment.ago(180), draft.moment.ago(20));
    let failed = outcome(draft) == Outcome::Failure;
    let mut refresh = json!({
        "requestId": draft.random.guid(),
        "id": draft.random.below(1_000_000),
        "refreshType": "Scheduled",
        "startTime": start.format("%Y-%m-%dT%H:%M:%S.153Z"),
        "endTime": end.format("%Y-%m-%dT%H:%M:%S.04Z"),
        "status": if failed { "Failed" } else { "Completed" },
    });
    if failed {
        let error = exception(draft.code(), end);
        refresh["serviceExceptionJson"] = json!(error);
        refresh["refreshAttempts"] = (1..=1 + draft.random.below(3))
            .map(|attempt| json!({ "attemptId": attempt, "type": "Data", "serviceExceptionJson": error }))
            .collect();
    }
    refresh
}

/// The answer of "Get Refresh History": ids come in headers, and what was listed before is listed again.
pub fn history(draft: &mut Draft<'_>, memory: &mut Memory) -> Vec<u8> {
    let (workspace, dataset) = ids(draft);
    draft.headers.push(("workspace-id", workspace.to_owned()));
    draft.headers.push(("dataset-id", dataset.to_owned()));
    let newest = refresh(draft);
    count(draft, &[WRAPPER, PROCESSING]);
    let mut value = vec![newest.clone()];
    if let Some(earlier) = memory.last.replace(newest) {
        draft.truth.duplicate(Kind::Refresh);
        value.push(earlier);
    }
    json!({ "@odata.context": "https://api.example/v1.0/$metadata#refreshes", "value": value })
        .to_string()
        .into_bytes()
}

/// The envelope that names its dataset.
pub fn envelope(draft: &mut Draft<'_>) -> Vec<u8> {
    let (workspace, dataset) = ids(draft);
    let refresh = refresh(draft);
    count(draft, &[WRAPPER, PROCESSING]);
    json!({ "workspaceId": workspace, "datasetId": dataset, "refreshes": [refresh] }).to_string().into_bytes()
}

/// Details of an enhanced refresh: times without a zone, messages of errors and warnings.
pub fn details(draft: &mut Draft<'_>) -> Vec<u8> {
    let failed = outcome(draft) == Outcome::Failure;
    count(draft, &[]);
    let status = if failed { "Failed" } else { "Completed" };
    let mut messages =
        vec![json!({ "code": "0xC1120010", "message": "A column has no data.", "type": "Warning" })];
    if failed {
        let text = format!("The credentials cannot be used. {}: The sign-in was refused.", draft.code());
        messages.push(json!({ "code": "0xC1120014", "message": text, "type": "Error" }));
    }
    json!({
        "startTime": draft.moment.ago(150).format("%Y-%m-%dT%H:%M:%S.517"),
        "endTime": draft.moment.ago(30).format("%Y-%m-%dT%H:%M:%S.04"),
        "type": "Full", "commitMode": "Transactional", "status": status, "extendedStatus": status,
        "currentRefreshType": "Full", "numberOfAttempts": 1, "messages": messages,
    })
    .to_string()
    .into_bytes()
}

/// A failed refresh whose error is a name of Power BI's and no AADSTS code.
pub fn named(draft: &mut Draft<'_>) -> Vec<u8> {
    count(draft, &[]);
    let error = json!({ "errorCode": draft.code() }).to_string();
    let refresh = json!({
        "requestId": draft.random.guid(), "refreshType": "ViaApi", "status": "Failed",
        "endTime": draft.moment.iso(), "serviceExceptionJson": error,
    });
    json!({ "value": [refresh] }).to_string().into_bytes()
}

fn run_outcome(draft: &mut Draft<'_>, log: LogCategory) -> bool {
    let outcome = outcome(draft);
    draft.truth.record(log, outcome);
    if outcome == Outcome::Failure {
        let expected = draft.scenario.outcome(Flow::Pipeline);
        draft.event(Flow::Pipeline, expected);
        let code = draft.code().to_owned();
        draft.truth.mention(&code);
    }
    outcome == Outcome::Failure
}

fn run_error(draft: &Draft<'_>) -> Value {
    let message = format!(
        "Failed to get access token by using service principal. Error Message: {}: Refused.",
        draft.code()
    );
    json!({ "errorCode": "2108", "message": message, "failureType": "UserError", "target": "CopySales" })
}

/// Data Factory's diagnostic log: the error is a JSON string, an absent one the word "null".
pub fn activity_run(draft: &mut Draft<'_>) -> Vec<u8> {
    let failed = run_outcome(draft, LogCategory::ActivityRuns);
    let (word, error) =
        if failed { ("Failed", run_error(draft).to_string()) } else { ("Succeeded", "null".to_owned()) };
    let record = json!({
        "Level": if failed { 2 } else { 4 }, "correlationId": draft.random.guid(), "time": draft.moment.iso(),
        "activityRunId": draft.random.guid(), "category": "ActivityRuns", "operationName": format!("CopySales - {word}"),
        "pipelineName": JOBS[1].1, "activityName": "CopySales", "start": draft.moment.ago(90).iso(), "end": draft.moment.iso(),
        "properties": { "Input": "null", "Error": error },
    });
    json!({ "records": [record] }).to_string().into_bytes()
}

/// A run as Fabric's API lists it: no category, the error an object.
pub fn fabric_run(draft: &mut Draft<'_>) -> Vec<u8> {
    let failed = run_outcome(draft, LogCategory::None);
    let error = if failed { run_error(draft) } else { json!({ "errorCode": "", "message": "" }) };
    json!({ "value": [{
        "pipelineName": "Nightly", "activityName": "Load", "activityRunId": draft.random.guid(),
        "activityRunStart": draft.moment.ago(60).iso(), "activityRunEnd": draft.moment.iso(),
        "status": if failed { "Failed" } else { "Succeeded" }, "error": error,
    }] })
    .to_string()
    .into_bytes()
}
