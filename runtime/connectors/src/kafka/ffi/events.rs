//! What librdkafka says by itself: errors, failed deliveries, log lines.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_types::Failure;
use rdkafka_sys as sys;

use crate::kafka::failure;

use super::{ERROR_TEXT_BYTES, ErrorCode, NativeError, text_of};

/// Errors of a record itself, as librdkafka's log lines name them.
const OF_A_RECORD: [(&str, ErrorCode); 3] = [
    ("(MSG_SIZE_TOO_LARGE)", ErrorCode::MessageSizeTooLarge),
    ("(INVALID_TIMESTAMP)", ErrorCode::InvalidTimestamp),
    ("(INVALID_RECORD)", ErrorCode::InvalidRecord),
];

/// What ends an instance's work for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) enum Problem {
    /// A record was not delivered.
    Delivery(NativeError),
    /// The open transaction can only be aborted.
    Transaction(String),
    /// The instance cannot go on.
    Fatal(NativeError),
}

/// News from one instance. The first problem is kept: what follows is its consequence.
#[derive(Debug)]
pub(in crate::kafka) struct Events {
    /// Whose instance it is, for log lines.
    owner: String,
    has_problem: AtomicBool,
    commit_failures: AtomicU64,
    news: Mutex<News>,
}

#[derive(Debug, Default)]
struct News {
    problem: Option<Problem>,
    connection: Option<NativeError>,
    trouble_since: Option<Instant>,
}

impl Events {
    pub(in crate::kafka) fn new(owner: String) -> Arc<Self> {
        Arc::new(Self {
            owner,
            has_problem: AtomicBool::new(false),
            commit_failures: AtomicU64::new(0),
            news: Mutex::default(),
        })
    }

    /// What has ended the instance's work, if anything has.
    pub(in crate::kafka) fn problem(&self) -> Option<Problem> {
        if self.has_problem.load(Ordering::Acquire) {
            self.news().problem.clone()
        } else {
            None
        }
    }

    /// How long ago a connection first failed since a broker was last heard; `None` if none has.
    /// Other brokers may be well: whether one is must be asked.
    pub(in crate::kafka) fn trouble_for(&self) -> Option<Duration> {
        self.news().trouble_since.map(|since| since.elapsed())
    }

    /// Something of a broker has come, though perhaps it was on its way for long: the time without
    /// a broker begins anew.
    pub(in crate::kafka) fn heard(&self) {
        let mut news = self.news();
        news.trouble_since = news.trouble_since.map(|_| Instant::now());
    }

    /// A broker has answered just now.
    pub(in crate::kafka) fn answered(&self) {
        self.news().trouble_since = None;
    }

    /// No broker has been there for `waited`; or each refuses the login, which looks the same to
    /// librdkafka.
    pub(in crate::kafka) fn unreachable(&self, servers: &str, waited: Duration) -> Failure {
        let last = self.news().connection.clone();
        match last {
            Some(error) if matches!(error.code, ErrorCode::Authentication | ErrorCode::SSL) => {
                failure::authentication(servers, &error.text)
            }
            Some(error) => failure::unreachable(servers, waited, &error.text),
            None => failure::unreachable(servers, waited, "no connection was made"),
        }
    }

    pub(super) fn set_problem(&self, problem: Problem) {
        self.news().problem.get_or_insert(problem);
        self.has_problem.store(true, Ordering::Release);
    }

    pub(super) fn commit_failed(&self, error: &NativeError) {
        let before = self.commit_failures.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            tracing::warn!(owner = %self.owner, %error, "offsets could not be committed to the group; \
                 the job does not need them, later failures are only counted");
        }
    }

    fn global_error(&self, error: NativeError) {
        tracing::debug!(owner = %self.owner, %error, "librdkafka");
        let mut news = self.news();
        news.trouble_since.get_or_insert_with(Instant::now);
        // That all brokers are down says less than why the last one is.
        if error.code != ErrorCode::AllBrokersDown || news.connection.is_none() {
            news.connection = Some(error);
        }
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the callbacks that producers and consumers share, and the address they are given.
///
/// # Safety
/// `config` is valid. `events` outlives the instance that is made of it.
pub(super) unsafe fn set_callbacks(config: *mut sys::rd_kafka_conf_t, events: &Arc<Events>) {
    // SAFETY: as the caller promises.
    unsafe {
        sys::rd_kafka_conf_set_opaque(config, Arc::as_ptr(events).cast_mut().cast());
        sys::rd_kafka_conf_set_error_cb(config, Some(on_error));
        sys::rd_kafka_conf_set_log_cb(config, Some(on_log));
    }
}

/// The events behind a callback's address.
///
/// # Safety
/// `opaque` was set by [`set_callbacks`], and its instance lives.
pub(super) unsafe fn events_of<'a>(opaque: *mut c_void) -> Option<&'a Events> {
    // SAFETY: as the caller promises.
    unsafe { opaque.cast::<Events>().as_ref() }
}

unsafe extern "C" fn on_error(
    native: *mut sys::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let Ok(code) = sys::rd_kafka_resp_err_t::try_from(code) else {
        return;
    };
    // SAFETY: librdkafka calls back with its own instance, a string, and the address it was given.
    unsafe {
        let Some(events) = events_of(opaque) else {
            return;
        };
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FATAL {
            let mut text = [0 as c_char; ERROR_TEXT_BYTES];
            let code = sys::rd_kafka_fatal_error(native, text.as_mut_ptr(), text.len());
            events.set_problem(Problem::Fatal(NativeError {
                code: ErrorCode::from(code),
                text: text_of(text.as_ptr()),
                is_retriable: false,
            }));
            return;
        }
        events.global_error(NativeError {
            code: ErrorCode::from(code),
            text: text_of(reason),
            is_retriable: true,
        });
    }
}

/// What has ended a transaction. The line ends with the name of the error; what is the fault of a
/// record is told here first, and only then in the record's own report.
fn transaction_error(line: &str) -> Problem {
    let of_a_record = OF_A_RECORD.iter().find(|(name, _)| line.contains(name));
    match of_a_record {
        Some((_, code)) => Problem::Delivery(NativeError {
            code: *code,
            text: line.to_owned(),
            is_retriable: false,
        }),
        None => Problem::Transaction(line.to_owned()),
    }
}

unsafe extern "C" fn on_log(
    native: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: as for `on_error`; the instance's own address is valid during the call.
    let (events, facility, text) = unsafe {
        let Some(events) = events_of(sys::rd_kafka_opaque(native)) else {
            return;
        };
        (events, text_of(facility), text_of(text))
    };
    let owner = &events.owner;
    // An abortable error of a transaction is told in no other way than by its log line, unless
    // records are in the queue.
    if facility == "TXNERR" {
        events.set_problem(transaction_error(&text));
    }
    // Syslog levels. Lost connections are the connector's to judge, so nothing is an error yet.
    match level {
        0..=4 => tracing::warn!(%owner, facility, "librdkafka: {text}"),
        5 | 6 => tracing::debug!(%owner, facility, "librdkafka: {text}"),
        _ => tracing::trace!(%owner, facility, "librdkafka: {text}"),
    }
}
