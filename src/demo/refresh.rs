//! Power BI refreshes (`domain` §2.1, §2.2): the history, which is a snapshot that is polled again and again, and the
//! details of enhanced refreshes.

use std::collections::{BTreeMap, VecDeque};

use super::json::{Object, list, quoted};
use super::scenario::Dataset;
use super::writer::{Draft, Moment};
use crate::terms::{Flow, Kind, LogCategory, Outcome};

/// Name that Power BI gives to an OAuth sign-in that it could not repeat.
const WRAPPER: &str = "DMTS_OAuthTokenRefreshFailedError";
const PROCESSING: &str = "ModelRefresh_ShortMessage_ProcessingError";

/// Refreshes that a history lists; Power BI keeps 60.
const LISTED: usize = 5;

/// What was published before, by dataset.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<String, History>);

#[derive(Debug, Default)]
struct History {
    /// The newest first, as they were written.
    listed: VecDeque<String>,
    /// Request and start of one that was still running.
    running: Option<(String, Moment)>,
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Running,
    Completed,
    /// Completed, after an attempt that failed.
    Retried,
    /// Called completed although it carries an error.
    CompletedWithError,
    Failed,
}

/// How a refresh of the story ends; some go well in any story.
fn end(draft: &mut Draft<'_>) -> End {
    if draft.code.is_none() || draft.random.percent(25) {
        End::Completed
    } else if draft.random.percent(5) {
        End::CompletedWithError
    } else {
        End::Failed
    }
}

/// Notes one refresh, and the names of Power BI that its error spells.
fn count(draft: &mut Draft<'_>, end: End, names: &[&str]) {
    let outcome = match end {
        End::Running => Outcome::Undetermined,
        End::Completed | End::Retried => Outcome::Success,
        End::CompletedWithError | End::Failed => Outcome::Failure,
    };
    draft.truth.record(LogCategory::Refresh, outcome);
    match end {
        End::Running | End::Completed => return,
        End::Retried => draft.truth.mention(draft.code()),
        End::CompletedWithError | End::Failed => draft.event(Flow::Refresh),
    }
    names.iter().for_each(|name| draft.truth.mention(name));
}

/// The error as Power BI nests it: JSON in a string in JSON in a string in JSON.
fn exception(draft: &mut Draft<'_>, dataset: &Dataset) -> String {
    let reason = draft.scenario.reasons.first().map_or("The sign-in was refused.", String::as_str);
    let text = format!("{}: {reason}{}", draft.code(), draft.trailer("\r\n"));
    let inner = format!(
        r#"{{"error":{{"code":"{WRAPPER}","pbi.error":{{"code":"{WRAPPER}","parameters":{{}},"details":[{{"code":"DM_ErrorDetailNameCode_UnderlyingErrorMessage","detail":{{"type":1,"value":{}}}}}],"exceptionCulprit":1}}}}}}"#,
        quoted(&text)
    );
    let description = format!(
        "Data source error: {inner} Table: {}. Cluster URI: WABI-WEST-EUROPE-redirect.analysis.windows.net Activity ID: {}",
        dataset.name,
        draft.random.guid()
    );
    Object::camel().text("errorCode", PROCESSING).text("errorDescription", description).end()
}

fn attempts(draft: &mut Draft<'_>, error: &str, count: usize) -> String {
    let attempts: Vec<String> = (1..=count)
        .map(|number| {
            let mut attempt = Object::camel();
            attempt.json("attemptId", number).text("startTime", draft.moment.ago(150 / number).iso());
            attempt.text("endTime", draft.moment.ago(140 / number).iso());
            attempt.text("type", draft.random.pick(&["Data", "Query"]));
            attempt.text("serviceExceptionJson", error).end()
        })
        .collect();
    list(&attempts)
}

