//! Makes sign-in records and log lines that nobody ever wrote, from a seed, and counts what is in them.
//!
//! One record in four is of an app. Sizes run from 1.4 to 11.5 KB, as Event Hubs deliver them; most of the bytes are Conditional
//! Access policies. Failures carry the text `AADSTS…` too, so that a text matcher finds as many of them as we do; real
//! sign-in logs do not.

#![expect(clippy::cast_possible_truncation, reason = "random bits are cut to what is needed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Codes of the failures, in turn weighted by repetition.
const CODES: [u32; 10] = [50126, 50126, 50053, 50076, 50140, 53003, 700082, 50034, 65001, 50058];
const APP_CODES: [u32; 4] = [7000222, 7000215, 700016, 53003];

/// Distinct records that are drawn from: making each anew would take longer than reading it.
const POOL: usize = 4000;

struct Random(u64);

impl Random {
    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn guid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!("{:08x}-{:04x}-4000-8000-{:012x}", a as u32, (a >> 32) as u16, b & 0xffff_ffff_ffff)
    }
}

/// How the records are laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// A record a line.
    Lines,
    /// `{"records":[…]}` of 1 to 200 records a line.
    Batches,
    /// Lines of a gateway's log instead of records.
    Text,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At least so many, up to the end of a line.
    pub bytes: u64,
    /// In a hundred records.
    pub failures: usize,
    pub layout: Layout,
    /// A blank behind every comma and colon.
    pub spaced: bool,
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Records or lines of text.
    pub records: u64,
    pub failures: u64,
    pub codes: BTreeMap<u32, u64>,
}

/// Writes a corpus.
pub fn write(options: &Options, out: &mut impl Write) -> io::Result<Truth> {
    let mut random = Random(options.seed);
    let make = |at: usize| {
        let fails = at % 100 < options.failures;
        if options.layout == Layout::Text {
            line_of_text(&mut random, fails)
        } else {
            record(&mut random, fails, options.spaced)
        }
    };
    let (failed, fine): (Vec<_>, Vec<_>) = (0..POOL).map(make).partition(|(_, code)| *code != 0);
    let mut truth = Truth::default();
    let mut written = 0;
    while written < options.bytes {
        let count = if options.layout == Layout::Batches { 1 + random.below(200) } else { 1 };
        let mut line = String::new();
        for at in 0..count {
            let from = if random.below(100) < options.failures { &failed } else { &fine };
            let (text, code) = &from[random.below(from.len())];
            if at > 0 {
                line.push(',');
            }
            line.push_str(text);
            truth.records += 1;
            if *code != 0 {
                truth.failures += 1;
                *truth.codes.entry(*code).or_default() += 1;
            }
        }
        let (open, close) =
            if options.layout == Layout::Batches { ("{\"records\":[", "]}\n") } else { ("", "\n") };
        out.write_all(open.as_bytes())?;
        out.write_all(line.as_bytes())?;
        out.write_all(close.as_bytes())?;
        written += (open.len() + line.len() + close.len()) as u64;
    }
    Ok(truth)
}

/// A line as the on-premises gateway and MSAL write it.
fn line_of_text(random: &mut Random, fails: bool) -> (String, u32) {
    let (id, millis) = (random.guid(), random.below(90_000));
    if !fails {
        return (
            format!("2026-11-20T03:14:50.123Z INFO  [Refresh] dataset {id} was refreshed in {millis} ms"),
            0,
        );
    }
    let code = APP_CODES[random.below(APP_CODES.len())];
    let line = format!(
        "2026-11-20T03:14:50.123Z ERROR [Refresh] MsalServiceException: AADSTS{code}: The request was refused. Trace ID: {id} Correlation ID: {} Timestamp: 2026-11-20 03:14:50Z",
        random.guid()
    );
    (line, code)
}

