//! Checkpoints in a directory, local or on a network file system.
//!
//! An object is written to a temporary file beside it, made durable, and renamed without
//! overwriting: exactly one complete writer wins a name, whatever crashes (`O_EXCL` could leave
//! an empty winner). Where the file system cannot rename without overwriting, a hard link does
//! the same.

mod blobs;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::door::{Created, Door, Listed};
use crate::storage::temporary::{self, final_name, is_temporary};

/// Folders below a storage root lie this deep at most.
const MAX_DEPTH: usize = 16;

/// A directory as a store.
#[derive(Debug, Clone)]
pub(crate) struct FileDoor {
    root: PathBuf,
}

impl FileDoor {
    /// A store below this directory, which is made with the first object.
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, key: &Key) -> PathBuf {
        // A key's segments are escaped, or come from a listing of this directory.
        self.root.join(key.as_str())
    }

    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &Key,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let path = self.path(key);
        let address = self.address(key);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&path)).await;
            done.map_err(io::Error::other)
                .flatten()
                .map_err(|error| Error::unavailable(operation, address, error))
        })
    }
}

impl Door for FileDoor {
    fn address(&self, key: &Key) -> String {
        format!("file://{}", self.path(key).display())
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        self.run("create", key, move |path| create(path, &bytes))
    }

    fn confirm<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        self.run("make durable", key, |path| {
            File::open(path)?.sync_all()?;
            sync_folder(path)
        })
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        self.run("write", key, move |path| {
            let temporary = write_temporary(path, &bytes)?;
            fs::rename(&temporary, path).inspect_err(|_| discard(&temporary))?;
            sync_folder(path)
        })
    }

    fn read<'a>(&'a self, key: &'a Key, most: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.run("read", key, move |path| read(path, most))
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>>> {
        let after = after.map(str::to_owned);
        let parent = folder.clone();
        self.run("list", folder, move |path| {
            let mut found = Vec::new();
            walk(path, "", MAX_DEPTH, &mut found)?;
            found.retain(|(name, _)| {
                !is_temporary(name) && after.as_ref().is_none_or(|after| name > after)
            });
            found.sort();
            Ok(found
                .into_iter()
                .map(|(name, bytes)| Listed::below(&parent, name, bytes))
                .collect())
        })
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        self.run("list", folder, |path| {
            let mut names = Vec::new();
            for entry in entries(path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        let root = self.root.clone();
        self.run("delete", key, move |path| {
            absent_is_fine(fs::remove_file(path))?;
            remove_empty_folders(path, &root);
            Ok(())
        })
    }

    fn remove_unfinished<'a>(
        &'a self,
        folder: &'a Key,
        of: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let found = self
                .run("list", folder, |path| {
                    let mut found = Vec::new();
                    walk(path, "", MAX_DEPTH, &mut found)?;
                    Ok(found)
                })
                .await?;
            let mut removed = 0;
            for (name, _) in found {
                if final_name(&name).is_some_and(|name| of(&name)) {
                    let key = Listed::below(folder, name, 0).key;
                    self.run("delete", &key, |path| absent_is_fine(fs::remove_file(path)))
                        .await?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<Created> {
    if path.try_exists()? {
        return Ok(Created::Taken);
    }
    let temporary = write_temporary(path, bytes)?;
    let created = take_name(&temporary, path).inspect_err(|_| discard(&temporary))?;
    if created == Created::New {
        sync_folder(path)?;
    }
    Ok(created)
}

/// Gives the temporary file its name if nobody has it; the temporary name is gone afterwards.
fn take_name(temporary: &Path, path: &Path) -> io::Result<Created> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Created::New),
        Err(Errno::EXIST) => {
            fs::remove_file(temporary)?;
            Ok(Created::Taken)
        }
        Err(Errno::INVAL | Errno::NOSYS) => link_name(temporary, path),
        Err(error) => Err(error.into()),
    }
}

/// As [`take_name`], where the file system cannot rename without overwriting.
fn link_name(temporary: &Path, path: &Path) -> io::Result<Created> {
    let created = match fs::hard_link(temporary, path) {
        Ok(()) => Created::New,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Created::Taken,
        Err(error) => return Err(error),
    };
    fs::remove_file(temporary)?;
    Ok(created)
}

/// Writes a durable file beside `path`.
fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    create_folders(path.parent().unwrap_or(path))?;
    let temporary = temporary_path(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| discard(&temporary))?;
    Ok(temporary)
}

/// A name for a temporary file beside `path`, which says what it is to become.
fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(temporary::name(&name))
}