/// One refresh as the history lists it.
fn refresh(draft: &mut Draft<'_>, dataset: &Dataset, request: &str, start: Moment, end: End) -> String {
    let mut refresh = Object::camel();
    // Some publishers keep only the number, which is unique within the dataset.
    if request.contains('-') {
        refresh.text("requestId", request);
    }
    refresh.json("id", number(request));
    refresh.text("refreshType", draft.random.pick(&["Scheduled", "OnDemand", "ViaApi", "ViaXmlaEndpoint"]));
    refresh.text("startTime", start.format("%Y-%m-%dT%H:%M:%S.153Z"));
    if end != End::Running {
        refresh.text("endTime", draft.moment.ago(5).format("%Y-%m-%dT%H:%M:%S.04Z"));
    }
    let status = match end {
        End::Running => "Unknown",
        End::Completed | End::Retried | End::CompletedWithError => "Completed",
        End::Failed => "Failed",
    };
    refresh.text("status", status);
    if matches!(end, End::Failed | End::CompletedWithError | End::Retried) {
        let error = exception(draft, dataset);
        if end != End::Retried {
            refresh.text("serviceExceptionJson", &error);
        }
        let count = if end == End::Retried { 1 } else { 1 + draft.random.below(3) };
        refresh.json("refreshAttempts", attempts(draft, &error, count));
    }
    refresh.end()
}

/// A number that belongs to the request.
fn number(request: &str) -> u64 {
    request.bytes().fold(0, |number, byte| (number * 31 + u64::from(byte)) % 1_000_000_007)
}

/// The id of a new request; without its hyphens where the publisher drops it.
fn new_request(draft: &mut Draft<'_>) -> String {
    let guid = draft.random.guid();
    if draft.random.percent(15) { guid.replace('-', "") } else { guid }
}

/// Sends ids in headers, for a body that does not say where it comes from.
fn announce(draft: &mut Draft<'_>, dataset: &Dataset) {
    draft.headers.push(("workspace-id", dataset.workspace_id.clone()));
    draft.headers.push(("dataset-id", dataset.id.clone()));
    draft.key = Some(dataset.id.clone().into_bytes());
}

/// The answer of "Get Refresh History": what was listed before is listed again.
pub fn history(draft: &mut Draft<'_>) -> Vec<u8> {
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    announce(draft, dataset);
    let mut history = draft.memory.0.remove(&dataset.id).unwrap_or_default();
    history.listed.iter().for_each(|_| draft.truth.duplicate(Kind::Refresh));
    // A refresh that ran at the last poll has ended now; sometimes the newest still runs.
    let running = history.running.take();
    let is_running = running.is_none() && draft.random.percent(25);
    let (request, start) = running.unwrap_or_else(|| (new_request(draft), draft.moment.ago(180)));
    let end = if is_running { End::Running } else { end(draft) };
    let newest = refresh(draft, dataset, &request, start, end);
    count(draft, end, &[WRAPPER, PROCESSING]);
    let value: Vec<String> = std::iter::once(&newest).chain(&history.listed).cloned().collect();
    if is_running {
        history.running = Some((request, start));
    } else {
        history.listed.push_front(newest);
        history.listed.truncate(LISTED);
    }
    draft.memory.0.insert(dataset.id.clone(), history);
    answer(&value)
}

fn answer(value: &[String]) -> Vec<u8> {
    let mut answer = Object::camel();
    answer.text("@odata.context", "http://api.powerbi.com/v1.0/myorg/groups/$metadata#refreshes");
    answer.json("value", list(value)).end().into_bytes()
}

/// The envelope that names its dataset, before the refreshes or behind them.
pub fn envelope(draft: &mut Draft<'_>) -> Vec<u8> {
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    draft.key = Some(dataset.id.clone().into_bytes());
    let (request, start, end) = (new_request(draft), draft.moment.ago(90), end(draft));
    let refresh = refresh(draft, dataset, &request, start, end);
    count(draft, end, &[WRAPPER, PROCESSING]);
    let is_behind = draft.random.percent(50);
    let mut envelope = Object::camel();
    if is_behind {
        envelope.json("refreshes", list(&[&refresh]));
    }
    envelope.text("workspaceId", &dataset.workspace_id).text("datasetId", &dataset.id);
    if !is_behind {
        envelope.json("refreshes", list(&[&refresh]));
    }
    envelope.end().into_bytes()
}

/// One refresh a line, each with the ids of its dataset.
pub fn lines(draft: &mut Draft<'_>) -> Vec<u8> {
    let lines: String = (0..=draft.random.below(4))
        .map(|_| {
            let dataset = draft.stories.dataset(draft.scenario, draft.random);
            let (request, start, end) = (draft.random.guid(), draft.moment.ago(90), end(draft));
            let refresh = refresh(draft, dataset, &request, start, end);
            count(draft, end, &[WRAPPER, PROCESSING]);
            let ids =
                format!("{{\"workspaceId\":\"{}\",\"datasetId\":\"{}\",", dataset.workspace_id, dataset.id);
            refresh.replacen('{', &ids, 1) + "\n"
        })
        .collect();
    lines.into_bytes()
}

