//! Reading records in batches.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka_sys as sys;

use super::events::{Events, events_of};
use super::{ErrorCode, Handle, NativeError, Role, c_string, millis, text_of};

/// What librdkafka gives where there is no timestamp.
const NO_TIMESTAMP: i64 = -1;

/// A partition and an offset in it.
#[derive(Debug, Clone, Copy)]
pub(in crate::kafka) struct Place<'a> {
    pub(in crate::kafka) topic: &'a str,
    pub(in crate::kafka) partition: i32,
    pub(in crate::kafka) offset: i64,
}

/// A consumer of explicitly assigned partitions.
pub(in crate::kafka) struct Consumer {
    queue: NonNull<sys::rd_kafka_queue_t>,
    handle: Handle,
}

// SAFETY: the queue belongs to the handle, which may move between threads.
unsafe impl Send for Consumer {}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Starts a consumer without partitions.
    ///
    /// # Errors
    /// librdkafka refuses an option, or there is no `group.id`.
    pub(in crate::kafka) fn new(
        options: &[(&str, String)],
        events: Arc<Events>,
    ) -> Result<Self, String> {
        let handle = Handle::new(Role::Consumer, options, events)?;
        // SAFETY: the instance is valid; the queue is destroyed before it.
        let queue = unsafe {
            NativeError::check(sys::rd_kafka_poll_set_consumer(handle.ptr()))
                .map_err(|error| error.to_string())?;
            sys::rd_kafka_queue_get_consumer(handle.ptr())
        };
        let queue = NonNull::new(queue).ok_or_else(|| "it has no consumer queue".to_owned())?;
        Ok(Self { queue, handle })
    }

    /// News from librdkafka.
    pub(in crate::kafka) fn events(&self) -> &Events {
        &self.handle.events
    }

    /// Begins to fetch partitions from these offsets.
    ///
    /// # Errors
    /// One of them is assigned already.
    pub(in crate::kafka) fn assign<'a>(
        &self,
        places: impl ExactSizeIterator<Item = Place<'a>>,
    ) -> Result<(), NativeError> {
        let list = PlaceList::new(places);
        // SAFETY: instance and list are valid; librdkafka copies the list.
        NativeError::check_object(unsafe {
            sys::rd_kafka_incremental_assign(self.handle.ptr(), list.ptr())
        })
    }

    /// Stops fetching partitions.
    ///
    /// # Errors
    /// One of them is not assigned.
    pub(in crate::kafka) fn unassign<'a>(
        &self,
        places: impl ExactSizeIterator<Item = Place<'a>>,
    ) -> Result<(), NativeError> {
        let list = PlaceList::new(places);
        // SAFETY: as for `assign`.
        NativeError::check_object(unsafe {
            sys::rd_kafka_incremental_unassign(self.handle.ptr(), list.ptr())
        })
    }

    /// Begins to commit offsets to the group. A failure is counted in [`Events`].
    pub(in crate::kafka) fn commit<'a>(&self, places: impl ExactSizeIterator<Item = Place<'a>>) {
        const ASYNCHRONOUS: i32 = 1;
        let list = PlaceList::new(places);
        // SAFETY: as for `assign`.
        let code = unsafe { sys::rd_kafka_commit(self.handle.ptr(), list.ptr(), ASYNCHRONOUS) };
        if let Err(error) = NativeError::check(code) {
            self.events().commit_failed(&error);
        }
    }

    /// Replaces what is left in `messages` by what has been fetched, waiting up to `timeout` for
    /// the first message. Returns how many there are, at most the capacity of `messages`.
    pub(in crate::kafka) fn fetch(&self, messages: &mut Messages, timeout: Duration) -> usize {
        messages.clear();
        let capacity = messages.buffer.len();
        // Asked for more than one, librdkafka waits until it has them all.
        let mut count = self.fetch_into(&mut messages.buffer, Duration::ZERO);
        if count == 0 && !timeout.is_zero() {
            count = self.fetch_into(&mut messages.buffer[..1], timeout);
            if count == 1 && capacity > 1 {
                count += self.fetch_into(&mut messages.buffer[1..], Duration::ZERO);
            }
        }
        messages.end = count;
        count
    }

    fn fetch_into(&self, buffer: &mut [*mut sys::rd_kafka_message_t], timeout: Duration) -> usize {
        // SAFETY: the queue is valid, and at most `buffer.len()` pointers are written. What they
        // point to is ours until `rd_kafka_message_destroy`.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                millis(timeout),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// First offset and end of a partition, asked of its leader.
    ///
    /// # Errors
    /// No answer within `timeout`.
    pub(in crate::kafka) fn range(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), NativeError> {
        let name = c_string(topic);
        let (mut low, mut high) = (0, 0);
        // SAFETY: all pointers are valid during the call.
        NativeError::check(unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.handle.ptr(),
                name.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
                millis(timeout),
            )
        })?;
        Ok((low, high))
    }

    /// Whether a broker can be reached now.
    pub(in crate::kafka) fn reaches_a_broker(&self, timeout: Duration) -> bool {
        self.handle.reaches_a_broker(timeout)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and is destroyed once, before the instance.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Messages that were fetched and not looked at yet. They stay valid when the consumer goes on.
///
/// Each holds its topic and, through it, the instance's memory: drop them before the consumer.
#[derive(Debug)]
pub(in crate::kafka) struct Messages {
    buffer: Vec<*mut sys::rd_kafka_message_t>,
    next: usize,
    end: usize,
}

// SAFETY: messages are plain memory that no librdkafka thread touches after it has given them out.
unsafe impl Send for Messages {}

impl Messages {
    /// Room for so many, at least one.
    pub(in crate::kafka) fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: vec![ptr::null_mut(); capacity.max(1)],
            next: 0,
            end: 0,
        }
    }

    /// Whether all have been looked at.
    pub(in crate::kafka) const fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// Takes the next one; it is freed when it is dropped.
    pub(in crate::kafka) fn next(&mut self) -> Option<Message<'_>> {
        if self.is_empty() {
            return None;
        }
        let native = NonNull::new(self.buffer[self.next]);
        self.next += 1;
        native.map(|native| Message {
            native,
            owner: PhantomData,
        })
    }

    fn clear(&mut self) {
        while let Some(message) = self.next() {
            drop(message);
        }
        (self.next, self.end) = (0, 0);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One message.
pub(in crate::kafka) struct Message<'a> {
    native: NonNull<sys::rd_kafka_message_t>,
    owner: PhantomData<&'a mut Messages>,
}

