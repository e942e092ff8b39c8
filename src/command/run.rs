//! `aadstream run`: the service until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::reload::{LOOK_EVERY, Reloader};
use super::signals;
use crate::catalogue::Catalogue;
use crate::cli::RunArgs;
use crate::config::Settings;
use crate::exit_code::{Exit, ExitError};
use crate::metrics::{Metrics, MetricsOptions};
use crate::service::Service;
use crate::web::{self, Reload as _, Site};

pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load(args.config.as_deref())?;
    settings.require_kafka()?;
    crate::log::init(settings.log.format, settings.log.level);
    settings.warnings().iter().for_each(|warning| warn!("{warning}"));
    let catalogue = Arc::new(settings.catalogue()?);
    let (stop, hangups) = (signals::stop()?, signals::hangups()?);
    let running = Running::start(settings, catalogue, args.config.clone())?;
    info!(address = %running.address, "serving metrics and probes");
    running.wait(stop, hangups);
    running.end()
}

/// Names under which pages answer: those of the configuration and the one of `external_url`.
fn page_hosts(settings: &Settings) -> Vec<String> {
    let url = settings.web.external_url.iter().filter_map(|url| {
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        rest.split(['/', ':']).next().map(str::to_owned)
    });
    settings.web.hosts.iter().cloned().chain(url).collect()
}

/// The service, its pages and its threads.
pub struct Running {
    pub service: Arc<Service>,
    pub address: SocketAddr,
    reloader: Arc<Reloader>,
    shutdown_timeout: Duration,
    consumer: std::thread::JoinHandle<anyhow::Result<()>>,
    /// Changes when the consumer thread has ended.
    ended: watch::Receiver<bool>,
    stop_web: watch::Sender<bool>,
    runtime: Runtime,
}

impl Running {
    /// Binds the address first, so that a second service on it fails before it joins the group.
    pub fn start(
        settings: Settings,
        catalogue: Arc<Catalogue>,
        config: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let options = MetricsOptions {
            birth_hold: settings.metrics.birth_hold,
            external_url: settings.web.external_url.clone(),
            apps: settings.apps.clone(),
            process: true,
            unskipped: settings.dead_letters.unskipped().collect(),
            ..MetricsOptions::default()
        };
        let metrics = Arc::new(Metrics::new(&catalogue, options));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the web server's threads")?;
        let (listener, address) = runtime.block_on(web::bind(&settings.web.listen))?;
        let hosts = page_hosts(&settings).into();
        let access = settings.web_access().map_err(|problem| ExitError::new(Exit::BadConfig, problem))?;
        let shutdown_timeout = settings.kafka.shutdown_timeout;
        let has_lifecycle = settings.web.lifecycle;
        let service = Arc::new(Service::new(settings.clone(), catalogue, Arc::clone(&metrics)));
        let reloader = Arc::new(Reloader::new(config, settings, Arc::clone(&service)));
        let reload = has_lifecycle.then(|| Arc::clone(&reloader) as Arc<_>);
        let site = Site {
            metrics,
            health: Arc::clone(&service) as Arc<_>,
            hosts,
            reload,
            access: access.map(Arc::new),
        };
        let (stop_web, mut web_stopped) = watch::channel(false);
        let stopped = async move {
            // An error means that the sender is gone, which also ends the server.
            let _ended = web_stopped.wait_for(|stopped| *stopped).await;
        };
        runtime.spawn(async move {
            if let Err(error) = web::serve(listener, site, stopped).await {
                error!("{error:#}");
            }
        });
        let (ended_tx, ended) = watch::channel(false);
        let consumer = {
            let service = Arc::clone(&service);
            std::thread::Builder::new().name("poll".to_owned()).spawn(move || {
                let result = service.consume();
                ended_tx.send_replace(true);
                result
            })
        }
        .context("cannot start the poll thread")?;
        Ok(Self { service, address, reloader, shutdown_timeout, consumer, ended, stop_web, runtime })
    }

    /// Waits for the signal to stop, or until the consumer ends by itself; each SIGHUP meanwhile reads the rules anew, as
    /// does a change of their files.
    fn wait(&self, mut stop: watch::Receiver<Option<&'static str>>, mut hangups: watch::Receiver<u64>) {
        let mut ended = self.ended.clone();
        self.runtime.block_on(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    Ok(signal) = stop.wait_for(Option::is_some) => {
                        break info!("{}: stopping", signal.unwrap_or_default());
                    }
                    _ = ended.wait_for(|ended| *ended) => break,
                    Ok(()) = hangups.changed() => {
                        let reloader = Arc::clone(&self.reloader);
                        // The log has told what came of it.
                        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
                    }
                    _ = looks.tick() => {
                        let reloader = Arc::clone(&self.reloader);
                        // It fails only by a panic, which is in the log.
                        let _ = tokio::task::spawn_blocking(move || reloader.look()).await;
                    }
                }
            }
        });
    }

    /// Stops in order: digest what is in flight, commit, leave the group; at the deadline as it is.
    pub fn end(self) -> anyhow::Result<Exit> {
        self.service.stop();
        let mut ended = self.ended.clone();
        let limit = self.shutdown_timeout;
        let in_time = self.runtime.block_on(async move {
            tokio::time::timeout(limit, ended.wait_for(|ended| *ended)).await.is_ok()
        });
        self.stop_web.send_replace(true);
        if !in_time {
            warn!("the brokers did not answer in time; uncommitted messages will be read again");
            self.runtime.shutdown_background();
            return Ok(Exit::Done);
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        match self.consumer.join() {
            Ok(result) => result.map(|()| Exit::Done),
            Err(_) => Err(anyhow::anyhow!("the poll thread panicked; the log says where")),
        }
    }
}
