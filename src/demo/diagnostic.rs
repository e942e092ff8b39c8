//! Sign-in records as diagnostic settings write them (`domain` §1.3): camelCase or all lower case, nested or with JSON
//! strings inside, times in eleven formats.

use super::json::{Case, Object, list};
use super::random::Random;
use super::sign_in::{SignIn, TENANT, sign_in};
use super::writer::{Draft, Moment};
use crate::terms::{Flow, LogCategory};

const POLICIES: [&str; 8] = [
    "CA001: Require multifactor authentication for all users",
    "CA002: Block legacy authentication",
    "CA003: Securing security info registration",
    "CA004: Require a compliant device for \"Finance\"",
    "CA005: Require multifactor authentication for Azure management",
    "CA006: Block access for unknown {device} platforms",
    "CA007: Sign-in frequency, 12 hours",
    "CA008: Require terms of use [guests]",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "python-requests/2.32.5",
];

/// How a record is spelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Spelling {
    Plain,
    Lower,
    StatusString,
    PropertiesString,
    ResultNumber,
    /// A word; only the number in `status` tells the code.
    ResultWord,
    ResultMissing,
    StatusMissing,
    /// `timeStamp` in place of `time`.
    TimeStamp,
}

/// Most are as documented.
fn spelling(random: &mut Random) -> Spelling {
    match random.below(100) {
        0..5 => Spelling::Lower,
        5..9 => Spelling::StatusString,
        9..13 => Spelling::PropertiesString,
        13..18 => Spelling::ResultNumber,
        18..21 => Spelling::ResultWord,
        21..23 => Spelling::ResultMissing,
        23..25 => Spelling::StatusMissing,
        25..28 => Spelling::TimeStamp,
        _ => Spelling::Plain,
    }
}

pub fn record(sign_in: &SignIn<'_>, draft: &mut Draft<'_>) -> String {
    let spelling = match spelling(draft.random) {
        // Its details were counted.
        Spelling::StatusMissing if sign_in.details.is_some() => Spelling::Plain,
        spelling => spelling,
    };
    write(sign_in, spelling, draft.moment, draft.random)
}

/// A success in the documented spelling, for a message that is broken elsewhere.
pub fn plain_success(draft: &mut Draft<'_>) -> String {
    let code = draft.code.take();
    let sign_in = sign_in(draft, LogCategory::SignIn, Flow::Interactive);
    draft.code = code;
    write(&sign_in, Spelling::Plain, draft.moment, draft.random)
}

fn write(sign_in: &SignIn<'_>, spelling: Spelling, moment: Moment, random: &mut Random) -> String {
    let mut record = Object::new(if spelling == Spelling::Lower { Case::Lower } else { Case::Camel });
    let time = if sign_in.log == LogCategory::Adfs { us_time(moment) } else { log_time(moment, random) };
    record.text(if spelling == Spelling::TimeStamp { "timeStamp" } else { "time" }, time);
    record.text("resourceId", resource_path(sign_in.log, random));
    record.text("operationName", "Sign-in activity").text("operationVersion", "1.0");
    record.text("category", category(sign_in.log, random)).text("tenantId", TENANT);
    let word = if sign_in.failed() { "Failure" } else { "Success" };
    match spelling {
        Spelling::ResultMissing => {}
        Spelling::ResultNumber => {
            record.json("resultType", sign_in.number);
        }
        Spelling::ResultWord => {
            record.text("resultType", word);
        }
        _ => {
            record.text("resultType", sign_in.number);
        }
    }
    record.text("resultSignature", if random.percent(50) { "None" } else { word });
    if let Some(reason) = &sign_in.reason {
        record.text("resultDescription", reason);
    }
    record.json("durationMs", random.pick(&["0", "\"0\""]));
    if sign_in.flow != Flow::ManagedIdentity {
        record.text("callerIpAddress", &sign_in.address);
    }
    record.text("correlationId", &sign_in.correlation_id);
    record.text("identity", sign_in.person.as_ref().map_or(&sign_in.app.name, |person| &person.name));
    match random.below(4) {
        0 => record.text("Level", "4"),
        1 => record.text("level", "Informational"),
        _ => record.json("Level", 4),
    };
    record.text("location", random.pick(&["DE", "US", "NL", "JP"]));
    let properties = properties(sign_in, spelling, random);
    if spelling == Spelling::PropertiesString {
        record.text("properties", properties);
    } else {
        record.json("properties", properties);
    }
    record.end()
}

/// The documentation spells one of the categories in two ways.
fn category(log: LogCategory, random: &mut Random) -> String {
    match log {
        LogCategory::NonInteractive if random.percent(5) => "NonInteractiveUserSIgnInLogs".to_owned(),
        _ => log.as_str().to_owned(),
    }
}