/// A refresh that succeeded at its second attempt: the code of the first is only mentioned.
pub fn retried(draft: &mut Draft<'_>) -> Vec<u8> {
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    announce(draft, dataset);
    let (request, start) = (draft.random.guid(), draft.moment.ago(200));
    let refresh = refresh(draft, dataset, &request, start, End::Retried);
    count(draft, End::Retried, &[WRAPPER, PROCESSING]);
    answer(&[refresh])
}

/// Details of an enhanced refresh: times without a zone, messages of errors and warnings.
pub fn details(draft: &mut Draft<'_>) -> Vec<u8> {
    let end = end(draft);
    count(draft, end, &[]);
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    announce(draft, dataset);
    let message = |code: &str, text: &str, kind: &str| {
        Object::camel().text("code", code).text("message", text).text("type", kind).end()
    };
    let mut messages = vec![message("0xC11C0020", "A column of the table has no data.", "Warning")];
    if end != End::Completed {
        let trailer = draft.trailer(" ");
        let text = format!("The credentials cannot be used. {}: refused.{trailer}", draft.code());
        messages.push(message("0xC112001C", &text, "Error"));
    }
    let extended = match end {
        End::Failed => *draft.random.pick(&["Failed", "TimedOut"]),
        _ => "Completed",
    };
    let mut details = Object::camel();
    details.text("startTime", draft.moment.ago(150).format("%Y-%m-%dT%H:%M:%S.517"));
    details.text("endTime", draft.moment.ago(30).format("%Y-%m-%dT%H:%M:%S.04")).text("type", "Full");
    details
        .text("commitMode", "Transactional")
        .text("status", if end == End::Failed { "Failed" } else { extended });
    details.text("extendedStatus", extended).text("currentRefreshType", "Full").json("numberOfAttempts", 1);
    let objects =
        format!(r#"[{{"table":{},"partition":"2026","status":"{extended}"}}]"#, quoted(&dataset.name));
    details.json("objects", objects).json("messages", list(&messages));
    details.json("refreshAttempts", "[]").end().into_bytes()
}

/// A failed refresh whose error is a name of Power BI's, or nothing, and no AADSTS code.
pub fn named(draft: &mut Draft<'_>) -> Vec<u8> {
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    let mut refresh = Object::camel();
    refresh.text("requestId", draft.random.guid()).text("refreshType", "ViaApi");
    refresh.text("startTime", draft.moment.ago(60).iso()).text("endTime", draft.moment.iso());
    refresh.text("status", "Failed");
    if draft.random.percent(20) {
        // Nothing but the status.
        draft.truth.record(LogCategory::Refresh, Outcome::Failure);
        draft.event_without_code(Flow::Refresh);
    } else {
        count(draft, End::Failed, &[]);
        refresh.text("serviceExceptionJson", Object::camel().text("errorCode", draft.code()).end());
    }
    refresh.text("workspaceId", &dataset.workspace_id).text("datasetId", &dataset.id);
    answer(&[refresh.end()])
}

/// Refreshes that ended in none of the usual ways.
pub fn odd_states(draft: &mut Draft<'_>) -> Vec<u8> {
    let states = ["Cancelled", "Disabled", "Unknown", "NotStarted", "InProgress"];
    let refreshes: Vec<String> = (0..=draft.random.below(3))
        .map(|_| {
            count(draft, End::Running, &[]);
            let mut refresh = Object::camel();
            refresh.text("requestId", draft.random.guid()).text("refreshType", "ViaEnhancedApi");
            refresh.text("startTime", draft.moment.ago(600).iso());
            refresh.text("endTime", draft.moment.ago(60).iso());
            refresh.text("status", draft.random.pick(&states)).end()
        })
        .collect();
    answer(&refreshes)
}

/// A first poll lists failures of last month; they must raise no alarm.
pub fn last_month(draft: &mut Draft<'_>) -> Vec<u8> {
    let now = draft.moment;
    draft.moment = now.ago((3 + draft.random.below(25)) * 86_400);
    let dataset = draft.stories.dataset(draft.scenario, draft.random);
    announce(draft, dataset);
    let (request, start) = (draft.random.guid(), draft.moment.ago(300));
    let refresh = refresh(draft, dataset, &request, start, End::Failed);
    draft.moment = now;
    draft.truth.duplicate(Kind::Refresh);
    answer(&[refresh])
}