fn record(random: &mut Random, fails: bool, spaced: bool) -> (String, u32) {
    let is_app = random.below(4) == 0;
    let codes: &[u32] = if is_app { &APP_CODES } else { &CODES };
    let code = if fails { codes[random.below(codes.len())] } else { 0 };
    let category = match (is_app, random.below(3)) {
        (true, _) => "ServicePrincipalSignInLogs",
        (false, 0) => "SignInLogs",
        (false, _) => "NonInteractiveUserSignInLogs",
    };
    let text = format!("AADSTS{code}: The request was refused.");
    let status = if code == 0 {
        r#"{"errorCode":0,"additionalDetails":"MFA requirement satisfied by claim in the token"}"#.to_owned()
    } else {
        format!(r#"{{"errorCode":{code},"failureReason":"{text}"}}"#)
    };
    let mut policies = String::new();
    let most = if is_app {
        2
    } else if random.below(10) == 0 {
        40
    } else {
        10
    };
    for at in 0..=random.below(most) {
        let _ = write!(
            policies,
            r#"{}{{"id":"{}","displayName":"CA{at:03}: Require \"strong\" sign-in","enforcedGrantControls":["Mfa"],"enforcedSessionControls":[],"result":"notApplied","conditionsSatisfied":3,"conditionsNotSatisfied":16}}"#,
            if at == 0 { "" } else { "," },
            random.guid()
        );
    }
    let who = if is_app {
        format!(
            r#""servicePrincipalId":"{}","servicePrincipalName":"pbi-refresh-prod","servicePrincipalCredentialKeyId":"{}","userId":null"#,
            random.guid(),
            random.guid()
        )
    } else {
        format!(
            r#""userId":"{}","userPrincipalName":"user{}@contoso.example","userDisplayName":"User","deviceDetail":{{"deviceId":"","operatingSystem":"Windows 10","browser":"Edge 118"}},"location":{{"city":"Amsterdam","countryOrRegion":"NL","geoCoordinates":{{"latitude":52.3,"longitude":4.9}}}}"#,
            random.guid(),
            random.below(100_000)
        )
    };
    let description = if code == 0 { String::new() } else { format!(r#","resultDescription":"{text}""#) };
    let (id, correlation) = (random.guid(), random.guid());
    let json = format!(
        r#"{{"time":"2026-11-20T03:14:50.1234567Z","resourceId":"/tenants/44444444-0000-4000-8000-000000000004/providers/Microsoft.aadiam","operationName":"Sign-in activity","operationVersion":"1.0","category":"{category}","tenantId":"44444444-0000-4000-8000-000000000004","resultType":"{code}","resultSignature":"None","durationMs":0,"callerIpAddress":"203.0.113.7","correlationId":"{correlation}","Level":4,"location":"NL","properties":{{"id":"{id}","createdDateTime":"2026-11-20T03:12:45.7654321+00:00","correlationId":"{correlation}",{who},"appId":"66666666-0000-4000-8000-0000000000{:02x}","appDisplayName":"Power BI Service","resourceDisplayName":"Microsoft Graph","ipAddress":"203.0.113.7","status":{status},"clientAppUsed":"Browser","conditionalAccessStatus":"success","appliedConditionalAccessPolicies":[{policies}],"authenticationDetails":[{{"authenticationStepDateTime":"2026-11-20T03:12:45.7654321+00:00","authenticationMethod":"Previously satisfied","succeeded":true,"authenticationStepResultDetail":"First factor requirement satisfied by claim in the token"}}],"authenticationProcessingDetails":[{{"key":"Legacy TLS (TLS 1.0, 1.1, 3DES)","value":"False"}}],"isInteractive":true,"riskState":"none","userAgent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"}}{description}}}"#,
        random.below(64),
    );
    (if spaced { space(&json) } else { json }, code)
}

/// A blank behind every comma and colon outside strings, as many writers put it.
fn space(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            ',' | ':' if !in_string => out.push(' '),
            _ => {}
        }
    }
    out
}
