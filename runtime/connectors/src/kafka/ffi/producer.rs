//! Writing records in batches.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as Vtype;
use sys::rd_kafka_vu_s__bindgen_ty_1 as Value;

use super::events::{Events, Problem, events_of};
use super::{ErrorCode, Handle, NativeError, Role, c_string, millis};
use crate::kafka::headers::Header;

/// librdkafka chooses the partition.
const ANY_PARTITION: i32 = -1;

/// One record to write.
#[derive(Debug, Clone, Copy)]
pub(in crate::kafka) struct Record<'a> {
    /// Its key; `None` is no key.
    pub(in crate::kafka) key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub(in crate::kafka) value: Option<&'a [u8]>,
}

/// A record with what only [`Producer::produce_each`] can write.
#[derive(Debug, Clone, Copy)]
pub(in crate::kafka) struct FullRecord<'a> {
    pub(in crate::kafka) record: Record<'a>,
    /// Its headers.
    pub(in crate::kafka) headers: &'a [Header],
    /// Milliseconds since 1970; `None` is now.
    pub(in crate::kafka) timestamp_ms: Option<i64>,
}

impl Record<'_> {
    /// Bytes of key and value.
    pub(in crate::kafka) fn bytes(self) -> usize {
        self.value.map_or(0, <[u8]>::len) + self.key.map_or(0, <[u8]>::len)
    }
}

/// Why records could not be put into the queue.
#[derive(Debug)]
pub(in crate::kafka) enum Enqueue<E> {
    /// librdkafka refuses a record.
    Refused(NativeError),
    /// What was called while the queue was full gave up.
    GaveUp(E),
}

/// A producer for one topic.
pub(in crate::kafka) struct Producer {
    topic: NonNull<sys::rd_kafka_topic_t>,
    /// Kept between calls for its memory; empty outside [`produce`](Self::produce), as what it
    /// points to belongs to the caller.
    records: Vec<sys::rd_kafka_message_t>,
    handle: Handle,
}