/// Removes a temporary file after a failure. What stays is removed with the garbage.
fn discard(temporary: &Path) {
    if let Err(error) = absent_is_fine(fs::remove_file(temporary)) {
        tracing::warn!(file = %temporary.display(), %error, "temporary file stays behind");
    }
}

/// Makes a folder and its parents, each durable in the one above it.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(folder),
    }
}

/// Makes the name of `path` durable in its folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn read(path: &Path, most: usize) -> io::Result<Option<Bytes>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    match file.take(most).read_to_end(&mut bytes) {
        // A folder is no object.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok(Some(bytes.into())),
    }
}

fn entries(folder: &Path) -> io::Result<Vec<io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All files below a folder with their sizes. Files that go while it looks are left out.
fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<(String, u64)>,
) -> io::Result<()> {
    for entry in entries(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{name}");
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_file() {
            found.push((name, metadata.len()));
        } else if metadata.is_dir() && depth > 0 {
            walk(&entry.path(), &format!("{name}/"), depth - 1, found)?;
        }
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Folders are an accident of file systems: those that a deletion has emptied go too.
fn remove_empty_folders(path: &Path, root: &Path) {
    let mut folder = path.parent();
    while let Some(empty) = folder.filter(|folder| *folder != root && folder.starts_with(root)) {
        if fs::remove_dir(empty).is_err() {
            return;
        }
        folder = empty.parent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        walk(folder, "", MAX_DEPTH, &mut found).unwrap();
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_second_writer_of_a_name_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("a/b/slot.json");
        assert_eq!(create(&path, b"first").unwrap(), Created::New);
        assert_eq!(create(&path, b"second").unwrap(), Created::Taken);
        assert_eq!(read(&path, 100).unwrap().unwrap(), "first");
        assert_eq!(names(folder.path()), ["a/b/slot.json"]);
    }

    #[test]
    fn the_fallback_by_hard_link_has_one_winner_too() {
        let folder = folder();
        let path = folder.path().join("slot.json");
        for (bytes, outcome) in [(b"first", Created::New), (b"other", Created::Taken)] {
            let temporary = write_temporary(&path, bytes).unwrap();
            assert_eq!(link_name(&temporary, &path).unwrap(), outcome);
        }
        assert_eq!(read(&path, 100).unwrap().unwrap(), "first");
        assert_eq!(names(folder.path()), ["slot.json"]);
    }

    #[tokio::test]
    async fn unfinished_writes_are_not_listed_and_go_when_asked() {
        let folder = folder();
        let door = FileDoor::new(folder.path().to_owned());
        let chain = Key::new(&["chain"]);
        door.create(&chain.child("2.json"), Bytes::from_static(b"x"))
            .await
            .unwrap();
        for name in ["1.json", "3.json"] {
            write_temporary(&folder.path().join("chain").join(name), b"half").unwrap();
        }
        let listed = door.list(&chain, None).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name, "2.json");
        let removed = door.remove_unfinished(&chain, &|name| name < "2").await;
        assert_eq!(removed.unwrap(), 1);
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[tokio::test]
    async fn deleting_the_last_object_of_a_folder_removes_the_folder_but_not_the_root() {
        let folder = folder();
        let door = FileDoor::new(folder.path().to_owned());
        let key = Key::new(&["data", "1", "2", "x"]);
        door.put(&key, Bytes::from_static(b"x")).await.unwrap();
        door.delete(&key).await.unwrap();
        door.delete(&key).await.unwrap();
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
        assert!(folder.path().try_exists().unwrap());
    }
}