fn resource_path(log: LogCategory, random: &mut Random) -> String {
    if log == LogCategory::Adfs && random.percent(30) {
        return "https://sts.contoso.example/adfs/services/trust".to_owned();
    }
    format!("/tenants/{TENANT}/providers/Microsoft.aadiam")
}

fn properties(sign_in: &SignIn<'_>, spelling: Spelling, random: &mut Random) -> String {
    let case = if spelling == Spelling::Lower { Case::Lower } else { Case::Camel };
    let mut properties = Object::new(case);
    properties.text("id", &sign_in.request_id).text("createdDateTime", created_time(sign_in.created, random));
    match &sign_in.person {
        Some(person) => {
            properties.text("userDisplayName", &person.name);
            properties.text("userPrincipalName", &person.principal).text("userId", &person.id);
        }
        None => job(&mut properties, sign_in),
    }
    properties.text("appId", &sign_in.app.id).text("appDisplayName", &sign_in.app.name);
    let has_address = sign_in.flow != Flow::ManagedIdentity;
    properties.text("ipAddress", if has_address { &sign_in.address } else { "" });
    match spelling {
        Spelling::StatusMissing => {}
        Spelling::StatusString => {
            properties.text("status", sign_in.status(case));
        }
        _ => {
            properties.json("status", sign_in.status(case));
        }
    }
    if sign_in.person.is_some() {
        device(&mut properties, case, random);
        policies(&mut properties, sign_in, case, random);
        steps(&mut properties, sign_in, case);
    }
    rest(&mut properties, sign_in, random);
    properties.end()
}

