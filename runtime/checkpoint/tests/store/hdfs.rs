//! The chain in HDFS.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use millstream_checkpoint::{
    ClaimedChain, Error, HdfsOptions, Storage, StorageOptions, read_savepoint, reserve,
};
use millstream_hdfs::Hdfs as Client;
use millstream_tests::{Hdfs, wait_until};
use millstream_types::{Attempt, CheckpointId, ErrorKind, Failure};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::race::Race;
use crate::sample::{NOW, chain, holder, job, manifest};
use crate::uploads::{damage_is_seen_at_the_end, files_are_read_as_they_were_written};

/// Where a process that is to be killed writes.
const STORE: &str = "MILLSTREAM_TEST_HDFS";
const DEADLINE: Duration = Duration::from_mins(1);

fn options(user: &str) -> StorageOptions {
    StorageOptions {
        hdfs: HdfsOptions {
            user: Some(user.to_owned()),
            ..HdfsOptions::default()
        },
        ..StorageOptions::default()
    }
}

async fn open(hdfs: &Hdfs, path: &str) -> Storage {
    Storage::open(&hdfs.uri(path), &options(Hdfs::USER))
        .await
        .unwrap()
}

async fn decide(claimed: &mut ClaimedChain, id: u64) {
    let decided = claimed.decide(manifest(claimed.attempt(), id)).await;
    claimed.committed(decided.unwrap()).await.unwrap();
}

/// Names of the slots of a storage's chain, and of whatever else lies beside them.
fn slots(hdfs: &Hdfs, path: &str) -> Vec<String> {
    let folder = format!("{path}/default/orders/chain");
    let files = hdfs.files(&folder).into_iter();
    let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    files.map(|file| name(&file.path)).collect()
}

#[tokio::test]
async fn a_job_lives_in_hdfs_as_it_lives_in_a_directory() {
    let hdfs = Hdfs::shared();
    let options = options(Hdfs::USER);
    let storage = open(hdfs, "/life").await;
    storage.probe().await.unwrap();
    assert_eq!(hdfs.files("/life"), [], "a probe leaves nothing");

    let (mut first, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    for id in 1..=5 {
        decide(&mut first, id).await;
    }
    assert_eq!(first.collect_garbage(2).await.unwrap().slots, 6);
    // The claim stays, and two checkpoints with their confirmations.
    let left: Vec<String> = slots(hdfs, "/life")
        .iter()
        .map(|name| name.trim_start_matches('0').to_owned())
        .collect();
    assert_eq!(left, ["1.json", "8.json", "9.json", "10.json", "11.json"]);
    let savepoint = first.savepoint("now", manifest(Attempt(1), 6)).await;
    let savepoint = savepoint.unwrap().path;
    assert_eq!(savepoint, hdfs.uri("/life/default/orders/savepoints/now"));
    let read = read_savepoint(&savepoint, &options).await.unwrap();
    assert_eq!(read, manifest(Attempt(1), 6));

    let (_second, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(state.newest.as_ref().unwrap().checkpoint, CheckpointId(5));
    assert!(state.newest_is_committed());
    let fenced = first.decide(manifest(Attempt(1), 7)).await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })));
    let by_job = read_savepoint(&chain(&storage).path(), &options).await;
    assert_eq!(Some(by_job.unwrap()), state.newest);
}

#[tokio::test]
async fn files_in_hdfs_are_read_as_they_were_written() {
    let storage = open(Hdfs::shared(), "/files").await;
    files_are_read_as_they_were_written(&storage).await;
}

