//! In a build without RocksDB there is no store, and nobody is given one.

use std::sync::{Arc, MutexGuard};

use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::keys::Bounds;
use crate::coverage::Sequence;
use crate::{LocalDirectory, Result};

/// What there is none of.
#[derive(Debug)]
pub(crate) enum Store {}

/// A view of what there is none of.
pub(crate) struct View<'a>(&'a Store);

/// Changes for a store that is not there.
pub(crate) struct Writes<'a>(&'a Store);

impl Writes<'_> {
    pub(crate) fn put_row(&mut self, _: &[u8], _: &[u8]) {
        match *self.0 {}
    }

    pub(crate) fn put_change(&mut self, _: &[u8], _: Sequence) {
        match *self.0 {}
    }

    pub(crate) fn put_deletion(&mut self, _: &[u8]) {
        match *self.0 {}
    }

    pub(crate) fn delete_row(&mut self, _: &[u8]) {
        match *self.0 {}
    }

    pub(crate) fn delete_deletion(&mut self, _: &[u8]) {
        match *self.0 {}
    }

    pub(crate) fn delete_changes(&mut self, _: &Bounds) {
        match *self.0 {}
    }

    pub(crate) fn bytes(&self) -> usize {
        match *self.0 {}
    }

    pub(crate) fn commit(self) -> Result<()> {
        match *self.0 {}
    }
}

impl Store {
    pub(crate) fn open(directory: &LocalDirectory, _: u64) -> Result<Self> {
        let message = format!(
            "there is nothing in this build that keeps state in {}",
            directory.path().display()
        );
        Err(Failure::new(
            ErrorCode::LocalStateFailed,
            ErrorKind::Internal,
            message,
        ))
    }

    pub(crate) fn number(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn take_expired(&self, _: u32) -> u64 {
        match *self {}
    }

    pub(crate) fn set_now(&self, _: u64) {
        match *self {}
    }

    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        match *self {}
    }

    pub(crate) fn memory(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn writes(&self) -> Result<Writes<'_>> {
        match *self {}
    }

    pub(crate) fn get(&self, _: &[Vec<u8>], _: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        match *self {}
    }

    pub(crate) fn deletions(&self, _: &Bounds) -> Result<Vec<Vec<u8>>> {
        match *self {}
    }

    pub(crate) fn ingest(&self, _: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn view(self: &Arc<Self>, _: impl FnOnce(&View<'_>) + Send + 'static) -> Result<()> {
        match **self {}
    }
}

impl View<'_> {
    pub(crate) fn rows(
        &self,
        _: &Bounds,
        _: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        match *self.0 {}
    }

    pub(crate) fn changes(
        &self,
        _: u32,
        _: &[Sequence],
        _: &Bounds,
        _: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        match *self.0 {}
    }

    pub(crate) fn get(&self, _: &[Vec<u8>], _: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        match *self.0 {}
    }
}
