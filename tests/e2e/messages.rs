//! Messages in the shapes that arrive, each with a known truth.

use serde_json::{Value, json};

use crate::support::{Message, now_ms};

const TENANT: &str = "8b2c1f1e-0c7e-4a55-9d7f-2f7f5e1c0a11";
pub const APP: &str = "5f0d3f4a-6c1b-4f0e-8a55-1b7c2d9e3f40";

pub const DATASET: &str = "cfafbeb1-8037-4d0c-896e-a46fb27ff229";

/// The `{"records":[…]}` batch of diagnostic settings.
pub fn batch(records: &[Value]) -> Message {
    Message::new(json!({ "records": records }).to_string())
}

/// One sign-in of the camelCase shape; `code` 0 is a success.
pub fn sign_in(category: &str, code: u32) -> Value {
    sign_in_at(now_ms(), category, APP, code)
}

pub fn sign_in_at(time_ms: i64, category: &str, app: &str, code: u32) -> Value {
    let time = rfc3339(time_ms);
    json!({
        "time": time,
        "resourceId": format!("/tenants/{TENANT}/providers/Microsoft.aadiam"),
        "operationName": "Sign-in activity",
        "category": category,
        "tenantId": TENANT,
        "resultType": code.to_string(),
        "correlationId": "0f4e5a70-7d34-4cf2-9f0a-0d8f0f9a1c77",
        "properties": {
            "id": format!("{:032x}", u128::from(next())),
            "createdDateTime": time,
            "appId": app,
            "status": { "errorCode": code },
        },
    })
}

/// A failed refresh of the history API, wrapped with its dataset; the code stands three layers of JSON deep.
pub fn refresh(code: u32) -> Message {
    refresh_at(now_ms(), DATASET, code)
}

pub fn refresh_at(ended: i64, dataset: &str, code: u32) -> Message {
    let underlying = format!(
        "AADSTS{code}: The provided grant has expired.\r\nTrace ID: 1\r\nTimestamp: 2026-11-24 05:06:04Z"
    );
    let data_source = json!({ "error": { "code": "DMTS_OAuthTokenRefreshFailedError", "pbi.error": {
        "code": "DMTS_OAuthTokenRefreshFailedError",
        "details": [{ "code": "DM_ErrorDetailNameCode_UnderlyingErrorMessage", "detail": { "type": 1, "value": underlying } }],
    } } });
    let exception = json!({
        "errorCode": "ModelRefresh_ShortMessage_ProcessingError",
        "errorDescription": format!("Data source error: {data_source} Table: Sales."),
    });
    let id = next();
    let request = format!("00000000-0000-4000-8000-{id:012x}");
    let body = json!({
        "workspaceId": "3d2c6c5e-2a61-4a0c-a1d5-7b8f2e9d0c11",
        "datasetId": dataset,
        "refreshes": [{
            "requestId": request,
            "id": id,
            "refreshType": "Scheduled",
            "startTime": rfc3339(ended - 60_000),
            "endTime": rfc3339(ended),
            "status": "Failed",
            "serviceExceptionJson": exception.to_string(),
            "refreshAttempts": [
                { "attemptId": 1, "type": "Data", "serviceExceptionJson": exception.to_string() },
                { "attemptId": 2, "type": "Data", "serviceExceptionJson": exception.to_string() },
            ],
        }],
    });
    Message::new(body.to_string())
}

/// A failed activity run of Data Factory: ADF's own number beside the code in the text.
pub fn activity_run(code: u32) -> Value {
    let error = json!({
        "errorCode": "2108",
        "message": format!("Failed to get access token: AADSTS{code}: Invalid client secret provided."),
        "failureType": "UserError",
        "target": "LoadSales",
    });
    json!({
        "time": rfc3339(now_ms()),
        "category": "ActivityRuns",
        "operationName": "LoadSales - Failed",
        "status": "Failed",
        "activityRunId": format!("{:032x}", u128::from(next())),
        "pipelineName": "Nightly",
        "activityName": "LoadSales",
        "properties": { "Error": error.to_string() },
    })
}

/// A line of a client's log.
pub fn text(code: u32) -> Message {
    Message::new(format!(
        "2026-11-24 05:00:01 ERROR MsalServiceException: AADSTS{code}: something is wrong. Trace ID: 1"
    ))
}

/// A message with one failed user sign-in.
pub fn failure(code: u32) -> Message {
    batch(&[sign_in("SignInLogs", code)])
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).expect("a time of today").to_string()
}

fn next() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