/// What a message is.
#[derive(Debug)]
pub(in crate::kafka) enum Content<'a> {
    /// A record; `None` is a tombstone.
    Record(Option<&'a [u8]>),
    /// The partition has been read to this offset, its end for now.
    End,
    /// Fetching fails.
    Error(NativeError),
}

impl Message<'_> {
    const fn native(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: it is valid until it is destroyed in `drop`, and nobody else writes to it.
        unsafe { self.native.as_ref() }
    }

    /// What identifies its topic within the instance; 0 for messages without one.
    pub(in crate::kafka) fn topic_key(&self) -> usize {
        self.native().rkt.addr()
    }

    /// Name of its topic; empty for messages without one.
    pub(in crate::kafka) fn topic(&self) -> String {
        let topic = self.native().rkt;
        if topic.is_null() {
            return String::new();
        }
        // SAFETY: the message keeps its topic alive.
        unsafe { text_of(sys::rd_kafka_topic_name(topic)) }
    }

    /// Its partition.
    pub(in crate::kafka) const fn partition(&self) -> i32 {
        self.native().partition
    }

    /// Its offset; for [`Content::End`], the offset that the next record will have.
    pub(in crate::kafka) const fn offset(&self) -> i64 {
        self.native().offset
    }

    /// The record's key, if it has one.
    pub(in crate::kafka) const fn key(&self) -> Option<&[u8]> {
        let message = self.native();
        if message.key.is_null() {
            return None;
        }
        // SAFETY: librdkafka gives a pointer to `key_len` bytes that live as long as the message.
        Some(unsafe { std::slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) })
    }

    /// The record's timestamp, milliseconds since 1970, if it has one.
    pub(in crate::kafka) fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, and the kind is written during the call.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.native(), &raw mut kind) };
        let has_one = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (has_one && millis != NO_TIMESTAMP).then_some(millis)
    }

    /// The record's headers in order, each with its name and, if it has one, its value.
    pub(in crate::kafka) fn headers(&self) -> Headers<'_> {
        let mut native = ptr::null_mut();
        // SAFETY: the message is valid; what is returned belongs to it.
        let code = unsafe { sys::rd_kafka_message_headers(self.native(), &raw mut native) };
        // Without headers, it says that there is no such entry.
        Headers {
            native: NonNull::new(native).filter(|_| NativeError::check(code).is_ok()),
            next: 0,
            owner: PhantomData,
        }
    }

    /// What it is.
    pub(in crate::kafka) fn content(&self) -> Content<'_> {
        let message = self.native();
        match NativeError::check(message.err) {
            Ok(()) if message.payload.is_null() => Content::Record(None),
            Ok(()) => {
                // SAFETY: librdkafka gives a pointer to `len` bytes that live as long as the
                // message.
                let payload = unsafe {
                    std::slice::from_raw_parts(message.payload.cast::<u8>(), message.len)
                };
                Content::Record(Some(payload))
            }
            Err(error) if error.code == ErrorCode::PartitionEOF => Content::End,
            Err(error) => {
                // SAFETY: the message is valid; the text lives as long as it.
                let text = unsafe { text_of(sys::rd_kafka_message_errstr(message)) };
                Content::Error(NativeError { text, ..error })
            }
        }
    }
}

