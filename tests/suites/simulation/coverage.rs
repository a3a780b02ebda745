//! What runs have met: a run that met nothing shows nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::world::Service;

/// Counts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) places: BTreeMap<String, u64>,
}

impl Coverage {
    pub(crate) fn fault(&mut self, name: &str) {
        count(&mut self.faults, name, 1);
    }

    pub(crate) fn reached(&mut self, name: &str) {
        count(&mut self.places, name, 1);
    }

    pub(crate) fn met_request(&mut self, service: Service, fate: &str) {
        let service = match service {
            Service::Store => "store",
            Service::Broker => "broker",
        };
        self.fault(&format!("{service}: {fate}"));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, times) in &other.faults {
            count(&mut self.faults, name, *times);
        }
        for (name, times) in &other.places {
            count(&mut self.places, name, *times);
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str, times: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += times,
        None => drop(counts.insert(name.to_owned(), times)),
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, counts) in [
            ("faults met", &self.faults),
            ("places reached", &self.places),
        ] {
            writeln!(f, "{title}:")?;
            for (name, times) in counts {
                writeln!(f, "{times:>10}  {name}")?;
            }
        }
        Ok(())
    }
}
