//! The HTTP side: metrics, probes, reloading, and a page of links; `access` says who may see them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

pub mod access;
mod door;
mod seats;

use access::Access;
use door::{Caller, Door};

/// Answered to whoever asks: they say nothing but whether the service is well.
const PROBES: [&str; 2] = ["/-/healthy", "/-/ready"];

/// What the probes ask.
pub trait Health: Send + Sync + 'static {
    /// `None` while the poll loop turns; else what is wrong.
    fn unhealthy(&self) -> Option<String>;
    /// `None` once messages can arrive; else what is missing.
    fn unready(&self) -> Option<String>;
}

/// What `/-/reload` asks.
pub trait Reload: Send + Sync + 'static {
    /// Reads the rules anew; what came of it, in words.
    fn reload(&self) -> Result<String, String>;
}

/// What the pages need.
#[derive(Clone)]
pub struct Site {
    pub metrics: Arc<Metrics>,
    pub health: Arc<dyn Health>,
    /// Host names that pages answer to besides IP addresses and `localhost`: a page that answered to any name could be
    /// read by a web site that points its own name here.
    pub hosts: Arc<[String]>,
    /// `None` refuses to reload.
    pub reload: Option<Arc<dyn Reload>>,
    /// `None` shows everything to everybody.
    pub access: Option<Arc<Access>>,
}

/// Binds the address of the pages.
pub async fn bind(listen: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program has it, port 0 takes a free one",
            _ => "",
        };
        anyhow::Error::new(error).context(format!("cannot listen on {listen} ([web] listen, --listen){hint}"))
    })?;
    let address = listener.local_addr().with_context(|| format!("cannot listen on {listen}"))?;
    Ok((listener, address))
}

/// Serves until `stop` is done.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let door = Door::open(listener, site.access.clone());
    let routes = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .layer(middleware::from_fn_with_state(site.clone(), admit))
        .with_state(site);
    let service = routes.into_make_service_with_connect_info::<Caller>();
    axum::serve(door, service).with_graceful_shutdown(stop).await.context("cannot serve HTTP")
}

/// Lets those through who may see what they ask for.
async fn admit(
    State(site): State<Site>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let Some(access) = site.access.filter(|_| !PROBES.contains(&request.uri().path())) else {
        return next.run(request).await;
    };
    let rules = access.rules();
    if rules.wants_certificate && !caller.has_certificate {
        return (StatusCode::FORBIDDEN, "a client certificate is wanted here\n").into_response();
    }
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if access.admits(&rules, authorization).await {
        return next.run(request).await;
    }
    let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"aadstream\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, asks, "a user and a password are wanted here\n").into_response()
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|coding| coding.trim().split(';').next() == Some("gzip")));
    let encoded = tokio::task::spawn_blocking(move || site.metrics.encode(accepts_gzip)).await;
    let Ok((content_type, body)) = encoded else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if accepts_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}

async fn healthy(State(site): State<Site>) -> Response {
    probe(site.health.unhealthy(), "healthy")
}

async fn ready(State(site): State<Site>) -> Response {
    probe(site.health.unready(), "ready")
}

fn probe(problem: Option<String>, fine: &str) -> Response {
    match problem {
        None => format!("{fine}\n").into_response(),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
    }
}

async fn reload(State(site): State<Site>, headers: HeaderMap) -> Response {
    let forbid = |advice: &'static str| (StatusCode::FORBIDDEN, advice).into_response();
    let Some(reloader) = site.reload else {
        return forbid("reloading over HTTP is off; set [web] lifecycle = true\n");
    };
    // Browsers say so when another site sends them here.
    if headers.contains_key(header::ORIGIN) {
        return forbid("a web page cannot ask for this\n");
    }
    match tokio::task::spawn_blocking(move || reloader.reload()).await {
        Ok(Ok(done)) => format!("{done}\n").into_response(),
        Ok(Err(problem)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn index(State(site): State<Site>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_own_host(host, &site.hosts) {
        let advice = "this page does not answer to that Host; add it to [web] hosts\n";
        return (StatusCode::MISDIRECTED_REQUEST, advice).into_response();
    }
    let policy = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (policy, Html(INDEX.replace("{version}", env!("CARGO_PKG_VERSION")))).into_response()
}

/// An address, `localhost`, or a name of the configuration.
fn is_own_host(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

const INDEX: &str = include_str!("web/index.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_answer_to_own_names_only() {
        let hosts = ["aadstream.example".to_owned()];
        for host in
            ["127.0.0.1:9877", "[::1]:9877", "localhost", "LOCALHOST:1", "aadstream.example", "10.0.0.7"]
        {
            assert!(is_own_host(host, &hosts), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9877", "aadstream.example.evil.example"] {
            assert!(!is_own_host(host, &hosts), "{host}");
        }
    }
}