fn rest(properties: &mut Object, sign_in: &SignIn<'_>, random: &mut Random) {
    properties.text("correlationId", &sign_in.correlation_id);
    properties.text("conditionalAccessStatus", sign_in.conditional_access());
    properties.json("isInteractive", matches!(sign_in.flow, Flow::Interactive | Flow::UnattendedUser));
    properties.text("tokenIssuerName", "").text("tokenIssuerType", "AzureAD");
    properties.json("processingTimeInMilliseconds", 40 + random.below(400));
    properties.text("riskState", "none").text("riskLevelDuringSignIn", "none").json("riskEventTypes", "[]");
    properties.text("resourceDisplayName", sign_in.resource());
    properties.text("resourceId", "00000003-0000-0000-c000-000000000000").text("resourceTenantId", TENANT);
    properties.text("homeTenantId", TENANT).json("autonomousSystemNumber", 64_500 + random.below(10));
    let protocol = if sign_in.flow == Flow::UnattendedUser { "ropc" } else { "none" };
    properties.text("authenticationProtocol", protocol);
    properties.text("incomingTokenType", "none").text("crossTenantAccessType", "none");
    properties.json("agent", r#"{"agentType":"notAgentic","agentSubjectType":"notAgentic"}"#);
    properties.text("uniqueTokenIdentifier", random.token(22));
}

fn job(properties: &mut Object, sign_in: &SignIn<'_>) {
    properties.text("servicePrincipalId", sign_in.service_principal_id());
    properties.text("servicePrincipalName", &sign_in.app.name).json("userId", "null");
    properties.text("servicePrincipalCredentialKeyId", sign_in.app.key_id.as_deref().unwrap_or_default());
    properties.text("servicePrincipalCredentialThumbprint", "");
    let is_managed = sign_in.flow == Flow::ManagedIdentity;
    properties.text("clientCredentialType", if is_managed { "managedIdentity" } else { "clientSecret" });
}

fn device(properties: &mut Object, case: Case, random: &mut Random) {
    properties.text("clientAppUsed", random.pick(&["Browser", "Mobile Apps and Desktop clients"]));
    properties.text("userAgent", random.pick(&AGENTS));
    let mut device = Object::new(case);
    device.text("deviceId", random.guid()).text("displayName", format!("LT-{:05}", random.below(90_000)));
    device.text("operatingSystem", "Windows 11").text("browser", "Edge 142.0.0");
    device.json("isCompliant", true).json("isManaged", true).text("trustType", "Azure AD joined");
    properties.json("deviceDetail", device.end());
    let mut location = Object::new(case);
    location.text("city", "Köln").text("state", "Nordrhein-Westfalen").text("countryOrRegion", "DE");
    location.json("geoCoordinates", r#"{"latitude":50.93,"longitude":6.95}"#);
    properties.json("location", location.end());
}

/// The bulk of a user's sign-in, and nothing in it is asked for.
fn policies(properties: &mut Object, sign_in: &SignIn<'_>, case: Case, random: &mut Random) {
    let is_silent = sign_in.flow == Flow::NonInteractive;
    let count = if is_silent { 6 + random.below(7) } else { random.below(7) };
    let refusing = sign_in.policy.map(|name| (name, "failure"));
    let usual = (0..count).map(|at| {
        let result = if at % 3 == 0 { "success" } else { "notApplied" };
        (POLICIES[at % POLICIES.len()], result)
    });
    let policies: Vec<String> = refusing
        .into_iter()
        .chain(usual)
        .map(|(name, result)| {
            let mut policy = Object::new(case);
            policy.text("id", random.guid()).text("displayName", name);
            let control = if result == "failure" { r#"["Block"]"# } else { r#"["Mfa"]"# };
            policy.json("enforcedGrantControls", control).json("enforcedSessionControls", "[]");
            policy.text("result", result).json("conditionsSatisfied", 3).json("conditionsNotSatisfied", 16);
            policy.json("includeRulesSatisfied", r#"[{"conditionalAccessCondition":1,"ruleSatisfied":1}]"#);
            policy.json("excludeRulesSatisfied", "[]");
            policy.end()
        })
        .collect();
    properties.json("appliedConditionalAccessPolicies", list(&policies));
}

fn steps(properties: &mut Object, sign_in: &SignIn<'_>, case: Case) {
    let mut step = Object::new(case);
    step.text("authenticationStepDateTime", sign_in.created.iso()).text("authenticationMethod", "Password");
    step.text("authenticationMethodDetail", "Password Hash Sync").json("succeeded", !sign_in.failed());
    step.text("authenticationStepResultDetail", "{ \"attempts\": [1, 2] }");
    step.text("authenticationStepRequirement", "Primary authentication");
    properties.json("authenticationDetails", list(&[step.end()]));
    properties.json(
        "authenticationProcessingDetails",
        r#"[{"key":"Login Hint Present","value":"True"},{"key":"Legacy TLS (TLS 1.0, 1.1, 3DES)","value":"False"},{"key":"Is CAE Token","value":"False"}]"#,
    );
    properties
        .json("networkLocationDetails", r#"[{"networkType":"namedNetwork","networkNames":["Offices"]}]"#);
    properties.json("authenticationRequirementPolicies", "[]");
    properties.text("authenticationRequirement", "multiFactorAuthentication");
}

fn us_time(moment: Moment) -> String {
    moment.format("%-m/%-d/%Y %-I:%M:%S %p")
}

/// Mostly UTC with an offset, sometimes another one.
fn created_time(created: Moment, random: &mut Random) -> String {
    match random.below(10) {
        0 => created.ago(5 * 3600).format("%Y-%m-%dT%H:%M:%S.7654321-05:00"),
        1..=3 => created.iso(),
        _ => created.format("%Y-%m-%dT%H:%M:%S.7654321+00:00"),
    }
}

/// A moment in one of the eleven formats of the logs; mostly the documented one.
fn log_time(moment: Moment, random: &mut Random) -> String {
    match random.below(30) {
        0 => moment.format("%m/%d/%Y %H:%M:%S"),
        1 => moment.format("%-m/%-d/%Y %H:%M:%S"),
        2 => moment.format("%m/%d/%Y %I:%M:%S %p"),
        3 => us_time(moment),
        4 => Moment(moment.0 + 3_600_000).format("%-m/%-d/%Y %-I:%M:%S %p +01:00"),
        5 => moment.format("%Y-%m-%dT%H:%M:%S"),
        6 => moment.format("%Y-%m-%dT%H:%M:%S.22Z"),
        7 => moment.format("%Y-%m-%dT%H:%M:%S.535404056Z"),
        8 => moment.format("%Y-%m-%dT%H:%M:%S.992099+00:00"),
        9 => Moment(moment.0 + 2 * 3_600_000).format("%Y-%m-%dT%H:%M:%S+02:00"),
        _ => moment.iso(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_format_says_the_same_second() {
        // 2026-01-09 09:41:00 UTC: days, months and hours of one digit tell padded formats from others.
        let (moment, mut random) = (Moment(1_767_951_660_000), Random::new(1));
        let times: std::collections::BTreeSet<String> =
            (0..1000).map(|_| log_time(moment, &mut random)).collect();
        assert_eq!(times.len(), 11, "{times:?}");
        for time in times {
            let read = crate::digest::time::parse(&time).map(|millis| millis / 1000);
            assert_eq!(read, Some(moment.0 / 1000), "{time}");
        }
    }
}
