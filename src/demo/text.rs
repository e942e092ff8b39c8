//! Texts in which clients and gateways report a code (`domain` §2.4, §2.6), and errors of the token service as JSON.

use super::json::Object;
use super::writer::Draft;
use crate::terms::{Flow, LogCategory, Outcome};

/// Ends a text of the story.
fn text(draft: &mut Draft<'_>, text: impl Into<String>) -> Vec<u8> {
    draft.truth.text();
    draft.event(Flow::Text);
    text.into().into_bytes()
}

/// Ends an error of the token service that is the whole message: a record of no log.
fn json(draft: &mut Draft<'_>, error: String) -> Vec<u8> {
    draft.truth.record(LogCategory::None, Outcome::Other);
    draft.event(Flow::Text);
    error.into_bytes()
}

fn umbrella<'d>(draft: &mut Draft<'d>) -> &'d str {
    let umbrella = draft.scenario.umbrella.as_deref().expect("stories with pairs have an umbrella");
    draft.truth.mention(umbrella);
    umbrella
}

fn digits(code: &str) -> &str {
    code.trim_start_matches("AADSTS")
}

fn reason<'d>(draft: &Draft<'d>) -> &'d str {
    draft.scenario.reasons.first().map_or("The sign-in was refused.", String::as_str)
}

/// The token service's error; `codes` go into `error_codes`.
fn sts(draft: &mut Draft<'_>, description: &str, codes: &[&str]) -> Object {
    let mut error = Object::camel();
    error.text("error", "invalid_client");
    error.text("error_description", format!("{description}{}", draft.trailer("\r\n")));
    error.json("error_codes", format!("[{}]", codes.join(",")));
    error.text("timestamp", draft.moment.stamp()).text("trace_id", draft.random.guid());
    let last = codes.last().copied().unwrap_or_default();
    error.text("error_uri", format!("https://login.microsoftonline.com/error?code={last}"));
    error
}

fn own_sts(draft: &mut Draft<'_>) -> Object {
    let code = draft.code();
    let description = format!("{code}: {}", reason(draft));
    sts(draft, &description, &[digits(code)])
}

pub fn sts_json(draft: &mut Draft<'_>) -> Vec<u8> {
    let error = own_sts(draft).end();
    json(draft, error)
}

/// With a claims challenge, itself JSON in a string.
pub fn sts_claims(draft: &mut Draft<'_>) -> Vec<u8> {
    let claims = r#"{"access_token":{"capolids":{"essential":true,"values":["ca014000-0000-4000-8000-00000000000c"]}}}"#;
    let error = own_sts(draft).text("suberror", "basic_action").text("claims", claims).end();
    json(draft, error)
}

/// Two codes: the first only opens the message.
pub fn sts_pair(draft: &mut Draft<'_>) -> Vec<u8> {
    pair(draft, " ")
}

/// Two codes and no blank between the sentences.
pub fn sts_pair_joined(draft: &mut Draft<'_>) -> Vec<u8> {
    pair(draft, "")
}

fn pair(draft: &mut Draft<'_>, separator: &str) -> Vec<u8> {
    let (first, code) = (umbrella(draft), draft.code());
    let description = format!("{first}: Error validating credentials.{separator}{code}: {}", reason(draft));
    let error = sts(draft, &description, &[digits(first), digits(code)]).end();
    json(draft, error)
}

pub fn msal_net(draft: &mut Draft<'_>) -> Vec<u8> {
    let opening = *draft.random.pick(&[
        "MsalUiRequiredException: ",
        "MsalServiceException: A configuration issue is preventing authentication - check the error message from the server for details. Original exception: ",
    ]);
    let trailer = draft.trailer(" ");
    let line = format!("{opening}{}: {}{trailer}", draft.code(), reason(draft));
    text(draft, line)
}

/// MSAL.NET's scrubbed log joins the codes and gives only the first a prefix.
pub fn msal_net_joined(draft: &mut Draft<'_>) -> Vec<u8> {
    let log = format!(
        "Exception type: Microsoft.Identity.Client.MsalServiceException\n, ErrorCode: invalid_client\nHTTP StatusCode 401\nCorrelationId {}\nMicrosoft Entra ID Error Code {} {}\n",
        draft.random.guid(),
        umbrella(draft),
        digits(draft.code())
    );
    text(draft, log)
}

/// The bare number comes first.
pub fn msal_js(draft: &mut Draft<'_>) -> Vec<u8> {
    let (code, stamp, trailer) = (draft.code(), draft.moment.stamp(), draft.trailer(" "));
    let (number, reason) = (digits(code), reason(draft));
    let (correlation, trace) = (draft.random.guid(), draft.random.guid());
    text(
        draft,
        format!(
            "ServerError: invalid_client: {number} - [{stamp}]: {code}: {reason}{trailer} - Correlation ID: {correlation} - Trace ID: {trace}"
        ),
    )
}

pub fn adal(draft: &mut Draft<'_>) -> Vec<u8> {
    let error = own_sts(draft).end();
    text(
        draft,
        format!(
            "AdalServiceException: Get Token request returned http error: 400 and server response: {error}"
        ),
    )
}