#[tokio::test]
async fn damage_to_a_file_in_hdfs_is_seen_at_its_end() {
    damage_is_seen_at_the_end(&open(Hdfs::shared(), "/damage").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_one_complete_one_wins_each_name_in_hdfs() {
    const WRITERS: usize = 64;
    const NAMES: usize = 8;
    let hdfs = Hdfs::shared();
    let start = Arc::new(Barrier::new(WRITERS));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        // Each has a client and a connection of its own.
        let storage = open(hdfs, "/many").await;
        let start = Arc::clone(&start);
        writers.spawn(async move {
            let owner = job(&format!("writer-{writer}"));
            let mut won = Vec::new();
            for name in 0..NAMES {
                start.wait().await;
                match reserve(&storage, &name.to_string(), &owner, None).await {
                    Ok(()) => won.push((name, owner.to_string())),
                    Err(Error::PathTaken { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            won
        });
    }
    let mut won: Vec<(usize, String)> = writers.join_all().await.concat();
    won.sort();
    let names: Vec<usize> = won.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, (0..NAMES).collect::<Vec<usize>>());
    let files = hdfs.files("/many");
    assert_eq!(files.len(), NAMES, "no temporary file is left: {files:?}");
    for (name, owner) in won {
        let text = hdfs.text(&format!("/many/reservations/{name}.json"));
        let owner = owner.rsplit('/').next().unwrap();
        assert!(text.contains(&format!("\"{owner}\"")), "{owner}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_decides_while_it_is_deposed_is_what_is_restored_in_hdfs() {
    let hdfs = Hdfs::shared();
    let mut race = Race::new(open(hdfs, "/race").await, open(hdfs, "/race").await).await;
    for round in 1..=30 {
        race.round(round, round % 4).await;
    }
    race.end().await;
}

/// A process that is killed while it writes the file that is to become a slot: the file of its half is
/// open.
fn kill_a_writer(hdfs: &Hdfs, temporary: &str) {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hdfs::a_writer_that_writes_half_a_slot"])
        .env(STORE, hdfs.authority())
        .env("MILLSTREAM_TEST_PATH", temporary)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let has_begun = || hdfs.files(temporary.rsplit_once('/').unwrap().0);
    wait_until("the writer has begun", DEADLINE, || {
        let found = has_begun();
        found.iter().any(|found| found.path == temporary)
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What the process of the next test does.
#[tokio::test]
async fn a_writer_that_writes_half_a_slot() {
    let Ok(authority) = std::env::var(STORE) else {
        return;
    };
    let path = std::env::var("MILLSTREAM_TEST_PATH").unwrap();
    let options = options(Hdfs::USER).hdfs;
    let client = Client::new(&authority, options).unwrap();
    let half = stream::iter([Ok::<_, millstream_hdfs::Error>(Bytes::from_static(
        b"{\"ver",
    ))]);
    let pieces = half.chain(stream::pending()).boxed();
    client.write_pieces(&path, pieces).await.unwrap();
}

#[tokio::test]
async fn a_writer_killed_before_it_closes_leaves_no_half_slot_and_its_file_is_collected() {
    let hdfs = Hdfs::shared();
    let storage = open(hdfs, "/killed").await;
    let (mut owner, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let slot = "00000000000000000002.json";
    let folder = "/killed/default/orders/chain";
    let temporary = format!("{folder}/.{slot}.0123.tmp");
    kill_a_writer(hdfs, &temporary);
    assert_eq!(slots(hdfs, "/killed").len(), 2);
    // As long as the lease of the dead writer lives.
    let state = chain(&storage).observe().await.unwrap();
    assert_eq!((state.claims.len(), state.newest), (1, None));
    // And after the NameNode has closed the half of the file.
    hdfs.recover_lease(&temporary);
    assert!(chain(&storage).observe().await.unwrap().newest.is_none());
    decide(&mut owner, 1).await;
    let found = slots(hdfs, "/killed");
    assert!(found.contains(&slot.to_owned()), "{found:?}");

    // Another one dies just so, and its file is still open when the next attempt collects garbage.
    let open = format!("{folder}/.00000000000000000003.json.4567.tmp");
    kill_a_writer(hdfs, &open);
    let (mut next, _) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    for id in 2..=4 {
        decide(&mut next, id).await;
    }
    next.collect_garbage(1).await.unwrap();
    let found = slots(hdfs, "/killed");
    assert!(found.iter().all(|name| !name.starts_with('.')), "{found:?}");
}

#[tokio::test]
async fn what_a_user_may_not_do_is_said_with_what_to_do() {
    let hdfs = Hdfs::shared();
    let storage = Storage::open(&hdfs.uri("/private"), &options("eve")).await;
    let error = storage.unwrap().probe().await.unwrap_err();
    let failure = error.into_failure_of_first_start();
    assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
    for part in ["eve", "Permission denied", "HADOOP_USER_NAME"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    let nobody = Storage::open("hdfs://nowhere/x", &options("eve")).await;
    let error = nobody.unwrap_err().to_string();
    assert!(error.contains("dfs.ha.namenodes.nowhere"), "{error}");
}

/// A coordinator that goes on after an outage, as one does that is started again and again: claims the
/// chain and decides the next checkpoint.
async fn decided_anew(storage: &Storage) -> u64 {
    let began = Instant::now();
    loop {
        match try_to_decide(storage).await {
            Err(Error::Unavailable { .. }) if began.elapsed() < DEADLINE => {}
            decided => return decided.unwrap(),
        }
    }
}

async fn try_to_decide(storage: &Storage) -> Result<u64, Error> {
    let (mut owner, state) = chain(storage).claim(holder("next"), NOW).await?;
    let id = state.next_checkpoint.0;
    let permit = owner.decide(manifest(owner.attempt(), id)).await?;
    owner.committed(permit).await?;
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_of_hdfs_are_errors_that_end_with_them() {
    let hdfs = Arc::new(Hdfs::start());
    let mut options = options(Hdfs::USER);
    options.hdfs.attempts = 2;
    options.hdfs.attempt_timeout = Duration::from_secs(3);
    let uri = hdfs.uri("/checkpoints");
    let storage = Storage::open(&uri, &options).await.unwrap();
    let (mut owner, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    decide(&mut owner, 1).await;

    hdfs.set_safe_mode(true);
    let error = owner.decide(manifest(Attempt(1), 2)).await.map(drop);
    let failure = Failure::from(error.unwrap_err());
    assert_eq!(failure.kind, ErrorKind::Retryable, "{failure}");
    assert!(failure.message.contains("is in safe mode"), "{failure}");
    let read = chain(&storage).observe().await.unwrap();
    assert_eq!(read.newest.unwrap().checkpoint, CheckpointId(1));
    // Who has patience goes on when it ends.
    let patient = Storage::open(&uri, &self::options(Hdfs::USER))
        .await
        .unwrap();
    let (decided, ()) = tokio::join!(decided_anew(&patient), async {
        // On another thread: the command takes a second or two.
        let hdfs = Arc::clone(&hdfs);
        let left = tokio::task::spawn_blocking(move || hdfs.set_safe_mode(false));
        left.await.unwrap();
    });
    assert!(decided >= 2);
    let mut hdfs = Arc::into_inner(hdfs).unwrap();

    // Without a DataNode nothing is written or read, and nothing is taken for done.
    assert!(hdfs.data_node().kill());
    let unread = chain(&storage).observe().await.map(drop).unwrap_err();
    assert!(matches!(unread, Error::Unavailable { .. }), "{unread:?}");
    hdfs.restart_data_node();
    hdfs.wait_until_ready(0);
    let after = decided_anew(&patient).await;
    assert!(after > decided);

    // A NameNode that says nothing, and then goes on.
    hdfs.name_node(0).pause();
    let silent = Failure::from(storage.probe().await.unwrap_err());
    assert!(silent.message.contains("no answer within 3s"), "{silent}");
    hdfs.name_node(0).resume();
    let after_pause = decided_anew(&patient).await;

    // One that is killed in the middle, and starts again with what was decided.
    let (mut owner, state) = chain(&patient).claim(holder("z"), NOW).await.unwrap();
    let mut decided = state.next_checkpoint.0;
    assert!(decided > after_pause);
    decide(&mut owner, decided).await;
    let next = manifest(owner.attempt(), decided + 1);
    let (cut, ()) = tokio::join!(owner.decide(next), async {
        hdfs.name_node(0).kill();
    });
    decided += u64::from(cut.is_ok());
    hdfs.restart_name_node(0);
    hdfs.wait_until_ready(0);
    // What was said to be decided is there; what was cut may be.
    let next = decided_anew(&patient).await;
    assert!(next > decided, "{next} after {decided}");
    let state = chain(&patient).observe().await.unwrap();
    assert_eq!(state.newest.unwrap().checkpoint.0, next);
}

/// The active NameNode is killed, the other one becomes active, and the first comes back as the standby:
/// nothing that was decided is lost, whichever of them is asked first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_a_name_service_goes_on_when_its_active_name_node_is_killed() {
    let mut hdfs = Hdfs::start_name_service();
    let mut options = options(Hdfs::USER);
    options.hdfs.configuration = Some(hdfs.client_configuration());
    let uri = hdfs.uri("/checkpoints");
    assert_eq!(uri, "hdfs://analytics/checkpoints");
    let storage = Storage::open(&uri, &options).await.unwrap();
    storage.probe().await.unwrap();
    let mut decided = 0;
    for round in 0..4_usize {
        let next = decided_anew(&storage).await;
        assert!(next > decided, "{next} after {decided}");
        let (active, standby) = (round % 2, (round + 1) % 2);
        hdfs.name_node(active).kill();
        hdfs.make_active(standby);
        // While the first one is away, and again when it is back as the standby.
        decided = decided_anew(&storage).await;
        hdfs.restart_name_node(active);
        let fresh = Storage::open(&uri, &options).await.unwrap();
        let newest = chain(&fresh).observe().await.unwrap().newest.unwrap();
        assert_eq!(newest.checkpoint.0, decided);
        hdfs.wait_until_ready(standby);
        hdfs.wait_until_answers(active);
    }
}

/// Where a process finds its file system by Kerberos.
const SECURED: &str = "MILLSTREAM_TEST_SECURED";

/// What the processes of the next test do: the library of Kerberos reads its environment only once.
#[tokio::test]
async fn a_process_with_a_ticket_of_its_own() {
    let Ok(uri) = std::env::var(SECURED) else {
        return;
    };
    let storage = Storage::open(&uri, &StorageOptions::from_env()).await;
    let storage = storage.unwrap();
    if std::env::var("MILLSTREAM_HDFS_KEYTAB").is_ok() {
        storage.probe().await.unwrap();
        assert_eq!(decided_anew(&storage).await, 1);
        let read = chain(&storage).observe().await.unwrap();
        assert_eq!(read.newest.unwrap().checkpoint, CheckpointId(1));
    } else {
        let failure = storage.probe().await.unwrap_err();
        let failure = failure.into_failure_of_first_start();
        assert_eq!(failure.kind, ErrorKind::InvalidJob, "{failure}");
        assert!(failure.message.contains("KRB5CCNAME"), "{failure}");
    }
}

#[test]
fn extended_who_has_a_keytab_is_believed_and_who_has_no_ticket_is_told_what_is_missing() {
    let hdfs = Hdfs::start_with_kerberos();
    let keytab = hdfs.keytab();
    let tickets = millstream_tests::Scratch::new("tickets");
    for with_keytab in [false, true] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "hdfs::a_process_with_a_ticket_of_its_own"])
            .env(SECURED, hdfs.uri("/secured"))
            .env("HADOOP_CONF_DIR", hdfs.client_configuration())
            .env("KRB5_CONFIG", hdfs.krb5_conf())
            .env("KRB5CCNAME", tickets.join("none"));
        if with_keytab {
            let principal = format!("{}@{}", Hdfs::USER, Hdfs::REALM);
            command
                .env("MILLSTREAM_HDFS_PRINCIPAL", principal)
                .env("MILLSTREAM_HDFS_KEYTAB", &keytab);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "with a keytab: {with_keytab}\n{said}"
        );
    }
}