/// Headers of a message.
pub(in crate::kafka) struct Headers<'a> {
    native: Option<NonNull<sys::rd_kafka_headers_t>>,
    next: usize,
    owner: PhantomData<&'a ()>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let native = self.native?;
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list belongs to the message, which outlives `'a`; the pointers are written
        // during the call.
        let code = unsafe {
            sys::rd_kafka_header_get_all(
                native.as_ptr(),
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        NativeError::check(code).ok()?;
        self.next += 1;
        // SAFETY: name and value belong to the message too: a string that ends with 0, and null or
        // a pointer to `size` bytes.
        unsafe {
            let name = CStr::from_ptr(name).to_bytes();
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Some((name, value))
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: it was given out once by `Messages::next`, which never gives it out again.
        unsafe { sys::rd_kafka_message_destroy(self.native.as_ptr()) }
    }
}

/// librdkafka's list of partitions and offsets.
struct PlaceList(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl PlaceList {
    fn new<'a>(places: impl ExactSizeIterator<Item = Place<'a>>) -> Self {
        let size = i32::try_from(places.len()).unwrap_or(0);
        // SAFETY: the list is allocated by librdkafka, which aborts when memory is out, so it is
        // never null; neither is the entry that is added.
        unsafe {
            let list = NonNull::new_unchecked(sys::rd_kafka_topic_partition_list_new(size));
            for place in places {
                let topic = c_string(place.topic);
                let entry = sys::rd_kafka_topic_partition_list_add(
                    list.as_ptr(),
                    topic.as_ptr(),
                    place.partition,
                );
                (*entry).offset = place.offset;
            }
            Self(list)
        }
    }

    const fn ptr(&self) -> *const sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }
}

impl Drop for PlaceList {
    fn drop(&mut self) {
        // SAFETY: it is ours and destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

/// Sets the callbacks of a consumer.
pub(super) fn set_callbacks(config: *mut sys::rd_kafka_conf_t) {
    // SAFETY: the caller made the configuration and still owns it.
    unsafe { sys::rd_kafka_conf_set_offset_commit_cb(config, Some(on_commit)) }
}

unsafe extern "C" fn on_commit(
    _: *mut sys::rd_kafka_t,
    code: sys::rd_kafka_resp_err_t,
    _: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    let Err(error) = NativeError::check(code) else {
        return;
    };
    // There was nothing to commit.
    if error.code == ErrorCode::NoOffset {
        return;
    }
    // SAFETY: librdkafka calls back with the address it was given.
    if let Some(events) = unsafe { events_of(opaque) } {
        events.commit_failed(&error);
    }
}