pub fn url(draft: &mut Draft<'_>) -> Vec<u8> {
    let (trace, code) = (draft.random.guid(), draft.code());
    let line = *draft.random.pick(&[
        "https://app.contoso.example/callback?error=access_denied&error_description=CODE%3a+The+request+was+refused.%0d%0aTrace+ID%3a+TRACE&state=x7",
        "https://app.contoso.example/#error=consent_required&error_description=CODE:+The+user+has+not+consented.+Trace+ID:+TRACE",
    ]);
    text(draft, line.replace("CODE", code).replace("TRACE", &trace))
}

pub fn url_b2c(draft: &mut Draft<'_>) -> Vec<u8> {
    let line = format!(
        "/.auth/login/aadb2c/callback?error=access_denied&error_description={}%3a+The+user+has+cancelled+entering+self-asserted+information.%0d%0aCorrelation+ID%3a+{}",
        draft.code(),
        draft.random.guid()
    );
    text(draft, line)
}

pub fn url_without_code(draft: &mut Draft<'_>) -> Vec<u8> {
    let state = &draft.stories.bait;
    text(
        draft,
        format!("https://app.contoso.example/#error=access_denied&error_subcode=cancel&state={state}"),
    )
}

/// The whole error in HTML entities.
pub fn html(draft: &mut Draft<'_>) -> Vec<u8> {
    let error = own_sts(draft).end().replace('"', "&#34;").replace('\'', "&#39;");
    text(draft, format!("<p>Cannot sign in: 401 &#39;{error}&#39;</p>"))
}

pub fn databricks(draft: &mut Draft<'_>) -> Vec<u8> {
    let (error, request) = (own_sts(draft).end(), draft.random.guid());
    text(
        draft,
        format!(
            "shaded.databricks.azurebfs.AzureADAuthenticator$HttpException: HTTP Error 401; url='https://login.microsoftonline.com/44444444/oauth2/token' AADToken: HTTP connection to https://login.microsoftonline.com failed for getting token from AzureAD.; requestId='{request}'; contentType='application/json'; response '{error}'"
        ),
    )
}

pub fn go_sdk(draft: &mut Draft<'_>) -> Vec<u8> {
    let error = own_sts(draft).end();
    text(
        draft,
        format!(
            "Error: cannot configure client: oauth2: cannot fetch token: 401 Unauthorized\nResponse: {error}\n"
        ),
    )
}

pub fn dbt(draft: &mut Draft<'_>) -> Vec<u8> {
    let (code, reason) = (draft.code(), reason(draft));
    let (clock, trailer) = (draft.moment.format("%H:%M:%S"), draft.trailer("\n    "));
    text(
        draft,
        format!(
            "{clock}  Encountered an error:\nRuntime Error\n  Database error while listing schemas in database \"sales\"\n    ('HY000', \"[HY000] Authentication failed: {code}: {reason}{trailer}\")\n{clock}  Done. PASS=0 WARN=0 ERROR=1 SKIP=12 TOTAL=13\n"
        ),
    )
}

/// A .NET trace of a gateway: one error over many lines, nested and repeated.
pub fn gateway(draft: &mut Draft<'_>) -> Vec<u8> {
    let (code, reason, bait) = (draft.code(), reason(draft), &draft.stories.bait);
    let (time, activity, trailer) = (draft.moment.iso(), draft.random.guid(), draft.trailer("\r\n"));
    text(
        draft,
        format!(
            "DM.EnterpriseGateway Error: 0 : {time} DM.EnterpriseGateway\t{activity}\t{activity}\tMDSR\t404104\t[DM.Pipeline.Diagnostics] Mashup exception\r\n\
             [0]Microsoft.PowerBI.DataMovement.Pipeline.Diagnostics.MashupDataAccessException: <ccon>refresh of the stored credential</ccon> failed\r\n\
             \x20  ---> System.AggregateException: One or more errors occurred. ({code}: {reason}{trailer})\r\n\
             \x20  ---> Microsoft.Identity.Client.MsalUiRequiredException: {code}: {reason}{trailer}\r\n\
             \x20  at Microsoft.Identity.Client.OAuth2.OAuth2Client.CreateResponse[T](HttpResponse response)\r\n\
             \x20  at Microsoft.PowerBI.DataMovement.Pipeline.GatewayCore.OAuth.RefreshAsync() in line {bait}\r\n\
             \x20  --- End of inner exception stack trace ---\r\n"
        ),
    )
}

/// Gateways fail for other reasons too; these have names.
pub fn gateway_unreachable(draft: &mut Draft<'_>) -> Vec<u8> {
    let (time, code) = (draft.moment.iso(), draft.code());
    text(
        draft,
        format!(
            "DM.EnterpriseGateway Error: 0 : {time} [{code}] the cluster does not answer\r\n   at Pipeline.Client.Send()\r\n"
        ),
    )
}

/// An answer of a resource that wants more; it names no code.
pub fn claims_challenge(draft: &mut Draft<'_>) -> Vec<u8> {
    text(
        draft,
        "www-authenticate: Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWV9fX0=\"",
    )
}

/// Placeholders of documentation and test data look like codes and are none.
pub fn placeholder(draft: &mut Draft<'_>) -> Vec<u8> {
    draft.truth.malformed(3);
    let [short, zeros, long] = ["991", "00000", "123456789"].map(|digits| format!("AADSTS{digits}"));
    text(draft, format!("expected an error such as {short} or {zeros}, found {long}"))
}
