//! What drivers do before they measure: a broker, contenders from the command line, warm JVMs.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use millstream_tests::kafka::{Broker, BrokerOptions, KafkaVersion};

use crate::Result;
use crate::contender::{Contender, Field, Settings};
use crate::flink::Flink;

/// A broker that gives the space of deleted topics back soon.
pub fn start_broker(version: &str) -> Result<Broker> {
    let version = KafkaVersion::ALL
        .into_iter()
        .find(|known| known.text() == version);
    let version = version.ok_or("--kafka must be a version that tools/kafka.sh knows")?;
    let options = BrokerOptions::version(version)
        .property("group.initial.rebalance.delay.ms", "0")
        .property("log.segment.delete.delay.ms", "1000");
    Ok(Broker::start(options))
}

/// A build of Millstream from `binary` or `name=binary`.
pub fn millstream(argument: &str) -> Contender {
    let (name, binary) = argument.split_once('=').unwrap_or(("millstream", argument));
    Contender::Millstream {
        name: name.to_owned(),
        binary: PathBuf::from(binary),
    }
}

/// A Flink cluster from `name=directory`, and its name.
pub fn flink(argument: &str, directory: &Path) -> Result<(String, Rc<Flink>)> {
    let (name, home) = argument.split_once('=').ok_or("--flink name=directory")?;
    let cluster = Flink::start(Path::new(home), &directory.join(name))?;
    Ok((format!("flink {name}"), Rc::new(cluster)))
}

/// Builds of Millstream, and every Flink with each of its variants.
pub fn keyed_contenders(
    builds: &[String],
    flinks: &[String],
    variants: &[String],
    directory: &Path,
) -> Result<Vec<Contender>> {
    let mut contenders: Vec<_> = builds.iter().map(|build| millstream(build)).collect();
    for flink in flinks {
        contenders.extend(flink_variants(flink, variants, directory)?);
    }
    Ok(contenders)
}

/// A Flink cluster from `name=directory` in which contenders run by turns, one for each
/// `backend/api`.
fn flink_variants(argument: &str, variants: &[String], directory: &Path) -> Result<Vec<Contender>> {
    let (name, cluster) = flink(argument, directory)?;
    let contenders = variants.iter().map(|variant| {
        let (backend, api) = variant.split_once('/').ok_or("--variants backend/api")?;
        Ok(Contender::Flink {
            name: format!("{name} {backend} {api}"),
            cluster: Rc::clone(&cluster),
            options: vec![backend.to_owned(), api.to_owned()],
        })
    });
    contenders.collect()
}

/// A contender's name as part of the name of a run.
pub fn run_name(contender: &Contender, turn: &str) -> String {
    let contender = contender.name().to_lowercase();
    format!("{}-{turn}", contender.replace([' ', '.', '/'], "-"))
}

/// Runs every contender in a JVM so many times.
pub fn warm_up(contenders: &[Contender], field: &Field<'_>, turns: u32) -> Result<()> {
    let settings = Settings {
        interval_ms: 10_000,
        exactly_once: true,
        metadata: false,
    };
    let in_jvm = |contender: &&Contender| matches!(contender, Contender::Flink { .. });
    for turn in 0..turns {
        for contender in contenders.iter().filter(in_jvm) {
            let name = run_name(contender, &format!("warm-{}-{turn}", field.input));
            let measured = contender.run(field, settings, &name)?;
            eprintln!("warm-up: {}", serde_json::to_string(&measured)?);
        }
    }
    Ok(())
}
