//! Runs of pipelines and their activities (`domain` §2.5): Data Factory's diagnostic logs, and what Fabric's API lists.

use super::framing::frame;
use super::json::{Object, list};
use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome};

const PIPELINE: &str = "Nightly sales";

/// How a run of the story ends; some go well in any story.
fn fails(draft: &mut Draft<'_>) -> bool {
    draft.code.is_some() && draft.random.percent(75)
}

fn count(draft: &mut Draft<'_>, log: LogCategory, failed: bool) {
    draft.truth.record(log, if failed { Outcome::Failure } else { Outcome::Success });
    if failed {
        draft.event(Flow::Pipeline);
    }
}

/// Data Factory's error; its `errorCode` is a number of its own.
fn error(draft: &mut Draft<'_>) -> String {
    let message = format!(
        "Failed to get access token by using service principal. Error: invalid_client, Error Message: {}: refused.{}",
        draft.code(),
        draft.trailer("\r\n")
    );
    let mut error = Object::camel();
    error.text("errorCode", "2108").text("message", message).text("failureType", "UserError");
    error.text("target", "CopySales").end()
}

fn diagnostic(draft: &mut Draft<'_>, category: &str, name: &str, word: &str) -> Object {
    let mut record = Object::camel();
    record.json("Level", if word == "Failed" { 2 } else { 4 }).text("correlationId", draft.random.guid());
    record.text("time", draft.moment.iso()).text("category", category).text("level", "Informational");
    record.text("resourceId", "/SUBSCRIPTIONS/0/PROVIDERS/MICROSOFT.DATAFACTORY/FACTORIES/NIGHTLY");
    record.text("operationName", format!("{name} - {word}")).text("pipelineName", PIPELINE);
    record.text("pipelineRunId", draft.random.guid()).text("location", "westeurope");
    record.text("start", draft.moment.ago(90).iso()).text("end", draft.moment.iso());
    record
}

/// Activity runs: the error is a JSON string, an absent one the word "null".
pub fn activity_run(draft: &mut Draft<'_>) -> Vec<u8> {
    let records: Vec<String> = (0..=draft.random.below(6))
        .map(|_| {
            let (word, failure) = if draft.random.percent(10) {
                draft.truth.record(LogCategory::ActivityRuns, Outcome::Undetermined);
                (*draft.random.pick(&["InProgress", "Queued"]), "null".to_owned())
            } else {
                let failed = fails(draft);
                count(draft, LogCategory::ActivityRuns, failed);
                if failed { ("Failed", error(draft)) } else { ("Succeeded", "null".to_owned()) }
            };
            let mut record = diagnostic(draft, "ActivityRuns", "CopySales", word);
            record.text("activityName", "CopySales").text("activityRunId", draft.random.guid());
            let mut properties = Object::camel();
            properties.text("Input", "null").text("Output", "null").text("Error", failure);
            record.json("properties", properties.end()).end()
        })
        .collect();
    frame(&records, draft.random)
}

/// Pipeline runs: they fail with their activities and say no code.
pub fn pipeline_run(draft: &mut Draft<'_>) -> Vec<u8> {
    let failed = fails(draft);
    let (word, outcome) = if failed { ("Failed", Outcome::Failure) } else { ("Succeeded", Outcome::Success) };
    draft.truth.record(LogCategory::PipelineRuns, outcome);
    if failed {
        draft.event_without_code(Flow::Pipeline);
    }
    let mut record = diagnostic(draft, "PipelineRuns", PIPELINE, word);
    record.text("status", word).json("properties", r#"{"Parameters":{},"SystemParameters":{}}"#);
    frame(&[record.end()], draft.random)
}

pub fn trigger_run(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.record(LogCategory::TriggerRuns, Outcome::Success);
    let mut record = diagnostic(draft, "TriggerRuns", "Every night", "Succeeded");
    record.text("triggerName", "Every night").text("status", "Succeeded");
    frame(&[record.end()], draft.random)
}

fn run(draft: &mut Draft<'_>, status: &str) -> Object {
    let mut run = Object::camel();
    run.text("pipelineName", PIPELINE)
        .text("activityName", "Load")
        .text("activityRunId", draft.random.guid());
    run.text("activityRunStart", draft.moment.ago(60).iso()).text("activityRunEnd", draft.moment.iso());
    run.text("activityType", "Copy").text("status", status);
    run
}

/// Activity runs as Fabric's API lists them: no category, the error an object, an empty one where nothing failed.
pub fn fabric_run(draft: &mut Draft<'_>) -> Vec<u8> {
    let runs: Vec<String> = (0..=draft.random.below(4))
        .map(|_| {
            let failed = fails(draft);
            count(draft, LogCategory::None, failed);
            let nothing = r#"{"errorCode":"","message":"","failureType":"","target":"Load"}"#;
            let error = if failed { error(draft) } else { nothing.to_owned() };
            run(draft, if failed { "Failed" } else { "Succeeded" }).json("error", error).end()
        })
        .collect();
    Object::camel().json("value", list(&runs)).end().into_bytes()
}

/// A run that is called succeeded although something in it failed.
pub fn inner_error(draft: &mut Draft<'_>) -> Vec<u8> {
    count(draft, LogCategory::None, true);
    let error = error(draft);
    let output = format!(r#"{{"status":"Completed","errors":[{error}]}}"#);
    let run = run(draft, "Succeeded").json("output", output).end();
    Object::camel().json("value", list(&[run])).end().into_bytes()
}
