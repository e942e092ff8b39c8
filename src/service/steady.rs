//! The Kafka client lives by a clock that is set; what it does must not depend on that.
#![expect(
    unsafe_code,
    reason = "a function of the C library, called by C; a call that rdkafka does not wrap"
)]

use std::ffi::CString;

use rdkafka::ClientContext;
use rdkafka::bindings::{rd_kafka_oauthbearer_set_token, rd_kafka_oauthbearer_set_token_failure};
use rdkafka::client::Client;
use rdkafka::error::IsError as _;
use tracing::debug;

/// Gives the client another token. By itself it asks for one at a time of day, too late if the clock was set back.
pub fn renew_token<C: ClientContext>(client: &Client<C>) {
    let token = client.context().generate_oauth_token(None).map_err(|error| error.to_string());
    let text = |text: String| CString::new(text).map_err(|error| error.to_string());
    let parts =
        token.and_then(|token| Ok((text(token.token)?, text(token.principal_name)?, token.lifetime_ms)));
    let mut reason = [0; 512];
    // SAFETY: the client lives as long as the reference to it; it copies the texts, which end in a zero each, and writes no
    // more of its reason than there is room for.
    let is_refused = match &parts {
        Ok((value, principal, expires_ms)) => unsafe {
            rd_kafka_oauthbearer_set_token(
                client.native_ptr(),
                value.as_ptr(),
                *expires_ms,
                principal.as_ptr(),
                std::ptr::null_mut(),
                0,
                reason.as_mut_ptr(),
                reason.len(),
            )
        }
        .is_error(),
        Err(_) => true,
    };
    if is_refused {
        debug!(error = parts.err(), "cannot renew a token");
        // SAFETY: as above.
        unsafe { rd_kafka_oauthbearer_set_token_failure(client.native_ptr(), c"no token".as_ptr()) };
    }
}

/// librdkafka measures time by the monotonic clock, but its threads sleep until a time of day, with C's `cnd_timedwait`. Set
/// back by hours, as after a restore, the clock would let them sleep for hours: nothing is polled, no heartbeat goes out, no
/// broker is tried again. There is no setting for that, so the program brings its own function of this name, which turns
/// the time of day into a time of the monotonic clock when the wait begins; the linker prefers it to that of the C library.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    not(target_feature = "crt-static")
))]
mod waits {
    use std::ffi::{c_int, c_void};

    const REALTIME: c_int = 0;
    const MONOTONIC: c_int = 1;
    const SECOND: i64 = 1_000_000_000;

    /// What C's thread functions answer, by the values of glibc's `<threads.h>`.
    const SUCCESS: c_int = 0;
    const ERROR: c_int = 2;
    const TIMED_OUT: c_int = 4;
    /// `ETIMEDOUT`.
    const TOO_LATE: c_int = 110;

    /// The C library's `struct timespec` where pointers have 64 bits.
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    unsafe extern "C" {
        fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
        fn pthread_cond_clockwait(
            condition: *mut c_void,
            mutex: *mut c_void,
            clock: c_int,
            until: *const Timespec,
        ) -> c_int;
    }

    /// Nanoseconds that a clock shows.
    fn shown(clock: c_int) -> i64 {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: the function writes to the one place that it is given, and these two clocks always are.
        unsafe { clock_gettime(clock, &raw mut time) };
        time.seconds.saturating_mul(SECOND).saturating_add(time.nanoseconds)
    }

    /// Waits as the C library's own, for as long as it is until then by the time of day at the beginning.
    ///
    /// # Safety
    ///
    /// As of the C library's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn cnd_timedwait(
        condition: *mut c_void,
        mutex: *mut c_void,
        until: *const Timespec,
    ) -> c_int {
        // SAFETY: the caller gives a time.
        let Timespec { seconds, nanoseconds } = unsafe { until.read() };
        let left = seconds.saturating_mul(SECOND).saturating_add(nanoseconds).saturating_sub(shown(REALTIME));
        let end = shown(MONOTONIC).saturating_add(left.max(0));
        let end = Timespec { seconds: end / SECOND, nanoseconds: end % SECOND };
        // SAFETY: the caller gives a condition and a mutex that it holds; the end outlives the call. To glibc, C's conditions
        // and mutexes are those of POSIX.
        match unsafe { pthread_cond_clockwait(condition, mutex, MONOTONIC, &raw const end) } {
            0 => SUCCESS,
            TOO_LATE => TIMED_OUT,
            _ => ERROR,
        }
    }
}
