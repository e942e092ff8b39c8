//! Writes a seeded corpus of sign-in records, and what is in it.
//!
//! `corpus --bytes 200000000 --failures 10 --layout lines|batches [--spaced] [--seed 1] [--truth FILE]` writes to stdout. One
//! in four records is of an app; sizes run from 1.4 to 6 KB, as Event Hubs deliver them. Failures carry the text
//! `AADSTS…` too, so that a text matcher finds as many of them as we do; real sign-in logs do not.

#![expect(clippy::cast_possible_truncation, reason = "random bits are cut to what is needed")]
#![expect(clippy::print_stderr, clippy::exit, reason = "a program of its own")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};

/// Codes of the failures, in turn weighted by repetition.
const CODES: [u32; 10] = [50126, 50126, 50053, 50076, 50140, 53003, 700082, 50034, 65001, 50058];
const APP_CODES: [u32; 4] = [7000222, 7000215, 700016, 53003];

/// Distinct records that are drawn from: writing them anew would measure the generator.
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

#[derive(Default)]
struct Options {
    bytes: u64,
    failures: usize,
    batches: bool,
    spaced: bool,
    seed: u64,
    truth: Option<String>,
}

#[derive(Default)]
struct Truth {
    records: u64,
    failures: u64,
    codes: BTreeMap<u32, u64>,
}

fn main() -> io::Result<()> {
    let options = options();
    let mut random = Random(options.seed);
    let pool: Vec<(String, u32)> =
        (0..POOL).map(|at| record(&mut random, at % 100 < options.failures, options.spaced)).collect();
    let (failed, fine): (Vec<_>, Vec<_>) = pool.into_iter().partition(|(_, code)| *code != 0);
    let mut truth = Truth::default();
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut written = 0;
    while written < options.bytes {
        let count = if options.batches { 1 + random.below(200) } else { 1 };
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
        let (open, close) = if options.batches { ("{\"records\":[", "]}\n") } else { ("", "\n") };
        out.write_all(open.as_bytes())?;
        out.write_all(line.as_bytes())?;
        out.write_all(close.as_bytes())?;
        written += (open.len() + line.len() + close.len()) as u64;
    }
    out.flush()?;
    if let Some(path) = options.truth {
        let codes: Vec<String> =
            truth.codes.iter().map(|(code, count)| format!("\"AADSTS{code}\":{count}")).collect();
        let json = format!(
            "{{\"records\":{},\"failures\":{},\"codes\":{{{}}}}}\n",
            truth.records,
            truth.failures,
            codes.join(",")
        );
        std::fs::write(path, json)?;
    }
    Ok(())
}

fn options() -> Options {
    let mut options = Options { bytes: 200_000_000, failures: 10, seed: 1, ..Options::default() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        let number = |text: String| text.parse().unwrap_or_else(|_| usage(&format!("{text} is no number")));
        match arg.as_str() {
            "--bytes" => options.bytes = number(value()),
            "--failures" => options.failures = number(value()) as usize,
            "--seed" => options.seed = number(value()),
            "--truth" => options.truth = Some(value()),
            "--layout" => match value().as_str() {
                "lines" => options.batches = false,
                "batches" => options.batches = true,
                other => usage(&format!("unknown layout {other}")),
            },
            "--spaced" => options.spaced = true,
            other => usage(&format!("unknown argument {other}")),
        }
    }
    options
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "corpus: {problem}\nusage: corpus --bytes N --failures PERCENT --layout lines|batches [--spaced] [--seed N] [--truth FILE]"
    );
    std::process::exit(2)
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
    for at in 0..=random.below(if is_app { 2 } else { 10 }) {
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
