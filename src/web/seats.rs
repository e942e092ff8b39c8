//! Room for so many connections. When it is full, whoever was answered longest ago makes room for the next caller: those
//! who hold connections and ask nothing, or never come to the end of their question, keep nobody out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Connections at a time: many more than a Prometheus and a few people need. For each we may have to keep half a MiB of a
/// request that does not end, or an answer that nobody reads.
const SEATS: usize = 64;

/// Who sits where.
#[derive(Debug, Default)]
pub struct Seats {
    taken: Vec<Seat>,
    clock: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Seat {
    leave: oneshot::Sender<()>,
    answered: Arc<AtomicU64>,
}

impl Seats {
    /// Gives a connection a seat, somebody else's if there is no other.
    pub fn take<S>(&mut self, stream: S) -> Guest<S> {
        self.taken.retain(|seat| !seat.leave.is_closed());
        if self.taken.len() >= SEATS {
            let answered = |at: &usize| self.taken[*at].answered.load(Ordering::Relaxed);
            let longest_ago = (0..self.taken.len()).min_by_key(answered).expect("all seats are taken");
            // It may have gone by itself since.
            let _ = self.taken.swap_remove(longest_ago).leave.send(());
        }
        let (leave, asked_to_leave) = oneshot::channel();
        let clock = Arc::clone(&self.clock);
        let answered = Arc::new(AtomicU64::new(clock.fetch_add(1, Ordering::Relaxed)));
        self.taken.push(Seat { leave, answered: Arc::clone(&answered) });
        Guest { stream, asked_to_leave: Some(asked_to_leave), has_to_leave: false, answered, clock }
    }
}

/// A connection that can be asked to leave.
#[derive(Debug)]
pub struct Guest<S> {
    stream: S,
    /// `None` once it was asked, or nobody will.
    asked_to_leave: Option<oneshot::Receiver<()>>,
    has_to_leave: bool,
    /// Moments are numbered: the time of day may jump.
    answered: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
}

impl<S> Guest<S> {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(asked) = &mut self.asked_to_leave
            && let Poll::Ready(answer) = Pin::new(asked).poll(context)
        {
            self.asked_to_leave = None;
            // Else the listener has ended: then everybody may finish.
            self.has_to_leave = answer.is_ok();
        }
        if self.has_to_leave {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its seat went to another caller"));
        }
        Ok(())
    }

    /// Before the caller has the answer: with it, it may bring others who would take its seat.
    fn answer(&self) {
        self.answered.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guest<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guest<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        self.answer();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        self.answer();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
