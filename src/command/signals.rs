//! What signals do: Ctrl-C and SIGTERM end a command at once, or ask a service to end in order; SIGHUP asks for new rules.

use std::process;
use std::thread;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::terminal;
use crate::exit_code::Exit;

/// Ends the process with 130 on Ctrl-C: for commands that hold nothing which needs an orderly end.
pub fn exit_on_interrupt() {
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            exit(Exit::Interrupted);
        }
    });
}

/// The name of the first SIGINT or SIGTERM, once it came. A second one ends the process at once: whoever sends it does
/// not want to wait for the brokers.
pub fn stop() -> anyhow::Result<watch::Receiver<Option<&'static str>>> {
    let runtime =
        Builder::new_current_thread().enable_all().build().context("cannot start the signals' thread")?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    let (stop_tx, stop_rx) = watch::channel(None);
    let wait = move || {
        let first = runtime.block_on(next(&mut interrupt, &mut terminate));
        // Nobody listens any more where the command has ended already.
        stop_tx.send_replace(Some(first));
        let second = runtime.block_on(next(&mut interrupt, &mut terminate));
        terminal::remark(&format!("aadstream: {second} again: ending at once"));
        exit(Exit::Interrupted);
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("cannot start the signals' thread")?;
    Ok(stop_rx)
}

/// Counts the SIGHUPs from now on.
pub fn hangups() -> anyhow::Result<watch::Receiver<u64>> {
    let runtime =
        Builder::new_current_thread().enable_all().build().context("cannot start the signals' thread")?;
    let mut hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).context("cannot listen for signals")?
    };
    let (count_tx, count_rx) = watch::channel(0);
    let count = move || {
        runtime.block_on(async {
            while hangup.recv().await.is_some() {
                count_tx.send_modify(|count| *count += 1);
            }
        });
    };
    thread::Builder::new()
        .name("hangups".to_owned())
        .spawn(count)
        .context("cannot start the signals' thread")?;
    Ok(count_rx)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[expect(clippy::exit, reason = "nothing is left that could be cleaned up, or nobody waits for it")]
fn exit(exit: Exit) -> ! {
    process::exit(exit as i32)
}
