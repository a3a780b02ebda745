//! The file of `report`: texts that have gone through redaction, as a zip archive.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::problem::Problem;
use crate::redact::Redactor;
use crate::revision::yaml;

/// A report that is being collected.
pub struct Report {
    redactor: Redactor,
    files: BTreeMap<String, String>,
    gaps: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new(redactor: Redactor) -> Self {
        Self {
            redactor,
            files: BTreeMap::new(),
            gaps: Vec::new(),
        }
    }

    /// Adds a resource, or a list of them, as YAML.
    pub fn add_resource<T: Serialize>(&mut self, file: &str, resource: &T) {
        match serde_json::to_value(resource) {
            Ok(mut value) => {
                self.redactor.value(file, &mut value);
                self.files.insert(file.to_owned(), yaml(&value));
            }
            Err(error) => self.add_gap(file, &error.to_string()),
        }
    }

    /// Adds text.
    pub fn add_text(&mut self, file: &str, text: &str) {
        let text = self.redactor.text(file, text);
        self.files.insert(file.to_owned(), text);
    }

    /// Adds JSON, or what was said in its place.
    pub fn add_json(&mut self, file: &str, text: &str) {
        match serde_json::from_str::<Value>(text) {
            Ok(mut value) => {
                self.redactor.value(file, &mut value);
                self.files.insert(file.to_owned(), format!("{value:#}\n"));
            }
            Err(_) => self.add_text(file, text),
        }
    }

    /// Notes what could not be collected.
    pub fn add_gap(&mut self, what: &str, why: &str) {
        let why = self.redactor.text("missing.txt", why);
        self.gaps.push(format!("{what}: {why}\n"));
    }

    /// What could not be collected, one a line.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// How many things were replaced.
    pub fn redacted(&self) -> usize {
        self.redactor.count()
    }

    /// Names of all files, as they are written.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write<W: Write + Seek>(&self, output: W, now: Timestamp) -> Result<(), Problem> {
        self.try_write(output, now)
            .map_err(|error| Problem::System {
                what: "the report cannot be written".to_owned(),
                reason: error.to_string(),
            })
    }

    fn try_write<W: Write + Seek>(
        &self,
        output: W,
        now: Timestamp,
    ) -> Result<(), zip::result::ZipError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(date_time(now))
            .unix_permissions(0o600);
        let mut archive = ZipWriter::new(output);
        let redacted = self.redactor.list();
        let own = [
            ("README.txt", self.read_me(now)),
            (
                "redacted.txt",
                if redacted.is_empty() {
                    "nothing\n".to_owned()
                } else {
                    redacted
                },
            ),
            (
                "missing.txt",
                if self.gaps.is_empty() {
                    "nothing\n".to_owned()
                } else {
                    self.gaps.concat()
                },
            ),
        ];
        let own = own.iter().map(|(name, text)| (*name, text));
        let files = self.files.iter().map(|(name, text)| (name.as_str(), text));
        for (name, text) in own.chain(files) {
            archive.start_file(name, options)?;
            archive.write_all(text.as_bytes())?;
        }
        archive.finish()?.flush()?;
        Ok(())
    }

    fn read_me(&self, now: Timestamp) -> String {
        format!(
            "A report about a StreamJob, made by kubectl-streamjob {} at {}.\n\
             \n\
             Kubernetes Secrets were not read. Passwords, tokens, keys and values of environment\n\
             variables were replaced by {} ({} places, listed in redacted.txt). Names of topics,\n\
             hosts, buckets and columns, SQL, and whatever logs quote of records are still in it:\n\
             look through it before you give it away. missing.txt lists what could not be read.\n",
            env!("CARGO_PKG_VERSION"),
            now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            crate::redact::REDACTED,
            self.redacted(),
        )
    }
}

/// The nearest time that an archive can hold: it knows years from 1980, and even seconds.
fn date_time(time: Timestamp) -> DateTime {
    let time = time.to_zoned(TimeZone::UTC);
    let part = |number: i8| u8::try_from(number).unwrap_or(0);
    DateTime::from_date_and_time(
        u16::try_from(time.year()).unwrap_or(1980),
        part(time.month()),
        part(time.day()),
        part(time.hour()),
        part(time.minute()),
        part(time.second()),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read as _};

    #[test]
    fn the_archive_holds_redacted_files_and_says_what_it_lacks() {
        let mut report = Report::new(Redactor::new(&[]).unwrap());
        report.add_text("logs/a.log", "password=hunter2\n");
        report.add_json("job.json", r#"{"token": "hunter2", "state": "Running"}"#);
        report.add_json("metrics.txt", "a_total 1\n");
        report.add_gap("events", "not allowed: secret=hunter2");
        let mut bytes = Cursor::new(Vec::new());
        let now = "2026-11-24T22:11:01Z".parse().unwrap();
        report.write(&mut bytes, now).unwrap();

        let mut archive = zip::ZipArchive::new(bytes).unwrap();
        let mut all = String::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            all.extend(["== ", &file.name().unwrap(), "\n"]);
            file.read_to_string(&mut all).unwrap();
        }
        assert!(!all.contains("hunter2"), "{all}");
        for expected in [
            "== README.txt\nA report about a StreamJob",
            "at 2026-11-24T22:11:01Z",
            "== redacted.txt\njob.json: token: value of a secret name\n",
            "== missing.txt\nevents: not allowed: secret=REDACTED\n",
            "\"state\": \"Running\"",
            "== metrics.txt\na_total 1\n",
        ] {
            assert!(all.contains(expected), "{expected} is not in {all}");
        }
    }
}
