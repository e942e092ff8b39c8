//! Records that are no sign-ins, refreshes or runs, but come in the same streams (`domain` §1.2, §1.3, §2.3).

use super::framing::frame;
use super::json::{Object, quoted};
use super::sign_in::TENANT;
use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome};

/// Directory changes: `resultType` is a word or nothing, `result` a word or a number.
pub fn audit(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::Audit, Outcome::Other);
    let mut record = Object::camel();
    record.text("time", draft.moment.iso()).text("category", "AuditLogs").text("tenantId", TENANT);
    record.text("operationName", "Update application – Certificates and secrets management ");
    record.text("resultType", draft.random.pick(&["Update", ""])).text("resultSignature", "None");
    record.json("identity", r#"{"claims":{"name":"Directory Writer"}}"#);
    let job = draft.random.pick(&draft.stories.job);
    let result = draft.random.pick(&["\"success\"", "\"failure\"", "0"]);
    let keys = quoted("[\"[KeyIdentifier=88888888-0000-4000-8000-0000000000b1,KeyType=Password]\"]");
    let target = format!(
        r#"[{{"id":"{}","displayName":{},"modifiedProperties":[{{"displayName":"KeyDescription","oldValue":"[]","newValue":{keys}}}]}}]"#,
        job.id,
        quoted(&job.name)
    );
    let mut properties = Object::camel();
    properties.text("activityDisplayName", "Update application").json("result", result);
    properties.text("resultReason", "").json("targetResources", target);
    let record = record.json("properties", properties.end()).end();
    frame(&[record], draft.random)
}

/// Requests to Graph: numbers that look like codes, the tenant in capitals.
pub fn graph_activity(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::Other, Outcome::Other);
    let status = *draft.random.pick(&["200", "404", &draft.stories.bait]);
    let mut record = Object::camel();
    record.text("time", draft.moment.iso()).text("category", "MicrosoftGraphActivityLogs");
    let path = format!("/tenants/{TENANT}/providers/Microsoft.aadiam").to_ascii_uppercase();
    record.text("resourceId", path).text("operationName", "Microsoft Graph Activity");
    record.text("resultSignature", status).json("resultType", status).json("durationMs", 404_104);
    let mut properties = Object::camel();
    properties.json("responseStatusCode", status).text("requestUri", "https://graph.microsoft.com/v1.0/me");
    properties.text("appId", &draft.stories.app[0].id).text("signInActivityId", draft.random.token(22));
    let record = record.json("properties", properties.end()).end();
    frame(&[record], draft.random)
}

/// Provisioning logs; their text may spell the code of the story.
pub fn provisioning(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::Other, Outcome::Other);
    draft.event(Flow::Text);
    let reason = format!("Cannot reach the application: {}: the request was refused.", draft.code());
    let mut record = Object::camel();
    record.text("time", draft.moment.iso()).text("category", "ProvisioningLogs").text("tenantId", TENANT);
    record.text("operationName", "Provisioning activity").text("resultType", "Failure");
    let status = format!(r#"{{"statusInfo":{{"status":"failure","reason":{}}}}}"#, quoted(&reason));
    let record = record.json("properties", status).end();
    frame(&[record], draft.random)
}

/// Logs of other categories.
pub fn risk(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::Other, Outcome::Other);
    let category = draft.random.pick(&["RiskyUsers", "UserRiskEvents", "NetworkAccessTrafficLogs"]);
    let mut record = Object::camel();
    record.text("time", draft.moment.iso()).text("category", category).text("tenantId", TENANT);
    let risk = r#"{"riskLevel":"medium","riskState":"atRisk","userPrincipalName":"x@contoso.example"}"#;
    let record = record.json("properties", risk).end();
    frame(&[record], draft.random)
}

/// Nothing happened.
pub fn empty_batch(_: &mut Draft<'_>) -> Vec<u8> {
    b"{\"records\":[]}".to_vec()
}

/// An event of Power BI's activity log; it says who started a refresh, not how it ended.
pub fn activity_event(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::None, Outcome::Other);
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    let mut event = Object::camel();
    event.text("Id", draft.random.guid()).text("CreationTime", draft.moment.format("%Y-%m-%dT%H:%M:%S"));
    event.text("Operation", "RefreshDataset").text("OrganizationId", TENANT);
    event.text("Activity", "RefreshDataset").text("Workload", "PowerBI");
    event.text("UserId", "grady.archer1@contoso.example").text("ClientIP", "192.0.2.9");
    event.text("DatasetName", &dataset.name).text("WorkspaceId", &dataset.workspace_id).end().into_bytes()
}

/// The engine's log in Log Analytics; `StatusCode` is the engine's.
pub fn dataset_log(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::None, Outcome::Other);
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    let mut row = Object::camel();
    row.text("TimeGenerated", draft.moment.iso()).text("ArtifactId", &dataset.id);
    row.text("ArtifactName", &dataset.name).text("PowerBIWorkspaceId", &dataset.workspace_id);
    row.text("OperationName", "CommandEnd").text("OperationDetailName", "Refresh");
    row.text("EventText", "<Refresh><Type>Full</Type></Refresh>").text("Status", "Succeeded");
    row.text("StatusCode", "0").json("DurationMs", &draft.stories.bait).text("CustomerTenantId", TENANT);
    let row = row.text("Level", "Informational").text("Type", "PowerBIDatasetsWorkspace").end();
    frame(&[row], draft.random)
}
