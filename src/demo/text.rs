//! Texts in which clients and gateways report a code (`domain` §2.4, §2.6).

use serde_json::json;

use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome};

/// Writes one text; JSON of the token service is a record of another kind.
pub fn write(writer: &str, draft: &mut Draft<'_>) -> Vec<u8> {
    let code = draft.code().to_owned();
    let digits = code.trim_start_matches("AADSTS").to_owned();
    let umbrella = draft.scenario.umbrella.clone().unwrap_or_default();
    let (trace, stamp) = (draft.random.guid(), draft.moment.format("%Y-%m-%d %H:%M:%SZ"));
    let trailer = format!("\r\nTrace ID: {trace}\r\nCorrelation ID: {trace}\r\nTimestamp: {stamp}");
    let text = match writer {
        "sts_json" => sts(&format!("{code}: The request was refused.{trailer}"), &[&digits]),
        "sts_pair" => {
            let first = umbrella.trim_start_matches("AADSTS");
            sts(&format!("{umbrella}: Error validating credentials. {code}: The secret is wrong.{trailer}"), &[first, &digits])
        }
        "msal_net" => format!("MsalServiceException: A problem prevents authentication. Original exception: {code}: Refused.{trailer}"),
        "msal_net_joined" => format!(
            "Exception type: Microsoft.Identity.Client.MsalServiceException\n, ErrorCode: invalid_client\nHTTP StatusCode 401\nMicrosoft Entra ID Error Code {umbrella} {digits}\n"
        ),
        "msal_js" => format!("ServerError: invalid_client: {digits} - [{stamp}]: {code}: Invalid client secret provided."),
        "adal" => format!(
            "AdalServiceException: Get Token request returned http error: 401 and server response: {}",
            sts(&format!("{code}: Refused.{trailer}"), &[&digits])
        ),
        "url" => format!("https://app.example/callback?error=invalid_client&error_description={code}%3a+Refused.%0d%0aTrace+ID%3a+{trace}&state=x"),
        "url_b2c" => format!("/.auth/login/b2c/callback?error=access_denied&error_description={code}%3a+The+user+has+cancelled."),
        "html" => format!("HTTP Error 401; response &#39;{{&#34;error_description&#34;:&#34;{code}: Refused.&#34;,&#34;error_codes&#34;:[{digits}]}}&#39;"),
        "databricks" => format!(
            "HTTP Error 401; url='https://login.example/oauth2/token' AADToken: HTTP connection failed for getting token; response '{}'",
            sts(&format!("{code}: The provided client secret keys are expired.{trailer}"), &[&digits])
        ),
        "dbt" => format!("{stamp}  Runtime Error\n  Database Error\n    oauth2: cannot fetch token: 401 Unauthorized\n    Response: {}", sts(&format!("{code}: Refused."), &[&digits])),
        "gateway" => format!(
            "DM.EnterpriseGateway Error: 0 : {stamp} DM.EnterpriseGateway {trace} MDSR [DM.Pipeline.Diagnostics]\nMashupException: refresh of the stored credential failed\n ---> InnerException: {code}: The provided grant has expired.{trailer}\n   at Microsoft.Mashup.OAuth.Refresh()\n ---> InnerException: {code}: The provided grant has expired.\n"
        ),
        _ => "www-authenticate: Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnt9fQ==\"".to_owned(),
    };
    count(writer, &umbrella, draft);
    text.into_bytes()
}

fn count(writer: &str, umbrella: &str, draft: &mut Draft<'_>) {
    if matches!(writer, "sts_json" | "sts_pair") {
        draft.truth.record(LogCategory::None, Outcome::Other);
    } else {
        draft.truth.text();
    }
    if draft.scenario.code.is_none() {
        return;
    }
    let outcome = draft.scenario.outcome(Flow::Text);
    draft.event(Flow::Text, outcome);
    let code = draft.code().to_owned();
    draft.truth.mention(&code);
    if !umbrella.is_empty() {
        draft.truth.mention(umbrella);
    }
}

/// An error of the token service.
fn sts(description: &str, codes: &[&str]) -> String {
    let codes: Vec<u32> = codes.iter().filter_map(|code| code.parse().ok()).collect();
    json!({
        "error": "invalid_client",
        "error_description": description,
        "error_codes": codes,
        "error_uri": "https://login.example/error",
    })
    .to_string()
}
