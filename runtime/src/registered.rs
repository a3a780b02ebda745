//! What a program has of its own: sinks, by the names that job files call them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use millstream_connect::SinkConnector;
use millstream_sinks::{AtLeastOnce, Idempotent, Result, SinkContext, TwoPhaseCommit};
use millstream_spec::connector::CustomSink;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Makes a sink's connector of its options.
type Make =
    dyn Fn(Value) -> std::result::Result<Arc<dyn SinkConnector>, serde_json::Error> + Send + Sync;

/// What a program has of its own; [`registry!`](crate::registry) makes one.
#[derive(Default)]
pub struct Registry {
    sinks: BTreeMap<String, Arc<Make>>,
    /// A name that was given twice.
    twice: Option<String>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.sinks.keys()).finish()
    }
}

/// One thing of a program's own, under its name.
pub struct Registered {
    name: String,
    make: Arc<Make>,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registered").field(&self.name).finish()
    }
}

impl Registry {
    /// All of these, each under a name of its own.
    pub fn of(all: impl IntoIterator<Item = Registered>) -> Self {
        let mut registry = Self::default();
        for Registered { name, make } in all {
            if registry.sinks.insert(name.clone(), make).is_some() {
                registry.twice = Some(name);
            }
        }
        registry
    }

    /// The connector of a sink of a job.
    ///
    /// # Errors
    /// The program has no such sink, or it does not understand its options.
    fn sink(&self, name: &str, options: &CustomSink) -> Result<Arc<dyn SinkConnector>> {
        let of_type = &options.sink_type;
        let Some(make) = self.sinks.get(of_type) else {
            return Err(self.unknown(name, of_type));
        };
        make(Value::Object(options.options.clone())).map_err(|error| {
            let message = format!("sink `{name}`, custom.options of type `{of_type}`: {error}");
            Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
        })
    }

    fn unknown(&self, name: &str, of_type: &str) -> Failure {
        let names: Vec<String> = self.sinks.keys().map(|name| format!("`{name}`")).collect();
        let has = match names.as_slice() {
            [] => "it has none: build a program of your own that registers the sink (docs/sinks.md), and run \
                   the job with that"
                .to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        let message = format!(
            "sink `{name}` is of type `{of_type}`, and this program has registered no such sink; {has}"
        );
        Failure::new(ErrorCode::NotRegistered, ErrorKind::InvalidJob, message)
    }
}

/// Registers a sink with two-phase commit. `open` makes one value of it for every writer and one for the
/// coordinator, from the `options` that the job file has for it.
pub fn two_phase_commit<S, O, F>(name: &str, open: F) -> Registered
where
    S: TwoPhaseCommit,
    O: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&SinkContext, &O) -> Result<S> + Send + Sync + 'static,
{
    registered(name, open, millstream_sinks::two_phase_commit)
}

/// As [`two_phase_commit`], for a sink that may write a row again.
pub fn idempotent<S, O, F>(name: &str, open: F) -> Registered
where
    S: Idempotent,
    O: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&SinkContext, &O) -> Result<S> + Send + Sync + 'static,
{
    registered(name, open, millstream_sinks::idempotent)
}

/// As [`two_phase_commit`], for a sink that writes rows as they come.
pub fn at_least_once<S, O, F>(name: &str, open: F) -> Registered
where
    S: AtLeastOnce,
    O: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&SinkContext, &O) -> Result<S> + Send + Sync + 'static,
{
    registered(name, open, millstream_sinks::at_least_once)
}

/// A sink that knows its options.
type Opener<S> = Box<dyn Fn(&SinkContext) -> Result<S> + Send + Sync>;

fn registered<S, O, F>(
    name: &str,
    open: F,
    connector: fn(Opener<S>) -> Arc<dyn SinkConnector>,
) -> Registered
where
    S: 'static,
    O: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&SinkContext, &O) -> Result<S> + Send + Sync + 'static,
{
    let open = Arc::new(open);
    Registered {
        name: name.to_owned(),
        make: Arc::new(move |options| {
            let options: O = serde_json::from_value(options)?;
            let open = Arc::clone(&open);
            Ok(connector(Box::new(move |cx| open(cx, &options))))
        }),
    }
}

/// Of this process.
static INSTALLED: OnceLock<Registry> = OnceLock::new();

/// Makes a registry that of this process: once, before anything runs.
///
/// # Errors
/// A name was given twice.
pub(crate) fn install(registry: Registry) -> Result<()> {
    if let Some(name) = &registry.twice {
        let message =
            format!("the program registers `{name}` twice: give one of them another name");
        return Err(Failure::new(
            ErrorCode::NotRegistered,
            ErrorKind::InvalidJob,
            message,
        ));
    }
    INSTALLED.get_or_init(|| registry);
    Ok(())
}

/// The connector of a sink that this process has of its own.
///
/// # Errors
/// It has none of this type, or the sink does not understand its options.
pub(crate) fn sink(name: &str, options: &CustomSink) -> Result<Arc<dyn SinkConnector>> {
    INSTALLED.get_or_init(Registry::default).sink(name, options)
}

#[cfg(test)]
mod tests {
    use millstream_types::Batch;
    use serde::Deserialize;

    use super::*;

    struct Counter;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        #[serde(rename = "most")]
        _most: u64,
    }

    impl AtLeastOnce for Counter {
        fn write(&mut self, _: &Batch) -> Result<u64> {
            Ok(0)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn counter(name: &str) -> Registered {
        at_least_once(name, |_, _: &Options| Ok(Counter))
    }

    fn custom(of_type: &str, options: &str) -> CustomSink {
        CustomSink {
            sink_type: of_type.to_owned(),
            options: serde_json::from_str(options).unwrap(),
        }
    }

    fn refusal(registry: &Registry, options: &CustomSink) -> Failure {
        registry.sink("out", options).err().unwrap()
    }

    #[test]
    fn a_sink_that_is_not_registered_is_refused_with_those_that_are() {
        let registry = crate::registry![counter("counter"), counter("meter")];
        assert!(
            registry
                .sink("out", &custom("meter", r#"{"most": 3}"#))
                .is_ok()
        );
        let failure = refusal(&registry, &custom("metre", "{}"));
        assert_eq!(failure.code, ErrorCode::NotRegistered);
        assert!(
            failure.message.ends_with("it has `counter`, `meter`"),
            "{failure}"
        );
        let failure = refusal(&crate::registry![], &custom("meter", "{}"));
        assert!(failure.message.contains("docs/sinks.md"), "{failure}");
    }

    #[test]
    fn options_that_a_sink_does_not_know_are_refused() {
        let registry = crate::registry![counter("counter")];
        let failure = refusal(&registry, &custom("counter", r#"{"most": 1, "least": 2}"#));
        assert_eq!(failure.code, ErrorCode::InvalidJob);
        assert!(failure.message.contains("custom.options"), "{failure}");
        assert!(failure.message.contains("`least`"), "{failure}");
    }

    #[test]
    fn a_name_that_is_given_twice_is_refused() {
        let registry = crate::registry![counter("counter"), counter("counter")];
        let failure = install(registry).unwrap_err();
        assert!(failure.message.contains("`counter` twice"), "{failure}");
    }
}
