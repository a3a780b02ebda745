//! librdkafka, called directly where a call per record would cost too much.
//!
//! The only `unsafe` code of the connectors. The `rdkafka` crate wraps records one at a time; the
//! throughput of both directions comes from librdkafka's batch calls, which it does not have. So a
//! [`Handle`] here owns one `rd_kafka_t`, a [`Producer`] and a [`Consumer`] own one handle each,
//! and what their pointers point to never leaves them except as borrowed slices.
//!
//! Rules for this module:
//! - A pointer is valid from the call that returned it to the `destroy` in the owner's `drop`;
//!   no owner is `Clone`.
//! - Callbacks run on librdkafka's threads, or inside its poll calls. They get the address of an
//!   [`Events`], which the handle keeps alive until `rd_kafka_destroy` has returned, and they never
//!   unwind.

#![expect(unsafe_code, reason = "librdkafka is a C library")]

mod consumer;
mod events;
mod producer;

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka_sys as sys;

pub(super) use consumer::{Consumer, Content, Message, Messages, Place};
pub(super) use events::{Events, Problem};
pub(super) use producer::{Enqueue, FullRecord, Producer, Record};
pub(super) use rdkafka::types::RDKafkaErrorCode as ErrorCode;

/// Bytes for an error text of librdkafka.
const ERROR_TEXT_BYTES: usize = 512;

/// An error that a call of librdkafka returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code:?})")]
pub(super) struct NativeError {
    /// Its code.
    pub(super) code: ErrorCode,
    /// Its text.
    pub(super) text: String,
    /// Whether the same call may succeed later.
    pub(super) is_retriable: bool,
}

impl NativeError {
    fn from_code(code: sys::rd_kafka_resp_err_t) -> Self {
        let code = ErrorCode::from(code);
        Self {
            code,
            text: code.to_string(),
            is_retriable: false,
        }
    }

    fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), Self> {
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            Ok(())
        } else {
            Err(Self::from_code(code))
        }
    }

    /// Reads and frees the error object that newer calls return; null is success.
    fn check_object(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: the object is not null, is ours, and is freed after its text was copied.
        let native = unsafe {
            let code = ErrorCode::from(sys::rd_kafka_error_code(error));
            let text = text_of(sys::rd_kafka_error_string(error));
            let is_retriable = sys::rd_kafka_error_is_retriable(error) != 0;
            sys::rd_kafka_error_destroy(error);
            Self {
                code,
                text,
                is_retriable,
            }
        };
        Err(native)
    }
}

/// What an instance of librdkafka is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Producer,
    Consumer,
}

/// One instance of librdkafka with its threads and connections.
struct Handle {
    role: Role,
    native: NonNull<sys::rd_kafka_t>,
    events: Arc<Events>,
}

// SAFETY: librdkafka is thread-safe on `rd_kafka_t` ("librdkafka is completely thread-safe",
// INTRODUCTION.md), and `Events` is `Sync`.
unsafe impl Send for Handle {}

impl Handle {
    /// Starts an instance with these options.
    ///
    /// # Errors
    /// librdkafka refuses an option; the text names it.
    fn new(role: Role, options: &[(&str, String)], events: Arc<Events>) -> Result<Self, String> {
        let config = native_config(options)?;
        let (kind, set_callbacks): (_, fn(*mut sys::rd_kafka_conf_t)) = match role {
            Role::Producer => (
                sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                producer::set_callbacks,
            ),
            Role::Consumer => (
                sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                consumer::set_callbacks,
            ),
        };
        set_callbacks(config.ptr());
        let mut error = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the configuration is valid and is given away only if `rd_kafka_new` succeeds.
        // `events` outlives the instance: it is kept in the returned handle, whose drop destroys
        // the instance first.
        let native = unsafe {
            events::set_callbacks(config.ptr(), &events);
            sys::rd_kafka_new(kind, config.ptr(), error.as_mut_ptr(), error.len())
        };
        if let Some(native) = NonNull::new(native) {
            return Ok(Self {
                role,
                native,
                events,
            });
        }
        drop(ManuallyDrop::into_inner(config));
        // SAFETY: librdkafka has written a string that ends with 0 within the buffer.
        Err(unsafe { text_of(error.as_ptr()) })
    }

    const fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.native.as_ptr()
    }

    /// Asks any broker for metadata: whether one can be reached.
    fn reaches_a_broker(&self, timeout: Duration) -> bool {
        let mut metadata = ptr::null();
        // SAFETY: the instance is valid; a returned metadata object is freed by its destructor.
        unsafe {
            let code = sys::rd_kafka_metadata(
                self.ptr(),
                0,
                ptr::null_mut(),
                &raw mut metadata,
                millis(timeout),
            );
            if !metadata.is_null() {
                sys::rd_kafka_metadata_destroy(metadata);
            }
            code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A consumer that did not join a group has nothing to close, and closing would wait for
        // commits that a broker does not answer.
        let flags = match self.role {
            Role::Consumer => sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE,
            Role::Producer => 0,
        };
        // SAFETY: nobody else has the pointer; `events` is dropped after this call, in which all
        // of librdkafka's threads end.
        unsafe { sys::rd_kafka_destroy_flags(self.ptr(), flags) }
    }
}

/// The options as librdkafka's own object. Values are not repeated in errors: one is a password.
fn native_config(options: &[(&str, String)]) -> Result<ManuallyDrop<NativeClientConfig>, String> {
    use rdkafka::error::KafkaError;
    let mut config = ClientConfig::new();
    for (name, value) in options {
        config.set(*name, value);
    }
    match config.create_native_config() {
        Ok(config) => Ok(ManuallyDrop::new(config)),
        Err(KafkaError::ClientConfig(_, reason, name, _)) => Err(format!("{name}: {reason}")),
        Err(_) => Err("an option contains a zero byte".to_owned()),
    }
}

/// Copies a string of librdkafka.
///
/// # Safety
/// `text` is null, or points to bytes that end with 0 and do not change during the call.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .trim()
        .to_owned()
}

/// A string for librdkafka. Topic names and options are checked before; none contains a zero.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// A duration for librdkafka; what does not fit is as long as can be.
fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