// SAFETY: the topic belongs to the handle, which may move between threads; `records` is empty
// whenever nobody is inside `produce`.
unsafe impl Send for Producer {}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    /// Starts a producer. Does not wait for a connection.
    ///
    /// # Errors
    /// librdkafka refuses an option.
    pub(in crate::kafka) fn new(
        options: &[(&str, String)],
        topic: &str,
        events: Arc<Events>,
    ) -> Result<Self, String> {
        let handle = Handle::new(Role::Producer, options, events)?;
        let name = c_string(topic);
        // SAFETY: the instance and the name are valid; the topic is destroyed before the instance.
        let topic =
            unsafe { sys::rd_kafka_topic_new(handle.ptr(), name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| "the topic's name is refused".to_owned())?;
        Ok(Self {
            topic,
            records: Vec::new(),
            handle,
        })
    }

    /// News from librdkafka.
    pub(in crate::kafka) fn events(&self) -> &Events {
        &self.handle.events
    }

    /// Gets a producer id and epoch, aborting what an earlier incarnation has open. May be called
    /// again after a timeout to go on waiting.
    ///
    /// # Errors
    /// Not done within `timeout`, or refused.
    pub(in crate::kafka) fn init_transactions(&self, timeout: Duration) -> Result<(), NativeError> {
        // SAFETY: the instance is valid.
        NativeError::check_object(unsafe {
            sys::rd_kafka_init_transactions(self.handle.ptr(), millis(timeout))
        })
    }

    /// Begins a transaction, in this instance only: the broker hears of it with the first record.
    ///
    /// # Errors
    /// The instance is in no state for it.
    pub(in crate::kafka) fn begin_transaction(&self) -> Result<(), NativeError> {
        // SAFETY: the instance is valid.
        NativeError::check_object(unsafe { sys::rd_kafka_begin_transaction(self.handle.ptr()) })
    }

    /// Copies records into the queue. Calls `when_full`, which should wait a little, while the
    /// queue is full.
    ///
    /// # Errors
    /// A record is refused, or `when_full` gives up; earlier records are in the queue.
    pub(in crate::kafka) fn produce<'a, E>(
        &mut self,
        partition: Option<i32>,
        records: impl Iterator<Item = Record<'a>>,
        mut when_full: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<(), Enqueue<E>> {
        let mut pending = std::mem::take(&mut self.records);
        pending.extend(records.map(message));
        let mut rest = pending.as_mut_slice();
        let mut outcome = Ok(());
        while !rest.is_empty() && outcome.is_ok() {
            let queued = self.enqueue(partition.unwrap_or(ANY_PARTITION), rest);
            if queued == rest.len() {
                break;
            }
            let failed = rest
                .iter()
                .position(|one| one.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            let first = failed.unwrap_or(0);
            let code = rest[first].err;
            // After the first record that did not fit, none was taken.
            if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                rest = &mut rest[first..];
                outcome = when_full(self).map_err(Enqueue::GaveUp);
            } else {
                outcome = Err(Enqueue::Refused(NativeError::from_code(code)));
            }
        }
        pending.clear();
        self.records = pending;
        outcome
    }

    /// As [`produce`](Self::produce), record by record, with headers and timestamps.
    ///
    /// # Errors
    /// As [`produce`](Self::produce).
    pub(in crate::kafka) fn produce_each<'a, E>(
        &mut self,
        partition: Option<i32>,
        records: impl Iterator<Item = FullRecord<'a>>,
        mut when_full: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<(), Enqueue<E>> {
        for record in records {
            while let Err(error) = self.enqueue_one(partition.unwrap_or(ANY_PARTITION), &record) {
                if error.code != ErrorCode::QueueFull {
                    return Err(Enqueue::Refused(error));
                }
                when_full(self).map_err(Enqueue::GaveUp)?;
            }
        }
        Ok(())
    }

    fn enqueue_one(&self, partition: i32, record: &FullRecord<'_>) -> Result<(), NativeError> {
        let headers = HeaderList::new(record.headers)?;
        let Record { key, value } = record.record;
        let mut units = vec![
            unit(
                Vtype::RD_KAFKA_VTYPE_RKT,
                Value {
                    rkt: self.topic.as_ptr(),
                },
            ),
            unit(Vtype::RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition }),
            unit(
                Vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                Value {
                    i: sys::RD_KAFKA_MSG_F_COPY,
                },
            ),
            unit(Vtype::RD_KAFKA_VTYPE_VALUE, memory(value)),
            unit(Vtype::RD_KAFKA_VTYPE_KEY, memory(key)),
        ];
        if let Some(millis) = record.timestamp_ms {
            units.push(unit(
                Vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                Value { i64_: millis },
            ));
        }
        if let Some(list) = &headers {
            let headers = Value {
                headers: list.0.as_ptr(),
            };
            units.push(unit(Vtype::RD_KAFKA_VTYPE_HEADERS, headers));
        }
        // SAFETY: the topic is valid. Key and value are borrowed by the caller of `produce_each` and
        // are copied here (MSG_F_COPY). The headers belong to librdkafka from its success on.
        NativeError::check_object(unsafe {
            sys::rd_kafka_produceva(self.handle.ptr(), units.as_ptr(), units.len())
        })?;
        std::mem::forget(headers);
        Ok(())
    }

    /// Returns how many were taken.
    fn enqueue(&self, partition: i32, records: &mut [sys::rd_kafka_message_t]) -> usize {
        let count = c_int::try_from(records.len()).unwrap_or(c_int::MAX);
        // SAFETY: the topic is valid. Payloads and keys are borrowed by the caller of `produce`
        // for as long as it runs, and are copied here (MSG_F_COPY); `count` is at most their
        // number.
        let taken = unsafe {
            sys::rd_kafka_produce_batch(
                self.topic.as_ptr(),
                partition,
                sys::RD_KAFKA_MSG_F_COPY,
                records.as_mut_ptr(),
                count,
            )
        };
        usize::try_from(taken).unwrap_or(0)
    }

    /// Hands over news, waiting up to `timeout` for some.
    pub(in crate::kafka) fn poll(&self, timeout: Duration) {
        // SAFETY: the instance is valid.
        unsafe { sys::rd_kafka_poll(self.handle.ptr(), millis(timeout)) };
    }

    /// Sends everything in the queue without lingering, waiting up to `timeout` for the brokers'
    /// answers. Whether all of it has one, good or bad.
    pub(in crate::kafka) fn flush(&self, timeout: Duration) -> bool {
        // SAFETY: the instance is valid.
        let code = unsafe { sys::rd_kafka_flush(self.handle.ptr(), millis(timeout)) };
        code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Records without an answer yet.
    pub(in crate::kafka) fn queued(&self) -> usize {
        // SAFETY: the instance is valid.
        let count = unsafe { sys::rd_kafka_outq_len(self.handle.ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Whether a broker can be reached now.
    pub(in crate::kafka) fn reaches_a_broker(&self, timeout: Duration) -> bool {
        self.handle.reaches_a_broker(timeout)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: the topic is ours and is destroyed once, before the instance. Destroying an
        // instance sends no EndTxn: an open transaction stays as it is (`rd_kafka_txns_term`).
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

const fn message(record: Record<'_>) -> sys::rd_kafka_message_t {
    let (key, key_len) = parts(record.key);
    let (payload, len) = parts(record.value);
    sys::rd_kafka_message_t {
        err: sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload,
        len,
        key,
        key_len,
        offset: 0,
        _private: ptr::null_mut(),
    }
}

/// Bytes as librdkafka takes them, which only reads them; null is none at all.
const fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    match bytes {
        Some(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len()),
        None => (ptr::null_mut(), 0),
    }
}

const fn unit(vtype: Vtype, u: Value) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype, u }
}

const fn memory(bytes: Option<&[u8]>) -> Value {
    let (ptr, size) = parts(bytes);
    Value {
        mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
    }
}

/// librdkafka's list of headers.
struct HeaderList(NonNull<sys::rd_kafka_headers_t>);

impl HeaderList {
    /// A copy; `None` if there are none.
    fn new(headers: &[Header]) -> Result<Option<Self>, NativeError> {
        if headers.is_empty() {
            return Ok(None);
        }
        // SAFETY: librdkafka aborts when memory is out, so the list is never null.
        let list =
            Self(unsafe { NonNull::new_unchecked(sys::rd_kafka_headers_new(headers.len())) });
        for header in headers {
            let (value, size) = parts(header.value.as_deref());
            let sizes = (isize::try_from(header.name.len()), isize::try_from(size));
            let (Ok(name_size), Ok(size)) = sizes else {
                unreachable!("no slice is longer than isize::MAX")
            };
            // SAFETY: the list is ours; name and value are copied during the call.
            NativeError::check(unsafe {
                sys::rd_kafka_header_add(
                    list.0.as_ptr(),
                    header.name.as_ptr().cast(),
                    name_size,
                    value,
                    size,
                )
            })?;
        }
        Ok(Some(list))
    }
}

impl Drop for HeaderList {
    fn drop(&mut self) {
        // SAFETY: it is ours and destroyed once.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}

/// Sets the callbacks of a producer.
pub(super) fn set_callbacks(config: *mut sys::rd_kafka_conf_t) {
    // SAFETY: the caller made the configuration and still owns it.
    unsafe { sys::rd_kafka_conf_set_dr_msg_cb(config, Some(on_delivery)) }
}

/// With `delivery.report.only.error`, called for records that were not delivered.
unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka calls back with a valid record and the address it was given.
    unsafe {
        let (Some(message), Some(events)) = (message.as_ref(), events_of(opaque)) else {
            return;
        };
        if let Err(error) = NativeError::check(message.err) {
            events.set_problem(Problem::Delivery(error));
        }
    }
}
