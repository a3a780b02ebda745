//! A store of objects with conditional writes, and the ways to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, future};
use millstream_checkpoint::storage::simulated::{Answer, Reply, Request, Store};

use crate::world::{ProcessId, Service, World};

/// What is stored.
#[derive(Debug, Default)]
pub(crate) struct Objects(BTreeMap<String, Bytes>);

impl Objects {
    pub(crate) fn carry_out(&mut self, request: Request) -> Reply {
        match request {
            Request::Create(path, bytes) => {
                if self.0.contains_key(&path) {
                    return Reply::Taken;
                }
                self.0.insert(path, bytes);
                Reply::Done
            }
            Request::Put(path, bytes) => {
                self.0.insert(path, bytes);
                Reply::Done
            }
            Request::Read(path) => Reply::Object(self.0.get(&path).cloned()),
            Request::List(folder) => {
                let folder = format!("{}/", folder.trim_end_matches('/'));
                let below = self.0.range(folder.clone()..);
                let below = below.take_while(|(path, _)| path.starts_with(&folder));
                let size = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Reply::Listing(
                    below
                        .map(|(path, bytes)| (path.clone(), size(bytes)))
                        .collect(),
                )
            }
            Request::Delete(path) => {
                self.0.remove(&path);
                Reply::Done
            }
        }
    }

    /// Whether a decided checkpoint that is still there names this.
    pub(crate) fn decided_names(&self, wanted: &str) -> bool {
        let slots = self.0.iter().filter(|(path, _)| path.contains("/chain/"));
        let holds = |bytes: &Bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.contains("heckpoint") && text.contains(wanted)
        };
        slots.into_iter().any(|(_, bytes)| holds(bytes))
    }
}

/// The store as one process reaches it.
#[derive(Debug)]
pub(crate) struct StoreOf {
    pub(crate) world: Arc<World>,
    pub(crate) process: ProcessId,
}

impl Store for StoreOf {
    fn ask(&self, request: Request) -> BoxFuture<'static, Answer> {
        let name = name_of(&request);
        let answer = self
            .world
            .ask(self.process, Service::Store, name, move |state| {
                let is_create = matches!(request, Request::Create(..));
                let reply = state.store.carry_out(request);
                if is_create && reply == Reply::Taken {
                    state
                        .coverage
                        .reached("store: a conditional write met a taken name");
                }
                reply
            });
        answer.boxed()
    }

    fn nonce(&self) -> String {
        format!("{:032x}", self.world.lock().random.next())
    }
}

/// The store as the audit reaches it: at once.
#[derive(Debug)]
pub(crate) struct DirectStore(pub(crate) Arc<World>);

impl Store for DirectStore {
    fn ask(&self, request: Request) -> BoxFuture<'static, Answer> {
        future::ready(Ok(self.0.lock().store.carry_out(request))).boxed()
    }

    fn nonce(&self) -> String {
        "audit".to_owned()
    }
}

fn name_of(request: &Request) -> String {
    let (verb, path) = match request {
        Request::Create(path, _) => ("create", path),
        Request::Put(path, _) => ("put", path),
        Request::Read(path) => ("read", path),
        Request::List(path) => ("list", path),
        Request::Delete(path) => ("delete", path),
    };
    format!("{verb} {path}")
}
